"""What row security says of the tenant column, for whom, and when it says nothing."""

from __future__ import annotations

import pytest

from pgguard.tenancy.catalogue import Catalogue, Column, Table
from pgguard.tenancy.model import Model, TenancySettings
from pgguard.tenancy.rowpolicies import DatabaseRole, Roles, RowPolicy
from pgguard.tenancy.rowsecurity import setting

TIED = "(tenant_id = current_setting('app.tenant_id'::text))"
POLICY = RowPolicy("own", using=TIED)


def model_of(
    *policies: RowPolicy, secured: bool = True, forced: bool = False, **role: bool
) -> tuple[Model, Table]:
    columns = [Column("id", "text", not_null=True), Column("tenant_id", "text")]
    table = Table("public", "items", columns=columns)
    table.owner, table.secured, table.forced = "owner", secured, forced
    table.row_policies = list(policies)
    app = DatabaseRole("app", has=frozenset({"app"}), **role)
    owner = DatabaseRole("owner", has=frozenset({"owner"}))
    roles = Roles("app", {"app": app, "owner": owner})
    builtins = frozenset({"current_setting"})
    catalogue = Catalogue(tables={table.key: table}, roles=roles, builtins=builtins)
    settings = TenancySettings(settings=("app.tenant_id",))
    return Model(catalogue, settings), table


def is_tied(model: Model, table: Table, *users: str, view: Table | None = None) -> bool:
    found = setting(model, table, "read", users, [view] if view is not None else [])
    assert found is None or len(found) == 1
    return found is not None


def test_a_policy_that_binds_ties_the_column_to_the_setting() -> None:
    assert is_tied(*model_of(POLICY), "app")


@pytest.mark.parametrize(
    ("policies", "options"),
    [
        ((), {}),
        ((RowPolicy("all", using="true"),), {}),
        ((POLICY, RowPolicy("all", using="true")), {}),
        ((POLICY,), {"secured": False}),
        ((POLICY,), {"superuser": True}),
        ((POLICY,), {"bypasses": True}),
        ((RowPolicy("own", using="(tenant_id <> current_setting('app.tenant_id'::text))"),), {}),
    ],
)
def test_nothing_is_known_where_a_policy_does_not_bind_or_does_not_tie(
    policies: tuple[RowPolicy, ...], options: dict[str, bool]
) -> None:
    assert not is_tied(*model_of(*policies, **options), "app")


def test_a_restrictive_policy_is_enough() -> None:
    wide = RowPolicy("all", using="true")
    narrow = RowPolicy("own", permissive=False, using=TIED)
    assert is_tied(*model_of(wide, narrow), "app")


def test_the_owner_is_bound_only_by_force() -> None:
    assert not is_tied(*model_of(POLICY), "owner")
    assert is_tied(*model_of(POLICY, forced=True), "owner")


def test_every_role_that_may_run_it_must_be_bound() -> None:
    assert not is_tied(*model_of(POLICY), "app", "owner")
    assert not is_tied(*model_of(POLICY), "app", "")
    assert not is_tied(*model_of(POLICY))


def test_a_view_runs_as_its_owner_unless_it_is_the_invoker_s() -> None:
    model, table = model_of(POLICY)
    view = Table("public", "shown", kind="v")
    view.owner = "owner"
    assert not is_tied(model, table, "app", view=view)
    view.invoker = True
    assert is_tied(model, table, "app", view=view)
    view.kind = "m"
    assert not is_tied(model, table, "app", view=view)
