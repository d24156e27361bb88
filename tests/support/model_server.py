"""A Postgres that is small enough to be right: one backend, as far as sessions can tell it apart.

It reads frontend messages and says what Postgres says (verified with the real one by
tests/conformance: what is modelled here is the protocol, not the language). Known are the texts of
`tests/properties/test_sharing_machine.py` and those that `core/upkeep` runs. Laws of Postgres: an
error undoes what the transaction, or the implicit one of a batch, has set; after an error in the
extended protocol everything up to Sync is passed over; names live as long as the backend; in a copy
Sync and Flush say nothing.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field

from pgguard.core import loginevents, upkeep
from pgguard.wire.scan import message

CODE = "DO $$ BEGIN SET lock_timeout = 9;END $$"
"""Code whose effect nobody knows who has not run it."""
STARTUP = {"lock_timeout": "0", "statement_timeout": "0"}

_SET = re.compile(r"SET (LOCAL )?(\w+(?:\.\w+)?) (?:=|TO) '?([^']*)'?$")
_MADE = re.compile(r"SELECT pg_catalog\.set_config\('(\w+)', '([^']*)', false\)$")
_COMMENT = re.compile(r" *--[^\n]*\n?")


class Failure(Exception):
    """An ErrorResponse."""

    def __init__(self, sqlstate: str, text: str) -> None:
        self.sqlstate, self.text = sqlstate, text


@dataclass
class State:
    """What a transaction undoes."""

    settings: dict[str, str]
    local: dict[str, str] = field(default_factory=dict)
    listening: set[str] = field(default_factory=set)

    def copy(self) -> State:
        return State(dict(self.settings), dict(self.local), set(self.listening))


class ModelServer:
    """`feed` takes what the frontend says and returns what is answered."""

    def __init__(self, application_name: str) -> None:
        self.startup = {**STARTUP, "application_name": application_name}
        self.state = State(dict(self.startup))
        self.status = "I"
        self.statements: dict[str, str] = {}
        self.sql_prepared: dict[str, str] = {}
        self.portals: dict[str, tuple[str, list[bytes]]] = {}
        self.locks = 0
        self.ended = False
        self._savepoints: list[tuple[str, State]] = []
        self._begun: State | None = None
        """What a rollback goes back to, also of an implicit transaction."""
        self._skipping = False
        self._copying = ""
        self._copied = 0
        self._rest = b""
        self._out: list[bytes] = []

    def feed(self, data: bytes) -> bytes:
        chunk = self._rest + data
        while len(chunk) >= 5 and not self.ended:
            end = 1 + int.from_bytes(chunk[1:5], "big")
            if len(chunk) < end:
                break
            self._message(chr(chunk[0]), chunk[5:end])
            chunk = chunk[end:]
        self._rest = chunk
        out, self._out = b"".join(self._out), []
        return out

    def _say(self, kind: str, body: bytes = b"") -> None:
        self._out.append(message(ord(kind), body))

    # Messages

    def _message(self, kind: str, body: bytes) -> None:
        if kind == "X":
            self.ended = True
        elif self._copying:
            self._copy(kind, body)
        elif kind == "S":
            self._skipping = False
            self._end_implicit()
            self._ready()
        elif self._skipping or kind in "Hdcf":
            pass
        elif kind == "Q":
            self._query(body[:-1].decode())
        else:
            try:
                getattr(self, "_" + {"P": "parse", "B": "bind", "D": "describe", "E": "execute",
                                     "C": "close"}[kind])(body)  # fmt: skip
            except Failure as failure:
                self._failed(failure)
                self._skipping = True

    def _ready(self) -> None:
        if self.status == "I":
            self.portals.clear()
        self._say("Z", self.status.encode())

    def _failed(self, failure: Failure) -> None:
        fields = {"S": "ERROR", "V": "ERROR", "C": failure.sqlstate, "M": failure.text}
        text = "".join(f"{letter}{value}\0" for letter, value in fields.items())
        self._say("E", text.encode() + b"\0")
        if self.status == "I":
            self._roll_back()
        else:
            self.status = "E"
        self.portals.clear()

    def _query(self, text: str) -> None:
        self.statements.pop("", None)
        self.portals.pop("", None)
        try:
            for part in _COMMENT.sub("", text).split("; "):
                if self._run(part, [], describe=True):
                    self._copying, self._copied = "simple", 0
                    return
        except Failure as failure:
            self._failed(failure)
        else:
            self._end_implicit()
        self._ready()

    def _parse(self, body: bytes) -> None:
        name, text = (part.decode() for part in body.split(b"\0")[:2])
        if not name:
            self.statements.pop("", None)
        self._check_aborted(text)
        if text == "SELECT FROM":
            raise Failure("42601", 'syntax error at or near "FROM"')
        if name in self.statements and name:
            raise Failure("42P05", f'prepared statement "{name}" already exists')
        self.statements[name] = _COMMENT.sub("", text)
        self._say("1")

    def _statement(self, name: str) -> str:
        if name not in self.statements:
            said = f'prepared statement "{name}" does not exist' if name else _NO_UNNAMED
            raise Failure("26000", said)
        return self.statements[name]

    def _bind(self, body: bytes) -> None:
        portal, name = (part.decode() for part in body.split(b"\0")[:2])
        text = self._statement(name)
        self._check_aborted(text)
        rest = body[len(portal) + len(name) + 2 :]
        formats = int.from_bytes(rest[:2], "big")
        rest = rest[2 + 2 * formats :]
        values = []
        count, rest = int.from_bytes(rest[:2], "big"), rest[2:]
        for _ in range(count):
            size = int.from_bytes(rest[:4], "big")
            values.append(rest[4 : 4 + size])
            rest = rest[4 + size :]
        if count != text.count("$1"):
            raise Failure("08P01", "bind message supplies the wrong number of parameters")
        self.portals[portal] = (text, values)
        self._say("2")

    def _describe(self, body: bytes) -> None:
        name = body[1:-1].decode()
        if body[:1] == b"P":
            if name not in self.portals:
                raise Failure("34000", f'portal "{name}" does not exist')
            self._say(*_description(self.portals[name][0]))
            return
        text = self._statement(name)
        self._check_aborted(text)
        types = [25] * text.count("$1")
        self._say(
            "t", len(types).to_bytes(2, "big") + b"".join(t.to_bytes(4, "big") for t in types)
        )
        self._say(*_description(text))

    def _execute(self, body: bytes) -> None:
        name = body[:-5].decode()
        if name not in self.portals:
            raise Failure("34000", f'portal "{name}" does not exist')
        text, values = self.portals[name]
        if self._run(text, values, describe=False):
            self._copying, self._copied = "extended", 0

    def _close(self, body: bytes) -> None:
        name = body[1:-1].decode()
        (self.statements if body[:1] == b"S" else self.portals).pop(name, None)
        self._say("3")

    def _copy(self, kind: str, body: bytes) -> None:
        if kind == "d":
            self._copied += 1
        elif kind not in "cfSH":
            # What Postgres does not expect there ends the copy, and is lost.
            self._copying, simple = "", self._copying == "simple"
            said = f"unexpected message type 0x{ord(kind):02X} during COPY from stdin"
            self._failed(Failure("08P01", said))
            self._skipping = not simple
            if simple:
                self._ready()
        elif kind in "cf":
            simple, self._copying = self._copying == "simple", ""
            if kind == "c":
                self._complete(f"COPY {self._copied}")
                if simple:
                    self._end_implicit()
            else:
                said = body[:-1].decode()
                self._failed(Failure("57014", f"COPY from stdin failed: {said}"))
                self._skipping = not simple
            if simple:
                self._ready()

    # Statements

    def _check_aborted(self, text: str) -> None:
        leaves = text.split()[0] in ("ROLLBACK", "COMMIT")
        if self.status == "E" and not leaves:
            raise Failure("25P02", _ABORTED)

    def _complete(self, tag: str) -> None:
        self._say("C", tag.encode() + b"\0")

    def _row(self, *values: bytes | None) -> None:
        cells = (b"\xff" * 4 if v is None else len(v).to_bytes(4, "big") + v for v in values)
        self._say("D", len(values).to_bytes(2, "big") + b"".join(cells))

    def _run(self, text: str, values: list[bytes], *, describe: bool) -> bool:
        """One statement. Returns whether a copy begins; raises Failure."""
        self._check_aborted(text)
        if self._begun is None:
            self._begun = self.state.copy()
        if text == "COPY t FROM STDIN":
            self._say("G", b"\0\0\0")
            return True
        rows = self._rows(text, values)
        if rows is None:
            self._complete(self._do(text))
            return False
        if describe:
            self._say(*_description(text))
        for row in rows:
            self._row(*row)
        self._complete("SHOW" if text.startswith("SHOW") else f"SELECT {len(rows)}")
        return False

    def _rows(self, text: str, values: list[bytes]) -> list[tuple[bytes | None, ...]] | None:
        """The rows of a statement that returns some."""
        if text == "SELECT FROM":
            raise Failure("42601", "syntax error at end of input")
        if text == "SELECT 1/0":
            raise Failure("22012", "division by zero")
        if text.startswith("SELECT '"):
            return [(text[8:-1].encode(),)]
        if text == loginevents.ASK.decode():
            return [(b"f",)]
        if text == "SELECT $1::text":
            return [(values[0],)]
        if text.startswith("SHOW "):
            name = text[5:]
            return [((self.state.local | {}).get(name, self.state.settings[name]).encode(),)]
        if text == "EXECUTE p":
            if "p" not in self.sql_prepared and "p" not in self.statements:
                raise Failure("26000", 'prepared statement "p" does not exist')
            return [(b"prepared",)]
        if text == "SELECT pg_advisory_lock(1)":
            self.locks += 1
            return [(b"",)]
        if text == "SELECT pg_advisory_unlock(1)":
            held, self.locks = self.locks > 0, max(0, self.locks - 1)
            return [(b"t" if held else b"f",)]
        if text in (
            "SELECT pg_advisory_unlock_all()",
            "SELECT pg_catalog.pg_advisory_unlock_all()",
        ):
            self.locks = 0
            return [(b"",)]
        if text == "SELECT pg_listening_channels()":
            return [(channel.encode(),) for channel in sorted(self.state.listening)]
        if found := _MADE.match(text):
            self._set(found[1], found[2], local=False)
            return [(found[2].encode(),)]
        if text.startswith("SET LOCAL transaction_isolation"):
            timeout = self.state.settings["statement_timeout"].encode()
            return [(timeout,), self._looked_at()]
        return None

    def _looked_at(self) -> tuple[bytes | None, ...]:
        changed = {n: v for n, v in self.state.settings.items() if v != self.startup[n]}
        # The check has set it itself.
        changed["statement_timeout"] = self.startup["statement_timeout"]
        counts = (self.locks, len(self.state.listening), len(self.sql_prepared), 0, 0)
        made = json.dumps(changed).encode().hex().encode()
        prepared = len(self.statements.keys() - {""})
        row = *(b"%d" % count for count in counts), b"none", b"", None, made, b"f"
        assert len(row) + 2 == upkeep.CHECKED
        return *row, b"%d" % prepared, None

    def _do(self, text: str) -> str:
        """Carry out a statement without rows. Returns its tag."""
        word = text.split()[0]
        if found := _SET.match(text):
            self._set(found[2], found[3], local=bool(found[1]))
        elif text == "RESET ALL":
            self.state.settings, self.state.local = dict(self.startup), {}
            self._told()
        elif word == "RESET":
            name = text.split()[1].strip('"')
            self._set(name, self.startup[name], local=False)
        elif word in ("BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE"):
            return self._transaction(text)
        elif text == CODE:
            self._set("lock_timeout", "9", local=False)
        elif word == "LISTEN":
            self.state.listening.add(text.split()[1])
        elif word == "UNLISTEN":
            self.state.listening.clear()
        elif word == "PREPARE":
            if "p" in self.sql_prepared:
                raise Failure("42P05", 'prepared statement "p" already exists')
            self.sql_prepared["p"] = text
        elif text == "DEALLOCATE ALL":
            self._deallocate_all()
            return "DEALLOCATE ALL"
        elif text == "DISCARD ALL":
            self._discard_all()
            return "DISCARD ALL"
        elif word == "DEALLOCATE":
            name = text.split()[1].strip('"')
            if name not in self.sql_prepared and name not in self.statements:
                raise Failure("26000", f'prepared statement "{name}" does not exist')
            self.sql_prepared.pop(name, None)
            self.statements.pop(name, None)
        elif text not in _NO_MORE_THAN_WORDS:
            raise AssertionError(f"the model does not know {text!r}")
        return " ".join(text.split()[:2]) if word in ("DISCARD", "CLOSE") else word

    def _deallocate_all(self) -> None:
        """The unnamed statement is none of those that are named."""
        self.statements = {name: text for name, text in self.statements.items() if not name}
        self.sql_prepared.clear()

    def _discard_all(self) -> None:
        if self.status != "I":
            raise Failure("25001", "DISCARD ALL cannot run inside a transaction block")
        self._deallocate_all()
        self.locks = 0
        self.state = State(dict(self.startup))
        self._begun = self.state.copy()
        self._told()

    def _set(self, name: str, value: str, *, local: bool) -> None:
        if not local:
            self.state.local.pop(name, None)
            self.state.settings[name] = value
        elif self.status == "T":
            self.state.local[name] = value
        if name == "application_name":
            self._told()

    def _told(self) -> None:
        body = b"application_name\0" + self.state.settings["application_name"].encode() + b"\0"
        self._say("S", body)

    # Transactions

    def _transaction(self, text: str) -> str:
        words = text.split()
        if words[0] == "BEGIN":
            if self.status == "I":
                self.status = "T"
            return "BEGIN"
        if words[0] == "COMMIT":
            failed = self.status == "E"
            if failed:
                self._roll_back()
            self._end()
            return "ROLLBACK" if failed else "COMMIT"
        if text == "ROLLBACK":
            self._roll_back()
            self._end()
            return "ROLLBACK"
        if self.status == "I":
            said = {"SAVEPOINT": "SAVEPOINT", "RELEASE": "RELEASE SAVEPOINT"}
            what = said.get(words[0], "ROLLBACK TO SAVEPOINT")
            raise Failure("25P01", f"{what} can only be used in transaction blocks")
        if words[0] == "SAVEPOINT":
            self._savepoints.append((words[1], self.state.copy()))
            return "SAVEPOINT"
        at = next((i for i in range(len(self._savepoints) - 1, -1, -1)
                   if self._savepoints[i][0] == words[-1]), None)  # fmt: skip
        if at is None:
            raise Failure("3B001", f'savepoint "{words[-1]}" does not exist')
        if words[0] == "RELEASE":
            del self._savepoints[at:]
            return "RELEASE"
        del self._savepoints[at + 1 :]
        self.state = self._savepoints[at][1].copy()
        self.status = "T"
        return "ROLLBACK"

    def _roll_back(self) -> None:
        if self._begun is not None:
            before = self.state.settings["application_name"]
            self.state = self._begun.copy()
            if self.state.settings["application_name"] != before:
                self._told()

    def _end(self) -> None:
        self.status, self._begun, self._savepoints = "I", None, []
        self.state.local.clear()

    def _end_implicit(self) -> None:
        if self.status == "I":
            self._end()


_ABORTED = "current transaction is aborted, commands ignored until end of transaction block"
_NO_UNNAMED = "unnamed prepared statement does not exist"
_NO_MORE_THAN_WORDS = frozenset(
    {
        "SELECT",
        "CLOSE ALL",
        "DISCARD SEQUENCES",
        "DISCARD TEMP",
        "SET SESSION AUTHORIZATION DEFAULT",
    }
)


def _description(text: str) -> tuple[str, bytes]:
    if text.split()[0] not in ("SELECT", "SHOW", "EXECUTE"):
        return "n", b""
    columns = 8 if text.startswith("SELECT\n") else 1
    column = b"?column?\0" + bytes(6) + (25).to_bytes(4, "big") + b"\xff\xff\xff\xff\xff\xff\0\0"
    return "T", columns.to_bytes(2, "big") + columns * column
