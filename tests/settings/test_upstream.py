"""Database URLs: what libpq, Prisma, SQLAlchemy and JDBC write."""

from __future__ import annotations

import pytest

from pgguard.errors import SettingsError
from pgguard.settings.upstream import (
    is_postgres_url,
    mask_url,
    parse_url,
)


def test_a_url_is_taken_apart_and_decoded() -> None:
    address = parse_url("postgresql://a%40b:p%3Aw@db.example:6000/my%20db?x=1&x=2&y=", {})
    assert (address.host, address.port) == ("db.example", 6000)
    assert (address.user, address.password, address.database) == ("a@b", "p:w", "my db")
    assert address.query == {"x": "2", "y": ""}


@pytest.mark.parametrize(
    "scheme",
    ["postgres", "postgresql", "postgresql+psycopg", "postgresql+asyncpg", "jdbc:postgresql"],
)
def test_every_scheme_of_postgres_is_read(scheme: str) -> None:
    assert parse_url(f"{scheme}://u@h/d", {}).scheme == scheme
    assert is_postgres_url(f"{scheme}://u@h/d")


@pytest.mark.parametrize("text", ["mysql://h/d", "host=h dbname=d", "", "http://h", "postgres:h"])
def test_what_is_no_postgres_url_is_an_error_that_does_not_show_it(text: str) -> None:
    assert not is_postgres_url(text)
    with pytest.raises(SettingsError) as caught:
        parse_url(text or "x", {})
    assert "not a Postgres URL" in str(caught.value)
    assert text == "" or text not in str(caught.value)


def test_what_a_url_leaves_out_comes_from_the_environment_as_in_libpq() -> None:
    env = {"PGHOST": "h", "PGPORT": "77", "PGUSER": "u", "PGPASSWORD": "p", "PGDATABASE": "d"}
    address = parse_url("postgresql://", env)
    assert (address.host, address.port) == ("h", 77)
    assert (address.user, address.password, address.database) == ("u", "p", "d")


def test_a_url_goes_before_the_environment() -> None:
    env = {"PGHOST": "h", "PGPORT": "77", "PGUSER": "u", "PGPASSWORD": "p", "PGDATABASE": "d"}
    address = parse_url("postgresql://me:mine@there:1/base", env)
    assert (address.host, address.port) == ("there", 1)
    assert (address.user, address.password, address.database) == ("me", "mine", "base")


def test_the_defaults_are_those_of_the_manual() -> None:
    address = parse_url("postgresql://bob@", {})
    assert (address.host, address.port) == ("localhost", 5432)
    assert (address.database, address.password) == ("bob", None)


def test_jdbc_has_its_user_and_password_in_the_query() -> None:
    address = parse_url("jdbc:postgresql://h:1/d?user=u&password=p", {})
    assert (address.user, address.password) == ("u", "p")


def test_an_ipv6_host_stands_in_brackets() -> None:
    address = parse_url("postgresql://u@[::1]:77/d", {})
    assert (address.host, address.port) == ("::1", 77)
    assert address.url == "postgresql://u@[::1]:77/d"


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("postgresql://u@/d?host=/run/postgresql", "/run/postgresql", 5432),
        ("postgresql://u@/d?host=%2Fvar%2Frun%2F&port=77", "/var/run", 77),
        ("postgresql://u@%2Fvar%2Frun/d", "/var/run", 5432),
        ("postgresql://u@%2Fvar%2Frun:77/d", "/var/run", 77),
        ("postgresql://u@/d?host=@abstract", "@abstract", 5432),
        ("postgresql://u@localhost:77/d?host=/var/run", "/var/run", 77),
        ("postgresql://u@localhost:77/d?host=there&port=78", "there", 78),
        ("postgresql://u@/d", "/from/the/environment", 5432),
    ],
)
def test_a_host_that_is_a_directory_means_its_unix_socket(url: str, host: str, port: int) -> None:
    address = parse_url(url, {"PGHOST": "/from/the/environment"})
    assert (address.host, address.port, address.query) == (host, port, {})
    assert parse_url(address.url, {}) == address


def test_the_url_of_a_unix_socket_is_written_in_the_form_that_most_drivers_read() -> None:
    address = parse_url("postgresql://u:p%40@%2Frun%2Fpg:77/d?x=1", {})
    assert address.url == "postgresql://u:p%40@/d?host=/run/pg&port=77&x=1"
    assert address.masked == "postgresql://u:***@/d?host=/run/pg&port=77&x=1"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("postgresql://u:hidden@h:x/d", "port"),
        ("postgresql://u:hidden@h:0/d", "port"),
        ("postgresql://u:hidden@h:65536/d", "port"),
        ("postgresql://u:hidden@[::1/d", "host"),
        ("postgresql://u:hidden@a:1,b:2/d", "port"),
        ("postgresql://u:hidden@a,b/d", "several hosts"),
    ],
)
def test_a_url_that_we_cannot_use_is_an_error_without_the_password(url: str, message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse_url(url, {})
    assert message in str(caught.value)
    assert "hidden" not in str(caught.value)


def test_no_password_is_in_a_repr_or_a_masked_url() -> None:
    url = "postgresql://u:s3cret@h/d?password=s3cret&sslpassword=s3cret&application_name=x"
    assert "s3cret" not in repr(parse_url(url, {}))
    masked = mask_url(url)
    assert "s3cret" not in masked
    assert masked.startswith("postgresql://u:***@h:5432/d?password=***")
    assert masked.endswith("application_name=x")
    assert mask_url("mysql://u:s3cret@h") == "***"


def test_a_url_with_its_password_reads_back() -> None:
    address = parse_url("postgresql://a%40b:p%2Fw@h:6000/my%20db?x=a%26b", {})
    assert parse_url(address.url, {}) == address
