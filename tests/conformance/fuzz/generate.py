"""Random scripts: valid messages, valid ones in the wrong state, and damaged ones.

Laws: a seed gives the same scripts on every machine; what a script makes is temporary, so that no
script leaves anything to the next; nothing in it depends on time, process numbers or chance of the
server's. What goes on between two sessions (cancel, locks) is not asked for here.
"""

from __future__ import annotations

import random

from pgguard.wire.codes import (
    CANCEL_REQUEST,
    CLOSE,
    DESCRIBE,
    EXECUTE,
    FLUSH,
    FUNCTION_CALL,
    PARSE,
    QUERY,
    SYNC,
)
from pgguard.wire.scan import message
from tests.conformance.fuzz.script import ALL, ENDS, WAITS, Script

PRELUDE = (
    b"CREATE TEMP TABLE t (id int PRIMARY KEY, name text);"
    b"INSERT INTO t SELECT i, 'name ' || i FROM generate_series(1, 5) i"
)

QUERIES = (
    "", "  ", ";", "-- nothing", "SELECT 1", "SELECT 1; SELECT 'two'", "SELECT 1/0", "SELEC",
    "SELECT 1; SELECT 1/0; SELECT 3", "BEGIN", "BEGIN", "COMMIT", "ROLLBACK", "START TRANSACTION",
    "BEGIN; SELECT 1; COMMIT", "SAVEPOINT s", "ROLLBACK TO s", "RELEASE s", "COMMIT AND CHAIN",
    "SELECT * FROM t ORDER BY id", "INSERT INTO t VALUES (100, 'x')", "UPDATE t SET name = 'y'",
    "INSERT INTO t VALUES (1, 'twice')", "DELETE FROM t RETURNING id", "SELECT * FROM nowhere",
    "SET application_name = 'fuzz'", "RESET application_name", "SET client_encoding = 'LATIN1'",
    "SET standard_conforming_strings = off", "SET no.such = 'x'", "SHOW no.such", "RESET ALL",
    "SET client_min_messages = 'debug1'", "SET DateStyle = 'German'", "SET TIME ZONE 'UTC'",
    "SELECT generate_series(1, 50)", "SELECT repeat('x', 70000)", "SELECT '\xe4'", "SELECT $1",
    "LISTEN c", "NOTIFY c, 'hello'", "NOTIFY c", "UNLISTEN *", "LISTEN c; NOTIFY c, 'self'",
    "COPY t FROM STDIN", "COPY t FROM STDIN", "COPY t (id) FROM STDIN (FORMAT binary)",
    "COPY t FROM STDIN; SELECT 1", "SELECT 1; COPY t FROM STDIN", "COPY nowhere FROM STDIN",
    "COPY t TO STDOUT", "COPY (SELECT generate_series(1, 20)) TO STDOUT",
    "COPY t TO STDOUT; COPY t FROM STDIN",
    "COPY (SELECT 1/(3-i) FROM generate_series(1,5) i) TO STDOUT",
    "DECLARE d CURSOR FOR SELECT * FROM t", "DECLARE h CURSOR WITH HOLD FOR SELECT * FROM t",
    "FETCH 2 FROM d", "FETCH ALL FROM h", "CLOSE ALL", "FETCH 1 FROM p", "MOVE 1 IN d",
    "PREPARE a AS SELECT $1::int", "EXECUTE a(1)", "DEALLOCATE a", "DEALLOCATE ALL", "DISCARD ALL",
    "DO $$ BEGIN RAISE NOTICE 'n'; END $$",
    "DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = 'ZZ123'; END $$",
    "DO $$ BEGIN RAISE WARNING 'w'; PERFORM 1/0; END $$",
    "CREATE TEMP TABLE u (x int)", "DROP TABLE u",
    "SET LOCAL work_mem = '1MB'", "SET TRANSACTION READ ONLY",
    "SELECT set_config('a.b', 'c', false)",
    "CREATE DATABASE fuzz_again TEMPLATE nowhere", "DROP DATABASE IF EXISTS nowhere", "VACUUM t",
    "EXPLAIN (COSTS off) SELECT 1", "TABLE t", "VALUES (1), (2)", "SET ROLE nobody_here", "LOCK t",
)  # fmt: skip
PARSED = (
    "SELECT $1::int", "SELECT $1", "SELECT * FROM t WHERE id > $1 ORDER BY id", "SELECT 1/$1::int",
    "SELECT generate_series(1, $1::int)", "INSERT INTO t VALUES ($1, $2)", "COPY t FROM STDIN",
    "COPY t TO STDOUT", "SELECT 1; SELECT 2", *QUERIES,
)  # fmt: skip
COPIED = (
    b"7\tseven\n", b"8\teight\n9\tnine\n", b"x\ty\n", b"1\ttwice\n", b"\\.\n", b"", b"10",
    b"\tten\n",
    b"\xff\xfe\n", b"a\0b\n", b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0", b"\xff\xff",
    b"11\t" + b"z" * 9000 + b"\n",
)  # fmt: skip
VALUES = (b"1", b"0", b"3", b"x", b"", None, b"\0\0\0\2", b"99999999999", b"\xff", b"12345" * 40)
NAMES = (b"", b"", b"a", b"b", b"a.b", b"\xff")
LENGTHS = (0, 1, 3, 4, 5, 8, 9_999, 10_000, 10_001, 30_001, 65_536, 0x3FFFFFFF, 0x40000000,
           0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)  # fmt: skip
EARLY = 0.25


class Generator:
    """Scripts number 0, 1, … of a seed, for a server of a major version."""

    def __init__(self, seed: int, version: int) -> None:
        self._seed = seed
        self._version = version

    def script(self, number: int) -> Script:
        seed = f"{self._seed}.{number}"
        random_ = random.Random(seed)
        script = Script(seed, wait=random_.choice(WAITS[:2]), end=random_.choice(ENDS[:2]))
        script.messages.append(self._startup(random_))
        if random_.random() < 0.03:
            packet = script.messages[0] = _spoiled_startup(random_)
            sound = int.from_bytes(packet[:4], "big") == len(packet)
            # Where it announces more than it has, nothing is answered before the rest comes.
            script.wait = "end" if sound else "never"
        if random_.random() < 0.7:
            script.messages.append(message(QUERY, PRELUDE + b"\0"))
        clean = random_.random() < 0.4
        for _ in range(random_.randint(1, 25)):
            data = _one(random_)
            if not clean and random_.random() < 0.04:
                data = _damage(random_, data)
            script.messages.append(data)
        if random_.random() < 0.03:
            last = script.messages[-1]
            script.messages[-1] = last[: random_.randrange(len(last) + 1)]
        if script.wait == "end" and any(data[:1] == b"X" for data in script.messages):
            # Who says goodbye before the login is over is forgotten (transparency T4).
            script.wait = "login"
        _end_anywhere(script, random_)
        return script

    def _startup(self, random_: random.Random) -> bytes:
        version = 0x30000
        pairs = [(b"user", b"fuzz"), (b"database", b"%LANE%")]
        if random_.random() < 0.2:
            version = random_.choice([0x30000, 0x30001, 0x30002, 0x3270F])
            pairs += random_.sample(
                [
                    (b"_pq_.test", b"x"),
                    (b"_pq_.other", b""),
                    (b"options", b"-c work_mem=1MB --geqo=off"),
                    (b"client_encoding", b"LATIN1"),
                    (b"DateStyle", b"ISO"),
                    (b"extra_float_digits", b"3"),
                    (b"application_name", b"f\xffz"),
                    (b"user", b"fuzz"),
                    (b"replication", b"off"),
                ],
                random_.randint(0, 3),
            )
        body = (
            version.to_bytes(4, "big") + b"".join(k + b"\0" + v + b"\0" for k, v in pairs) + b"\0"
        )
        return (len(body) + 4).to_bytes(4, "big") + body


def _end_anywhere(script: Script, random_: random.Random) -> None:
    """One of four ends somewhere, half of these before its login is over, in any way."""
    if random_.random() < EARLY:
        first = len(script.messages[0])
        script.end = random_.choice(ENDS)
        if random_.random() < 0.5:
            script.wait = "never"
            script.cut = random_.choice([random_.randrange(first + 1), first, ALL])
        else:
            script.cut = first + random_.randrange(sum(map(len, script.messages[1:])) + 1)


def _spoiled_startup(random_: random.Random) -> bytes:
    """A startup packet that is refused, one way or another."""
    version, tail = 0x30000, b"\0"
    pairs = [(b"user", b"fuzz"), (b"database", b"%LANE%")]
    kind = random_.randrange(9)
    if kind == 0:
        version = random_.choice([0x10000, 0x20000, 0x40000, 0, 0xFFFFFFFF])
    elif kind == 1:
        tail = random_.choice([b"", b"x", b"\0\0"])
    elif kind == 2:
        pairs = [(b"user", b"nobody here"), *pairs[1:]]
    elif kind == 3:
        pairs = [pairs[0], (b"database", b"no_such_database")]
    elif kind == 4:
        pairs = [*pairs, random_.choice([(b"no_such", b"x"), (b"work_mem", b"lots")])]
    elif kind == 5:
        pairs = [
            *pairs,
            (b"options", random_.choice([b"-c", b"--no_such=1", b"-q", b"-c work_mem=x"])),
        ]
    elif kind == 6:
        pairs = pairs[1:]
    body = version.to_bytes(4, "big") + b"".join(k + b"\0" + v + b"\0" for k, v in pairs) + tail
    length = len(body) + 4
    if kind == 7:
        length = random_.choice([0, 4, 7, 8, 10_005, 0x7FFFFFFF, length - 1, length + 1])
    elif kind == 8:
        body = CANCEL_REQUEST.to_bytes(4, "big") + b"\0\0\0\1" + b"x" * random_.choice([0, 4, 32])
        length = len(body) + 4
    return length.to_bytes(4, "big") + body


def _one(random_: random.Random) -> bytes:
    choose = random_.choices(list(_KINDS), weights=list(_KINDS.values()))[0]
    return choose(random_)


def _query(random_: random.Random) -> bytes:
    return message(QUERY, random_.choice(QUERIES).encode() + b"\0")


def _parse(random_: random.Random) -> bytes:
    types = random_.choices([0, 23, 25, 2950, 1, 0xFFFFFF], k=random_.choice([0, 0, 0, 1, 2]))
    body = random_.choice(NAMES) + b"\0" + random_.choice(PARSED).encode() + b"\0"
    return message(PARSE, body + _counted(types, 4))


def _bind(random_: random.Random) -> bytes:
    values = random_.choices(VALUES, k=random_.choice([0, 1, 1, 1, 2, 3]))
    formats = random_.choices([0, 0, 0, 1, 2], k=random_.choice([0, 0, 1, len(values)]))
    results = random_.choices([0, 0, 1], k=random_.choice([0, 0, 1, 2]))
    body = random_.choice((b"", b"", b"p", b"q")) + b"\0" + random_.choice(NAMES) + b"\0"
    body += _counted(formats, 2) + len(values).to_bytes(2, "big")
    body += b"".join(map(_value, values)) + _counted(results, 2)
    return message(0x42, body)


def _value(value: bytes | None) -> bytes:
    return b"\xff\xff\xff\xff" if value is None else len(value).to_bytes(4, "big") + value


def _counted(numbers: list[int], size: int) -> bytes:
    count = len(numbers).to_bytes(2, "big")
    return count + b"".join(number.to_bytes(size, "big") for number in numbers)


def _execute(random_: random.Random) -> bytes:
    name = random_.choice((b"", b"", b"p", b"q", b"d"))
    rows = random_.choice([0, 0, 0, 1, 2, 5, 0xFFFFFFFF])
    return message(EXECUTE, name + b"\0" + rows.to_bytes(4, "big"))


def _describe(random_: random.Random) -> bytes:
    return message(DESCRIBE, random_.choice(b"SPPx").to_bytes(1, "big") + _name(random_))


def _close(random_: random.Random) -> bytes:
    return message(CLOSE, random_.choice(b"SSPPx").to_bytes(1, "big") + _name(random_))


def _name(random_: random.Random) -> bytes:
    return random_.choice((*NAMES, b"p", b"q")) + b"\0"


def _batch(random_: random.Random) -> bytes:
    """The usual whole: Parse, Bind, Describe, Execute, Sync."""
    text = random_.choice(QUERIES).encode()
    parts = [
        message(PARSE, b"\0" + text + b"\0\0\0"),
        message(0x42, b"\0\0" + b"\0\0\0\0\0\0"),
        message(DESCRIBE, b"P\0"),
        message(EXECUTE, b"\0\0\0\0\0"),
        message(SYNC),
    ]
    return b"".join(parts)


def _function_call(random_: random.Random) -> bytes:
    oid = random_.choice([177, 177, 1299, 0, 999_999])
    values = random_.choices([b"1", b"2", b"x", None], k=random_.choice([2, 2, 1, 0]))
    body = oid.to_bytes(4, "big") + _counted([0], 2) + len(values).to_bytes(2, "big")
    if oid == 1299:
        # now(): its value would differ.
        oid, body = 0, b"\0\0\0\0" + body[4:]
    return message(FUNCTION_CALL, body + b"".join(map(_value, values)) + b"\0\0")


def _copy(random_: random.Random) -> bytes:
    kind = random_.choices([0x64, 0x63, 0x66], [6, 3, 1])[0]
    body = random_.choice(COPIED) if kind == 0x64 else b"enough\0" if kind == 0x66 else b""
    return message(kind, body)


def _other(random_: random.Random) -> bytes:
    kind = random_.randrange(256) if random_.random() < 0.6 else random_.choice(b"pXdcf")
    return message(kind, random_.choice([b"", b"\0", b"abc\0", b"\0" * 12]))


_KINDS = {
    _query: 20,
    _batch: 8,
    _parse: 12,
    _bind: 14,
    _execute: 14,
    _describe: 8,
    _close: 4,
    lambda _: message(SYNC): 14,
    lambda _: message(FLUSH): 4,
    _function_call: 3,
    _copy: 10,
    _other: 0.6,
}


def _damage(random_: random.Random, data: bytes) -> bytes:
    """The same message with something wrong about it."""
    kind, body = data[:1], data[5:]
    way = random_.randrange(8)
    if way == 0:
        return kind + random_.choice(LENGTHS).to_bytes(4, "big") + body
    if way == 1:
        return kind + max(0, len(body) + 4 + random_.randint(-6, 6)).to_bytes(4, "big") + body
    if way == 2:
        return message(kind[0], body[: random_.randrange(len(body) + 1)])
    if way == 3:
        at = random_.randrange(len(body) + 1)
        return message(kind[0], body[:at] + b"\0" + body[at:])
    if way == 4:
        return message(kind[0], body + random_.randbytes(random_.randint(1, 12)))
    if way == 5:
        return random_.randbytes(1) + data[1:]
    if way == 6 and body:
        at = random_.randrange(len(body))
        return message(kind[0], body[:at] + random_.randbytes(1) + body[at + 1 :])
    return random_.randbytes(random_.randint(1, 9))
