"""The tree of errors: what each carries, and that the docstring shows it as it is."""

from __future__ import annotations

import inspect

import pytest

from pgguard import errors


def test_the_docstring_names_every_error() -> None:
    names = [
        name
        for name, value in vars(errors).items()
        if inspect.isclass(value) and issubclass(value, Exception)
    ]
    assert names
    for name in names:
        assert name in (errors.__doc__ or "")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (errors.SettingsError("wrong"), "wrong"),
        (errors.SettingsError("wrong", where="pgguard.toml:3"), "pgguard.toml:3: wrong"),
        (errors.SettingsError("wrong", where="--x", hint="try y"), "--x: wrong (try y)"),
    ],
)
def test_a_settings_error_says_where_and_what_to_do(error: Exception, text: str) -> None:
    assert str(error) == text


def test_an_admission_refusal_is_53300_and_carries_who_holds_what() -> None:
    error = errors.AdmissionRefused("no", code="PGG301", reason="cap", holders=["a"], waited=2.0)
    assert (error.sqlstate, error.code, error.reason) == ("53300", "PGG301", "cap")
    assert (error.holders, error.waited) == (["a"], 2.0)
    assert isinstance(error, errors.Refusal)


def test_a_login_refusal_keeps_its_log_out_of_what_the_client_gets() -> None:
    error = errors.LoginRefused("no", sqlstate="28P01", log="unknown user")
    assert error.log == "unknown user"
    assert "unknown" not in f"{error}{error.detail}{error.hint}"


def test_an_unavailable_server_is_temporary_unless_said_otherwise() -> None:
    assert errors.ServerUnavailable("down").temporary
    assert errors.ServerUnavailable("down").fields == {}
    assert not errors.ServerUnavailable("no such database", temporary=False).temporary


def test_a_violation_names_the_peer() -> None:
    assert errors.ProtocolViolation("x").peer == "session"
    assert errors.ProtocolViolation("x", peer="server").peer == "server"
