"""Scripts are taken apart as psql does it, and one mistake costs one statement."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgguard.sql.split import split


def texts(script: str) -> list[str]:
    return [piece.text.strip() for piece in split(script)]


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT ';', 'it''s;', E'\\';', \"a;\"\"b\", $$;$$, $x$ $$;$$ $x$, U&'\\0041;'",
        "SELECT 1 /* ; /* ; */ ; */ + 2 -- ;\n + 3",
        "CREATE RULE r AS ON INSERT TO t DO (SELECT 1; SELECT 2)",
        "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE WHEN true THEN 1 END; END",
        "SELECT a$1, $1",
        "BEGIN",
        "COPY t FROM stdin",
    ],
)
def test_a_semicolon_inside_of_something_ends_nothing(statement: str) -> None:
    assert texts(f"{statement}; SELECT 2;") == [f"{statement};", "SELECT 2;"]
    assert texts(statement) == [statement]


def test_comments_belong_to_the_statement_behind_them_or_on_whose_line_they_are() -> None:
    script = "-- one\nSELECT 1; -- still one\n/* two */ SELECT 2; /* two */\n-- nothing\n;;"
    assert texts(script) == ["-- one\nSELECT 1; -- still one", "/* two */ SELECT 2; /* two */"]


def test_a_piece_knows_where_it_stands() -> None:
    script = "SELECT 1;\n -- a\n SELECT 2"
    first, second = split(script)
    assert (first.start, first.first) == (0, 0)
    assert script[second.first :] == "SELECT 2"
    assert script[second.start :].startswith(second.text)


def test_commands_of_psql_are_pieces_of_their_own() -> None:
    pieces = list(split("\\set x 1\nSELECT 1 \\gexec\n\\connect db\nSELECT 2;"))
    assert [(piece.text.strip(), piece.command) for piece in pieces] == [
        ("\\set x 1", True),
        ("SELECT 1", False),
        ("\\connect db", True),
        ("SELECT 2;", False),
    ]


def test_the_data_of_a_copy_is_no_statement() -> None:
    script = "COPY t (a) FROM stdin;\n1;\t'\n\\.\n\nSELECT 1;"
    assert texts(script) == ["COPY t (a) FROM stdin;", "SELECT 1;"]
    assert texts("COPY t FROM STDIN; SELECT 1;") == ["COPY t FROM STDIN;", "SELECT 1;"]


@pytest.mark.parametrize(
    "mistake",
    ["SELECT 'open;", 'SELECT "open;', "SELECT (1;", "SELECT /* open;", "SELECT $$ open;"],
)
def test_a_mistake_costs_one_statement(mistake: str) -> None:
    assert texts(f"SELECT 1;\n{mistake} -- so\nSELECT 2;") == [
        "SELECT 1;",
        f"{mistake} -- so",
        "SELECT 2;",
    ]
    assert texts(mistake) == [mistake]


def coverage(script: str) -> list[int]:
    """How many pieces each character is in."""
    covered = [0] * len(script)
    for piece in split(script):
        assert script.startswith(piece.text, piece.start)
        assert piece.start <= piece.first < piece.start + len(piece.text)
        for at in range(piece.start, piece.start + len(piece.text)):
            covered[at] += 1
    return covered


@given(st.text(alphabet="ab1;'\"$\\()-/*\n E", max_size=60))
def test_no_character_is_in_two_pieces(script: str) -> None:
    assert max(coverage(script), default=0) <= 1


@given(st.text(alphabet="ab1;'\"$()\n E", max_size=60))
def test_without_comments_and_commands_nothing_is_left_out(script: str) -> None:
    left = "".join(c for c, times in zip(script, coverage(script), strict=True) if not times)
    assert not left.strip(" \n;")
