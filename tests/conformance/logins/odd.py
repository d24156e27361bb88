"""Startup packets that no driver sends, and what a server has to say to them."""

from __future__ import annotations

from tests.conformance.logins.client import Person, startup
from tests.conformance.logins.world import LONG_USER, RIGHT

USER, TRUST, SCRAM = b"r_scram", b"ok_trust", b"ok_scram"
Packet = tuple[bytes, Person]


def packets() -> dict[str, Packet]:
    """Name → packet, and who goes on with the dialogue."""
    person = Person(USER, SCRAM, RIGHT)

    def of(*pairs: bytes, end: bytes = b"\0", protocol: int = 196608) -> Packet:
        body = b"".join(text + b"\0" for text in pairs)
        return startup(body + end, protocol), person

    u, d = b"user", b"database"
    return {
        "no user": of(d, TRUST),
        "nothing": of(),
        "empty user": of(u, b"", d, TRUST),
        "empty database": of(u, USER, d, b""),
        "no database": of(u, USER),
        "no terminator": of(u, USER, d, TRUST, end=b""),
        "no terminator after a value": (startup(b"user\0r_scram"), person),
        "a name without a value": of(u, USER, d),
        "bytes behind the terminator": of(u, USER, d, TRUST, end=b"\0x"),
        "two terminators": of(u, USER, d, TRUST, end=b"\0\0"),
        "user twice": of(u, b"nobody", d, SCRAM, u, USER),
        "user twice, the other way": of(u, USER, d, SCRAM, u, b"nobody"),
        "database twice": of(u, USER, d, b"nowhere", d, SCRAM),
        "setting twice": of(u, USER, d, SCRAM, b"DateStyle", b"German", b"DateStyle", b"SQL"),
        "setting in two spellings": of(
            u, USER, d, SCRAM, b"datestyle", b"German", b"DateStyle", b"SQL"
        ),
        "replication on a database": of(u, USER, d, TRUST, b"replication", b"nonsense"),
        "replication off": of(u, USER, d, SCRAM, b"replication", b"off"),
        "replication not allowed": of(u, USER, d, SCRAM, b"replication", b"database"),
        "replication nonsense without a terminator": of(
            u, USER, b"replication", b"nonsense", end=b""
        ),
        "unknown setting": of(u, USER, d, SCRAM, b"bogus", b"1"),
        "unknown setting, wrong user": of(u, b"nobody", d, SCRAM, b"bogus", b"1"),
        "bad value": of(u, USER, d, SCRAM, b"DateStyle", b"nonsense"),
        "superuser's setting": of(u, USER, d, SCRAM, b"log_statement", b"all"),
        "options": of(u, USER, d, SCRAM, b"options", b"-c DateStyle=German"),
        "bad options": of(u, USER, d, SCRAM, b"options", b"-c bogus=1"),
        "no options": of(u, USER, d, SCRAM, b"options", b""),
        "bad encoding": of(u, USER, d, SCRAM, b"client_encoding", b"nonsense"),
        "encoding": of(u, USER, d, SCRAM, b"client_encoding", b"LATIN1"),
        "name of 63 bytes": of(u, LONG_USER.encode(), d, SCRAM),
        "name of 64 bytes": of(u, LONG_USER.encode() + b"x", d, SCRAM),
        "database of 64 bytes": of(u, USER, d, b"d" * 64),
        "user that is no UTF-8": of(u, b"\xff\xfe", d, SCRAM),
        "database that is no UTF-8": of(u, USER, d, b"\xff"),
        "protocol 2.0": of(u, USER, d, SCRAM, protocol=2 << 16),
        "protocol 3.9999": of(u, USER, d, SCRAM, protocol=(3 << 16) + 9999),
        "protocol 4.0": of(u, USER, d, SCRAM, protocol=4 << 16),
        "protocol option": of(u, USER, d, SCRAM, b"_pq_.bogus", b"1"),
        "too short": (b"\0\0\0\x07\0\x03\0", person),
        "too long": (b"\0\0\x27\x15\0\x03\0\0" + bytes(10_005 - 4), person),
        "no length": (bytes(8), person),
    }
