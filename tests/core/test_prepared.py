"""Names of prepared statements, of sessions and on servers."""

from __future__ import annotations

import pytest

from pgguard.core.prepared import (
    MOST,
    Change,
    Names,
    Prepared,
    Stand,
    may_name_prepared,
    without_formats,
)
from pgguard.sql.statement import Statement
from pgguard.wire.frontend import parse_message


def prepared(text: bytes = b"SELECT $1", oids: tuple[int, ...] = ()) -> Prepared:
    return Prepared(parse_message(b"", text, oids)[6:], Statement(text))


def done(stand: Stand, names: Names, name: bytes, what: Prepared | None, *, ours: bool) -> None:
    stand.will(Change(name, what, ours))
    stand.answered(names)


def test_a_name_is_the_sessions_when_postgres_has_answered() -> None:
    names, stand, one = Names(7), Stand(), prepared()
    stand.will(Change(b"s", one, ours=False))
    assert names.get(b"s") is None
    assert stand.sees(names, b"s") is one
    assert stand.finds(names, b"s") is not None
    stand.answered(names)
    assert names.get(b"s") is one
    assert stand.finds(names, b"s") is not None


def test_what_an_error_drops_was_never_there() -> None:
    names, stand = Names(7), Stand()
    stand.will(Change(b"s", prepared(), ours=False))
    stand.dropped()
    assert stand.sees(names, b"s") is None
    assert stand.finds(names, b"s") is None


def test_messages_of_one_batch_see_what_came_before_them() -> None:
    names, stand, one, two = Names(7), Stand(), prepared(), prepared(b"SELECT 2")
    done(stand, names, b"s", one, ours=False)
    stand.will(Change(b"s", None, ours=False))
    assert stand.sees(names, b"s") is None
    assert stand.finds(names, b"s") is None
    stand.will(Change(b"s", two, ours=False))
    assert stand.sees(names, b"s") is two
    stand.dropped()
    stand.dropped()
    assert stand.sees(names, b"s") is one


def test_another_server_lacks_it_until_it_is_made_there() -> None:
    names, one = Names(7), prepared()
    first, second = Stand(), Stand()
    done(first, names, b"s", one, ours=False)
    assert second.sees(names, b"s") is one
    assert second.finds(names, b"s") is None
    done(second, names, b"s", one, ours=True)
    assert second.finds(names, b"s") is not None


def test_one_server_has_the_same_name_for_two_sessions() -> None:
    stand, a, b = Stand(), Names(7), Names(8)
    done(stand, a, b"s", prepared(), ours=False)
    assert stand.finds(b, b"s") is None
    assert a.on_server(b"s") != b.on_server(b"s")
    assert stand.finds(a, b"s") is not None


def test_the_unnamed_statement_is_that_of_the_session_that_made_it_last() -> None:
    stand, a, b, one = Stand(), Names(7), Names(8), prepared()
    done(stand, a, b"", one, ours=False)
    assert stand.finds(a, b"") is one
    done(stand, b, b"", prepared(), ours=False)
    assert stand.finds(a, b"") is not one
    assert a.get(b"") is one


def test_a_name_may_stand_for_something_else_on_a_server_that_was_left() -> None:
    first, second, names = Stand(), Stand(), Names(7)
    old, new = prepared(), prepared()
    done(first, names, b"s", old, ours=False)
    done(second, names, b"s", new, ours=False)
    assert names.get(b"s") is new
    assert first.finds(names, b"s") is old


def test_deallocate_all_takes_the_statements_of_everybody_here_but_nobodys_names() -> None:
    stand, a, b = Stand(), Names(7), Names(8)
    done(stand, a, b"s", prepared(), ours=False)
    done(stand, b, b"s", prepared(), ours=False)
    stand.cleared()
    a.forget()
    assert a.get(b"s") is None
    assert b.get(b"s") is not None
    assert stand.finds(b, b"s") is None


@pytest.mark.parametrize("length", [1, 50, 62, 63, 64, 200])
def test_long_names_stay_apart_as_postgres_tells_them_apart(length: int) -> None:
    names = Names(7)
    name = b"n" * length
    assert len(names.on_server(name)) <= 63
    assert (names.on_server(name) == names.on_server(name + b"x")) is (length >= 63)


def test_errors_have_the_sessions_own_names() -> None:
    names, stand = Names(7), Stand()
    long = b"l" * 60
    for name in (b"s", long):
        done(stand, names, name, prepared(), ours=False)
    for name in (b"s", long):
        said = b'prepared statement "%b" already exists' % names.on_server(name)
        assert names.as_told(said) == b'prepared statement "%b" already exists' % name
    assert names.as_told(b"division by zero") == b"division by zero"


def test_a_statement_is_made_again_with_the_types_that_it_had() -> None:
    one = prepared(b"SELECT $1, $2", (23,))
    assert one.parse(b"n") == parse_message(b"n", b"SELECT $1, $2", (23,))
    one.types = (23, 25)
    assert one.parse(b"n") == parse_message(b"n", b"SELECT $1, $2", (23, 25))


def test_a_server_keeps_those_that_were_used_last() -> None:
    names, stand = Names(7), Stand()
    for number in range(MOST + 2):
        done(stand, names, b"s%d" % number, prepared(), ours=False)
    assert stand.finds(names, b"s0") is not None
    assert list(stand.surplus()) == [names.on_server(b"s1"), names.on_server(b"s2")]
    assert len(stand) == MOST
    assert stand.finds(names, b"s0") is not None
    assert stand.finds(names, b"s1") is None


def test_a_session_that_has_laid_them_bare_uses_its_own_names() -> None:
    names = Names(7)
    names.bare = True
    assert names.on_server(b"s") == b"s"
    names.forget()
    assert names.on_server(b"s") != b"s"


OLD, NEW = prepared(), prepared()


@pytest.mark.parametrize(
    ("name", "had", "server_has", "change", "waits"),
    [
        # Where the change is not made Postgres finds nothing, as it should.
        (b"s", None, None, Change(b"s", NEW, ours=False), False),
        (b"s", None, None, Change(b"s", None, ours=False), False),
        (b"", None, None, Change(b"", None, ours=False), False),
        # Where it is not made the name means what it meant before, here or nowhere.
        (b"s", OLD, None, Change(b"s", None, ours=False), True),
        (b"s", OLD, None, Change(b"s", OLD, ours=True), True),
        (b"", OLD, OLD, Change(b"", None, ours=False), True),
        (b"", None, None, Change(b"", NEW, ours=False), True),
        # The unnamed statement here may be somebody else's.
        (b"", None, OLD, Change(b"", None, ours=False), True),
    ],
)
def test_what_a_name_means_is_waited_for_while_an_earlier_batch_may_fail(
    name: bytes, had: Prepared | None, server_has: Prepared | None, change: Change, waits: bool
) -> None:
    names, stand = Names(7), Stand()
    names.put(name, had)
    stand.unnamed = server_has
    stand.will(change)
    assert not stand.must_wait(names, name)
    stand.batch_ends()
    assert stand.must_wait(names, name) is waits
    stand.will(Change(name, NEW, ours=False))
    assert not stand.must_wait(names, name)
    stand.answered(names)
    assert stand.awaits_no_more() is waits
    assert not stand.awaits_no_more()


def test_a_name_that_a_batch_brings_and_a_later_one_may_close_is_awaited() -> None:
    names, stand = Names(1), Stand()
    stand.will(Change(b"a", prepared(), ours=False))
    stand.batch_ends()
    stand.will(Change(b"a", None, ours=False))
    stand.batch_ends()
    # Where the second batch fails before its Close, the statement of the first one is still there.
    assert stand.must_wait(names, b"a")
    stand.answered(names)
    assert stand.must_wait(names, b"a")
    stand.dropped()
    assert stand.awaits_no_more()
    assert stand.sees(names, b"a") is not None


DESCRIPTION = b"\0\2" + b"".join(
    name + b"\0" + bytes(range(14)) + b"\0\4" + format_
    for name, format_ in ((b"a", b"\0\0"), (b"bc", b"\0\1"))
)


def test_descriptions_that_differ_in_formats_are_the_same() -> None:
    other = DESCRIPTION.replace(b"\0\4\0\1", b"\0\4\0\0")
    assert other != DESCRIPTION
    assert without_formats(other) == without_formats(DESCRIPTION)
    assert without_formats(DESCRIPTION.replace(b"bc", b"bd")) != without_formats(DESCRIPTION)
    assert without_formats(b"") == b""


def test_a_text_that_is_not_read_may_name_a_statement_by_three_words() -> None:
    assert may_name_prepared(b"EXECUTE a")
    assert may_name_prepared(b"SELECT '\\'; deallocate a")
    assert may_name_prepared(b"SELECT * FROM pg_prepared_statements")
    assert not may_name_prepared(b"SELECT 1")
