"""`pgguard healthcheck`: exit 0 when the guard answers `/readyz` with 200.

Laws: standard library sockets and no pydantic: a container runs this every second; the whole
question takes `--timeout` at most.
"""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import click

from pgguard.cli.options import config_option
from pgguard.errors import SettingsError
from pgguard.settings.sources import find_file, read_file, variables
from pgguard.settings.values import Address, read_address, read_duration

DEFAULT = Address("127.0.0.1", 6434)
_WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1", "*": "127.0.0.1"}  # noqa: S104
_ANSWER_LIMIT = 64 * 1024


@click.command("healthcheck")
@config_option
@click.option("--http", metavar="HOST:PORT", help="The guard's HTTP address.")
@click.option(
    "--timeout",
    metavar="DURATION",
    default="2s",
    show_default=True,
    help="How long the answer may take.",
)
def command(config: Path | None, http: str | None, timeout: str) -> int:
    """Exit 0 when the guard and its upstream answer, else 1."""
    try:
        seconds = read_duration(timeout)
    except ValueError as error:
        raise SettingsError(str(error), where="--timeout") from None
    address = http_address(config, http)
    try:
        status, body = ask(address, seconds)
    except (OSError, ValueError) as error:
        why = (error.strerror if isinstance(error, OSError) else None) or error
        click.echo(
            f"pgguard: no answer from http://{address}/readyz: {why} (is `pgguard serve` running,"
            " or on another --http?)",
            err=True,
        )
        return 1
    click.echo(" ".join(body.split()) or f"HTTP {status}", err=status != 200)
    return 0 if status == 200 else 1


def http_address(config: Path | None, flag: str | None) -> Address:
    """The address to ask: flag, environment, file, default. Raises SettingsError."""
    value: object = flag
    where = "--http"
    if value is None:
        for variable, key, text in variables(os.environ):
            if key == "http.address":
                value, where = text, variable
    if value is None:
        cwd = Path.cwd()
        file = read_file(cwd / config, cwd) if config else find_file(cwd)
        section = file.table.get("http") if file else None
        if file and isinstance(section, dict) and "address" in section:
            value, where = section["address"], file.where(("http", "address"), cwd)
    try:
        address = DEFAULT if value is None else read_address(value)
    except ValueError as error:
        raise SettingsError(f"http.address {error}", where=where) from None
    if address.port == 0:
        raise SettingsError(
            "http.address has port 0, which is any free one", where=where, hint="--http HOST:PORT"
        )
    return Address(_WILDCARDS.get(address.host, address.host), address.port)


def ask(address: Address, seconds: float) -> tuple[int, str]:
    """Status and body of `GET /readyz`. Raises OSError, or ValueError for what is no HTTP."""
    deadline = time.monotonic() + seconds
    answer = b""
    with socket.create_connection(address, seconds) as connection:
        connection.sendall(f"GET /readyz HTTP/1.1\r\nHost: {address}\r\n".encode())
        connection.sendall(b"Connection: close\r\n\r\n")
        while len(answer) < _ANSWER_LIMIT:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"timed out after {seconds:g} s")
            connection.settimeout(left)
            chunk = connection.recv(4096)
            if not chunk:
                break
            answer += chunk
    head, _, body = answer.partition(b"\r\n\r\n")
    words = head.split(None, 2)
    if len(words) < 2 or not words[0].startswith(b"HTTP/") or not words[1].isdigit():
        raise ValueError("the answer is no HTTP")
    return int(words[1]), body.decode("utf-8", "replace")
