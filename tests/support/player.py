"""One play of a written dialogue: lines are done to a `World`, what follows comes back as lines.

The grammar is that of `transcript`. Laws: a chunk is cut where `cut` says and each piece arrives by
itself; a message is seen when it is whole; what was never finished is shown as `Bytes`.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from itertools import pairwise
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from core_fakes import FakeOut, World
from notation import BACKEND, FRONTEND, decode, encode, tokens, unquoted

from pgguard.core import verifying
from pgguard.core.login import Method
from pgguard.core.secrets import Role, role_of
from pgguard.errors import ServerUnavailable
from pgguard.tenancy.catalogue import Catalogue, Table
from pgguard.wire import frontend
from pgguard.wire.auth import ScramClient, md5_response, md5_secret
from pgguard.wire.startup import build_startup

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

METHODS = {
    "trust": Method.TRUST,
    "md5": Method.MD5,
    "scram": Method.SCRAM,
    "cleartext": Method.CLEARTEXT,
    "ask": None,
}
LARGE = 300
"""Bytes of a chunk that is not cut everywhere but near its ends and here and there."""
EDGE = 40

Cut = int | None
"""The number of the position at which each chunk is cut; 0 = nowhere, None = everywhere."""


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
            roles=_roles(header["roles"]) if "roles" in header else None,
            **settings,
        )
        self.addresses = _pairs(header.get("from", ""))
        self.cut = cut
        self.positions = 0
        self.named: dict[str, Any] = {}
        self.readers: dict[str, Reader] = {}
        self.scram: dict[str, ScramClient] = {}
        self.requests = 0

    def play(self, does: list[str], sender: str, expected: list[str], *, joined: bool) -> list[str]:
        """Do it, and say what followed in the words that were expected where they fit.

        `does` are messages of one `sender`, as one chunk if `joined`; or one thing that happens.
        """
        self.world.hub.events.clear()
        self.requests = len(self.world.net.requests)
        if sender:
            chunks = [self._bytes(sender, line.partition("> ")[2]) for line in does]
            for chunk in [b"".join(chunks)] if joined else chunks:
                self._send(sender, chunk)
        else:
            self._do(does[0])
        self._name_servers()
        return self._seen(expected)

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
        if size > LARGE:
            places = [*range(1, EDGE), *range(EDGE, size, size // 10), *range(size - EDGE, size)]
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
            "greeted": lambda n: self.world.greet(self.named[n]),
            "dial-failed": lambda n, *e: hub.upstream.dial_failed(self.named[n], _error(*e)),
            "catalogue": lambda d, *words: self._catalogue(d, _pairs(" ".join(words))),
            "services-open": lambda: setattr(hub, "services", True),
            "services-closed": hub.services_closed,
            "cancel": self._cancel,
            "drain": hub.drain,
            "stop": hub.stop,
        }
        reports[what](*fields)
        self.world.settle()

    def _catalogue(self, database: str, told: dict[str, str]) -> None:
        """It was read just now; `tables=a,b` says which there are."""
        names = [name for name in told.get("tables", "").split(",") if name]
        tables = {("public", name): Table("public", name) for name in names}
        known = Catalogue(tables=tables, types=frozenset({"int4", "text"}))
        gate = self.world.hub.gate
        gate.catalogue_read(database, known, moment=gate.judge(database).news.moment)
        verifying.catalogue_read(self.world.hub, database)

    def _connected(self, number: str, *told: str) -> None:
        pairs = _pairs(" ".join(told))
        self.world.connect(self.named[number], int(pairs.pop("pid", "0")), **pairs)

    def _cancel(self, name: str, key: str = "right") -> None:
        session = self.named[name]
        pid = getattr(session, "pid", 0) or (session.server.pid if session.server else 0)
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


def _roles(text: str) -> dict[str, Role]:
    """`user="verifier or hash"`; `none` is a role without a password."""
    return {
        user: role_of(True, None if secret == "none" else secret, False, 4096)
        for user, secret in _pairs(text).items()
    }


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
