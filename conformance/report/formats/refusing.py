"""When a report cannot be turned into a format."""


class FormatRefused(ValueError):
    """A format would claim what the report does not show; the text says why, and what to do."""
