"""Tokens stand for one error each; warnings come once."""

from __future__ import annotations

from pgguard.core import watching
from pgguard.core.watching import Watch
from pgguard.sql.statement import Statement


def test_a_token_is_answered_once_and_not_by_another_that_begins_like_it() -> None:
    watch = Watch()
    tokens = [watch.token(b"error %d" % number) for number in range(12)]
    assert watch.answer(b'syntax error at or near "%b"' % tokens[10]) == b"error 10"
    assert watch.answer(b'syntax error at or near "%b"' % tokens[0]) == b"error 0"
    assert watch.answer(tokens[0]) is None
    assert watch.answer(b"no token") is None


def test_a_session_is_warned_of_a_statement_once() -> None:
    watch, statement = Watch(), Statement(b"select 1")
    assert [watch.warns(statement) for _ in range(3)] == [True, False, False]


def test_of_a_name_that_was_prepared_twice_nothing_is_known() -> None:
    watch, one, other = Watch(), Statement(b"select 1"), Statement(b"select 2")
    watch.remember((False, "p"), one, b"select 1")
    watch.remember((False, "p"), one, b"select 1")
    assert watch.names[False, "p"] == (one, b"")
    watch.remember((True, "p"), one)
    watch.remember((True, "p"), other)
    watch.remember((False, "p"), other)
    assert watch.names == {(False, "p"): (None, b""), (True, "p"): (other, b"")}
    watch.remember((False, "p"), one)
    assert watch.names[False, "p"] == (None, b"")
    watch.forget_prepared()
    assert watch.names == {(True, "p"): (other, b"")}


def test_a_text_that_differs_is_kept_with_the_name() -> None:
    watch, statement = Watch(), Statement(b"prepare p as select 1")
    watch.remember((False, "p"), statement, b"prepare p as select 2")
    assert watch.names[False, "p"] == (statement, b"prepare p as select 2")


def test_names_and_texts_are_bounded() -> None:
    watch, statement = Watch(), Statement(b"select 1")
    for number in range(watching.MOST_NAMES + 1):
        watch.remember((False, str(number)), statement)
        watch.keep_text(b"%d" % number, b"x")
    assert len(watch.names) == len(watch.texts) == watching.MOST_NAMES
    assert (False, "0") not in watch.names
