"""What is held for a user, and what Postgres says of a role.

Laws: a secret shows itself in no repr and no message; what a client has proved is kept with its
session alone, until that session's server has logged in or is given up.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pgguard.wire.auth import DEFAULT_ITERATIONS, Verifier, md5_secret

if TYPE_CHECKING:
    from collections.abc import Mapping


class Secret:
    """What we hold for one user: a password, a SCRAM verifier or an md5 hash.

    With a verifier the client key must be had, too, to log in at Postgres: a client's proof shows
    it (`proved`).
    """

    __slots__ = ("_verifier", "client_key", "md5", "password")

    def __init__(self, text: str) -> None:
        self.password: str | None = None
        self.md5: str | None = None
        self.client_key: bytes | None = None
        self._verifier: Verifier | None = None
        if text.startswith("SCRAM-SHA-256$"):
            self._verifier = Verifier.parse(text)
        elif text.startswith("md5") and len(text) == 35:
            self.md5 = text
        else:
            self.password = text

    def __repr__(self) -> str:
        return "Secret(***)"

    def verifier(self) -> Verifier | None:
        """The verifier that clients are checked against; derived once."""
        if self._verifier is None and self.password is not None:
            self._verifier = Verifier.derive(self.password, os.urandom(16))
        return self._verifier

    def md5_for(self, user: str) -> str | None:
        """The hash that an md5 challenge is checked against and answered with."""
        if self.password is not None:
            return md5_secret(user, self.password)
        return self.md5

    def proved(self, client_key: bytes) -> Secret:
        """A copy for the one session whose client has shown its key."""
        copy = object.__new__(Secret)
        copy.password, copy.md5, copy._verifier = self.password, self.md5, self._verifier
        copy.client_key = client_key
        return copy


class Secrets:
    """User → `Secret`, the PBKDF2 results of our own logins, and the seed of mock challenges."""

    __slots__ = ("_secrets", "salted", "seed")

    def __init__(self, secrets: Mapping[str, str]) -> None:
        self._secrets = {user: Secret(text) for user, text in secrets.items()}
        self.salted: dict[Any, bytes] = {}
        self.seed = os.urandom(32)

    def get(self, user: str) -> Secret | None:
        return self._secrets.get(user)


@dataclass(slots=True, frozen=True, repr=False)
class Role:
    """What pg_authid says of a user now; `secret` is None for one that no password lets in.

    `why` is for our log: there is no such role, its password has expired …
    """

    secret: Secret | None
    why: str = ""
    iterations: int = DEFAULT_ITERATIONS
    """Of verifiers that are made now, and so of the mock challenge (`scram_iterations`)."""
    begins: str = ""
    """What a session of the role begins as: its row, and the settings of roles and databases. Only
    that it has changed is looked at (transparency T26)."""


def role_of(found: bool, verifier: str | None, expired: bool, iterations: int) -> Role:
    """As Postgres's get_role_password judges. A verifier that cannot be read fits no password."""
    if not found:
        return Role(None, "there is no such role", iterations)
    if verifier is None:
        return Role(None, "the role has no password", iterations)
    if expired:
        return Role(None, "the password of the role has expired (VALID UNTIL)", iterations)
    try:
        secret = Secret(verifier)
    except ValueError:
        secret = Secret("")
    if secret.password is not None:
        return Role(None, "the role's password is stored in a form that is not known", iterations)
    return Role(secret, "", iterations)
