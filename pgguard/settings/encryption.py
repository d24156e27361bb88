"""What settings, URL and environment ask of the TLS to the server, in one set of words.

Laws: a demand is met or refused, never lowered silently; a setting that is not at its default wins
over the URL, the URL over the environment, as with libpq (manual, section "SSL Support"). The words
of libpq, JDBC, node-postgres and asyncpg are all read.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pgguard.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pgguard.settings.schema import Upstream

MODES = ("disable", "prefer", "require", "verify-ca", "verify-full")
"""From nothing to everything."""
BINDINGS = ("disable", "prefer", "require")
"""channel_binding."""
VARIABLES = {
    "PGSSLMODE": "sslmode",
    "PGSSLROOTCERT": "sslrootcert",
    "PGSSLCERT": "sslcert",
    "PGSSLKEY": "sslkey",
    "PGSSLNEGOTIATION": "sslnegotiation",
    "PGCHANNELBINDING": "channel_binding",
}
"""Variable → the parameter of a URL that it stands in for."""
TLS_WORDS = frozenset(
    {
        *("sslmode", "ssl", "sslrootcert", "sslcert", "sslkey", "sslpassword", "sslcrl"),
        *("sslcrldir", "sslnegotiation", "channel_binding"),
    }
)
"""Parameters that speak of the TLS between a driver and its server."""
_SYNONYMS = {"allow": "prefer", "no-verify": "require"}
_TRUE = frozenset({"1", "true", "yes", "on", ""})
_FALSE = frozenset({"0", "false", "no", "off"})
_OWN_CA = ".postgresql/root.crt"


@dataclass(frozen=True, slots=True)
class Demand:
    """TLS to the server. `ca` None means the system's authorities."""

    mode: str
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    direct: bool = False
    binding: str = "prefer"
    """channel_binding: disable, prefer, require."""
    password: str = field(default="", repr=False)


def mode_of(query: Mapping[str, str]) -> str | None:
    """The mode that the parameters of a URL ask for; None where they do not say.

    Raises SettingsError for a word that nobody knows.
    """
    name = "sslmode" if "sslmode" in query else "ssl"
    if name not in query:
        return "verify-full" if query.get("sslrootcert") == "system" else None
    value = query[name]
    if name == "ssl" and value.lower() in _TRUE:
        # JDBC and node-postgres verify chain and name then.
        return "verify-full"
    if name == "ssl" and value.lower() in _FALSE:
        return "disable"
    mode = _SYNONYMS.get(value, value)
    if mode not in MODES:
        raise SettingsError(f'invalid {name} value: "{value}"', hint=f"one of {', '.join(MODES)}")
    return mode


def check_demands(query: Mapping[str, str]) -> None:
    """Refuse what cannot be met. Raises SettingsError."""
    binding = query.get("channel_binding", "prefer")
    if binding not in BINDINGS:
        raise SettingsError(
            f'invalid channel_binding value: "{binding}"', hint=f"one of {', '.join(BINDINGS)}"
        )
    mode, negotiation = mode_of(query), query.get("sslnegotiation", "postgres")
    if negotiation not in ("postgres", "direct"):
        raise SettingsError(
            f'invalid sslnegotiation value: "{negotiation}"', hint="postgres or direct"
        )
    if query.get("sslrootcert") == "system" and mode != "verify-full":
        raise SettingsError(
            f'weak sslmode "{mode}" may not be used with sslrootcert=system',
            hint="use sslmode=verify-full",
        )
    if binding == "require" and mode == "disable":
        raise SettingsError(
            "channel_binding=require needs TLS", hint="set sslmode=require or stricter"
        )


def demanded(upstream: Upstream, query: Mapping[str, str], env: Mapping[str, str]) -> Demand:
    """What the settings `upstream.*`, the URL's parameters and the environment come to.

    Raises SettingsError where they contradict each other.
    """
    asked = with_variables(query, env)
    if upstream.tls == "disable":
        if query.get("channel_binding") == "require":
            raise SettingsError(
                "upstream.tls = disable cannot meet channel_binding=require of the URL",
                where="upstream.tls",
            )
        return Demand("disable")
    check_demands(asked)
    mode = mode_of(asked) or "prefer" if upstream.tls == "prefer" else upstream.tls
    direct = "direct" in (upstream.tls_negotiation, asked.get("sslnegotiation"))
    if mode == "disable":
        return Demand(mode)
    if direct and mode == "prefer":
        raise SettingsError(
            "direct TLS needs upstream.tls = require or stricter",
            where="upstream.tls_negotiation",
            hint='set upstream.tls, or "sslmode" in the URL',
        )
    ca = upstream.ca or _path(asked.get("sslrootcert"))
    own = Path(env.get("HOME") or "/", _OWN_CA)
    if ca is None and mode.startswith("verify") and own.exists():
        ca = own
    return Demand(
        mode=mode,
        ca=None if ca == Path("system") else ca,
        cert=upstream.cert or _path(asked.get("sslcert")),
        key=upstream.key or _path(asked.get("sslkey")),
        direct=direct,
        password=asked.get("sslpassword", ""),
        binding=asked.get("channel_binding", "prefer"),
    )


def with_variables(query: Mapping[str, str], env: Mapping[str, str]) -> dict[str, str]:
    """The parameters, and what the environment says where they do not."""
    given = {name: env[variable] for variable, name in VARIABLES.items() if env.get(variable)}
    if "ssl" in query:
        given.pop("sslmode", None)
    return {**given, **query}


def is_more(mode: str | None, than: str) -> bool:
    """Whether a mode asks for more than another one gives; None asks for nothing."""
    return mode is not None and MODES.index(mode) > max(MODES.index(than), 1)


def _path(text: str | None) -> Path | None:
    return Path(text) if text else None
