"""The errors of pgguard, as one tree.

    PgGuardError
    ├── SettingsError             what is wrong, where, and the nearest valid key
    ├── ProtocolViolation         a peer broke the protocol                     → FATAL 08P01, close
    ├── Refusal                   we say no on purpose: SQLSTATE, code, detail, hint
    │   ├── AdmissionRefused      cap, total, queue, self-starvation             → 53300
    │   ├── LoginRefused          28P01, 28000, 0A000 …                          → FATAL
    │   └── Draining              we are stopping                                → FATAL 57P01
    ├── ServerUnavailable         connect, login or connection lost; carries Postgres's own error
    ├── LaunchError               what `run`, `demo` or `--embedded` needs is missing or failed
    └── InternalError             a bug of ours: counted, its session and server closed

Laws: every message says what happened, to whom and what to do; none holds a secret. Only `core`
turns a Refusal into bytes; only `net` catches everything else, at its one entry point.
"""

from __future__ import annotations


class PgGuardError(Exception):
    """Root of all errors that pgguard raises on purpose."""


class SettingsError(PgGuardError):
    """A setting is unknown, malformed or not in this version.

    `where` names the source: `pgguard.toml:12`, `PGGUARD_LIMITS__TOTAL` or `--listen`.
    """

    def __init__(self, message: str, *, where: str = "", hint: str = "") -> None:
        self.message, self.where, self.hint = message, where, hint
        text = f"{where}: {message}" if where else message
        super().__init__(f"{text} ({hint})" if hint else text)


class ProtocolViolation(PgGuardError):
    """A peer broke the protocol. `peer` is "session" or "server"."""

    def __init__(self, message: str, *, peer: str = "session") -> None:
        self.message, self.peer = message, peer
        super().__init__(message)


class Refusal(PgGuardError):
    """We refuse on purpose. `sqlstate` has five characters, `code` is a PGG code or empty."""

    def __init__(
        self, message: str, *, sqlstate: str, code: str = "", detail: str = "", hint: str = ""
    ) -> None:
        self.message, self.sqlstate, self.code = message, sqlstate, code
        self.detail, self.hint = detail, hint
        super().__init__(message)


class AdmissionRefused(Refusal):
    """No server connection for this session: 53300 with PGG301, PGG302 or PGG303.

    `reason` is cap, total, max_waiting, max_sessions or self_starvation, `holders` one line for
    each who holds a server, `waited` seconds.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str,
        reason: str,
        detail: str = "",
        hint: str = "",
        holders: list[str] | None = None,
        waited: float = 0.0,
    ) -> None:
        super().__init__(message, sqlstate="53300", code=code, detail=detail, hint=hint)
        self.reason, self.holders, self.waited = reason, holders or [], waited


class LoginRefused(Refusal):
    """Nobody is let in whom Postgres would not let in; `log` is for our log only."""

    def __init__(self, message: str, *, sqlstate: str, hint: str = "", log: str = "") -> None:
        super().__init__(message, sqlstate=sqlstate, hint=hint)
        self.log = log


class Draining(Refusal):
    """pgguard is shutting down: 57P01."""


class ServerUnavailable(PgGuardError):
    """No connection to Postgres, or it was lost.

    `fields` holds Postgres's own ErrorResponse (field letter → value) where there was one, and
    `temporary` says whether trying again can help (refused, starting up, too many clients).
    """

    def __init__(
        self, message: str, *, fields: dict[str, str] | None = None, temporary: bool = True
    ) -> None:
        self.message, self.fields, self.temporary = message, fields or {}, temporary
        super().__init__(message)


class LaunchError(PgGuardError):
    """Something that a command needs around the guard is missing or failed; says the remedy."""


class InternalError(PgGuardError):
    """A bug of ours."""
