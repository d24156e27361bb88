"""Texts are read as they were written, whatever a session makes of its encoding."""

from __future__ import annotations

import pytest
from shared import Shared

from pgguard.core import spelling
from pgguard.core.pins import Reason
from pgguard.core.prepared import Names, Prepared
from pgguard.core.spelling import Spelling
from pgguard.core.tracked import Tracked
from pgguard.core.upkeep import exchange
from pgguard.sql.statement import Statement

LATIN = Spelling("LATIN1", "on")
NAMED = b"SET search_path = 'sch\xc3\xa9ma'"
TOLD_APART = r"SELECT 'a\\b'"
SLASHED = b"SET search_path = 'a\\b'"
UTF8 = {"client_encoding": "UTF8", "server_encoding": "UTF8"}
NEUTRAL = [b"SET client_encoding = 'UTF8'", b"SET standard_conforming_strings = on"]


def made(**settings: bytes) -> Tracked:
    tracked = Tracked()
    for name, text in settings.items():
        tracked.set(name, text)
    return tracked


def given(tracked: Tracked, **had: bytes) -> list[list[bytes]]:
    return exchange(tracked, had, UTF8, before=[], behind=[])


@pytest.mark.parametrize(
    ("text", "plain"), [(b"SET a = 1", True), (NAMED, False), (SLASHED, False)]
)
def test_plain_texts_mean_the_same_however_they_are_read(text: bytes, *, plain: bool) -> None:
    assert spelling.is_plain(text) is plain


def test_plain_settings_are_made_in_one_query_without_more() -> None:
    assert given(made(work_mem=b"SET work_mem = 1"), client_encoding=b"SET NAMES 'latin1'") == [
        [b"SET work_mem = 1", b'RESET "client_encoding"']
    ]


@pytest.mark.parametrize("text", [NAMED, SLASHED])
def test_others_are_made_where_they_are_read_as_they_were_written(text: bytes) -> None:
    back = [b'RESET "client_encoding"', b'RESET "standard_conforming_strings"']
    assert given(made(search_path=text)) == [NEUTRAL, [text, *back]]
    latin = b"SET client_encoding = latin1"
    assert given(made(client_encoding=latin, search_path=text)) == [
        NEUTRAL,
        [text, latin, back[1]],
    ]
    same = given(made(client_encoding=latin, search_path=text), client_encoding=latin)
    assert same == [NEUTRAL, [text, latin, back[1]]]


def test_a_short_timeout_ends_no_text_of_ours() -> None:
    short, memory = b"SET statement_timeout = 1", b"SET work_mem = 1"
    assert given(made(statement_timeout=short, work_mem=memory)) == [[memory, short]]
    assert given(made(work_mem=memory), statement_timeout=short) == [
        [b'RESET "statement_timeout"', memory, b'RESET "statement_timeout"']
    ]
    both = made(statement_timeout=short, work_mem=memory)
    assert given(both, statement_timeout=short) == [[b'RESET "statement_timeout"', memory, short]]
    assert given(both, statement_timeout=short, work_mem=memory) == []
    back = [b'RESET "client_encoding"', b'RESET "standard_conforming_strings"']
    named = made(statement_timeout=short, search_path=NAMED)
    assert given(named) == [NEUTRAL, [NAMED, *back, short]]


def test_what_comes_last_is_read_as_it_was_written_too() -> None:
    latin = "SET client_encoding = latin1 -- é".encode()
    back = [b'RESET "standard_conforming_strings"']
    assert given(made(client_encoding=latin)) == [NEUTRAL, [latin, *back]]


@pytest.mark.parametrize(
    ("client", "server", "kept"),
    [
        ("UTF8", "UTF8", True),
        ("UTF8", "LATIN1", True),
        ("SQL_ASCII", "UTF8", True),
        ("SQL_ASCII", "SQL_ASCII", True),
        ("SQL_ASCII", "LATIN1", False),
    ],
)
def test_a_text_that_nobody_converted_is_of_the_database(
    client: str, server: str, *, kept: bool
) -> None:
    parameters = {"client_encoding": client, "server_encoding": server}
    assert spelling.is_kept(NAMED, parameters) is kept
    assert spelling.is_kept(b"SET a = 1", parameters)


def test_a_database_without_an_encoding_gets_the_bytes_as_they_are() -> None:
    assert spelling.neutral({"server_encoding": "SQL_ASCII"})[0] == (
        b"SET client_encoding = 'SQL_ASCII'"
    )


@pytest.mark.parametrize(("text", "matters"), [(TOLD_APART, True), ("SELECT 1", False)])
def test_a_statement_that_would_be_read_as_another_is_refused(text: str, *, matters: bool) -> None:
    shared = Shared()
    session = shared.session()
    server = session.shared
    shared.says(session, f'Parse "s" "{text}"', "Sync")
    shared.heard(server)
    shared.says(server, "ParseComplete", "ParameterDescription", "NoData", "ReadyForQuery I")
    shared.says(session, 'Query "SET standard_conforming_strings = off"')
    shared.says(server, 'CommandComplete "SET"')
    shared.says(server, 'ParameterStatus "standard_conforming_strings" "off"', "ReadyForQuery I")
    assert (Reason.OBJECT in session.pins.reasons) is matters
    bind = ('Bind "" "s"', 'Execute "" 0', "Sync")
    shared.heard(server)
    shared.says(session, *bind)
    assert shared.heard(server)[0].startswith("Bind"), "where it stands it is as it was"
    shared.says(server, "BindComplete", 'CommandComplete "SELECT 1"', "ReadyForQuery I")
    server.stand.cleared()
    shared.heard(session)
    shared.says(session, *bind)
    parse = shared.heard(server)[0]
    assert parse.startswith("Parse")
    assert (text.replace("\\", "\\\\") in parse or text in parse) is not matters
    if matters:
        error = 'ErrorResponse ERROR 42601 "syntax error"'
        shared.says(server, error, "ReadyForQuery I")
        told, ready = shared.heard(session)
        assert told.startswith('ErrorResponse ERROR 0A000 "pgguard: a prepared')
        assert ready == "ReadyForQuery I"
    shared.world.end()


def test_a_refusal_that_postgres_has_passed_over_is_nobody_elses() -> None:
    shared = Shared()
    session = shared.session()
    server = session.shared
    shared.says(session, f'Parse "s" "{TOLD_APART}"', "Sync")
    shared.says(server, "ParseComplete", "ParameterDescription", "NoData", "ReadyForQuery I")
    session.names.respelled(LATIN)
    server.stand.cleared()
    shared.says(session, 'Parse "" "SELECT FROM"', "Flush")
    shared.says(server, 'ErrorResponse ERROR 42601 "syntax error"')
    shared.says(session, 'Bind "" "s"', "Sync")
    shared.says(server, "ReadyForQuery I")
    shared.says(session, 'Query "SELECT 1/0"')
    shared.heard(session)
    shared.says(server, 'ErrorResponse ERROR 22012 "zero"', "ReadyForQuery I")
    assert shared.heard(session)[0].startswith("ErrorResponse ERROR 22012")
    shared.world.end()


def test_one_that_is_prepared_anew_is_read_as_it_is_now() -> None:
    names = Names(1)
    text = b"SELECT '\xe9'"
    old = Prepared(text + bytes(3), Statement(text))
    names.put(b"s", old)
    assert names.respelled(LATIN)
    assert not names.reads(old)
    new = Prepared(old.body, old.statement)
    names.put(b"t", new)
    assert names.reads(new)
    assert names.respelled(spelling.USUAL)
    assert names.reads(old)
    assert not names.reads(new)
    assert not names.respelled(spelling.USUAL)


def test_names_beyond_ascii_stand_under_names_of_every_encoding() -> None:
    names = Names(1)
    assert names.on_server("é".encode()).isascii()
    assert names.on_server("é".encode()) != names.on_server("é".encode("latin1"))
