"""What is asked of the TLS to the server, in everybody's words, and who wins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pgguard.errors import SettingsError
from pgguard.settings.encryption import (
    Demand,
    check_demands,
    demanded,
    is_more,
    mode_of,
    with_variables,
)
from pgguard.settings.schema import Upstream


@pytest.mark.parametrize(
    ("query", "mode"),
    [
        ({}, None),
        ({"sslmode": "disable"}, "disable"),
        ({"sslmode": "allow"}, "prefer"),
        ({"sslmode": "no-verify"}, "require"),
        ({"sslmode": "verify-ca"}, "verify-ca"),
        ({"ssl": "true"}, "verify-full"),
        ({"ssl": ""}, "verify-full"),
        ({"ssl": "false"}, "disable"),
        ({"ssl": "require"}, "require"),
        ({"ssl": "true", "sslmode": "require"}, "require"),
        ({"sslrootcert": "system"}, "verify-full"),
    ],
)
def test_the_words_of_all_drivers_are_read(query: dict[str, str], mode: str | None) -> None:
    assert mode_of(query) == mode


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({"sslmode": "nonsense"}, 'invalid sslmode value: "nonsense"'),
        ({"ssl": "odd"}, 'invalid ssl value: "odd"'),
        ({"sslnegotiation": "odd"}, "invalid sslnegotiation value"),
        ({"channel_binding": "odd"}, 'invalid channel_binding value: "odd"'),
        ({"channel_binding": "require", "sslmode": "disable"}, "channel_binding=require needs TLS"),
        ({"sslrootcert": "system", "sslmode": "require"}, 'weak sslmode "require"'),
    ],
)
def test_what_cannot_be_met_is_refused(query: dict[str, str], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        check_demands(query)


def demand(query: dict[str, str] | None = None, /, **values: Any) -> Demand:
    env = values.pop("env", {})
    return demanded(Upstream(**values), query or {}, {"HOME": "/nowhere", **env})


def test_tls_is_tried_by_default() -> None:
    assert demand() == Demand("prefer")


def test_the_url_decides_where_the_setting_is_at_its_default() -> None:
    query = {
        "sslmode": "verify-full",
        "sslrootcert": "ca.pem",
        "sslcert": "c.pem",
        "sslkey": "k.pem",
        "sslnegotiation": "direct",
        "sslpassword": "s3cret",
    }
    found = demand(query)
    assert found == Demand(
        "verify-full", Path("ca.pem"), Path("c.pem"), Path("k.pem"), direct=True, password="s3cret"
    )
    assert "s3cret" not in repr(found)


def test_a_setting_wins_over_the_url_and_that_over_the_environment() -> None:
    env = {"PGSSLMODE": "verify-full", "PGSSLROOTCERT": "env.pem"}
    assert demand(env=env) == Demand("verify-full", Path("env.pem"))
    assert demand({"sslmode": "verify-ca"}, env=env).mode == "verify-ca"
    assert demand({"ssl": "require"}, env=env).mode == "require"
    assert demand({"sslmode": "require"}, tls="disable", env=env) == Demand("disable")
    own = demand({"sslmode": "disable", "sslrootcert": "x"}, tls="verify-ca", ca=Path("own.pem"))
    assert own == Demand("verify-ca", Path("own.pem"))
    assert with_variables({"sslmode": "a"}, {"PGSSLMODE": "b", "PGSSLKEY": "k"}) == {
        "sslmode": "a",
        "sslkey": "k",
    }


def test_the_authorities_of_libpq_and_of_the_system_are_found(tmp_path: Path) -> None:
    own = tmp_path / ".postgresql" / "root.crt"
    own.parent.mkdir()
    own.touch()
    home = {"HOME": str(tmp_path)}
    assert demand({"sslmode": "verify-ca"}, env=home).ca == own
    assert demand({"sslmode": "require"}, env=home).ca is None
    assert demand({"sslrootcert": "system"}, env=home) == Demand("verify-full")


def test_direct_tls_needs_a_mode_that_cannot_end_in_plain_text() -> None:
    with pytest.raises(SettingsError, match="direct TLS needs"):
        demand(tls_negotiation="direct")
    assert demand(tls="require", tls_negotiation="direct") == Demand("require", direct=True)


@pytest.mark.parametrize(
    ("mode", "than", "more"),
    [
        (None, "disable", False),
        ("prefer", "disable", False),
        ("require", "prefer", True),
        ("verify-full", "verify-ca", True),
        ("require", "require", False),
        ("verify-ca", "verify-full", False),
    ],
)
def test_modes_have_an_order(mode: str | None, than: str, more: bool) -> None:
    assert is_more(mode, than) is more
