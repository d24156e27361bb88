"""How values are written: durations, sizes, addresses, and back to text.

Laws: no pydantic, no I/O; every reader takes whatever TOML, JSON or a flag gave and raises
ValueError in words that can stand behind a key ("should be …"); `show_x(read_x(text))` reads back
to the same.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_SIZE = re.compile(r"(\d+)\s*(B|kB|KB|KiB|MB|MiB|GB|GiB)")
_BYTES = {
    "B": 1,
    "kB": 1000,
    "KB": 1000,
    "KiB": 1024,
    "MB": 1000**2,
    "MiB": 1024**2,
    "GB": 1000**3,
    "GiB": 1024**3,
}
_MAXIMAL_PORT = 65535


class Address(NamedTuple):
    """Where to listen or to connect; port 0 = any free one.

    As with libpq a host that is a directory means the unix socket of that port in it.
    """

    host: str
    port: int

    def __str__(self) -> str:
        if is_directory(self.host):
            return socket_path(self.host, self.port)
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def is_directory(host: str) -> bool:
    """Whether a host is a directory of unix sockets: a path, or `@` and an abstract name."""
    return host.startswith(("/", "@"))


def socket_path(directory: str, port: int) -> str:
    """Where the socket of a port is, as for every Postgres."""
    return f"{directory}/.s.PGSQL.{port}"


def read_duration(value: object, *, bare: bool = False) -> float:
    """Seconds of `"20s"`, `"500ms"`, `"1.5m"` or `"1h"`.

    `bare` also takes plain numbers as seconds: as in `pool_timeout=20` of a database URL.
    """
    text = str(value).strip() if isinstance(value, str | int | float) else ""
    if match := _DURATION.fullmatch(text):
        return round(float(match[1]) * _SECONDS[match[2]], 6)
    if re.fullmatch(r"\d+(\.\d+)?", text):
        if bare:
            return float(text)
        raise ValueError(f'should have a unit, such as "{text}s", "{text}ms" or "{text}m"')
    raise ValueError('should be a duration such as "20s", "500ms" or "1m"')


def show_duration(seconds: float) -> str:
    """The shortest text that `read_duration` takes back."""
    if seconds > 3600 and seconds % 3600 == 0:
        return f"{seconds / 3600:g}h"
    if seconds > 60 and seconds % 60 == 0:
        return f"{seconds / 60:g}m"
    if 0 < seconds < 1:
        return f"{round(seconds * 1000, 3):g}ms"
    return f"{seconds:.15g}s"


def read_size(value: object) -> int:
    """Bytes of `"16MiB"`, `"64kB"`; KiB, MiB, GiB are powers of 1024, kB, MB, GB of 1000."""
    text = value.strip() if isinstance(value, str) else ""
    if match := _SIZE.fullmatch(text):
        return int(match[1]) * _BYTES[match[2]]
    raise ValueError('should be a size with its unit such as "16MiB" or "64kB"')


def show_size(size: int) -> str:
    """The shortest text that `read_size` takes back."""
    for unit in ("GiB", "MiB", "KiB"):
        if size >= _BYTES[unit] and size % _BYTES[unit] == 0:
            return f"{size // _BYTES[unit]}{unit}"
    return f"{size}B"


def read_address(value: object) -> Address:
    """`"127.0.0.1:6433"`, `"[::1]:6433"`, `"localhost:0"` → host and port."""
    if isinstance(value, Address):
        return value
    text = value.strip() if isinstance(value, str) else ""
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError('should have brackets around an IPv6 address such as "[::1]:6433"')
    if not (colon and host and re.fullmatch(r"\d{1,5}", port)):
        raise ValueError('should be HOST:PORT such as "127.0.0.1:6433"')
    if int(port) > _MAXIMAL_PORT:
        raise ValueError(f"should have a port from 0 to {_MAXIMAL_PORT}")
    return Address(host, int(port))


def read_directory(value: str) -> str:
    """A directory for unix sockets, without a slash at its end."""
    if not is_directory(value) or len(value) < 2:
        raise ValueError('should be a whole path such as "/run/pgguard", or "@name"')
    return value.rstrip("/")


def read_off(value: object) -> object:
    """`"off"` and false are None; anything else is left to the reader behind."""
    return None if value == "off" or value is False else value


def read_auto(value: object) -> object:
    """`"auto"` is None; anything else is left to the reader behind."""
    return None if value == "auto" else value
