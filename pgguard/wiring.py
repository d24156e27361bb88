"""Settings as the packages take them: one place where names of the one become those of the other.

Laws: nothing below gets the user's settings themselves, only small frozen values made from them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgguard.core.types import HubSettings
from pgguard.pool.limits import AdmissionSettings, ClientLimits, Override
from pgguard.tenancy.model import TenancySettings
from pgguard.tenancy.policy import Action, Allow, ModeRule, PolicySettings

if TYPE_CHECKING:
    from pgguard.settings.schema import Settings

NEEDS_RESTART = ("listen.address", "listen.unix", "http.address", "upstream", "pool", "auth")
"""What is taken when a guard starts and not on a reload."""


def hub_settings(settings: Settings) -> HubSettings:
    """What the core needs, out of all settings."""
    limits = settings.limits
    tenancy = settings.tenancy
    return HubSettings(
        admission=AdmissionSettings(
            defaults=ClientLimits(
                limits.connection_limit,
                limits.pool_timeout,
                limits.max_waiting,
                limits.max_sessions,
            ),
            overrides=tuple(
                Override(
                    entry.client,
                    entry.connection_limit,
                    entry.pool_timeout,
                    entry.max_waiting,
                    entry.max_sessions,
                )
                for entry in limits.overrides
            ),
            total_timeout=limits.total_timeout,
            notice_after=limits.notice_after,
            self_starvation_after=limits.self_starvation_after,
            on_self_starvation=limits.on_self_starvation,
            serial=limits.serial,
        ),
        tenancy=TenancySettings(
            columns=tenancy.columns,
            root=tenancy.root,
            owned=tuple(tenancy.owned.items()),
            shared=tenancy.shared,
            global_=tenancy.global_,
            functions=tenancy.functions,
            settings=tenancy.settings,
            max_statement=tenancy.max_statement,
        ),
        policy=policy_settings(settings),
        identify=settings.clients.identify,
        user_separator=settings.clients.user_separator,
        trust=settings.listen.trust,
        login_timeout=settings.listen.login_timeout,
        sharing=settings.pool.mode == "transparent",
        spare_for=settings.pool.idle_timeout,
        restless=settings.pool.restless,
        total=limits.total,
    )


def policy_settings(settings: Settings) -> PolicySettings:
    """What is done about verdicts."""
    tenancy = settings.tenancy
    return PolicySettings(
        mode=Action[tenancy.mode],
        rules=tuple(
            ModeRule(Action[entry.mode], entry.code or "", entry.table or "", entry.client or "")
            for entry in tenancy.rules
        ),
        allow=tuple(
            Allow(
                entry.reason,
                entry.fingerprint or "",
                entry.table or "",
                entry.client or "",
                entry.comment or "",
                entry.expires,
            )
            for entry in tenancy.allow
        ),
        setup=tenancy.setup,
    )


def changed_keys(old: Settings, new: Settings) -> list[str]:
    """The dotted keys whose values differ."""
    from pgguard.settings.schema import fields, value_of

    return [key for key in fields() if value_of(old, key) != value_of(new, key)]
