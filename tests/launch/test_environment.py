"""Which database CMD means, and that nothing of a URL changes but where it leads."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pgguard.errors import SettingsError
from pgguard.launch.environment import Found, Way, find_upstream, overrides, provide, rewrite
from pgguard.settings.upstream import parse_url
from pgguard.settings.values import Address

if TYPE_CHECKING:
    from pathlib import Path

GUARD = Address("127.0.0.1", 41234)
URL = "postgresql://app:secret@db.test:5433/shop"


def find(env: dict[str, str], cwd: Path, given: str | None = None) -> Found:
    return find_upstream(given, "--upstream", env, cwd)


def rewritten(value: str, cwd: Path, upstream: str = URL) -> str:
    return rewrite({"ANY_NAME": value}, parse_url(upstream, {}), GUARD, cwd).env["ANY_NAME"]


def test_the_upstream_is_searched_in_the_documented_order(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("DATABASE_URL=postgres://u@dotenv/db\n")
    (tmp_path / ".env.test").write_text("DATABASE_URL=postgres://u@dotenv.test/db\n")
    env = {
        "DATABASE_URL_TEST": "postgres://u@first/db",
        "DATABASE_URL": "postgres://u@second/db",
        "PGHOST": "third",
    }
    hosts, origins = [], []
    found = find(env, tmp_path, "postgres://u@given/db")
    for name in ("DATABASE_URL_TEST", "DATABASE_URL", "PGHOST", "", ""):
        hosts.append(found.address.host)
        origins.append(found.origin)
        found = find(env, tmp_path)
        if name:
            del env[name]
        elif (tmp_path / ".env.test").exists():
            (tmp_path / ".env.test").unlink()
    hosts.append(found.address.host)
    origins.append(found.origin)
    assert hosts == ["given", "first", "second", "third", "dotenv.test", "dotenv"]
    assert origins == [
        "--upstream",
        "DATABASE_URL_TEST",
        "DATABASE_URL",
        "PGHOST",
        "DATABASE_URL in .env.test",
        "DATABASE_URL in .env",
    ]


def test_nothing_found_names_the_three_ways(tmp_path: Path) -> None:
    ways = r"--upstream.*upstream\.url.*PGGUARD_UPSTREAM.*DATABASE_URL.*--embedded"
    with pytest.raises(SettingsError, match=rf"no upstream.*{ways}"):
        find({"PGHOST": ""}, tmp_path)


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("mysql://u:s3cret@h/d", "not a Postgres URL but one for mysql:"),
        ("file:./dev.db", "not a Postgres URL but one for file:"),
        ("s3cret", "not a Postgres URL"),
    ],
)
def test_a_url_of_another_database_is_named_as_such_and_not_shown(
    url: str, kind: str, tmp_path: Path
) -> None:
    with pytest.raises(SettingsError) as caught:
        find({"DATABASE_URL": url}, tmp_path)
    assert (caught.value.where, caught.value.message) == ("DATABASE_URL", kind)
    assert "s3cret" not in str(caught.value)
    (tmp_path / ".env").write_text("DATABASE_URL=postgres://u@dotenv/db\n")
    assert find({"DATABASE_URL": url}, tmp_path).address.host == "dotenv"


def test_the_pg_variables_are_read_as_libpq_reads_them(tmp_path: Path) -> None:
    env = {
        "PGHOST": "db.test",
        "PGPORT": "6000",
        "PGUSER": "app",
        "PGPASSWORD": "p@ss",
        "PGDATABASE": "shop",
    }
    found = find(env, tmp_path)
    address = found.address
    assert (address.host, address.port, address.user) == ("db.test", 6000, "app")
    assert (address.password, address.database) == ("p@ss", "shop")
    assert found.origin == "PGHOST and PGPORT"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:topsecret@h1,h2/db",
        "postgresql://u:topsecret@h/db?sslmode=nonsense",
        "postgresql://u:topsecret@h/db?channel_binding=nonsense",
        "postgresql://u:topsecret@h/db?channel_binding=require&sslmode=disable",
        "jdbc:postgresql://h/db?user=u&password=topsecret&ssl=nonsense",
    ],
)
def test_an_upstream_that_cannot_be_honoured_is_refused_without_its_password(
    url: str, tmp_path: Path
) -> None:
    with pytest.raises(SettingsError) as caught:
        find({"DATABASE_URL": url}, tmp_path)
    assert caught.value.where == "DATABASE_URL"
    assert "topsecret" not in str(caught.value)


def test_encryption_demanded_by_the_environment_counts_unless_the_url_says_otherwise(
    tmp_path: Path,
) -> None:
    env = {"DATABASE_URL": "postgres://u@h/db", "PGSSLMODE": "verify-full"}
    assert find(env, tmp_path).address.query == {"sslmode": "verify-full"}
    env["DATABASE_URL"] += "?sslmode=disable"
    assert find(env, tmp_path).address.query == {"sslmode": "disable"}
    with pytest.raises(SettingsError, match=r"PGCHANNELBINDING: channel_binding=require needs TLS"):
        find({**env, "PGCHANNELBINDING": "require"}, tmp_path)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (URL, "postgresql://app:secret@127.0.0.1:41234/shop"),
        ("postgres://DB.test:5433", "postgres://127.0.0.1:41234"),
        ("postgres://db.test.:5433/x", "postgres://127.0.0.1:41234/x"),
        (
            "postgresql+psycopg://a%40b:p%2F%3A%20%C3%A9+w@db.test:5433/other?x=%20y&z#f",
            "postgresql+psycopg://a%40b:p%2F%3A%20%C3%A9+w@127.0.0.1:41234/other?x=%20y&z#f",
        ),
        (
            "jdbc:postgresql://db.test:5433/shop?user=u&password=p%20w",
            "jdbc:postgresql://127.0.0.1:41234/shop?user=u&password=p%20w",
        ),
        (
            "postgresql://u:odd@sign@db.test:5433/shop?sslmode=prefer&connection_limit=3",
            "postgresql://u:odd@sign@127.0.0.1:41234/shop?sslmode=prefer&connection_limit=3",
        ),
        (
            "postgresql://u:p@/shop?host=db.test&port=5433&x=1",
            "postgresql://u:p@/shop?host=127.0.0.1&port=41234&x=1",
        ),
    ],
)
def test_only_host_and_port_of_a_url_change(before: str, after: str, tmp_path: Path) -> None:
    assert rewritten(before, tmp_path) == after


@pytest.mark.parametrize(
    "value",
    [
        "postgresql://app:secret@other.test:5433/shop",
        "postgresql://app:secret@db.test:5432/shop",
        "postgresql://app:secret@db.test/shop",
        "postgresql://app:secret@db.test:5433,db.test:5434/shop",
        "postgresql:///shop?host=/var/run/postgresql",
        "postgresql://u:secret@%2Fvar%2Frun:5433/shop",
        "postgresql:///shop",
        "jdbc:postgresql:shop",
        "postgresql://app:secret@db.test:port/shop",
    ],
)
def test_what_names_another_server_is_left_alone_and_named(value: str, tmp_path: Path) -> None:
    done = rewrite({"ANY_NAME": value}, parse_url(URL, {}), GUARD, tmp_path)
    assert done.env["ANY_NAME"] == value
    assert len(done.left_alone) == 1
    assert done.left_alone[0].startswith("ANY_NAME (")
    assert "secret" not in done.left_alone[0]


@pytest.mark.parametrize("value", ["mysql://db.test:5433/x", "see postgres://db.test:5433/", "1"])
def test_what_is_no_postgres_url_is_not_even_named(value: str, tmp_path: Path) -> None:
    done = rewrite({"ANY_NAME": value}, parse_url(URL, {}), GUARD, tmp_path)
    assert done.env["ANY_NAME"] == value
    assert done.left_alone == []


@pytest.mark.parametrize("first", ["localhost", "127.0.0.1", "[::1]", "LOCALHOST"])
@pytest.mark.parametrize("second", ["localhost:5432", "127.0.0.1", "[::1]:5432"])
def test_the_names_of_the_loopback_are_one_host(first: str, second: str, tmp_path: Path) -> None:
    changed = rewritten(f"postgres://u@{second}/db", tmp_path, f"postgres://u@{first}/db")
    assert changed == "postgres://u@127.0.0.1:41234/db"


def test_a_second_url_that_asks_for_more_tls_than_the_server_gets_is_an_error(
    tmp_path: Path,
) -> None:
    env = {"DATABASE_URL": URL, "ADMIN_URL": URL + "?sslmode=require"}
    with pytest.raises(SettingsError, match=r"ADMIN_URL: sslmode=require asks for more than"):
        rewrite(env, parse_url(URL, {}), GUARD, tmp_path)


@pytest.mark.parametrize(
    ("before", "here", "after"),
    [
        ("?sslmode=verify-full&x=%20y", "disable", "?sslmode=disable&x=%20y"),
        ("?sslmode=require", "disable", "?sslmode=disable"),
        ("?sslmode=verify-full&sslrootcert=ca.pem", "disable", "?sslmode=disable"),
        ("?sslrootcert=system&a=b", "disable", "?a=b"),
        ("?sslrootcert=system", "disable", ""),
        ("?ssl=true", "disable", "?ssl=false"),
        ("?sslmode=require&sslnegotiation=direct", "disable", "?sslmode=disable"),
        ("?sslmode=verify-full&sslcert=c.pem", "require", "?sslmode=require&sslcert=c.pem"),
        ("?sslmode=require", "require", "?sslmode=require"),
        ("?sslmode=prefer", "disable", "?sslmode=prefer"),
    ],
)
def test_what_is_met_behind_the_guard_is_lowered_before_it(
    before: str, here: str, after: str, tmp_path: Path
) -> None:
    way = Way(here, "verify-full")
    done = rewrite({"DATABASE_URL": URL + before}, parse_url(URL, {}), GUARD, tmp_path, way)
    assert done.env["DATABASE_URL"] == "postgresql://app:secret@127.0.0.1:41234/shop" + after
    told = done.lowered_lines(way)
    assert len(told) == (before not in ("?sslmode=prefer", "?" + here, f"?sslmode={here}"))
    assert all("(verify-full)" in line and "DATABASE_URL: ssl" in line for line in told)


def test_pgsslmode_is_lowered_with_it_and_told(tmp_path: Path) -> None:
    env = {"DATABASE_URL": URL, "PGSSLMODE": "verify-full", "PGSSLROOTCERT": "system"}
    way = Way("disable", "verify-full")
    done = rewrite(env, parse_url(URL, {}), GUARD, tmp_path, way)
    assert done.env["PGSSLMODE"] == "disable"
    assert "PGSSLROOTCERT" not in done.env
    (told,) = done.lowered_lines(way)
    assert told == (
        "PGSSLMODE=verify-full: met between pgguard and the server (verify-full), plain text"
        " between CMD and pgguard"
    )


def test_pgsslmode_that_is_met_nowhere_stays(tmp_path: Path) -> None:
    env = {"DATABASE_URL": URL, "PGSSLMODE": "verify-full"}
    done = rewrite(env, parse_url(URL, {}), GUARD, tmp_path, Way("disable", "disable"))
    assert done.env["PGSSLMODE"] == "verify-full"
    assert done.lowered == []


def test_pghost_and_pgport_lead_to_the_guard_and_hostaddr_is_gone(tmp_path: Path) -> None:
    env = {"PGHOST": "db.test", "PGHOSTADDR": "10.0.0.1", "PGPORT": "5433"}
    done = rewrite(env, parse_url("postgres://u@10.0.0.1:5433/db", {}), GUARD, tmp_path)
    assert (done.env["PGHOST"], done.env["PGPORT"]) == ("127.0.0.1", "41234")
    assert "PGHOSTADDR" not in done.env


def test_pghost_is_set_where_it_was_not(tmp_path: Path) -> None:
    done = rewrite({}, parse_url(URL, {}), GUARD, tmp_path)
    assert done.env == {"PGHOST": "127.0.0.1", "PGPORT": "41234"}


def test_pghost_of_another_server_is_left_alone_and_named(tmp_path: Path) -> None:
    done = rewrite({"PGHOST": "other"}, parse_url(URL, {}), GUARD, tmp_path)
    assert done.env == {"PGHOST": "other"}
    assert done.left_alone == ["PGHOST (names other:5432)"]


def test_urls_in_dotenv_files_are_exported_where_the_environment_has_none(tmp_path: Path) -> None:
    (tmp_path / ".env.test").write_text(f'DATABASE_URL="{URL}"\nELSEWHERE=postgres://x/db\n')
    (tmp_path / ".env").write_text(f"DATABASE_URL={URL}_dev\nSHADOW_URL={URL}_s\nSET={URL}\n")
    before = {"SET": "as it was"}
    done = rewrite(before, parse_url(URL, {}), GUARD, tmp_path)
    assert done.env["DATABASE_URL"] == "postgresql://app:secret@127.0.0.1:41234/shop"
    assert done.env["SHADOW_URL"] == "postgresql://app:secret@127.0.0.1:41234/shop_s"
    assert done.env["SET"] == "as it was"
    assert "ELSEWHERE" not in done.env
    assert done.changed[:2] == ["DATABASE_URL (.env.test)", "SHADOW_URL (.env)"]
    assert before == {"SET": "as it was"}


def test_our_own_variables_keep_the_real_upstream(tmp_path: Path) -> None:
    done = rewrite({"PGGUARD_UPSTREAM": URL}, parse_url(URL, {}), GUARD, tmp_path)
    assert done.env["PGGUARD_UPSTREAM"] == URL


def test_the_smallest_limits_and_every_secret_are_collected(tmp_path: Path) -> None:
    env = {
        "A": URL + "?connection_limit=10&pool_timeout=20",
        "B": "postgres://b:p%40w@db.test:5433/b?connection_limit=3&pool_timeout=0",
        "C": "postgres://c@db.test:5433/c?connection_limit=many&pool_timeout=500ms",
        "D": "postgres://d:x@elsewhere/d?connection_limit=1",
        "PGPASSWORD": "from libpq",
    }
    done = rewrite(env, parse_url(URL, {}), GUARD, tmp_path)
    assert done.connection_limit == 3
    assert done.pool_timeout == 0.5
    assert done.secrets == {"app": "secret", "b": "p@w", "c": "from libpq"}


def test_a_limit_that_is_no_number_is_named_once_and_ignored(tmp_path: Path) -> None:
    url = URL + "?connection_limit=-3&pool_timeout=so%20on"
    done = rewrite({"A": url, "B": URL}, parse_url(url, {}), GUARD, tmp_path)
    assert (done.connection_limit, done.pool_timeout) == (None, None)
    assert done.limit_lines()[:2] == [
        "A: connection_limit=-3, which should be a whole number, is ignored",
        "A: pool_timeout=so%20on, which should be a number of seconds, is ignored",
    ]
    done = rewrite({}, parse_url(url, {}), GUARD, tmp_path)
    assert done.limit_lines()[0].startswith("the upstream's URL: connection_limit=-3, ")


def test_a_url_that_libpq_refuses_is_named_with_the_way_out(tmp_path: Path) -> None:
    url = URL + "?connection_limit=5&pool_timeout=20"
    env = {"A": url, "B": URL + "?connection_limit=3", "C": URL, "J": f"jdbc:{url}"}
    done = rewrite(env, parse_url(url, {}), GUARD, tmp_path)
    assert done.env["A"].endswith("?connection_limit=5&pool_timeout=20")
    (line,) = done.limit_lines()
    assert line.startswith("connection_limit and pool_timeout of A, B: pgguard applies such lim")
    assert 'invalid URI query parameter: "connection_limit"' in line
    assert line.endswith("set limits.connection_limit and limits.pool_timeout instead")
    assert rewrite({"C": URL}, parse_url(URL, {}), GUARD, tmp_path).limit_lines() == []


def test_no_limit_in_any_url_is_none(tmp_path: Path) -> None:
    done = rewrite({"A": URL + "?connection_limit=0"}, parse_url(URL, {}), GUARD, tmp_path)
    assert (done.connection_limit, done.pool_timeout) == (None, None)


def test_the_line_says_what_was_done_without_a_password(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(f"DATABASE_URL={URL}\n")
    env = {"REPORTS_URL": "postgres://r:secret@reports/r"}
    found = find(env, tmp_path)
    done = rewrite(env, found.address, GUARD, tmp_path)
    assert done.line(found) == (
        "rewrote DATABASE_URL (.env), PGHOST, PGPORT (upstream db.test:5433 from DATABASE_URL in"
        " .env); left alone: REPORTS_URL (names reports:5432)"
    )
    assert "secret" not in repr(done) + repr(found)


def test_with_a_database_of_our_own_the_usual_names_lead_to_it() -> None:
    guard = parse_url("postgresql://pgguard:r4nd0m@127.0.0.1:41234/postgres", {})
    env = {
        "DATABASE_URL": "postgresql+asyncpg://me@localhost/dev",
        "OTHER": "postgres://me@localhost/x",
        "PGHOSTADDR": "10.0.0.1",
        "PGSSLMODE": "require",
        "PGSSLROOTCERT": "ca.pem",
    }
    done = provide(env, guard)
    assert done.env == {
        "DATABASE_URL_TEST": "postgresql://pgguard:r4nd0m@127.0.0.1:41234/postgres",
        "DATABASE_URL": "postgresql+asyncpg://pgguard:r4nd0m@127.0.0.1:41234/postgres",
        "OTHER": "postgres://me@localhost/x",
        "PGHOST": "127.0.0.1",
        "PGPORT": "41234",
        "PGUSER": "pgguard",
        "PGPASSWORD": "r4nd0m",
        "PGDATABASE": "postgres",
    }
    assert done.left_alone == ["OTHER (names localhost:5432)"]


def test_with_a_database_of_our_own_jdbc_keeps_its_form() -> None:
    guard = parse_url("postgresql://pgguard:r4nd0m@127.0.0.1:41234/postgres", {})
    done = provide({"DATABASE_URL": "jdbc:postgresql://localhost/dev"}, guard)
    assert done.env["DATABASE_URL"] == (
        "jdbc:postgresql://127.0.0.1:41234/postgres?user=pgguard&password=r4nd0m"
    )


def test_dotenv_lines_that_may_override_us_are_named(tmp_path: Path) -> None:
    (tmp_path / ".env.local").write_text(f"# local\nDATABASE_URL={URL}\nOTHER=1\n")
    assert overrides(tmp_path, ["DATABASE_URL (.env)", "PGHOST"]) == [
        ".env.local:2 sets DATABASE_URL"
    ]


# Unix sockets

SOCKET_URL = "postgresql://app@/shop?host=/run/pg"
OURS = Address("/tmp/pgguard-x", 41234)


def led(before: str, cwd: Path, upstream: str = SOCKET_URL, guard: Address = OURS) -> str:
    done = rewrite({"ANY_NAME": before}, parse_url(upstream, {}), guard, cwd)
    return done.env["ANY_NAME"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (SOCKET_URL, "postgresql://app@/shop?host=/tmp/pgguard-x&port=41234"),
        (
            "postgresql://app@/shop?x=1&host=%2Frun%2Fpg&port=5432#f",
            "postgresql://app@/shop?x=1&host=/tmp/pgguard-x&port=41234#f",
        ),
        (
            "postgresql://app:s@%2Frun%2Fpg/shop?x=1",
            "postgresql://app:s@%2Ftmp%2Fpgguard-x:41234/shop?x=1",
        ),
        (
            "postgresql://app:s@localhost/shop?host=/run/pg",
            "postgresql://app:s@localhost:41234/shop?host=/tmp/pgguard-x&port=41234",
        ),
    ],
)
def test_who_would_go_over_a_unix_socket_goes_over_ours(
    before: str, after: str, tmp_path: Path
) -> None:
    assert led(before, tmp_path) == after
    assert parse_url(after, {}).host == OURS.host
    assert parse_url(after, {}).port == OURS.port


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (SOCKET_URL, "postgresql://app@/shop?host=127.0.0.1&port=41234"),
        ("postgresql://app:s@%2Frun%2Fpg/shop", "postgresql://app:s@127.0.0.1:41234/shop"),
        (
            "postgresql://app:s@localhost/shop?host=/run/pg&sslmode=require",
            "postgresql://app:s@127.0.0.1:41234/shop?host=127.0.0.1&sslmode=disable",
        ),
    ],
)
def test_where_the_guard_has_no_socket_they_go_to_its_port(
    before: str, after: str, tmp_path: Path
) -> None:
    assert led(before, tmp_path, guard=GUARD) == after


def test_where_the_guard_has_no_port_everybody_goes_over_its_socket(tmp_path: Path) -> None:
    env = {"A": URL, "B": URL + "?x=1", "J": "jdbc:postgresql://db.test:5433/shop"}
    done = rewrite(env, parse_url(URL, {}), OURS, tmp_path)
    assert done.env["A"] == "postgresql://app:secret@/shop?host=/tmp/pgguard-x&port=41234"
    assert done.env["B"] == "postgresql://app:secret@/shop?x=1&host=/tmp/pgguard-x&port=41234"
    # JDBC has no unix sockets.
    assert done.env["J"] == env["J"]
    assert done.left_alone == ["J (names db.test:5433)"]


@pytest.mark.parametrize("port", ["", "5432"])
def test_pghost_that_is_a_directory_is_led_to_ours(port: str, tmp_path: Path) -> None:
    env = {"PGHOST": "/run/pg/", "PGPORT": port, "PGUSER": "app"}
    found = find(env, tmp_path)
    assert (found.address.host, found.address.port) == ("/run/pg", 5432)
    done = rewrite(env, found.address, OURS, tmp_path)
    assert (done.env["PGHOST"], done.env["PGPORT"]) == ("/tmp/pgguard-x", "41234")
    assert done.line(found).startswith("rewrote PGHOST, PGPORT (upstream /run/pg/.s.PGSQL.5432")


def test_a_directory_is_the_same_by_whichever_link(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "var").symlink_to(tmp_path / "run")
    changed = led(
        f"postgresql://u@/d?host={tmp_path}/var",
        tmp_path,
        f"postgresql://u@/d?host={tmp_path}/run",
    )
    assert changed == "postgresql://u@/d?host=/tmp/pgguard-x&port=41234"


def test_another_socket_is_left_alone_and_named_by_its_path(tmp_path: Path) -> None:
    env = {"A": "postgresql://u@/d?host=/run/other", "PGHOST": "/run/other"}
    done = rewrite(env, parse_url(SOCKET_URL, {}), OURS, tmp_path)
    assert done.env == env
    assert done.left_alone == [
        "A (names /run/other/.s.PGSQL.5432)",
        "PGHOST (names /run/other/.s.PGSQL.5432)",
    ]


def test_tls_is_not_missed_where_nobody_asks_for_it(tmp_path: Path) -> None:
    way = Way("disable", "disable")
    env = {"A": SOCKET_URL + "&sslmode=verify-full"}
    done = rewrite(env, parse_url(SOCKET_URL, {}), OURS, tmp_path, way)
    assert done.changed[0] == "A"
    assert done.lowered_lines(way) == []


def test_an_embedded_server_that_is_reached_over_a_socket_is_told_so(tmp_path: Path) -> None:
    guard = parse_url("postgresql://pgguard:s@/postgres?host=/tmp/pgguard-x&port=41234", {})
    done = provide({}, guard)
    assert done.env["DATABASE_URL"] == guard.url
    assert (done.env["PGHOST"], done.env["PGPORT"]) == (guard.host, "41234")
