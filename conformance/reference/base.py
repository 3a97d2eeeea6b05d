"""What every part of a reference set-up shares."""

import msgspec


class Declared(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A part of the set-up: it never changes, and a key that nobody reads is a mistake."""
