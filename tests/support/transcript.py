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
    N> connected 1 server_version="16"  the net reports (see `Player._report`)
    @ 5s                                the clock moves
    ! SessionRefused code=PGG301        an event, or a request to the net; `! no cancel`
    ? A WAITING readable=False          a state; `? 1 LINKED due=1`, `? share a.py held=1`

Whatever a connection gets must stand in the file, in order; a line that ends in ` ...` matches by
its beginning. Every play ends with `World.end`: nothing of the dialogue may be left in the hub.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from itertools import pairwise
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from core_fakes import FakeOut, World
from notation import BACKEND, FRONTEND, decode, encode, tokens, unquoted

from pgguard.core.login import Method
from pgguard.errors import ServerUnavailable
from pgguard.wire import frontend
from pgguard.wire.auth import ScramClient, md5_response, md5_secret
from pgguard.wire.startup import build_startup

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

METHODS = {
    "trust": Method.TRUST,
    "md5": Method.MD5,
    "scram": Method.CHALLENGE,
    "ask": None,
}
DENSE = 130
"""Bytes at each end of a chunk between which every single cut is tried."""

Cut = int | None
"""The number of the position at which each chunk is cut; 0 = nowhere, None = everywhere."""


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
                seen += sorted(player.play(turn), key=_place)
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


class Reader:
    """What a connection was sent, as lines."""

    def __init__(self, name: str, out: FakeOut, table: dict[str, tuple[str, str]]) -> None:
        self.name, self.out, self.table = name, out, table
        self.buffer = b""
        self.last = b""
        """The newest Authentication message: what an answer is made from."""

    def new(self) -> Iterator[str]:
        log, self.out.log = self.out.log, []
        for piece in log:
            if isinstance(piece, str):
                yield from self.rest()
                yield f"{self.name}< {piece}"
                continue
            self.buffer += piece
            while len(self.buffer) >= 5:
                end = 1 + int.from_bytes(self.buffer[1:5], "big")
                if len(self.buffer) < end:
                    break
                whole, self.buffer = self.buffer[:end], self.buffer[end:]
                if whole[:1] == b"R":
                    self.last = whole
                yield f"{self.name}< {decode(whole, self.table)}"

    def rest(self) -> Iterator[str]:
        """A message that was never finished."""
        if self.buffer:
            yield f'{self.name}< Bytes "{self.buffer.hex()}"'
        self.buffer = b""


class Player:
    """One play of one dialogue."""

    def __init__(self, header: dict[str, str], cut: Cut) -> None:
        settings = {key: _value(value) for key, value in _pairs(header.get("set", "")).items()}
        self.world = World(
            secrets=_pairs(header.get("secrets", "")),
            method=METHODS[header.get("method", "trust")],
            **settings,
        )
        self.addresses = _pairs(header.get("from", ""))
        self.cut = cut
        self.positions = 0
        self.named: dict[str, Any] = {}
        self.readers: dict[str, Reader] = {}
        self.scram: dict[str, ScramClient] = {}
        self.requests = 0

    def play(self, turn: Turn) -> list[str]:
        """Do it, and say what followed in the words that were expected where they fit."""
        self.world.hub.events.clear()
        self.requests = len(self.world.net.requests)
        if turn.sender:
            chunks = [self._bytes(turn.sender, does.partition("> ")[2]) for does in turn.does]
            for chunk in [b"".join(chunks)] if turn.joined else chunks:
                self._send(turn.sender, chunk)
        else:
            self._do(turn.does[0])
        self._name_servers()
        return self._seen(turn.expected)

    def left_over(self) -> list[str]:
        return [line for reader in self.readers.values() for line in reader.rest()]

    # What happens

    def _do(self, line: str) -> None:
        who, _, what = line.partition(" ")
        if who == "@":
            self.world.wait(float(what.rstrip("s")))
        elif who == "N>":
            self._report(*tokens(what))
        elif what.startswith(("links", "enters")):
            self._log_in(who, what)
        else:
            self._happens(who.rstrip(">"), what)

    def _happens(self, name: str, what: str) -> None:
        who = self._whom(name)
        if what == "EOF":
            self.world.eof(who)
        elif what == "RESET":
            self.world.reset(who)
        else:
            self._send(name, self._answer(name, *tokens(what)))

    def _log_in(self, name: str, what: str) -> None:
        how, *parameters = tokens(what)
        given = _pairs(" ".join(parameters))
        session = self.world.enter(**given) if how == "enters" else self.world.link(**given)[0]
        self._name(name, session, BACKEND)
        self.readers[name].out.log.clear()

    def _send(self, name: str, data: bytes) -> None:
        who = self._whom(name)
        for piece in self._cut(data):
            self.world.receive(who, piece)

    def _cut(self, data: bytes) -> list[bytes]:
        size = len(data)
        places = list(range(1, size))
        if size > 2 * DENSE:
            places = [*range(1, DENSE), *range(DENSE, size, size // 10), *range(size - DENSE, size)]
        self.positions = max(self.positions, len(places))
        if self.cut is None:
            edges = [0, *dict.fromkeys(places), size]
            return [data[a:b] for a, b in pairwise(edges)]
        if not 0 < self.cut <= len(places):
            return [data]
        place = places[self.cut - 1]
        return [data[:place], data[place:]]

    def _whom(self, name: str) -> Any:
        if name not in self.named and name.isalpha():
            session = self.world.open(self.addresses.get(name, "127.0.0.1"))
            self._name(name, session, BACKEND)
        return self.named[name]

    def _name(self, name: str, who: Any, table: dict[str, tuple[str, str]]) -> None:
        self.named[name] = who
        self.readers[name] = Reader(name, self.world.outs[who], table)

    def _name_servers(self) -> None:
        for number, server in enumerate(self.world.net.dialled, 1):
            self.named[str(number)] = server
            if server in self.world.outs and str(number) not in self.readers:
                self._name(str(number), server, FRONTEND)

    def _bytes(self, name: str, what: str) -> bytes:
        if what.startswith("Startup"):
            parameters = _pairs(what.partition(" ")[2])
            major, _, minor = parameters.pop("protocol", "3.0").partition(".")
            return build_startup(int(major) << 16 | int(minor), parameters)
        return encode(what, FRONTEND if name.isalpha() else BACKEND)

    def _answer(self, name: str, what: str, *fields: str) -> bytes:
        """A step of a login that depends on what came before."""
        challenge = self.readers[name].last[9:]
        if what == "ScramFirst":
            password = unquoted(fields[0]).decode()
            self.scram[name] = ScramClient("", password=password, nonce=b"fixed nonce of 18.")
            return frontend.sasl_initial(b"SCRAM-SHA-256", self.scram[name].first())
        if what == "ScramFinal":
            return frontend.sasl_response(self.scram[name].final(challenge))
        assert what == "MD5", what
        secret = md5_secret(self.named[name].user, unquoted(fields[0]).decode())
        return frontend.password(md5_response(secret, challenge).encode())

    def _report(self, what: str, *fields: str) -> None:
        """`N> what …`: what the net, or a signal, tells the hub."""
        hub = self.world.hub
        reports: dict[str, Callable[..., object]] = {
            "probed": lambda u, d, m: hub.upstream.probed(u, d, METHODS[m] or Method.TRUST),
            "probe-failed": lambda u, d, *e: hub.upstream.probe_failed(u, d, _error(*e)),
            "connected": self._connected,
            "dial-failed": lambda n, *e: hub.upstream.dial_failed(self.named[n], _error(*e)),
            "services-open": lambda: setattr(hub, "services", True),
            "services-closed": hub.services_closed,
            "cancel": self._cancel,
            "drain": hub.drain,
            "stop": hub.stop,
        }
        reports[what](*fields)
        self.world.settle()

    def _connected(self, number: str, *told: str) -> None:
        pairs = _pairs(" ".join(told))
        self.world.connect(self.named[number], int(pairs.pop("pid", "0")), **pairs)

    def _cancel(self, name: str, key: str = "right") -> None:
        session = self.named[name]
        pid = session.server.pid if session.server else 0
        secret = session.secret_key if key == "right" else bytes(4)
        server = self.world.hub.cancel_request(pid, secret)
        if server is not None:
            self.world.net.cancel(server)

    # What is seen

    def _seen(self, expected: list[str]) -> list[str]:
        seen: list[str] = []
        for name, reader in self.readers.items():
            wanted = [line for line in expected if line.startswith(f"{name}< ")]
            got = list(reader.new())
            for place, (want, line) in enumerate(zip(wanted, got, strict=False)):
                if want.endswith(" ...") and line.startswith(want[:-4]):
                    got[place] = want
            seen += got
        return seen + [self._judged(line) for line in expected if line[0] in "!?"]

    def _judged(self, line: str) -> str:
        kind, what, *rest = tokens(line)
        wrong = self._happened(what, rest) if kind == "!" else self._is(what, rest)
        return f"{line}   <- {wrong}" if wrong else line

    def _happened(self, what: str, rest: list[str]) -> str:
        if what == "no":
            return "" if self._happened(rest[0], rest[1:]) else "but it happened"
        happenings: list[tuple[str, list[str], Any]] = [
            (type(event).__name__, [], {n: getattr(event, n) for n in event.__dataclass_fields__})
            for event in self.world.hub.events
        ]
        for name, *values in self.world.net.requests[self.requests :]:
            attributes = values.pop() if values and isinstance(values[-1], dict) else {}
            happenings.append((name, [str(value) for value in values], attributes))
        plain = [field for field in rest if "=" not in field]
        pairs = _pairs(" ".join(rest))
        for name, values, attributes in happenings:
            fits = name == what and values[: len(plain)] == plain
            if fits and not _differs(pairs, attributes.get):
                return ""
        return f"only {happenings}"

    def _is(self, what: str, rest: list[str]) -> str:
        if what == "share":
            subject: Any = self.world.hub.admission.shares[rest.pop(0)]
        else:
            subject = self.world.hub.admission if what == "hub" else self.named[what]
        state = "" if not rest or "=" in rest[0] else rest.pop(0)
        if state and subject.state.name != state:
            return f"it is {subject.state.name}"
        return _differs(_pairs(" ".join(rest)), lambda name: attrgetter(name)(subject))


def _differs(wanted: dict[str, str], get: Callable[[str], Any]) -> str:
    wrong = [f"{n}={get(n)!r}" for n, v in wanted.items() if not fnmatchcase(str(get(n)), v)]
    return " ".join(wrong)


def _pairs(text: str) -> dict[str, str]:
    """`name=value name="quoted value"` as a dictionary; words without `=` are left out."""
    pairs = {}
    for token in tokens(text):
        name, equals, value = token.partition("=")
        if equals:
            text = unquoted(value).decode() if value.startswith('"') else value
            pairs[name] = text
    return pairs


def _value(text: str) -> Any:
    if text in ("yes", "no", "none"):
        return {"yes": True, "no": False, "none": None}[text]
    if "," in text:
        return tuple(text.split(","))
    try:
        return int(text)
    except ValueError:
        return text if text.isalpha() or "_" in text else float(text)


def _error(how: str, *text: str) -> ServerUnavailable:
    """`temporary "…"`, `definite "…"`, or an error of Postgres: its SQLSTATE and words."""
    message = unquoted(text[0]).decode() if text else how
    if how in ("temporary", "definite"):
        return ServerUnavailable(message, temporary=how == "temporary")
    fields = {"S": "FATAL", "V": "FATAL", "C": how, "M": message, "R": "InitPostgres"}
    temporary = how in ("57P03", "53300", "57P01", "57P02")
    return ServerUnavailable(message, fields=fields, temporary=temporary)
