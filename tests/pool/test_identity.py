"""Who a session belongs to, and what of its start-up parameters is for us alone."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgguard.pool.identity import (
    DRIVER_NAMES,
    NAME_LIMIT,
    RULES,
    Absorbed,
    Carriers,
    ClientKey,
    ProcessInfo,
    absorb,
    clean,
    identify,
    strip_user_suffix,
)

EVERYTHING: dict[str, Any] = {
    "test_mark": "tests/test_a.py",
    "parameters": {"pgguard.client": "set", "application_name": "app"},
    "user": "joe%suffix",
    "process": ProcessInfo(42, "pytest", "gw3"),
    "address": "10.0.0.7",
}


@pytest.mark.parametrize(
    ("rule", "name"),
    [
        ("test_mark", "tests/test_a.py"),
        ("startup_setting", "set"),
        ("user_suffix", "suffix"),
        ("application_name", "app"),
        ("process", "pytest (gw3)"),
        ("address", "10.0.0.7"),
    ],
)
def test_the_first_rule_that_applies_decides(rule: str, name: str) -> None:
    carriers = dict(EVERYTHING)
    absent: list[dict[str, Any]] = [
        {"test_mark": ""},
        {"parameters": {"application_name": "app"}},
        {"user": "joe"},
        {"parameters": {}},
        {"process": None},
    ]
    for changes in absent[: RULES.index(rule)]:
        carriers |= changes
    assert identify(RULES, Carriers(**carriers)) == ClientKey(name, rule)


def test_the_order_of_the_rules_is_the_users() -> None:
    order = ("address", "application_name")
    assert identify(order, Carriers(**EVERYTHING)) == ClientKey("10.0.0.7", "address")
    assert identify(("no such rule", "application_name"), Carriers(**EVERYTHING)).name == "app"


def test_without_any_rule_the_address_is_left() -> None:
    assert identify((), Carriers(address="10.0.0.7")) == ClientKey("10.0.0.7", "address")
    assert identify((), Carriers()) == ClientKey("local", "address")


@pytest.mark.parametrize(
    ("parameters", "options"),
    [
        ({"pgguard.client": "x"}, []),
        ({"PgGuard.Client": "x"}, []),
        ({}, [("pgguard.client", "x")]),
        ({}, [("pgguard.client", "y"), ("other", "z"), ("pgguard.client", "x")]),
        ({"pgguard.client": "x"}, [("pgguard.client", "y")]),
        ({"pgguard.client": "  "}, [("pgguard.client", "x")]),
    ],
)
def test_a_startup_setting_comes_as_parameter_or_in_options(
    parameters: dict[str, str], options: list[tuple[str, str]]
) -> None:
    found = identify(RULES, Carriers(parameters=parameters, options=options))
    assert found == ClientKey("x", "startup_setting")


@pytest.mark.parametrize("name", [*sorted(DRIVER_NAMES), "bin/rails", "/srv/app/bin/rspec"])
def test_a_drivers_default_name_is_no_identity(name: str) -> None:
    carriers = Carriers(parameters={"application_name": name}, address="::1")
    assert identify(RULES, carriers).rule == "address"


@pytest.mark.parametrize("name", ["my app", "tests/rake", "psql2", "cron/psql"])
def test_any_other_name_is(name: str) -> None:
    carriers = Carriers(parameters={"application_name": name}, address="::1")
    assert identify(RULES, carriers) == ClientKey(name, "application_name")


def test_a_name_of_several_processes_is_only_a_label() -> None:
    shared: dict[str, Any] = {"parameters": {"application_name": "app"}, "shared_name": True}
    one = Carriers(**shared, process=ProcessInfo(1, "pytest", "gw0"))
    other = Carriers(**shared, process=ProcessInfo(2, "pytest", "gw1"))
    assert identify(RULES, one) == ClientKey("pytest (gw0)", "process")
    assert identify(RULES, other) == ClientKey("pytest (gw1)", "process")


def test_a_shared_name_counts_when_the_process_cannot_decide() -> None:
    shared: dict[str, Any] = {"parameters": {"application_name": "app"}, "shared_name": True}
    assert identify(RULES, Carriers(**shared)).name == "app"
    known = Carriers(**shared, process=ProcessInfo(1, "pytest", "gw0"))
    assert identify(("application_name", "address"), known).name == "app"


def test_no_pid_gets_into_a_name() -> None:
    process = ProcessInfo(4711, "node worker-4711 --id 147112 4711", "")
    found = identify(RULES, Carriers(process=process))
    assert found == ClientKey("node worker-* --id 147112 *", "process")


def test_a_process_without_a_command_is_named_by_its_worker() -> None:
    assert identify(RULES, Carriers(process=ProcessInfo(1, "", "gw0"))).name == "(gw0)"
    assert identify(RULES, Carriers(process=ProcessInfo(1, "", ""), address="a")).name == "a"


@pytest.mark.parametrize(
    ("user", "separator", "login", "suffix"),
    [
        ("app%worker3", "%", "app", "worker3"),
        ("a%b%worker3", "%", "a%b", "worker3"),
        ("app", "%", "app", ""),
        ("app%", "%", "app%", ""),
        ("%worker", "%", "%worker", ""),
        ("app::w", "::", "app", "w"),
        ("app%worker", "", "app%worker", ""),
    ],
)
def test_the_suffix_of_a_user(user: str, separator: str, login: str, suffix: str) -> None:
    assert strip_user_suffix(user, separator) == login
    found = identify(RULES, Carriers(user=user), separator=separator)
    assert found.name == (suffix or "local")


def test_names_are_cleaned_and_bounded() -> None:
    assert clean(" a\x00b\nc\u202ed\udcffe ") == "a\ufffdb\ufffdc\ufffdd\ufffde"
    long = clean("head" + "x" * 500 + "tail")
    assert len(long) == NAME_LIMIT
    assert long.startswith("head")
    assert long.endswith("tail")
    assert clean("y" * NAME_LIMIT) == "y" * NAME_LIMIT


@given(st.text(st.characters(), max_size=300))
def test_every_name_can_be_written_as_utf8_in_one_line(text: str) -> None:
    name = clean(text)
    assert len(name) <= NAME_LIMIT
    assert len(name.encode().splitlines()) <= 1


def test_what_is_meant_for_us_is_never_forwarded() -> None:
    forwarded, absorbed = absorb(
        {
            "user": "app",
            "database": "shop",
            "application_name": "tests/a.py",
            "connection_limit": "5",
            "pool_timeout": "7",
            "pgbouncer": "true",
            "connect_timeout": "10",
            "socket_timeout": "10",
            "Pgguard.Client": "tests/a.py",
            "pgguard.other": "x",
        }
    )
    assert forwarded == {"user": "app", "database": "shop", "application_name": "tests/a.py"}
    assert absorbed == Absorbed(5, 7.0, None, "tests/a.py", ())


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("20", 20.0), ("20s", 20.0), ("1.5", 1.5), ("500ms", 0.5), ("2min", 120.0), (" 1 h ", 3600.0)],
)
def test_a_timeout_is_seconds_or_has_a_unit(text: str, seconds: float) -> None:
    assert absorb({"pool_timeout": text})[1].pool_timeout == seconds


@pytest.mark.parametrize("text", ["", "x", "-1", "0", "1e9", "20 days", "9" * 40, "٢٠", "nan"])
def test_nonsense_is_ignored_and_reported(text: str) -> None:
    forwarded, absorbed = absorb({"pool_timeout": text, "connection_limit": text})
    assert forwarded == {}
    assert (absorbed.pool_timeout, absorbed.connection_limit) == (None, None)
    assert absorbed.ignored == (f"connection_limit={text}", f"pool_timeout={text}")


def test_schema_becomes_search_path_as_one_quoted_name() -> None:
    forwarded, absorbed = absorb({"schema": 'te"st,x'})
    assert forwarded == {"search_path": '"te""st,x"'}
    assert absorbed.schema == 'te"st,x'
    assert absorb({"schema": ""}) == ({}, Absorbed())


@pytest.mark.parametrize(
    "given_path",
    [{"search_path": "a"}, {"Search_Path": "a"}, {"options": "-c search_path=a"}],
)
def test_schema_yields_to_a_search_path_that_is_given(given_path: dict[str, str]) -> None:
    assert absorb({"schema": "b", **given_path})[0] == given_path


@pytest.mark.parametrize(
    ("options", "kept", "client"),
    [
        ("-c pgguard.client=x", "", "x"),
        ("-cpgguard.client=x", "", "x"),
        ("--pgguard.client=x", "", "x"),
        ("--PgGuard.Client=x", "", "x"),
        ("-c pgguard.client", "", None),
        (r"-c pgguard.client=a\ b\\c", "", r"a b\c"),
        ("-c a=b -c pgguard.client=x -c c=d", "-c a=b -c c=d", "x"),
        ("-e -t c -cpgguard.client=x --c-d=e", "-e -t c --c-d=e", "x"),
        ("-ec pgguard.client=x", "", "x"),
        ("-S 64 -N pgguard.client=x", "-S 64 -N pgguard.client=x", None),
        (r"-c search_path=a\,\ b", r"-c search_path=a\,\ b", None),
        ("word - -c", "word - -c", None),
        ("  \t ", "", None),
    ],
)
def test_settings_for_us_are_taken_out_of_options(
    options: str, kept: str, client: str | None
) -> None:
    forwarded, absorbed = absorb({"options": options})
    assert forwarded == ({"options": kept} if kept else {})
    assert absorbed.client == client


def test_a_parameter_counts_before_options() -> None:
    parameters = {"options": "-c pgguard.client=y", "pgguard.client": "x"}
    assert absorb(parameters)[1].client == "x"


@given(st.dictionaries(st.sampled_from(["options", "pool_timeout", "schema", "a"]), st.text()))
def test_absorbing_never_raises(parameters: dict[str, str]) -> None:
    forwarded, _ = absorb(parameters)
    assert set(forwarded) <= {"options", "search_path", "a"}


@given(st.text(alphabet=" -cpe=\\a\t", max_size=40))
def test_options_without_settings_for_us_keep_their_words(text: str) -> None:
    forwarded, _ = absorb({"options": text})
    again, _ = absorb(forwarded)
    assert again == forwarded
