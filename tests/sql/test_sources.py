"""What code may do that cannot be looked for afterwards."""

from __future__ import annotations

import pytest

from pgguard.sql.sources import read


@pytest.mark.parametrize(
    ("text", "dotted"),
    [
        ("BEGIN PERFORM set_config('app.tenant', x, false); END", {"app.tenant"}),
        ("SELECT pg_catalog.set_config ( 'App.Tenant' , $1, true)", {"app.tenant"}),
        ("BEGIN SET app.tenant = 'a'; END", {"app.tenant"}),
        ("BEGIN SET LOCAL app.tenant TO 'a'; END", {"app.tenant"}),
        ('BEGIN SET SESSION "app"."tenant" = 1; END', {"app.tenant"}),
        ("EXECUTE 'SELECT set_config(''app.tenant'', ''a'', false)'", {"app.tenant"}),
        ("BEGIN SET lock_timeout = 1; PERFORM set_config('work_mem', '1MB', true); END", set()),
        ("UPDATE t SET a.b = 1", set()),
        ("INSERT INTO t VALUES (1) ON CONFLICT DO UPDATE SET a.b = 1", set()),
    ],
)
def test_names_with_a_dot_are_found(text: str, dotted: set[str]) -> None:
    source = read(text)
    assert source.dotted == dotted
    assert not source.hides
    assert not source.seeds


@pytest.mark.parametrize(
    "text",
    [
        "PERFORM set_config(name, 'a', false)",
        "PERFORM set_config('app.' || name, 'a', false)",
        "PERFORM set_config(setting_name => 'app.a', new_value => 'a', is_local => false)",
        "EXECUTE format('SET %I = 1', name)",
        "EXECUTE format('SET LOCAL app.%I = 1', name)",
        "EXECUTE 'SET app.' || name || ' = 1'",
        "PERFORM dblink_connect('a', 'b')",
        "EXECUTE 'LOAD ''auto_explain'''",
    ],
)
def test_what_is_put_together_at_run_time_hides(text: str) -> None:
    assert read(text).hides


@pytest.mark.parametrize(
    "text", ["EXECUTE format('UPDATE t SET %I = 1', name)", "SELECT a.b FROM t", ""]
)
def test_what_writes_rows_hides_nothing(text: str) -> None:
    assert read(text) == read("")


@pytest.mark.parametrize("text", ["SELECT setseed(0.1)", "SET seed = 0.1", "SET SESSION seed TO 1"])
def test_a_seed_is_found(text: str) -> None:
    assert read(text).seeds
