"""Plays dialogues that are written down as text against the core, whole, cut and joined.

A file is a title, settings, and lines in order:

    # what this dialogue shows
    set: connection_limit=1 total=2     limits and everything else of HubSettings
    secrets: app="secret"               what pgguard holds
    method: scram                       how Postgres receives us: trust, scram, md5, ask
    from: A=10.0.0.7                    where a session comes from; loopback if not named
    cuts: off                           where a cut itself changes what is right
    A> Query "begin"                    session A sends; EOF and RESET end its connection
    1< Query "begin"                    server 1 must get; EOF, CLOSE, ABORT: what the core does
    A links                             A logs in and is linked; `A enters`: it waits
    N> connected 1 server_version="16"  the net reports (see `player`)
    @ 5s                                the clock moves
    ! SessionRefused code=PGG301        an event, or a request to the net; `! no cancel`
    ? A WAITING readable=False          a state; `? 1 LINKED due=1`, `? share a.py held=1`

Whatever a connection gets must stand in the file, in order; a line that ends in ` ...` matches by
its beginning. Every play ends with `World.end`: nothing of the dialogue may be left in the hub.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from player import Cut, Player

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(slots=True)
class Turn:
    """Something that happens, or messages of one sender, and what must follow from it."""

    does: list[str]
    expected: list[str] = field(default_factory=list)
    joined: bool = False
    """All of it is one chunk."""

    @property
    def sender(self) -> str:
        """Who sends bytes that do not depend on an answer; empty if that is not what happens."""
        who, _, what = self.does[-1].partition("> ")
        dynamic = what.startswith(("EOF", "RESET", "Scram", "MD5"))
        return "" if not what or who == "N" or dynamic else who


@dataclass(slots=True)
class Transcript:
    """A file, read."""

    name: str
    title: str
    header: dict[str, str]
    turns: list[Turn]

    @classmethod
    def read(cls, path: Path) -> Transcript:
        header: dict[str, str] = {}
        turns: list[Turn] = []
        title, *lines = path.read_text(encoding="utf-8").splitlines()
        for line in lines:
            line = " ".join([line[:1], line[1:].strip()]) if line[:1] in "!?@" else line.strip()
            key, colon, value = line.partition(": ")
            if not line or line.startswith("#"):
                continue
            if not turns and colon and key.isalpha() and key.islower():
                header[key] = value
            elif line[0] in "!?" or line[1:3] == "< ":
                turns[-1].expected.append(line)
            else:
                turn = Turn([line])
                if (
                    turns
                    and turn.sender
                    and turn.sender == turns[-1].sender
                    and not turns[-1].expected
                ):
                    turns[-1].does.append(line)
                else:
                    turns.append(turn)
        return cls(path.stem, title.lstrip("# "), header, turns)

    def joined(self) -> list[Turn]:
        """Neighbouring chunks of one sender as one, where nothing else happens between them."""
        turns: list[Turn] = []
        for turn in self.turns:
            last = turns[-1] if turns else None
            mergeable = last and last.sender and last.sender == turn.sender
            if last and mergeable and not any(line[0] in "!?" for line in last.expected):
                turns[-1] = Turn(last.does + turn.does, last.expected + turn.expected, joined=True)
            else:
                turns.append(Turn(turn.does, turn.expected, joined=True))
        return turns

    def check(self, turns: list[Turn], cut: Cut, how: str) -> int:
        """Play and compare. Returns the number of cuts that this dialogue has room for.

        Raises AssertionError with the difference of the two dialogues.
        """
        player = Player(self.header, cut)
        wanted: list[str] = []
        seen: list[str] = []
        for turn in turns:
            wanted += turn.does + sorted(turn.expected, key=_place)
            seen += turn.does
            try:
                played = player.play(turn.does, turn.sender, turn.expected, joined=turn.joined)
                seen += sorted(played, key=_place)
            except Exception as error:
                raise AssertionError(f"{self.name}, {how}: {turn.does[-1]}\n{error!r}") from error
        seen += player.left_over()
        if wanted != seen:
            lines = difflib.unified_diff(wanted, seen, "as written", "as played", "", "", 6, "")
            raise AssertionError("\n".join([f"{self.name}, {how}:", *lines]))
        player.world.end()
        return player.positions

    def check_all(self) -> None:
        """Play it as written, cut at every byte, and joined."""
        cuts = self.check(self.turns, 0, "as written")
        self.check(self.joined(), 0, "joined")
        if self.header.get("cuts") != "off":
            for position in range(1, cuts + 1):
                self.check(self.turns, position, f"cut at position {position}")
            self.check(self.turns, None, "byte by byte")


def _place(line: str) -> str:
    """Lines of one turn are in order for each receiver, not between receivers."""
    return line[0] if line[1:3] == "< " else "~"
