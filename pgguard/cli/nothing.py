"""Why nothing came through pgguard, as far as can be told, and what to do about it.

Laws: what is a guess is called likely; the causes are tried in the order of their likelihood.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgguard.settings.values import Address

if TYPE_CHECKING:
    from pathlib import Path

    from pgguard.launch.environment import Found, Rewritten


def why(
    rewritten: Rewritten, found: Found, left: int, cwd: Path, *, embedded: bool
) -> tuple[str, str]:
    """Cause and remedy. `left` sessions came and did not get past their login; `embedded`: the
    database is our own, so nobody can know it but from the environment."""
    if left:
        came = "1 session" if left == 1 else f"{left} sessions"
        return (
            f"{came} came and did not log in (refused, or no password)",
            f"give CMD the user and password of {'DATABASE_URL' if embedded else found.origin}",
        )
    cause, remedy = _in_environment(rewritten) if embedded else _on_a_server(rewritten, found, cwd)
    return f"likely because {cause}", remedy


def _in_environment(rewritten: Rewritten) -> tuple[str, str]:
    urls = [name for name in rewritten.changed if not name.startswith("PG")]
    others = [name for name in rewritten.changed if name.startswith("PG")]
    return (
        f"CMD did not use {' or '.join(reversed(urls))}",
        f"read one of them, or {', '.join(others)}, in the code and its configuration",
    )


def _on_a_server(rewritten: Rewritten, found: Found, cwd: Path) -> tuple[str, str]:
    from pgguard.launch.environment import overrides

    place = Address(found.address.host, found.address.port)
    names = [name.partition(" ")[0] for name in rewritten.changed if not name.startswith("PG")]
    if places := overrides(cwd, names):
        return (
            f"{places[0]} and its loader puts that over what pgguard has set",
            f"load it without override, or take the line out ({', '.join(places)})",
        )
    if rewritten.left_alone:
        return (
            f"CMD uses {rewritten.left_alone[0]}",
            "pgguard guards one server: name the one that the tests use with --upstream",
        )
    if names:
        name = next((name for name in names if found.origin.startswith(name)), names[0])
        if limits := rewritten.limited.get(name):
            return (
                f"CMD's driver refused {name} for its {limits[0]}, or did not use it",
                f"psql, psycopg and all that use libpq need a URL without {' and '.join(limits)}",
            )
        return (
            f"CMD did not use {name}",
            f"read {name} in the code and its configuration, and look there for {place}",
        )
    if found.origin.startswith(("PGHOST", "PGPORT")):
        return f"CMD did not use {found.origin}", f"look for {place} in its configuration"
    return (
        f"no variable names {place}, so CMD has it from elsewhere",
        f"put the URL of {place} into DATABASE_URL and read it in the code",
    )
