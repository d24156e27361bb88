"""The catalogue of a database, and of a schema that is loaded for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from scripted import closed_port

from pgguard.cli.models import Script, of_database, of_scripts, read_script
from pgguard.errors import LaunchError, ServerUnavailable, SettingsError
from pgguard.settings.upstream import parse_url

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Database

DUMP = """\
\\restrict x
SELECT pg_catalog.set_config('search_path', '', false);
BEGIN;
CREATE TABLE public.items (id int PRIMARY KEY, tenant_id int);
ALTER TABLE public.items OWNER TO app;
CREATE EXTENSION nothing_of_that_name;
COPY public.items FROM stdin;
1\t2
\\.
CREATE POLICY own ON public.items TO app, "Other Role" USING (true);
COMMIT;
"""


async def test_a_schema_is_loaded_with_its_roles_and_what_fails_is_said() -> None:
    said: list[str] = []
    second = Script("b.sql", "CREATE VIEW v AS SELECT * FROM items;")
    catalogue = await of_scripts([Script("a.sql", DUMP), second], said.append)
    assert {("public", "items")} <= set(catalogue.tables)
    assert catalogue.search_path == ("public",)
    assert len(said) == 2
    assert said[0].startswith("a.sql:6: not loaded: extension")
    assert said[1] == 'b.sql:1: not loaded: relation "items" does not exist'


async def test_a_database_is_read(database: Database) -> None:
    catalogue = await of_database(parse_url(database.url), None)
    assert catalogue.database == database.name


async def test_a_database_that_is_not_there_is_an_error() -> None:
    address = parse_url(f"postgresql://u:secret@127.0.0.1:{closed_port()}/d")
    with pytest.raises(ServerUnavailable) as raised:
        await of_database(address, None)
    assert "secret" not in str(raised.value)


async def test_without_a_postgres_the_way_out_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PGGUARD_PG_BIN", str(tmp_path))
    with pytest.raises(LaunchError, match="--dsn URL"):
        await of_scripts([Script("a.sql", "")], print)


@pytest.mark.parametrize(("content", "words"), [(None, "cannot read"), (b"\xff", "not UTF-8")])
def test_a_schema_that_cannot_be_read_is_an_error(
    tmp_path: Path, content: bytes | None, words: str
) -> None:
    path = tmp_path / "schema.sql"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingsError, match=words):
        read_script(path)
