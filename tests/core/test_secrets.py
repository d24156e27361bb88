"""What is held for a user."""

from __future__ import annotations

import pytest

from pgguard.core.secrets import Secret, Secrets, role_of
from pgguard.wire.auth import Verifier, md5_secret

VERIFIER = str(Verifier.derive("secret", b"salt of sixteen.", 1))
MD5 = md5_secret("app", "secret")


@pytest.mark.parametrize("text", ["hush", VERIFIER, MD5])
def test_no_secret_shows_itself(text: str) -> None:
    secrets = Secrets({"app": text})
    assert text not in repr(secrets.get("app")) + repr(secrets)
    assert text not in repr(role_of(True, text, False, 4096))


def test_a_verifier_is_derived_once_and_an_md5_hash_has_none() -> None:
    secret = Secret("secret")
    assert secret.verifier() is secret.verifier()
    assert Secret(MD5).verifier() is None


def test_an_md5_challenge_is_answered_from_a_password_or_its_hash() -> None:
    assert Secret("secret").md5_for("app") == Secret(MD5).md5_for("app") == MD5
    assert Secret(VERIFIER).md5_for("app") is None


def test_what_a_client_has_proved_is_for_its_session_alone() -> None:
    secret = Secret(VERIFIER)
    proved = secret.proved(b"key")
    assert (proved.client_key, secret.client_key) == (b"key", None)
    assert proved.verifier() is secret.verifier()


@pytest.mark.parametrize(
    ("found", "text", "expired", "why"),
    [
        (False, None, False, "there is no such role"),
        (True, None, True, "the role has no password"),
        (True, VERIFIER, True, "VALID UNTIL"),
        (True, "SCRAM-SHA-256$broken", False, "not known"),
        (True, "", False, "not known"),
        (True, "plain text of long ago", False, "not known"),
        (True, VERIFIER, False, ""),
        (True, MD5, False, ""),
    ],
)
def test_a_role_is_judged_as_by_postgres(
    found: bool, text: str | None, expired: bool, why: str
) -> None:
    role = role_of(found, text, expired, 5)
    assert why in role.why
    assert (role.secret is None) is bool(why)
    assert role.iterations == 5
