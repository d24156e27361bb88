"""Reading is free on loopback only, changing takes the token, and names do not fool us."""

from __future__ import annotations

import pytest

from pgguard.admin.access import Access, host_name, is_loopback
from pgguard.admin.request import Request

TOKEN = "correct horse"


def ask(host: str | None = "127.0.0.1:6434", authorization: str = "") -> Request:
    headers = {} if host is None else {"host": host}
    if authorization:
        headers["authorization"] = authorization
    return Request("GET", "/", "HTTP/1.1", headers)


def access(token: str = "", bound: str = "127.0.0.1") -> Access:
    return Access(bound=bound, token=token, pid=42)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.0.0.1:6434",
        "127.1.2.3:80",
        "[::1]:6434",
        "[::1]",
        "localhost",
        "LocalHost:6434",
        "localhost.:6434",
        "guard.localhost",
        None,
    ],
)
def test_loopback_names_may_read(host):
    assert access().may_read(ask(host), "127.0.0.1") is None


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:6434",
        "localhost.evil.example",
        "notlocalhost",
        "127.0.0.1.evil.example",
        "10.0.0.1",
        "[::2]",
        "",
        "[",
        "127.0.0.1, evil.example",
    ],
)
def test_a_foreign_host_is_refused_even_on_loopback(host):
    refused = access().may_read(ask(host), "127.0.0.1")
    assert refused is not None
    assert refused.status == 403


def test_the_address_that_we_listen_on_is_ours():
    assert access(bound="pgguard.test").may_read(ask("PGGuard.test:6434"), "127.0.0.1") is None


@pytest.mark.parametrize("peer", ["10.0.0.7", "2001:db8::1", "::ffff:10.0.0.7", "", "unix"])
def test_other_machines_may_not_read(peer):
    refused = access().may_read(ask(), peer)
    assert refused is not None
    assert refused.status == 403


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"])
def test_loopback_peers_are_known_in_every_spelling(peer):
    assert is_loopback(peer)


def test_an_empty_token_opens_nothing():
    for authorization in ("Bearer", "Bearer "):
        refused = access("").may_read(ask(authorization=authorization), "10.0.0.7")
        assert refused is not None


def test_with_the_token_other_machines_may_read_under_any_name():
    request = ask("guard.internal", f"Bearer {TOKEN}")
    assert access(TOKEN).may_read(request, "10.0.0.7") is None


def test_a_wrong_token_does_not_lock_out_loopback():
    assert access(TOKEN).may_read(ask(authorization="Bearer wrong"), "127.0.0.1") is None


def test_without_a_token_nothing_can_be_changed_and_the_way_out_is_named():
    for authorization in ("", "Bearer ", "Bearer x"):
        refused = access().may_change(ask(authorization=authorization))
        assert refused is not None
        assert refused.status == 403
        assert b"kill -HUP 42" in refused.body


@pytest.mark.parametrize(
    "authorization",
    ["", "Bearer", "Bearer wrong", f"Basic {TOKEN}", TOKEN, f"Bearer {TOKEN}x", "Bearer \xff"],
)
def test_a_wrong_token_changes_nothing(authorization):
    refused = access(TOKEN).may_change(ask(authorization=authorization))
    assert refused is not None
    assert refused.status == 401
    assert refused.headers == {"WWW-Authenticate": "Bearer"}
    assert TOKEN.encode() not in refused.body


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_the_right_token_may_change(scheme):
    assert access(TOKEN).may_change(ask(authorization=f"{scheme} {TOKEN}")) is None


def test_the_name_of_a_host_is_taken_without_port():
    assert host_name("A.b:1") == "a.b"
    assert host_name("[::1]:1") == "::1"
    assert host_name("a.") == "a"
