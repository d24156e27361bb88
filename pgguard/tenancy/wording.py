"""Identifiers and fixes as a user would type them.

Laws: a name is quoted exactly where Postgres needs it; a new parameter takes the next free
number.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pgguard.sql.statement import Part
    from pgguard.tenancy.catalogue import Table
    from pgguard.tenancy.model import Model
    from pgguard.tenancy.outcome import Outcome

_PLAIN: Final = re.compile(r"[a-z_][a-z0-9_$]*\Z")
_WORDS: Final = """
all analyse analyze and any array as asc asymmetric authorization binary both case cast check
collate collation column concurrently constraint create cross current_catalog current_date
current_role current_schema current_time current_timestamp current_user default deferrable desc
distinct do else end except false fetch for foreign freeze from full grant group having ilike in
initially inner intersect into is isnull join lateral leading left like limit localtime
localtimestamp natural not notnull null offset on only or order outer overlaps placing primary
references returning right select session_user similar some symmetric system_user table
tablesample then to trailing true union unique user using variadic verbose when where window
with
"""
_RESERVED: Final = frozenset(_WORDS.split())


def quoted(name: str) -> str:
    """An identifier, in quotes if it needs them."""
    if _PLAIN.match(name) and name not in _RESERVED:
        return name
    return '"' + name.replace('"', '""') + '"'


def relation(table: Table) -> str:
    """A table's name as one would write it."""
    name = quoted(table.name)
    return name if table.schema == "public" else f"{quoted(table.schema)}.{name}"


def column(outcome: Outcome, name: str) -> str:
    """A column of the occurrence, under the names that both have there; empty if it has none."""
    if outcome.inside and name not in outcome.renamed:
        return ""
    name = quoted(outcome.renamed.get(name, name))
    qualifier = outcome.alias.partition(".")[0] if outcome.inside else outcome.alias
    if not qualifier and outcome.named:
        return f"{relation(outcome.table)}.{name}"
    return f"{quoted(qualifier)}.{name}" if qualifier else name


def parameter(part: Part | None) -> str:
    """The next free parameter of the statement."""
    return f"${(part.parameters if part else 0) + 1}"


def condition(outcome: Outcome, part: Part | None, model: Model) -> str:
    """The smallest condition that ties the occurrence to one tenant; empty if none is known."""
    test = _test(outcome, part, model)
    if not test:
        return ""
    joint = outcome.condition
    if outcome.outer:
        return f"add AND {test} to the ON of {outcome.outer}"
    if joint == "or":
        return f"put the condition in parentheses and add AND {test}"
    return f"add {'AND' if joint else 'WHERE'} {test}"


def _test(outcome: Outcome, part: Part | None, model: Model) -> str:
    role = outcome.role
    if role is None or not role.columns:
        return ""
    if role.kind != "owned":
        names = [column(outcome, name) for name in role.columns]
        if not all(names):
            return ""
        return " AND ".join(f"{name} = {parameter(part)}" for name in names)
    if not role.owners:
        return ""
    foreign = role.owners[0]
    owner = model.roles[foreign.target]
    if owner.kind == "owned" or not owner.columns:
        return ""
    if outcome.inside:
        return ""
    qualifier = quoted(outcome.alias or outcome.table.name)
    joins = [
        f"owner.{quoted(theirs)} = {qualifier}.{quoted(ours)}"
        for ours, theirs in zip(foreign.columns, foreign.target_columns, strict=True)
    ]
    joins.append(f"owner.{quoted(owner.columns[0])} = {parameter(part)}")
    return f"EXISTS (SELECT FROM {relation(owner.table)} AS owner WHERE {' AND '.join(joins)})"
