"""Why nothing came: a guess is called one, and every cause has a remedy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pgguard.cli.nothing import why
from pgguard.launch.environment import Found, Rewritten
from pgguard.settings.upstream import parse_url

if TYPE_CHECKING:
    from pathlib import Path

ADDRESS = parse_url("postgres://u@db.test:5433/shop", {})


def cause(cwd: Path, *changed: str, origin: str = "DATABASE_URL", **more: Any) -> str:
    rewritten = Rewritten({}, [*changed, "PGHOST", "PGPORT"], **more)
    return why(rewritten, Found(ADDRESS, origin), 0, cwd, embedded=False)[0]


def test_the_causes_are_tried_in_the_order_of_their_likelihood(tmp_path: Path) -> None:
    others = {"left_alone": ["OTHER (names o:1)"]}
    assert cause(tmp_path, "DATABASE_URL (.env)", **others) == (
        "likely because CMD uses OTHER (names o:1)"
    )
    assert cause(tmp_path, "DATABASE_URL (.env)") == "likely because CMD did not use DATABASE_URL"
    assert cause(tmp_path, origin="PGHOST and PGPORT") == (
        "likely because CMD did not use PGHOST and PGPORT"
    )
    assert "no variable names" in cause(tmp_path, origin="PGGUARD_UPSTREAM")
    assert cause(tmp_path, origin="--upstream") == (
        "likely because no variable names db.test:5433, so CMD has it from elsewhere"
    )
    (tmp_path / ".env.local").write_text("DATABASE_URL=x\n")
    assert cause(tmp_path, "DATABASE_URL", **others) == (
        "likely because .env.local:1 sets DATABASE_URL and its loader puts that over what pgguard"
        " has set"
    )


def test_the_variable_that_named_the_upstream_is_the_one_to_look_for(tmp_path: Path) -> None:
    assert cause(tmp_path, "A_URL", "B_URL", origin="B_URL in .env").endswith("not use B_URL")
    assert cause(tmp_path, "A_URL", "B_URL", origin="--upstream").endswith("not use A_URL")


def test_a_url_that_libpq_refuses_is_a_likely_cause(tmp_path: Path) -> None:
    assert cause(tmp_path, "DATABASE_URL", limited={"DATABASE_URL": ["pool_timeout"]}) == (
        "likely because CMD's driver refused DATABASE_URL for its pool_timeout, or did not use it"
    )


def test_a_database_of_our_own_can_be_hard_coded_nowhere(tmp_path: Path) -> None:
    rewritten = Rewritten({}, ["DATABASE_URL_TEST", "DATABASE_URL", "PGHOST", "PGPORT"])
    found = Found(ADDRESS, "--embedded: PostgreSQL 18, a wheel")
    (tmp_path / ".env").write_text("DATABASE_URL=x\n")
    reason, remedy = why(rewritten, found, 0, tmp_path, embedded=True)
    assert reason == "likely because CMD did not use DATABASE_URL or DATABASE_URL_TEST"
    assert "PGHOST, PGPORT" in remedy
    assert "5433" not in reason + remedy


@pytest.mark.parametrize(
    ("left", "embedded", "said", "remedy"),
    [
        (1, False, "1 session came and did not log in", "user and password of PGHOST"),
        (2, True, "2 sessions came and did not log in", "user and password of DATABASE_URL"),
    ],
)
def test_sessions_that_did_not_log_in_are_no_guess(
    left: int, embedded: bool, said: str, remedy: str, tmp_path: Path
) -> None:
    found = Found(ADDRESS, "PGHOST")
    reason, advice = why(Rewritten({}), found, left, tmp_path, embedded=embedded)
    assert reason.startswith(said)
    assert advice.endswith(remedy)


def test_every_verdict_of_a_common_cause_is_one_line(tmp_path: Path) -> None:
    (tmp_path / ".env.test.local").write_text("\n" * 120 + "DATABASE_URL_TEST=x\n")
    said = [
        cause(tmp_path, "DATABASE_URL"),
        cause(tmp_path, origin="--upstream"),
        cause(tmp_path, "DATABASE_URL", left_alone=["REPORTS_URL (names reports.test:5432)"]),
    ]
    assert max(map(len, said)) + len("nothing came through pgguard: ") <= 110
