"""`pgguard healthcheck` against a scripted guard."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING

import pytest

from pgguard.cli import run_command
from pgguard.cli.healthcheck import http_address
from pgguard.settings.values import Address

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@contextlib.contextmanager
def guard(answer: bytes, *, hang: bool = False) -> Iterator[str]:
    """A guard that gives one answer; yields its address."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        done = threading.Event()

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                request = b""
                while not request.endswith(b"\r\n\r\n"):
                    request += connection.recv(4096)
                assert request.startswith(b"GET /readyz HTTP/1.1\r\n")
                connection.sendall(answer)
                if hang:
                    done.wait()

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        done.set()
        thread.join()


def test_a_guard_that_is_ready_is_0(capsys: pytest.CaptureFixture[str]) -> None:
    with guard(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nready") as address:
        assert run_command(["healthcheck", "--http", address]) == 0
    assert capsys.readouterr().out == "ready\n"


def test_a_guard_whose_upstream_is_down_is_1_and_says_why(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with guard(b"HTTP/1.1 503 Unavailable\r\n\r\nupstream refused") as address:
        assert run_command(["healthcheck", "--http", address]) == 1
    assert capsys.readouterr().err == "upstream refused\n"


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0-x\r\n", b"HTTP/1.1\r\n\r\n", b"\xff" * 99])
def test_what_is_no_http_is_1(answer: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    with guard(answer) as address:
        assert run_command(["healthcheck", "--http", address]) == 1
    assert "the answer is no HTTP" in capsys.readouterr().err


def test_a_guard_that_hangs_is_1_after_the_timeout(capsys: pytest.CaptureFixture[str]) -> None:
    with guard(b"HTTP/1.1 200 OK\r\n", hang=True) as address:
        assert run_command(["healthcheck", "--http", address, "--timeout", "50ms"]) == 1
    assert "timed out" in capsys.readouterr().err


def test_no_guard_is_1(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
    assert run_command(["healthcheck", "--http", address]) == 1
    assert capsys.readouterr().err == (
        f"pgguard: no answer from http://{address}/readyz: Connection refused (is `pgguard serve`"
        " running, or on another --http?)\n"
    )


def test_the_address_comes_from_flag_environment_file_or_default(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert http_address(None, None) == Address("127.0.0.1", 6434)
    (folder / "pgguard.toml").write_text('http.address = "0.0.0.0:7000"')
    assert http_address(None, None) == Address("127.0.0.1", 7000)
    monkeypatch.setenv("PGGUARD_HTTP__ADDRESS", "[::]:7001")
    assert http_address(None, None) == Address("::1", 7001)
    assert http_address(None, "guard:7002") == Address("guard", 7002)


@pytest.mark.parametrize(
    ("arguments", "where"),
    [
        (["--http", "nowhere"], "--http"),
        (["--http", "127.0.0.1:0"], "--http"),
        (["--timeout", "5"], "--timeout"),
        (["--config", "bad.toml"], "bad.toml:1"),
    ],
)
def test_a_wrong_setting_is_2_and_names_its_place(
    arguments: list[str], where: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "bad.toml").write_text("http.address = 6434")
    assert run_command(["healthcheck", *arguments]) == 2
    assert capsys.readouterr().err.startswith(f"pgguard: {where}: ")
