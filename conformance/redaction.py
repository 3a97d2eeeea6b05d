"""Names that tell which machines, clusters and registries these are, replaced, so that results can be shown to others.

The same value has the same replacement wherever it occurs with the same key, so that two findings about one node still
are about one node. A replacement is a keyed hash (HMAC-SHA256, RFC 2104): without the key nobody can try values on it.
Names are learned before they are replaced; addresses, UUIDs and hosts of URLs are known by their form.
"""

import hashlib
import hmac
import ipaddress
import re
import secrets
from collections.abc import Iterable
from functools import cache, lru_cache
from pathlib import Path

__all__ = ["RedactionError", "Redactor", "key_from"]

_LEAST_KEY = 16
_DIGITS = 10
_SHORTEST_NAME = 2

# Registries and documentation that everybody uses say nothing about anybody.
PUBLIC_HOSTS = frozenset(
    {
        "docker.io", "gcr.io", "ghcr.io", "mcr.microsoft.com", "nvcr.io", "public.ecr.aws", "quay.io",
        "registry.k8s.io", "docs.nvidia.com", "github.com", "kubernetes.io", "helm.ngc.nvidia.com",
    }
)  # fmt: skip
# The endings of host names that no public name has (RFC 6762, RFC 8375, ICANN's .internal), and those of cloud hosts.
_PRIVATE = r"(?:internal|local|localdomain|lan|corp|home\.arpa|intranet|compute\.amazonaws\.com|cloudapp\.azure\.com)"
_HEX = "[0-9a-fA-F]"

_OF_WHAT = "(?:node|cluster|host|uuid|ip|mac|serial|file)"
_MARK = rf"(?P<mark>(?<![0-9A-Za-z])x-{_OF_WHAT}-[0-9a-f]{{{_DIGITS}}}(?![0-9A-Za-z]))"
_MARKS = re.compile(_MARK)
_WORDS = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_PIECES = re.compile(r"([._-])")
_KINDS = {"id": "uuid"}


@cache
def _forms() -> re.Pattern[str]:
    """What is known by its form. Few runs redact, and each that does not would wait 10 ms for it."""
    return re.compile(
        rf"""{_MARK}
        |(?P<url>(?<=://)(?:[^\s/@:]+(?::[^\s/@]*)?@)?(?:\[[0-9a-fA-F:.]+\]|[A-Za-z0-9][A-Za-z0-9._-]*))
        |(?P<uuid>(?<![0-9A-Za-z]){_HEX}{{8}}-(?:{_HEX}{{4}}-){{3}}{_HEX}{{12}}(?![0-9A-Za-z]))
        |(?P<id>(?<![0-9A-Za-z]){_HEX}{{32}}(?![0-9A-Za-z]))
        |(?P<mac>(?<![0-9A-Za-z:]){_HEX}{{2}}(?:[:-]{_HEX}{{2}}){{5}}(?![0-9A-Za-z]|[:-][0-9A-Za-z]))
        |(?P<ip6>(?<![0-9A-Za-z:])(?:{_HEX}{{0,4}}:){{2,9}}
            (?:(?:\d{{1,3}}\.){{3}}\d{{1,3}}|{_HEX}{{0,4}})(?![0-9A-Za-z:]|\.\d))
        |(?P<ip>(?<![0-9A-Za-z.])(?:\d{{1,3}}\.){{3}}\d{{1,3}}(?![0-9A-Za-z]|\.\d))
        |(?P<serial>(?<=serial:\ )[0-9A-Za-z]{{6,}}|(?<=serial=)[0-9A-Za-z]{{6,}}|(?<=serial\ )\d{{6,}})
        |(?P<image>(?<![\w.:/-])[A-Za-z0-9][A-Za-z0-9.-]*(?::\d+)?(?=(?:/[a-z0-9][a-z0-9._-]*)+(?::[\w][\w.-]*)?@sha256:))
        |(?P<port>(?<![\w.:/-])[A-Za-z0-9][A-Za-z0-9.-]*[A-Za-z0-9](?=:\d{{2,5}}/[a-z]))
        |(?P<host>(?<![\w.-])[A-Za-z0-9][A-Za-z0-9.-]*\.{_PRIVATE}(?![\w-]|\.\w))
        |(?P<cloud>(?<![0-9A-Za-z])ip(?:-\d{{1,3}}){{4}}(?![0-9]))""",
        re.VERBOSE | re.IGNORECASE,
    )


class RedactionError(ValueError):
    """The key of a redaction cannot be used; the text says why, and what to do."""


def key_from(file: Path | None) -> bytes:
    """The key in a file, so that several runs have the same replacements; one that nobody keeps, without a file.

    Raises RedactionError for a file that cannot be read or is too short to keep anybody from guessing.
    """
    if file is None:
        return secrets.token_bytes(32)
    try:
        key = file.read_bytes().strip()
    except OSError as error:
        raise RedactionError(f"the key {file} cannot be read: {error.strerror}; make one: {_MAKE} {file}") from None
    if len(key) < _LEAST_KEY:
        raise RedactionError(f"the key {file} has {len(key)} bytes, which can be guessed; make another: {_MAKE} {file}")
    return key


_MAKE = "openssl rand -hex 32 >"


class Redactor:
    """Replaces what identifies machines in texts. Not for secrets: those never get into a text in the first place."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._known: dict[str, str] = {}
        self._longest = 1
        self._word = lru_cache(maxsize=65536)(self._of_word)

    def learn(self, kind: str, names: Iterable[str]) -> None:
        """Replace these names from now on, as of ``kind`` (node, cluster, host), wherever they are a word or a part."""
        for name in names:
            bare = name.strip().casefold()
            if len(bare) >= _SHORTEST_NAME and bare not in PUBLIC_HOSTS:
                self._known.setdefault(bare, kind)
                self._longest = max(self._longest, len(_PIECES.split(bare)))
        self._word.cache_clear()

    def text(self, text: str) -> str:
        """The text with replacements. Redacting it again changes nothing."""
        return _WORDS.sub(self._of_words, _forms().sub(self._of_form, text)) if text else text

    def replacement(self, kind: str, value: str) -> str:
        """What stands for ``value``; the case of letters makes no difference."""
        digest = hmac.new(self._key, f"{kind}:{value.casefold()}".encode(), hashlib.sha256).hexdigest()
        return f"x-{kind}-{digest[:_DIGITS]}"

    def _of_words(self, found: re.Match[str]) -> str:
        parts = _MARKS.split(found[0])
        return "".join(part if number % 2 else self._word(part) for number, part in enumerate(parts))

    def _of_form(self, found: re.Match[str]) -> str:
        form, value = str(found.lastgroup), found[0]
        if form == "mark":
            return value
        if value.casefold() in self._known:
            return self._word(value)
        if form in ("ip", "ip6"):
            return self._address(value)
        if form == "host" and (told := self._word(value)) != value:
            return told
        if form in ("url", "port", "image", "host", "cloud"):
            return self._host(value)
        return self.replacement(_KINDS.get(form, form), value)

    def _address(self, value: str) -> str:
        """An address; the colon of a sentence may follow it."""
        bare = value if _is_address(value) or not value.endswith(":") else value[:-1]
        return f"{self.replacement('ip', bare)}{value[len(bare) :]}" if _is_address(bare) else value

    def _host(self, value: str) -> str:
        """A host, with whatever stood before its @ gone."""
        host = value.rpartition("@")[2]
        name, colon, port = host.partition(":") if not host.startswith("[") else (host, "", "")
        if name.casefold() in PUBLIC_HOSTS:
            return host
        bare = name.strip("[]")
        kind = "ip" if _is_address(bare) else self._known.get(bare.casefold(), "host")
        return f"{self.replacement(kind, bare)}{colon}{port}"

    def _of_word(self, word: str) -> str:
        """A word with the known names in it replaced, the longest first; the domain of a known host goes with it."""
        pieces = _PIECES.split(word)
        written: list[str] = []
        at = 0
        while at < len(pieces):
            end = self._end_of_name(pieces, at)
            if end is None:
                written.append(pieces[at])
                at += 1
                continue
            name = "".join(pieces[at:end]).casefold()
            written.append(self.replacement(self._known[name], name))
            at = _after_domain(pieces, end) if self._known[name] == "node" else end
        return "".join(written)

    def _end_of_name(self, pieces: list[str], at: int) -> int | None:
        for end in range(min(len(pieces), at + self._longest), at, -1):
            if "".join(pieces[at:end]).casefold() in self._known:
                return end
        return None


def _after_domain(pieces: list[str], at: int) -> int:
    """Where the domain of a host ends that the pieces from ``at`` on continue with; ``at`` where they do not."""
    domain = pieces[at:]
    labels = domain[1::2]
    is_domain = len(labels) > 1 and domain[0] == "." and all(labels) and labels[-1].isalpha()
    return len(pieces) if is_domain else at


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return text not in ("127.0.0.1", "0.0.0.0", "::1", "::")  # noqa: S104 - not bound, only left readable
