"""Roles of tables: discovered, configured, ambiguous."""

from __future__ import annotations

import pytest
from schemas import SETTINGS

from pgguard.sql.statement import Name
from pgguard.tenancy.catalogue import Catalogue, Column, ForeignKey, Key, Table
from pgguard.tenancy.model import Model, TenancySettings


def table(
    name: str, columns: str, *references: str, schema: str = "public", parent: str = ""
) -> Table:
    """`column` or `column!` (NOT NULL); `column>target` is a foreign key to its id."""
    made = Table(schema, name)
    for word in columns.split():
        made.columns.append(Column(word.rstrip("!"), "int", not_null=word.endswith("!")))
    made.keys.append(Key(f"{name}_pkey", ("id",), primary=True))
    for reference in references:
        column, _, target = reference.partition(">")
        foreign = ForeignKey(f"{name}_{column}", (column,), ("public", target), ("id",))
        made.foreign_keys.append(foreign)
    made.parents = [("public", parent)] if parent else []
    return made


def model(*tables: Table, **settings: object) -> Model:
    catalogue = Catalogue(tables={one.key: one for one in tables})
    return Model(catalogue, TenancySettings(**settings))  # type: ignore[arg-type]


def roles(made: Model) -> dict[str, str]:
    return {
        role.table.shown: f"{role.kind} {'+'.join(role.columns)}".strip()
        for role in made.roles.values()
    }


TENANT = table("tenant", "id! name")
USER = table("user", "id! tenant_id!", "tenant_id>tenant")


def test_real_schemas_are_discovered(catalogues: dict[str, Catalogue]) -> None:
    assert roles(Model(catalogues["booking"], SETTINGS["booking"])) == {
        "tenants": "root id",
        "packages": "direct tenant_id",
        "bookings": "direct tenant_id",
        "payments": "direct tenant_id",
        "audit": "direct tenant_id",
        "letters": "direct tenant_id",
        "events": "direct tenant_id",
        "events_2024": "direct tenant_id",
        "add_ons": "owned booking_id",
    }
    prisma = Model(catalogues["prisma"], SETTINGS["prisma"])
    assert roles(prisma) == {
        "Tenant": "root id",
        "User": "direct tenantId",
        "Template": "direct tenantId",
        "Order": "direct tenantId",
        "Transfer": "direct fromTenant+toTenant",
        "Item": "owned orderId+userId",
        "other.secrets": "direct tenantId",
    }
    assert sorted(one.table for one in prisma.ambiguities) == ["Item", "Transfer"]
    assert [role.table.name for role in prisma.roles.values() if role.shared] == ["Template"]


def test_the_case_of_a_column_counts() -> None:
    assert roles(model(table("a", "id! tenantid"), table("b", "id! Tenant_Id"))) == {}


def test_a_foreign_key_to_the_root_makes_a_tenant_column_of_any_name() -> None:
    made = model(TENANT, USER, table("site", "id! belongs_to", "belongs_to>tenant"))
    assert roles(made)["site"] == "direct belongs_to"


def test_the_named_column_goes_before_other_keys_to_the_root() -> None:
    deal = table("deal", "id! tenant_id! sold_to!", "tenant_id>tenant", "sold_to>tenant")
    made = model(TENANT, USER, deal)
    assert roles(made)["deal"] == "direct tenant_id"
    assert made.ambiguities == []


def test_of_two_named_columns_the_one_that_references_the_root_counts() -> None:
    both = table("both", "id! tenant_id tenantId!", "tenantId>tenant")
    assert roles(model(TENANT, USER, both))["both"] == "direct tenantId"


def test_two_equal_candidates_are_ambiguous() -> None:
    made = model(table("both", "id! tenant_id tenantId"))
    assert roles(made) == {"both": "direct tenant_id+tenantId"}
    assert [one.table for one in made.ambiguities] == ["both"]


def test_two_roots_are_ambiguous_and_settled_by_configuration() -> None:
    firm = table("firm", "id!")
    other = table("other", "id! tenant_id!", "tenant_id>firm")
    made = model(TENANT, firm, USER, other)
    assert {name for name, role in roles(made).items() if role.startswith("root")} == {
        "tenant",
        "firm",
    }
    assert "tenancy.root" in made.ambiguities[0].fix
    settled = model(TENANT, firm, USER, other, root=("tenant",))
    assert settled.ambiguities == []
    assert roles(settled) == {
        "tenant": "root id",
        "user": "direct tenant_id",
        "other": "direct tenant_id",
    }


def test_ownership_is_found_through_several_steps_in_any_order() -> None:
    leaf = table("a_leaf", "id! branch!", "branch>b_branch")
    branch = table("b_branch", "id! owner!", "owner>user")
    assert roles(model(leaf, branch, USER, TENANT)) == {
        "tenant": "root id",
        "user": "direct tenant_id",
        "b_branch": "owned owner",
        "a_leaf": "owned branch",
    }


def test_a_foreign_key_that_may_be_null_owns_nothing_unless_configured() -> None:
    loose = table("loose", "id! owner", "owner>user")
    assert "loose" not in roles(model(TENANT, USER, loose))
    assert roles(model(TENANT, USER, loose, owned=(("loose", "owner"),)))["loose"] == "owned owner"


def test_several_owners_are_settled_by_configuration() -> None:
    item = table("item", "id! buyer! seller!", "buyer>user", "seller>user")
    assert [one.table for one in model(TENANT, USER, item).ambiguities] == ["item"]
    settled = model(TENANT, USER, item, owned=(("item", "seller"),))
    assert settled.ambiguities == []
    assert roles(settled)["item"] == "owned seller"


def test_a_table_that_references_itself_does_not_own_itself() -> None:
    assert roles(model(table("tree", "id! parent!", "parent>tree"))) == {}


@pytest.mark.parametrize("pattern", ["user", "public.user", "us*", "public.*"])
def test_a_global_table_is_no_tenant_table(pattern: str) -> None:
    assert "user" not in roles(model(TENANT, USER, global_=(pattern,)))


def test_children_take_the_model_of_their_parent() -> None:
    whole = table("event", "id! tenant_id!")
    piece = table("event_1", "id! tenant_id!", parent="event")
    assert roles(model(whole, piece))["event_1"] == "direct tenant_id"
    owned = table("owned", "id! owner!", "owner>user")
    child = table("owned_1", "id! owner!", parent="owned")
    assert roles(model(TENANT, USER, owned, child))["owned_1"] == "owned owner"


def test_a_parent_of_which_only_children_belong_to_tenants_is_mixed() -> None:
    made = model(table("all", "id!"), table("some", "id! tenant_id!", parent="all"))
    assert roles(made)["all"] == "mixed"


def test_a_name_without_a_schema_may_be_any_of_that_name() -> None:
    public, twin = table("user", "id! tenant_id!"), table("user", "id!", schema="other")
    plain, copy = table("plain", "id!"), table("plain", "id!", schema="other")
    far = table("far", "id!", schema="other")
    made = model(public, twin, plain, copy, far)
    assert made.find(Name("other", "user")) == [twin]
    assert made.find(Name("", "user")) == [public, twin]
    assert made.find(Name("", "plain")) == [plain, copy]
    assert made.find(Name("", "far")) == [far]
    assert made.find(Name("", "none")) == []


def test_views_are_followed_to_their_tables_even_in_circles() -> None:
    view, over = Table("public", "v", "v"), Table("public", "w", "v")
    view.depends, over.depends = {("public", "w"), ("public", "user")}, {("public", "v")}
    made = model(view, over, USER)
    assert made.touches(over)
    assert {one.name for one in made.reach([over])} == {"v", "w", "user"}
    assert not model(Table("public", "v", "v")).touches(Table("public", "v", "v"))


def test_a_write_arrives_in_children_and_behind_views() -> None:
    parent, child = table("all", "id!"), table("some", "id!", parent="all")
    view = Table("public", "v", "v", depends={("public", "all")})
    made = model(parent, child, view)
    assert made.below(parent) == [child]
    assert made.below(view) == [parent]
    assert made.below(child) == []


def test_foreign_keys_to_a_partitioned_table_reference_its_partitions_too() -> None:
    parent, child = table("all", "id!"), table("some", "id!", parent="all")
    foreign = ForeignKey("f", ("up",), parent.key, ("id",))
    far = Table("public", "far", foreign_keys=[foreign])
    made = model(parent, child, far)
    assert made.referring(parent) == made.referring(child) == [(far, foreign)]
    assert made.referring(far) == []
