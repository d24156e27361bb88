"""What the packages get of the settings, and what a reload changes."""

from __future__ import annotations

from guard import settings_for

from pgguard.pool.limits import ClientLimits
from pgguard.wiring import changed_keys, hub_settings

NOWHERE = "postgresql://user:hush@127.0.0.1:1/db"


def test_settings_reach_the_core_as_they_were_given() -> None:
    settings = hub_settings(
        settings_for(
            NOWHERE,
            limits__connection_limit=3,
            limits__pool_timeout="7s",
            limits__max_waiting=4,
            limits__total=9,
            limits__overrides=[{"client": "a*", "connection_limit": 1}],
            tenancy__columns=["org"],
            tenancy__owned={"lines": "order_id"},
            clients__identify=["user_suffix"],
            listen__trust=True,
            listen__login_timeout="5s",
        )
    )
    assert settings.admission.defaults == ClientLimits(3, 7.0, 4, None)
    assert settings.admission.limits_for("abc").connection_limit == 1
    assert settings.tenancy.columns == ("org",)
    assert settings.tenancy.owned == (("lines", "order_id"),)
    assert (settings.total, settings.trust, settings.login_timeout) == (9, True, 5.0)
    assert settings.identify == ("user_suffix",)


def test_keys_that_differ_are_named() -> None:
    old, new = settings_for(NOWHERE), settings_for(NOWHERE, limits__total=4, listen__trust=True)
    assert sorted(changed_keys(old, new)) == ["limits.total", "listen.trust"]
    assert changed_keys(old, old) == []
