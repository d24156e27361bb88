"""The system's own package sources, read to ask the same mirrors for source packages as well.

Laws: no host is named here; what is asked is what the system asks, with the same keys; both formats
of sources.list(5), the one-line and the deb822 one. Only text goes in and out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

NEWEST = {"debian": "sid", "ubuntu": "devel"}
"""By ID of os-release(5): the suite in which a distribution's archive has its newest packages."""

COMPONENT = "main"
"""Where Postgres and its drivers are, in Debian as in Ubuntu."""

RELEASES = ("stable", "oldstable", "testing", "unstable")
"""What Debian's archive calls a release besides its codename."""

_ONE_LINE = re.compile(
    r"^[ \t]*deb[ \t]+(?P<options>\[[^]\n]*\][ \t]+)?(?P<uri>[^\s#]+)[ \t]+(?P<suite>[^\s#]+)"
    r"(?P<components>[^\n#]*)",
    re.MULTILINE,
)
_OPTIONS = {"arch": "Architectures", "lang": "Languages", "target": "Targets"}
"""Options of the one-line format that are called otherwise in the other."""
_FIELD = re.compile(r"^([A-Za-z][\w-]*):[ \t]*(.*(?:\n[ \t].*)*)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Source:
    """One entry: where packages are, which, and who signs for them."""

    uris: str
    suites: str
    components: str
    options: tuple[tuple[str, str], ...] = ()
    """Further fields of the deb822 format, in their order."""

    @classmethod
    def of_line(cls, match: re.Match[str]) -> Self:
        """From a line in the one-line format."""
        words = (match["options"] or "").strip().strip("[]").split()
        pairs = (word.partition("=") for word in words)
        options = tuple(
            (_OPTIONS.get(name, name.title()), value.replace(",", " ")) for name, _, value in pairs
        )
        return cls(match["uri"], match["suite"], match["components"].strip(), options)

    @classmethod
    def of_stanza(cls, stanza: str) -> Self | None:
        """From a stanza of the deb822 format; None when it is disabled or has no binary packages.

        A stanza with source packages alone is left to whom it was written for: its packages would
        not be those that the system runs.
        """
        text = "".join(line for line in stanza.splitlines(True) if not line.startswith("#"))
        fields = {name.title(): value.rstrip() for name, value in _FIELD.findall(text)}
        kinds = fields.pop("Types", "").split()
        enabled = fields.pop("Enabled", "yes").lower() not in ("no", "false", "0", "off")
        if "deb" not in kinds or not enabled or "Uris" not in fields or "Suites" not in fields:
            return None
        uris, suites = fields.pop("Uris"), fields.pop("Suites")
        components = fields.pop("Components", "")
        return cls(uris, suites, components, tuple(fields.items()))

    def stanza(self, kinds: str) -> str:
        """The entry in the deb822 format, of `deb`, `deb-src` or both."""
        fields = [("Types", kinds), ("URIs", self.uris), ("Suites", self.suites)]
        if self.components:
            fields.append(("Components", self.components))
        return "".join(f"{name}: {value}\n" for name, value in (*fields, *self.options))

    def of_release(self, codename: str) -> bool:
        """Whether it is the distribution's own archive with the release that the system runs."""
        named = {codename, *RELEASES}.intersection(self.suites.split())
        return bool(named) and COMPONENT in self.components.split()

    def of_newest(self, suite: str) -> Source:
        """The same mirrors' and signers' newest packages."""
        return Source(self.uris, suite, COMPONENT, self.options)


def read(text: str, *, deb822: bool) -> list[Source]:
    """The enabled entries with binary packages of a file."""
    if not deb822:
        return [Source.of_line(match) for match in _ONE_LINE.finditer(text)]
    stanzas = re.split(r"\n(?:[ \t]*\n)+", text)
    return [source for stanza in stanzas if (source := Source.of_stanza(stanza)) is not None]


def newest(sources: list[Source], codename: str, distribution: str) -> list[Source]:
    """Where the distribution's newest packages are, by the system's own entries; may be empty."""
    suite = NEWEST.get(distribution)
    return [source.of_newest(suite) for source in sources if suite and source.of_release(codename)]
