"""What is written, as occurrences: the new row, the one of a conflict, and the target of MERGE."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from bookings import MODEL, solved
from planning import planned

from pgguard.sql.plan.nodes import Select
from pgguard.tenancy.changes import Builder
from pgguard.tenancy.inference import Solver

if TYPE_CHECKING:
    from pgguard.tenancy.occurrences import Occurrence


def tenant(solver: Solver, one: Occurrence) -> str:
    """The constants of its tenant, `-` if nothing is known."""
    held = one.env.place().constants(one.tenant[0])
    return "-" if held is None else " ".join(sorted(c.value or c.kind for c in held))


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("INSERT INTO bookings (id, tenant_id) VALUES (1, $1)", "1"),
        ("INSERT INTO bookings (tenant_id, id) VALUES (1, $1)", "1"),
        ("INSERT INTO bookings VALUES (7, $2, 'c')", "2"),
        ("INSERT INTO bookings VALUES (7)", "-"),
        ("INSERT INTO bookings (id, code) VALUES (7, $2)", "-"),
        ("INSERT INTO bookings (id, tenant_id) VALUES (1, $1), (2, $2)", "1 2"),
        ("INSERT INTO bookings (tenant_id) SELECT tenant_id FROM posts WHERE tenant_id = $3", "3"),
        ("INSERT INTO bookings (tenant_id) SELECT note FROM posts WHERE tenant_id = $3", "-"),
        ("INSERT INTO bookings DEFAULT VALUES", "-"),
    ],
)
def test_the_new_row_is_what_it_is_given(sql: str, expected: str) -> None:
    solver = solved(sql)
    (insertion,) = solver.built.insertions
    assert insertion.row.use == "insert"
    assert tenant(solver, insertion.row) == expected


def test_what_a_new_row_is_made_of_says_nothing_of_its_source() -> None:
    solver = solved("INSERT INTO bookings (tenant_id, code) SELECT tenant_id, $1 FROM posts")
    source, row = (one for one in solver.built.occurrences if one.base is None)
    assert (source.table.name, row.table.name) == ("posts", "bookings")
    assert tenant(solver, source) == "-"
    assert row.env.place() is not source.env.place()


@pytest.mark.parametrize(
    ("conflict", "expected"),
    [
        ("(tenant_id, code) DO UPDATE SET note = 'n'", "1"),
        ("ON CONSTRAINT bookings_tenant_id_code_key DO UPDATE SET note = 'n'", "1"),
        ("(id) DO UPDATE SET note = 'n'", "-"),
        ("ON CONSTRAINT bookings_pkey DO UPDATE SET note = 'n'", "-"),
        ("(id) DO UPDATE SET note = 'n' WHERE bookings.tenant_id = excluded.tenant_id", "1"),
        ("(id) DO UPDATE SET note = 'n' WHERE excluded.tenant_id = $1", "-"),
    ],
)
def test_a_conflict_updates_a_row_equal_in_its_columns(conflict: str, expected: str) -> None:
    solver = solved(
        f"INSERT INTO bookings (id, tenant_id, code) VALUES (7, $1, 'c') ON CONFLICT {conflict}"
    )
    (insertion,) = solver.built.insertions
    (change,) = solver.built.changes
    assert insertion.updated is change.row is not insertion.row
    assert change.proposed is insertion.row
    assert tenant(solver, change.row) == expected
    assert tenant(solver, insertion.row) == "1"


def test_the_condition_of_a_conflict_says_nothing_of_the_new_row() -> None:
    solver = solved(
        "INSERT INTO bookings (id, tenant_id) SELECT 7, note FROM words ON CONFLICT (id)"
        " DO UPDATE SET note = 'n' WHERE bookings.tenant_id = $1 AND excluded.tenant_id = $1"
    )
    (insertion,) = solver.built.insertions
    assert insertion.updated is not None
    assert tenant(solver, insertion.updated) == "1"
    assert tenant(solver, insertion.row) == "-"


def test_do_nothing_changes_no_row() -> None:
    built = solved("INSERT INTO bookings (id) VALUES (7) ON CONFLICT DO NOTHING").built
    assert (len(built.insertions), built.changes) == (1, [])
    assert built.insertions[0].updated is None


@pytest.mark.parametrize(
    ("action", "use", "inside"),
    [
        ("WHEN MATCHED THEN UPDATE SET note = 'n'", "update", True),
        ("WHEN MATCHED THEN DELETE", "delete", True),
        ("WHEN NOT MATCHED THEN INSERT (id) VALUES (s.id)", "read", False),
        ("WHEN NOT MATCHED THEN DO NOTHING", "read", True),
    ],
)
def test_the_target_of_merge_is_nullable_if_a_row_without_match_counts(
    action: str, use: str, inside: bool
) -> None:
    solver = solved(
        "MERGE INTO bookings b USING posts s ON b.tenant_id = s.tenant_id AND b.tenant_id = $1 "
        + action
    )
    source, target = [one for one in solver.built.occurrences if one.base is None][:2]
    assert target.use == use
    assert tenant(solver, target) == "1"
    # The source is known by the condition only where rows without a match do not matter.
    assert tenant(solver, source) == ("1" if inside else "-")


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("UPDATE bookings SET note = $2 WHERE tenant_id = $1", "1"),
        ("UPDATE bookings SET tenant_id = $2 WHERE id = $1", "-"),
        ("UPDATE bookings b SET note = 'n' FROM posts p WHERE b.tenant_id = p.tenant_id", "-"),
        (
            (
                "UPDATE bookings b SET note = 'n' FROM posts p"
                " WHERE b.tenant_id = p.tenant_id AND p.tenant_id = $1"
            ),
            "1",
        ),
    ],
)
def test_what_is_set_says_nothing_of_the_row_before(sql: str, expected: str) -> None:
    solver = solved(sql)
    (change,) = solver.built.changes
    assert change.row.use == "update"
    assert tenant(solver, change.row) == expected
    assert set(change.columns) <= {"note", "tenant_id"}


def test_the_condition_of_a_query_can_be_read_for_another_table() -> None:
    plan = planned("SELECT FROM elsewhere WHERE tenant_id = $1")
    assert isinstance(plan, Select)
    built = Builder(MODEL)
    one = built.of_table(plan, MODEL.catalogue.tables["public", "posts"])
    solver = Solver(built)
    solver.solve()
    assert tenant(solver, one) == "1"
