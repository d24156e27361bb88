"""Every way around the guard of tests/fixtures/evasion: blocked or unknown, never scoped."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest

from pgguard.findings import Verdict
from tests.conformance.tenancy.evasion import HARMLESS, Case, cases, model_in

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pgguard.launch.embedded import EmbeddedPostgres
    from pgguard.tenancy.model import Model

CASES = cases()


@pytest.fixture(scope="module")
def model(postgres: EmbeddedPostgres) -> Iterator[Model]:
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE evasion")
    with psycopg.connect(postgres.url_of("evasion"), autocommit=True) as connection:
        yield model_in(connection)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_way_around_is_never_scoped(model: Model, case: Case) -> None:
    statement = case.judged(model)
    assert Verdict(statement.verdict) not in HARMLESS, statement.why


def test_what_has_no_way_around_in_it_is_scoped(model: Model) -> None:
    honest = Case("honest", "", "", "SELECT id FROM orders WHERE tenant_id = $1", ("k",), ())
    assert Verdict(honest.judged(model).verdict) is Verdict.scoped
