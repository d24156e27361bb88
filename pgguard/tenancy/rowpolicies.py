"""Row security as the catalogue has it: policies, owners, and which role it does not bind.

Laws: plain data and the queries that it comes from; whether a policy ties rows to a tenant is
decided elsewhere (F10 of tenancy.md, PGG108). Roles are those of the whole server.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pgguard.tenancy.catalogue import Table

LOCKED: Final = """ARRAY(
  SELECT l.relation FROM pg_catalog.pg_locks l
  WHERE l.relation IS NOT NULL AND l.mode OPERATOR(pg_catalog.=) 'AccessExclusiveLock')"""
"""Relations that somebody has, or wants, for himself: to print what names them waits for him."""

_OID: Final = "'pg_catalog.%s'::pg_catalog.regclass::pg_catalog.oid"

# Only names of ours are put into these texts.
# ruff: noqa: S608
SECURITY_QUERIES: Final[dict[str, str]] = {
    "user": "SELECT current_user",
    "security": """
SELECT c.oid, pg_catalog.pg_get_userbyid(c.relowner), c.relrowsecurity, c.relforcerowsecurity,
       EXISTS (SELECT FROM pg_catalog.unnest(c.reloptions) AS o(option)
               WHERE pg_catalog.lower(o.option) IN (
                 'security_invoker=true', 'security_invoker=on', 'security_invoker=yes',
                 'security_invoker=1'))
FROM pg_catalog.pg_class c
WHERE c.oid >= 16384::oid AND c.relkind IN ('r', 'p', 'f', 'v', 'm')""",
    "row_policies": f"""
SELECT y.polrelid, y.polname, y.polcmd, y.polpermissive,
       (SELECT pg_catalog.string_agg(pg_catalog.pg_get_userbyid(r.oid)::text, pg_catalog.chr(9)
                                  ORDER BY pg_catalog.pg_get_userbyid(r.oid))
        FROM pg_catalog.unnest(y.polroles) AS r(oid)
        WHERE r.oid OPERATOR(pg_catalog.<>) 0::pg_catalog.oid),
       CASE WHEN NOT s.locked THEN pg_catalog.pg_get_expr(y.polqual, y.polrelid) END,
       CASE WHEN NOT s.locked THEN pg_catalog.pg_get_expr(y.polwithcheck, y.polrelid) END,
       s.locked
FROM pg_catalog.pg_policy y
CROSS JOIN LATERAL (
  SELECT EXISTS (
    SELECT FROM pg_catalog.pg_depend d
    WHERE d.classid OPERATOR(pg_catalog.=) {_OID % "pg_policy"}
      AND d.objid OPERATOR(pg_catalog.=) y.oid
      AND d.refclassid OPERATOR(pg_catalog.=) {_OID % "pg_class"}
      AND d.refobjid OPERATOR(pg_catalog.=) ANY ({LOCKED}))
) AS s(locked)
ORDER BY y.polrelid, y.polname""",
    "roles": """
SELECT r.rolname, r.rolsuper, r.rolbypassrls FROM pg_catalog.pg_roles r
WHERE r.oid >= 16384::oid OR r.rolsuper""",
    "members": """
SELECT r.rolname, g.rolname
FROM pg_catalog.pg_auth_members m
JOIN pg_catalog.pg_roles r ON r.oid = m.member
JOIN pg_catalog.pg_roles g ON g.oid = m.roleid
WHERE COALESCE(pg_catalog.to_jsonb(m) ->> 'inherit_option', r.rolinherit::text) = 'true'""",
}
"""What `add_security` wants, by name. Valid for Postgres 11 and later."""

CHANGES: Final = """
  (SELECT pg_catalog.concat_ws(':', count(*) FILTER (WHERE c.relrowsecurity),
                               count(*) FILTER (WHERE c.relforcerowsecurity))
   FROM pg_catalog.pg_class c WHERE c.relkind IN ('r', 'p')),
  (SELECT pg_catalog.concat_ws(':', count(*), count(*) FILTER (WHERE r.rolsuper),
                               count(*) FILTER (WHERE r.rolbypassrls))
   FROM pg_catalog.pg_roles r)"""
"""What differs when row security is switched on or off, which rewrites pg_class alone."""


@dataclass(frozen=True, slots=True)
class RowPolicy:
    """One policy; `using` and `check` are expressions as the server prints them."""

    name: str
    command: str = "*"
    """pg_policy.polcmd: `r`, `a`, `w`, `d`, or `*` for all."""
    permissive: bool = True
    roles: tuple[str, ...] = ()
    """Whom it is for; empty = PUBLIC."""
    using: str = ""
    check: str = ""


@dataclass(frozen=True, slots=True)
class DatabaseRole:
    """A role of the server."""

    name: str
    superuser: bool = False
    bypasses: bool = False
    """BYPASSRLS."""
    has: frozenset[str] = frozenset()
    """The roles whose privileges it has, itself among them."""


@dataclass(slots=True)
class Roles:
    """All roles, and the one that read the catalogue."""

    user: str = ""
    known: dict[str, DatabaseRole] = field(default_factory=dict)

    def get(self, name: str) -> DatabaseRole:
        """A role; one that is not known is taken for an ordinary one."""
        return self.known.get(name) or DatabaseRole(name, has=frozenset({name}))


def unbound(table: Table, role: DatabaseRole) -> str:
    """Why policies of the table do not bind the role; empty if they do."""
    if not table.secured:
        return "row security is not enabled"
    if role.superuser:
        return f"{role.name} is a superuser"
    if role.bypasses:
        return f"{role.name} has BYPASSRLS"
    if table.owner in role.has and not table.forced:
        return f"{role.name} owns it, and FORCE ROW LEVEL SECURITY is not set"
    return ""


def applying(table: Table, role: DatabaseRole, command: str) -> list[RowPolicy]:
    """The policies that a role meets in a command (`r`, `a`, `w`, `d`)."""
    return [
        policy
        for policy in table.row_policies
        if policy.command in {"*", command} and (not policy.roles or role.has & set(policy.roles))
    ]


def read_roles(
    users: Iterable[list[str]], roles: Iterable[list[str]], members: Iterable[list[str]]
) -> Roles:
    """From the rows of the queries."""
    above: dict[str, set[str]] = {}
    for member, role in members:
        above.setdefault(member, set()).add(role)
    found = Roles(next((user for (user,) in users), ""))
    for name, superuser, bypasses in roles:
        found.known[name] = DatabaseRole(
            name, superuser == "t", bypasses == "t", _closure(name, above)
        )
    return found


def _closure(name: str, above: Mapping[str, set[str]]) -> frozenset[str]:
    seen: set[str] = set()
    stack = [name]
    while stack:
        role = stack.pop()
        if role not in seen:
            seen.add(role)
            stack += above.get(role, ())
    return frozenset(seen)


def add_security(
    tables: Mapping[str, Table], security: Iterable[list[str]], policies: Iterable[list[str]]
) -> None:
    """Write owners, switches and policies down, by the tables' oids."""
    for oid, owner, secured, forced, invoker in security:
        if oid in tables:
            table = tables[oid]
            table.owner, table.secured = owner, secured == "t"
            table.forced, table.invoker = forced == "t", invoker == "t"
    for oid, name, command, permissive, roles, using, check, _ in policies:
        if oid in tables:
            named = tuple(roles.split("\t")) if roles else ()
            policy = RowPolicy(name, command, permissive == "t", named, using, check)
            tables[oid].row_policies.append(policy)
