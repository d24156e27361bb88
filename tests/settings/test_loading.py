"""Layers, origins, presets, and errors that name their place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pgguard.errors import SettingsError
from pgguard.settings import Address, Loaded, examine, load, schema


def loaded(
    tmp_path: Path, text: str = "", env: dict[str, str] | None = None, **flags: Any
) -> Loaded:
    (tmp_path / "pgguard.toml").write_text(text)
    dotted = {name.replace("__", "."): value for name, value in flags.items()}
    return load(config=None, env=env or {}, flags=dotted, cwd=tmp_path)


def problems(tmp_path: Path, text: str = "", env: dict[str, str] | None = None) -> list[str]:
    (tmp_path / "pgguard.toml").write_text(text)
    _, found = examine(config=None, env=env or {}, flags={}, cwd=tmp_path)
    return [str(problem) for problem in found]


def test_without_any_source_everything_is_default(tmp_path: Path) -> None:
    result = load(config=None, env={}, flags={}, cwd=tmp_path)
    assert result.file is None
    assert set(result.origins.values()) == {"default"}
    assert set(result.origins) == set(schema.fields())


def test_the_later_source_wins_and_the_origin_is_known(tmp_path: Path) -> None:
    text = "[limits]\ntotal = 20\nconnection_limit = 3\n[run]\nkeep = 4\n"
    env = {"PGGUARD_LIMITS__TOTAL": "21", "PGGUARD_LIMITS__CONNECTION_LIMIT": "4"}
    result = loaded(tmp_path, text, env, limits__connection_limit=5, limits__serial=None)
    assert (result.settings.limits.total, result.settings.limits.connection_limit) == (21, 5)
    assert result.file == tmp_path / "pgguard.toml"
    assert result.origins["run.keep"] == "pgguard.toml:5"
    assert result.origins["limits.total"] == "PGGUARD_LIMITS__TOTAL"
    assert result.origins["limits.connection_limit"] == "--connection-limit"
    assert result.origins["limits.serial"] == "default"


@pytest.mark.parametrize("preset", list(schema.PRESETS))
def test_a_preset_sets_both_limits(tmp_path: Path, preset: str) -> None:
    result = loaded(tmp_path, f'preset = "{preset}"')
    limits = result.settings.limits
    assert (limits.connection_limit, limits.pool_timeout) == schema.PRESETS[preset]
    assert result.origins["limits.pool_timeout"] == f"preset {preset}"


def test_a_limit_that_is_given_goes_before_the_preset(tmp_path: Path) -> None:
    text = "limits.connection_limit = 7\n"
    result = loaded(tmp_path, text, {"PGGUARD_PRESET": "production"})
    limits = result.settings.limits
    assert (limits.connection_limit, limits.pool_timeout) == (7, 30.0)


def test_the_environment_gives_every_kind_of_value(tmp_path: Path) -> None:
    env = {
        "PGGUARD_UPSTREAM": "postgresql://u:p@h/d",
        "PGGUARD_LIMITS__TOTAL": "auto",
        "PGGUARD_LIMITS__SERIAL": "yes",
        "PGGUARD_LIMITS__MAX_WAITING": "off",
        "PGGUARD_LIMITS__NOTICE_AFTER": "500ms",
        "PGGUARD_LIMITS__OVERRIDES": '[{"client": "x*", "connection_limit": 2}]',
        "PGGUARD_LISTEN__ADDRESS": "[::1]:0",
        "PGGUARD_TENANCY__GLOBAL": '["Setting"]',
        "PGGUARD_TENANCY__OWNED": '{"BookingAddOn": "bookingId"}',
        "PGGUARD_LOG__FILE": "pgguard.log",
    }
    settings = loaded(tmp_path, "", env).settings
    assert settings.upstream.url == "postgresql://u:p@h/d"
    assert (settings.limits.total, settings.limits.serial) == (None, True)
    assert (settings.limits.max_waiting, settings.limits.notice_after) == (None, 0.5)
    assert settings.limits.overrides[0].connection_limit == 2
    assert settings.listen.address == Address("::1", 0)
    assert settings.tenancy.global_ == ("Setting",)
    assert settings.tenancy.owned == {"BookingAddOn": "bookingId"}
    assert settings.log.file == Path("pgguard.log")


def test_a_flag_takes_a_list_with_commas(tmp_path: Path) -> None:
    result = loaded(tmp_path, run__fail_on="unscoped,exhaustion")
    assert result.settings.run.fail_on == ("unscoped", "exhaustion")
    assert result.origins["run.fail_on"] == "--fail-on"


def test_our_variables_that_are_no_settings_are_no_unknown_keys(tmp_path: Path) -> None:
    names = ("PGGUARD_PG_BIN", "PGGUARD_CONTROL", "PGGUARD_LOOP")
    assert problems(tmp_path, "", dict.fromkeys(names, "x")) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "[limits]\n\nconection_limit = 3",
            (
                'pgguard.toml:3: unknown key "limits.conection_limit" '
                '(did you mean "limits.connection_limit"?)'
            ),
        ),
        (
            "connection_limit = 3",
            (
                'pgguard.toml:1: unknown key "connection_limit" '
                '(did you mean "limits.connection_limit"?)'
            ),
        ),
        (
            "[limit]\ntotal = 3",
            'pgguard.toml:1: unknown key "limit" (did you mean "limits"?)',
        ),
        (
            "zebra = 3",
            'pgguard.toml:1: unknown key "zebra" (`pgguard config show` lists all keys)',
        ),
        ("\nlimits = 3", 'pgguard.toml:2: "limits" is a table ([limits])'),
        (
            '[[limits.overrides]]\nclient = "a"\nmax_sesions = 3',
            (
                'pgguard.toml:3: unknown key "limits.overrides[0].max_sesions" '
                '(did you mean "max_sessions"?)'
            ),
        ),
        (
            "[[limits.overrides]]\nmax_sessions = 3",
            "pgguard.toml:1: limits.overrides[0].client is missing",
        ),
        (
            "limits.pool_timeout = 20",
            (
                "pgguard.toml:1: limits.pool_timeout should have a unit,"
                ' such as "20s", "20ms" or "20m", not 20'
            ),
        ),
        (
            "limits.total = true",
            'pgguard.toml:1: limits.total should be a whole number or "auto", not true',
        ),
        (
            "limits.connection_limit = 0",
            "pgguard.toml:1: limits.connection_limit should be 1 or more, not 0",
        ),
        (
            'preset = "cy"',
            "pgguard.toml:1: preset should be 'local', 'ci', 'staging' or 'production', not \"cy\"",
        ),
    ],
)
def test_an_error_names_file_line_and_the_nearest_key(
    tmp_path: Path, text: str, message: str
) -> None:
    assert problems(tmp_path, text) == [message]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tenancy.columns = 3", 'tenancy.columns should be a list such as ["tenant_id"], not 3'),
        ('tenancy.columns = [""]', "tenancy.columns[0] should not be empty"),
        ("tenancy.columns = [3]", "tenancy.columns[0] should be a text in quotes, not 3"),
        ("clients.identify = []", "clients.identify should have an entry"),
        ("limits.serial = 3", "limits.serial should be true or false, not 3"),
        ("log.file = 3", "log.file should be a path in quotes, not 3"),
        ("upstream.url = 3", "upstream.url should be a text in quotes"),
        ('limits.pool_timeout = "0s"', 'limits.pool_timeout should be more than 0, not "0s"'),
        ('upstream.wait = "48h"', 'upstream.wait should be 24h or less, not "48h"'),
        (
            'tenancy.max_statement = "9GiB"',
            'tenancy.max_statement should be 1GiB or less, not "9GiB"',
        ),
        (
            'listen.address = "127.0.0.1:99999"',
            'listen.address should have a port from 0 to 65535 or "off", not "127.0.0.1:99999"',
        ),
        (
            'clients.user_separator = "123456789"',
            'clients.user_separator should have at most 8 characters, not "123456789"',
        ),
        (
            'limits.overrides = ["a"]',
            (
                "limits.overrides[0] should be a table such as"
                ' {client = "tests/slow*", connection_limit = 20}, not "a"'
            ),
        ),
        (
            'limits.overrides = [{client = "a", pool_timeout = "48h"}]',
            'limits.overrides[0].pool_timeout should be 24h or less, not "48h"',
        ),
        (
            'upstream.url = "mysql://h/d"',
            (
                "upstream.url cannot be used: not a Postgres URL"
                " (postgresql://USER:PASSWORD@HOST:PORT/DATABASE)"
            ),
        ),
    ],
)
def test_a_wrong_value_is_a_sentence_with_what_would_be_right(
    tmp_path: Path, text: str, message: str
) -> None:
    assert problems(tmp_path, text) == [f"pgguard.toml:1: {message}"]


def test_problems_come_in_the_order_of_the_lines(tmp_path: Path) -> None:
    text = 'limits.total = "x"\nzebra = 1\nlog.level = "x"\ntenancy.mode = "x"\n'
    found = problems(tmp_path, text, {"PGGUARD_X": "1"})
    assert [line.split(": ")[0] for line in found] == [
        *(f"pgguard.toml:{number}" for number in (1, 2, 3, 4)),
        "PGGUARD_X",
    ]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('admin.users = ["x"]', "admin"),
        ("tenancy.cache_tables = []", "tenancy.cache_tables"),
        ('clients.identify = ["test_mark"]', "test_mark"),
        ('run.fail_on = ["leak"]', "leak"),
        ("run.inject = true", "run.inject"),
    ],
)
def test_what_is_not_built_yet_says_so(tmp_path: Path, text: str, named: str) -> None:
    found = problems(tmp_path, text)
    assert len(found) == 1
    assert found[0].startswith("pgguard.toml:1: ")
    assert named in found[0]
    assert "not in this version" in found[0]


@pytest.mark.parametrize(
    ("variable", "text", "message"),
    [
        ("PGGUARD_LIMITS__TOTL", "3", '(did you mean "limits.total"?)'),
        ("PGGUARD_LIMITS__TOTAL", "x", 'should be a whole number or "auto", not "x"'),
        ("PGGUARD_LIMITS__SERIAL", "perhaps", "should be true or false"),
        ("PGGUARD_TENANCY__COLUMNS", "a,b", 'should be a list in JSON such as ["a", "b"]'),
        ("PGGUARD_TENANCY__OWNED", "a", 'should be a table in JSON such as {"a": "b"}'),
        (
            "PGGUARD_TENANCY__OWNED",
            '["a"]',
            'should be a table such as {BookingAddOn = "bookingId"}, not ["a"]',
        ),
        ("PGGUARD_LISTEN__ADDRESS", "6433", "should be HOST:PORT"),
    ],
)
def test_an_error_names_the_variable(
    tmp_path: Path, variable: str, text: str, message: str
) -> None:
    (found,) = problems(tmp_path, "", {variable: text})
    assert found.startswith(f"{variable}: ")
    assert message in found


def test_an_error_names_the_flag(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"^--listen: listen\.address should be HOST:PORT"):
        loaded(tmp_path, listen__address="nowhere")


def test_every_problem_is_found_at_once(tmp_path: Path) -> None:
    text = 'zebra = 1\nlimits.total = "x"\ntenancy.mode = "x"\n'
    assert len(problems(tmp_path, text, {"PGGUARD_X": "1"})) == 4


@pytest.mark.parametrize(
    ("text", "env"),
    [
        ('upstream.url = "mysql://u:s3cret@h/d"', {}),
        ('upstream = "postgresql://u:s3cret@h/d"', {}),
        ('auth.users = {a = ["s3cret"]}', {}),
        ('auth.users = "s3cret"', {}),
        ('http.token = ["s3cret"]', {}),
        ("", {"PGGUARD_UPSTREAM": "postgresql://u:s3cret@h:x/d"}),
        ("", {"PGGUARD_UPSTREM": "postgresql://u:s3cret@h/d"}),
        ("", {"PGGUARD_AUTH__USERS": "{s3cret}"}),
    ],
)
def test_no_error_holds_a_secret(tmp_path: Path, text: str, env: dict[str, str]) -> None:
    found = problems(tmp_path, text, env)
    assert found
    assert "s3cret" not in " ".join(found)


def test_a_file_that_is_named_is_taken_instead_of_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "pgguard.toml").write_text("preset = 'ci'")
    (tmp_path / "other.toml").write_text("preset = 'staging'")
    result = load(config=Path("other.toml"), env={}, flags={}, cwd=tmp_path)
    assert (result.settings.preset, result.file) == ("staging", tmp_path / "other.toml")
    with pytest.raises(SettingsError, match=r"missing\.toml: cannot be read"):
        load(config=Path("missing.toml"), env={}, flags={}, cwd=tmp_path)
