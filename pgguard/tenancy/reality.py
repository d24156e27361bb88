"""Does row security do what its policies promise? PGG108, from the catalogue alone.

Laws: tenant tables, and views over them; each gap is told once for a table and a role, or for the
table where it is the same for every role; a policy for some roles only is their business, unless
one of them runs statements here.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from pgguard.tenancy.rowpolicies import applying, unbound
from pgguard.tenancy.wording import quoted, relation

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pgguard.tenancy.catalogue import Table
    from pgguard.tenancy.model import Model
    from pgguard.tenancy.rowpolicies import RowPolicy

_TRAP: Final = re.compile(
    r"(?<!NULLIF)\(current_setting\('([^']+)'::text, true\)\)?::(?!text\b|character varying|name\b)"
)
"""A setting that may be missing, cast as it is; as pg_get_expr prints it."""


class Gap(NamedTuple):
    """One thing that row security does not do."""

    table: Table
    why: str
    fix: str
    role: str = ""
    """Whom it concerns; empty = everybody."""


def gaps(model: Model, roles: Iterable[str] = ()) -> Iterator[Gap]:
    """What is wrong, in the order of the tables' names; `roles` are those that run statements."""
    named = sorted(set(roles))
    for key in sorted(model.catalogue.tables):
        table = model.catalogue.tables[key]
        if table.kind in {"v", "m"}:
            yield from _of_view(model, table)
        elif key in model.roles and (table.secured or table.row_policies):
            yield from _of_table(model, table, named)


def _of_table(model: Model, table: Table, roles: list[str]) -> Iterator[Gap]:
    name = relation(table)
    if not table.secured:
        why = f"{table.shown} has policies, but row security is not enabled"
        yield Gap(table, why, f"ALTER TABLE {name} ENABLE ROW LEVEL SECURITY")
        return
    for role in roles:
        known = model.catalogue.roles.get(role)
        why = unbound(table, known)
        if why:
            owner = not (known.superuser or known.bypasses)
            fix = f"ALTER TABLE {name} FORCE ROW LEVEL SECURITY" if owner else _OTHER_ROLE
            yield Gap(table, f"policies of {table.shown} do not bind {role}: {why}", fix, role)
    for policy in table.row_policies:
        yield from _of_policy(model, table, policy, roles)


_OTHER_ROLE: Final = "run the application as a role that is no superuser and has no BYPASSRLS"


def _of_policy(model: Model, table: Table, policy: RowPolicy, roles: list[str]) -> Iterator[Gap]:
    known = model.catalogue.roles
    met = [role for role in roles if policy in applying(table, known.get(role), policy.command)]
    if not policy.roles or met:
        whom = "everybody" if not policy.roles else ", ".join(met)
        if policy.permissive and policy.using == "true":
            yield Gap(
                table,
                f"policy {policy.name} of {table.shown} lets {whom} see every tenant's rows",
                f"ALTER POLICY {quoted(policy.name)} ON {relation(table)} USING"
                f" ({_own(model, table)})",
                "" if not policy.roles else whom,
            )
    for setting in sorted(set(_TRAP.findall(policy.using) + _TRAP.findall(policy.check))):
        yield Gap(
            table,
            f"policy {policy.name} of {table.shown} fails once a transaction has used SET LOCAL:"
            f" {setting} reads '' from then on, which cannot be cast",
            f"write NULLIF(current_setting('{setting}', true), '') there",
        )


def _own(model: Model, table: Table) -> str:
    """The condition that a policy would need."""
    role = model.roles[table.key]
    column = quoted(role.columns[0]) if role.columns and role.kind != "owned" else "..."
    setting = model.settings.settings[0] if model.settings.settings else "app.tenant_id"
    declared = table.column(role.columns[0]) if role.columns else None
    cast = f"::{declared.type}" if declared and declared.type not in {"text", "varchar"} else ""
    return f"{column} = NULLIF(current_setting('{setting}', true), ''){cast}"


def _of_view(model: Model, view: Table) -> Iterator[Gap]:
    """A view reads as its owner does, a materialized one has read so already."""
    if view.kind == "v" and view.invoker:
        return
    owner = model.catalogue.roles.get(view.owner)
    for key in sorted(view.depends):
        table = model.catalogue.tables.get(key)
        if table is None or not table.secured or key not in model.roles:
            continue
        if view.kind == "m":
            why = f"{view.shown} holds rows of {table.shown} to which no policy is applied"
            yield Gap(view, why, "keep the tenant in it, and let nobody read it without one")
        elif why := unbound(table, owner):
            yield Gap(
                view,
                f"{view.shown} reads {table.shown} as its owner {owner.name}, whom policies"
                f" do not bind: {why}",
                f"ALTER VIEW {relation(view)} SET (security_invoker = true)",
            )
