"""The worlds of an experiment: databases that differ in what other tenants have.

A *base* holds the rows of tenant `k` and those of nobody; a *world* holds the same and rows of
others. A base has a *twin*, the same rows in another physical order for another planner: what
differs between the two depends on no tenant. Two worlds break what foreign keys are trusted for:
in one others' rows reference rows of `k`; in the other, whose base holds others' rows, too, rows
of `k` reference theirs, and only what is in them differs.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import TYPE_CHECKING, Final, Self

import psycopg

from tests.conformance.tenancy.rows import Maker, Profile
from tests.conformance.tenancy.schemas import MEMBER, OWNER, SETTING, create, read_model

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pgguard.launch.embedded import EmbeddedPostgres
    from pgguard.tenancy.model import Model
    from tests.conformance.tenancy.rows import Rows
    from tests.conformance.tenancy.schemas import Schema

ME: Final = "k"
"""The tenant whose statements are judged; others' keys sort before and behind its keys."""

BASES: Final = {
    "full": Profile(seed=11, rows=8),
    "sparse": Profile(seed=24, rows=2, nulls=0.5, skip=0.15),
    "few": Profile(seed=41, rows=2, nulls=0.0),
    "empty": Profile(seed=31, rows=0),
}
WORLDS: Final[dict[str, tuple[str, dict[str, Profile]]]] = {
    "equal": ("full", {"b": Profile(seed=11, rows=8), "p": Profile(seed=11, rows=8)}),
    "other values": ("full", {"c": Profile(seed=5, rows=7, shift=40)}),
    "smaller": ("full", {"d": Profile(seed=6, rows=4, shift=-40, nulls=0.1)}),
    "many": (
        "sparse",
        {"a": Profile(seed=7, rows=9), "l": Profile(seed=8, rows=9), "z": Profile(seed=9, rows=9)},
    ),
    "crowd": ("few", {"a": Profile(seed=17, rows=8), "v": Profile(seed=18, rows=8, nulls=0.1)}),
    "nulls": ("sparse", {"e": Profile(seed=10, rows=5, nulls=1.0)}),
    "one": ("full", {"y": Profile(seed=12, rows=1, nulls=0.0)}),
    "alone": ("empty", {"g": Profile(seed=13, rows=6, nulls=0.1)}),
}
STRANGER: Final = Profile(seed=77, rows=8)
"""The tenant `f`, whose rows and those of `k` reference each other in the crossed worlds."""

_CALM: Final = (
    "SET jit = off; SET max_parallel_workers_per_gather = 0; SET statement_timeout = '1s';"
    "SET lock_timeout = '1s'; SET timezone = 'UTC'; SET client_min_messages = error;"
)
_OTHERWISE: Final = (
    "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_hashagg = off;"
    "SET enable_material = off;"
)
_STILL: Final = "session_replication_role = replica"


@dataclass(slots=True)
class World:
    """One database with its connection."""

    name: str
    base: str
    connection: psycopg.Connection
    others: dict[str, Counter[str]] = field(default_factory=dict)
    """By table the rows that its base does not have."""
    before: dict[str, str] = field(default_factory=dict)
    """By table all rows, as `snapshot()` gives them."""
    role: str = ""


class Worlds:
    """All bases, twins and worlds of one schema on one server; a context manager."""

    def __init__(self, postgres: EmbeddedPostgres, schema: Schema) -> None:
        self.schema = schema
        self._postgres = postgres
        self.models: dict[str, Model] = {}
        """What pgguard knows of the database as each role."""
        self.bases: dict[str, World] = {}
        self.twins: dict[str, World] = {}
        self.worlds: list[World] = []
        self.crossed: list[World] = []

    def __enter__(self) -> Self:
        name = f"t_{self.schema.name}"
        with psycopg.connect(self._postgres.url, autocommit=True) as admin:
            admin.execute(f"CREATE DATABASE {name}".encode())
            with self._connect(name) as connection:
                create(connection, self.schema)
                for role in (OWNER, MEMBER):
                    connection.execute(f"SET SESSION AUTHORIZATION {role}".encode())
                    self.models[role] = read_model(connection, self.schema)
                    connection.execute(b"RESET SESSION AUTHORIZATION")
                self.model = self.models[OWNER]
                connection.execute(_snapshot(self.model).encode())
            self.maker = Maker(self.model)
            self.common = self.maker.common()
            self.unowned = self.maker.unowned(self.common)
            self.mine = {
                base: self.maker.make(ME, profile, self.common, {})
                for base, profile in BASES.items()
            }
            fixed = {
                base: _sum(self.common, self.unowned, mine) for base, mine in self.mine.items()
            }
            for base, rows in fixed.items():
                self.bases[base] = self._world(admin, base, base, rows)
                self.twins[base] = self._world(admin, f"{base}_twin", base, rows, turned=True)
                self.twins[base].connection.execute(_OTHERWISE.encode())
            for world, (base, others) in WORLDS.items():
                added = [self.maker.make(t, p, self.common, {}) for t, p in others.items()]
                # Others stand before, between and behind: what comes first must not be luck.
                rows = _sum(*added[:1], fixed[base], *added[1:])
                self.worlds.append(self._world(admin, world, base, rows))
            self._cross(admin, fixed["full"])
        return self

    def __exit__(self, *_: object) -> None:
        for world in self.all():
            world.connection.close()

    def all(self) -> Iterator[World]:
        yield from self.bases.values()
        yield from self.twins.values()
        yield from self.worlds
        yield from self.crossed

    def _cross(self, admin: psycopg.Connection, full: Rows) -> None:
        """The worlds in which plain foreign keys lead from one tenant to another."""
        make, common = self.maker.make, self.common
        others = make("f", STRANGER, common, full)
        self.crossed.append(self._world(admin, "crossed", "full", _sum(full, others)))
        theirs = make("f", STRANGER, common, {})
        mine = _sum(common, self.unowned, make(ME, BASES["full"], common, theirs))
        name = "entangled"
        self.bases[name] = self._world(admin, name, name, _sum(mine, theirs), theirs)
        self.twins[name] = self._world(
            admin, f"{name}_twin", name, _sum(mine, theirs), theirs, turned=True
        )
        altered = self._altered(theirs, make("f", replace(STRANGER, shift=40, seed=78), common, {}))
        self.crossed.append(self._world(admin, "altered", name, _sum(mine, altered), altered))

    def _altered(self, rows: Rows, values: Rows) -> Rows:
        """The rows with other values wherever they are no keys and reference nothing."""
        made: Rows = {}
        for table in self.maker.tables:
            fixed = {c for key in table.keys for c in key.columns}
            fixed |= {c for foreign in table.foreign_keys for c in foreign.columns}
            lines, others = rows.get(table.key, []), values.get(table.key, [])
            made[table.key] = [
                line | {name: value for name, value in other.items() if name not in fixed}
                for line, other in zip_longest(lines, others[: len(lines)], fillvalue={})
            ]
        return made

    def _connect(self, database: str) -> psycopg.Connection:
        return psycopg.connect(self._postgres.url_of(database), autocommit=True)

    def _world(
        self,
        admin: psycopg.Connection,
        name: str,
        base: str,
        rows: Rows,
        others: Rows | None = None,
        *,
        turned: bool = False,
    ) -> World:
        """A database with these rows; `others` are those that belong to other tenants, None: all
        that the base has not."""
        template = f"t_{self.schema.name}"
        database = f"{template}_{name.replace(' ', '_')}"
        admin.execute(f"CREATE DATABASE {database} TEMPLATE {template}".encode())
        connection = self._connect(database)
        connection.execute(f"SET {_STILL}".encode())
        for table in self.maker.tables:
            columns = [column.name for column in table.columns]
            lines = rows.get(table.key, [])
            target = f'"{table.schema}"."{table.name}"'
            names = ", ".join(f'"{column}"' for column in columns)
            with (
                connection.cursor() as cursor,
                cursor.copy(f"COPY {target} ({names}) FROM STDIN".encode()) as copy,
            ):
                for row in reversed(lines) if turned else lines:
                    copy.write_row([row[column] for column in columns])
        connection.execute(b"RESET session_replication_role")
        connection.execute(b"ANALYZE")
        connection.execute(f"SET {SETTING} = '{self.maker.tenant(ME)}'".encode())
        connection.execute(_CALM.encode())
        world = World(name, base, connection)
        world.before = snapshot(connection)
        if others is None:
            mine = self.bases.get(base, world).before
        else:
            mine = self._without(connection, others)
        world.others = {
            table: _counted(text) - _counted(mine[table]) for table, text in world.before.items()
        }
        return world

    def _without(self, connection: psycopg.Connection, others: Rows) -> dict[str, str]:
        """What is left in the tables when these rows are taken out."""
        with connection.transaction(force_rollback=True):
            connection.execute(f"SET LOCAL {_STILL}".encode())
            for table in self.maker.tables:
                key = next(key.columns for key in table.keys if key.primary)
                where = " AND ".join(f'"{column}"::text = %s' for column in key)
                for row in others.get(table.key, []):
                    connection.execute(
                        f'DELETE FROM "{table.schema}"."{table.name}" WHERE {where}'.encode(),
                        [row[column] for column in key],
                    )
            return snapshot(connection)


SEPARATOR: Final = "\x01"


def _counted(text: str) -> Counter[str]:
    return Counter(text.split(SEPARATOR)) if text else Counter()


def snapshot(connection: psycopg.Connection) -> dict[str, str]:
    """By table all its rows in one text, sorted."""
    cursor = connection.execute(b"SELECT * FROM tests.snapshot()")
    return dict(cursor.fetchall())


def _snapshot(model: Model) -> str:
    """A function that reads all tables, whatever row level security says to the caller.

    The inherited rows of a parent are left to the child.
    """
    parts = []
    for table in sorted(model.catalogue.tables.values(), key=lambda table: table.key):
        if table.kind == "r":
            named = f'"{table.schema}"."{table.name}"'
            parts.append(
                f"SELECT '{table.name}', COALESCE("
                f"string_agg(t::text, E'\\x01' ORDER BY t::text), '') FROM ONLY {named} t"
            )
    body = " UNION ALL ".join(parts)
    return f"""
        CREATE SCHEMA tests;
        CREATE FUNCTION tests.snapshot() RETURNS TABLE (name text, rows text)
        LANGUAGE plpgsql SECURITY DEFINER SET search_path = public AS
        $f$ BEGIN RETURN QUERY {body}; END $f$;
        GRANT USAGE ON SCHEMA tests TO public
    """


def _sum(*parts: Rows) -> Rows:
    total: Rows = {}
    for part in parts:
        for table, rows in part.items():
            total.setdefault(table, []).extend(rows)
    return total
