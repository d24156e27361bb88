"""The oracle of `conformance tenancy` on real rows: it must see leaks, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING

import pytest

from tests.conformance.tenancy import collection
from tests.conformance.tenancy.generator import Generator
from tests.conformance.tenancy.oracle import Experiment, Kind, Oracle, Outcome
from tests.conformance.tenancy.schemas import MEMBER, OWNER, SCHEMAS
from tests.conformance.tenancy.shrinking import shrink
from tests.conformance.tenancy.worlds import ME, Worlds

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pgguard.launch.embedded import EmbeddedPostgres

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def worlds(postgres: EmbeddedPostgres) -> Iterator[Worlds]:
    with Worlds(postgres, SCHEMAS["snake"]) as made:
        yield made


def examine(worlds: Worlds, sql: str, role: str = "") -> Outcome:
    me = worlds.maker.tenant(ME)
    return Oracle(worlds, OWNER).examine(Experiment(sql, (me,), role))


LEAKS = [
    "SELECT title FROM tasks",
    "SELECT count(*) FROM tasks",
    "SELECT title FROM tasks WHERE tenant_id = $1 OR points > 1",
    (
        "SELECT p.name, t.title FROM projects p"
        " LEFT JOIN tasks t ON p.tenant_id = $1 AND t.points = p.budget"
    ),
    (
        "SELECT name FROM projects WHERE tenant_id = $1 AND budget NOT IN"
        " (SELECT points FROM tasks WHERE points IS NOT NULL)"
    ),
    "SELECT * FROM (SELECT * FROM tasks ORDER BY id LIMIT 3) t WHERE t.tenant_id = $1",
    "SELECT id, rank() OVER (ORDER BY points, id) FROM tasks",
    "SELECT (SELECT title FROM tasks t WHERE t.state = p.state) FROM tasks p WHERE tenant_id = $1",
    "UPDATE tasks SET points = 9",
    "UPDATE tasks SET points = 9 WHERE tenant_id <> $1",
    "UPDATE tasks SET points = (SELECT max(points) FROM tasks) WHERE tenant_id = $1",
    "WITH d AS (DELETE FROM attachments) SELECT 1 FROM tenants WHERE id = $1",
    "DELETE FROM attachments",
    "INSERT INTO audit_log SELECT id + 500000, $1, action FROM audit_log",
    "SELECT title FROM documents WHERE id IS NOT NULL OR tenant_id = $1; SELECT body FROM messages",
    "COPY (SELECT title FROM tasks ORDER BY id) TO STDOUT",
]

HARMLESS = [
    "SELECT title FROM tasks WHERE tenant_id = $1",
    "SELECT title FROM tasks WHERE tenant_id = $1 ORDER BY title",
    (
        "SELECT p.name, t.title FROM projects p LEFT JOIN tasks t ON t.project_id = p.id"
        " WHERE p.tenant_id = $1"
    ),
    "SELECT c.body FROM comments c JOIN tasks t ON t.id = c.task_id WHERE t.tenant_id = $1",
    "SELECT count(*) FROM events WHERE tenant_id = $1",
    "UPDATE tasks SET points = 9 WHERE tenant_id = $1",
    (
        "DELETE FROM attachments a USING comments c, tasks t"
        " WHERE c.id = a.comment_id AND t.id = c.task_id AND t.tenant_id = $1"
    ),
    (
        "INSERT INTO audit_log SELECT id + 500000, tenant_id, action FROM audit_log"
        " WHERE tenant_id = $1"
    ),
    "SELECT title FROM documents",
]


@pytest.mark.parametrize("sql", LEAKS)
def test_a_leak_is_seen(worlds: Worlds, sql: str) -> None:
    assert examine(worlds, sql).kind is Kind.differs


@pytest.mark.parametrize("sql", HARMLESS)
def test_what_reads_one_tenant_shows_no_difference(worlds: Worlds, sql: str) -> None:
    outcome = examine(worlds, sql)
    assert (outcome.kind, outcome.crossed) == (Kind.same, False), outcome


def test_row_security_is_that_of_the_role(worlds: Worlds) -> None:
    assert examine(worlds, "SELECT body FROM notes", MEMBER).kind is Kind.same
    assert examine(worlds, "SELECT body FROM notes").kind is Kind.differs


def test_a_key_that_others_may_reference_counts_only_where_they_do(worlds: Worlds) -> None:
    outcome = examine(
        worlds,
        "SELECT m.name FROM members m JOIN tasks t ON t.assignee_id = m.id WHERE m.tenant_id = $1",
    )
    assert (outcome.kind, outcome.crossed, outcome.world) == (Kind.same, True, "crossed")


@pytest.mark.parametrize(
    ("sql", "kind"),
    [
        ("SELECT name FROM countries", Kind.vacuous),
        ("SELECT title FROM tasks WHERE false", Kind.vacuous),
        ("SELECT title FROM tasks LIMIT 1", Kind.unstable),
        ("SELECT random() FROM tasks", Kind.unstable),
        ("SELECT nothing FROM tasks", Kind.failed),
        ("SELECT pg_sleep(20)", Kind.failed),
    ],
)
def test_what_proves_nothing_is_set_apart(worlds: Worlds, sql: str, kind: Kind) -> None:
    assert examine(worlds, sql).kind is kind


def test_a_key_that_another_tenant_took_is_told_by_an_error_alone(worlds: Worlds) -> None:
    outcome = examine(
        worlds,
        "INSERT INTO tenants SELECT $1::uuid, 'slug-b-0', 'other', 'x'"
        " WHERE NOT EXISTS (SELECT FROM tenants WHERE id = $1)",
    )
    assert outcome.kind is Kind.vacuous
    assert examine(worlds, "UPDATE tenants SET slug = 'slug-b-0' WHERE id = $1")[:2] == (
        Kind.same,
        "",
    )


def test_labels_of_the_collection_are_what_the_experiment_shows(worlds: Worlds) -> None:
    oracle = Oracle(worlds, OWNER)
    for labelled in collection.read("snake"):
        outcome = oracle.examine(labelled.experiment(worlds))
        assert collection.disagreement(labelled, outcome) == "", labelled.where


def test_a_label_that_is_too_kind_is_refuted(worlds: Worlds) -> None:
    oracle = Oracle(worlds, OWNER)
    refuted = 0
    for labelled in collection.read("snake"):
        if labelled.verdict in {"unscoped", "cross_tenant"} and not labelled.reason:
            kind = replace(labelled, verdict="scoped", levels={})
            outcome = oracle.examine(kind.experiment(worlds))
            assert collection.disagreement(kind, outcome), labelled.where
            refuted += 1
    assert refuted > 20


def test_the_collection_is_large_and_names_nothing_twice() -> None:
    statements = [(name, s) for name in SCHEMAS for s in collection.read(name)]
    assert len(statements) >= 400
    assert len({(name, s.sql, s.options) for name, s in statements}) == len(statements)
    assert len({(name, s.where) for name, s in statements}) == len(statements)


def test_experiments_leave_nothing_behind(worlds: Worlds) -> None:
    first = examine(worlds, "SELECT count(*) FROM tasks WHERE tenant_id = $1")
    for sql in LEAKS:
        examine(worlds, sql)
    for world in worlds.all():
        assert dict(world.connection.execute("SELECT * FROM tests.snapshot()").fetchall()) == (
            world.before
        )
    assert examine(worlds, "SELECT count(*) FROM tasks WHERE tenant_id = $1") == first


def test_a_seed_gives_the_same_statements(worlds: Worlds) -> None:
    lists = [
        [made.experiment for made in islice(Generator(worlds, seed), 200)] for seed in (4, 4, 5)
    ]
    assert lists[0] == lists[1] != lists[2]
    assert len(set(lists[0])) > 190


def test_most_generated_statements_run(worlds: Worlds) -> None:
    oracle = Oracle(worlds, OWNER)
    kinds = [oracle.examine(made.experiment).kind for made in islice(Generator(worlds, 3), 60)]
    assert kinds.count(Kind.failed) <= 3
    assert kinds.count(Kind.same) > 20
    assert kinds.count(Kind.differs) > 3


def test_shrinking_keeps_what_is_wrong() -> None:
    sql = (
        "WITH a AS (SELECT 1) SELECT x.title, y.name FROM tasks x JOIN projects y ON y.id = x.id"
        " WHERE x.points > 3 AND (x.state = 'open' OR x.title IS NULL) ORDER BY 1 LIMIT 5"
    )
    short = shrink(sql, lambda text: "'open'" in text and "tasks" in text)
    assert short == "SELECT FROM tasks WHERE x.state = 'open'"
