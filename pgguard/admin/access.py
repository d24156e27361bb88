"""Who may ask over HTTP: reading is free on loopback only, changing takes the token.

Laws: without a token nothing can be changed over HTTP; a token is compared in constant time; a
request that comes over loopback must also have meant loopback: its Host names a loopback address,
`localhost` or the address that we listen on. Otherwise a web page could point a name of its own at
127.0.0.1 and read our pages with the user's browser (DNS rebinding).
"""

from __future__ import annotations

import hmac
import ipaddress
from typing import TYPE_CHECKING

from pgguard.admin.request import Answer, text

if TYPE_CHECKING:
    from pgguard.admin.request import Request

OFF = (
    "Changing something over HTTP is off, because no token is set. "
    "To reload the settings send SIGHUP to pgguard: kill -HUP {pid}"
)


class Access:
    """`bound` is the address that we listen on, `token` the secret of `http.token` or empty."""

    __slots__ = ("_bound", "_pid", "_token")

    def __init__(self, *, bound: str, token: str, pid: int) -> None:
        self._bound = bound.lower()
        self._token = token.encode()
        self._pid = pid

    def may_read(self, request: Request, peer: str) -> Answer | None:
        """None, or the answer that says why not."""
        if self._has_token(request):
            return None
        if not is_loopback(peer):
            return text(403, "Over the network pgguard's pages are closed: ask on its own machine.")
        host = request.headers.get("host")
        if host is not None and not self._is_ours(host_name(host)):
            return text(403, "This Host is not pgguard: use 127.0.0.1 or localhost.")
        return None

    def may_change(self, request: Request) -> Answer | None:
        """None, or the answer that says why not."""
        if not self._token:
            return text(403, OFF.format(pid=self._pid))
        if not self._has_token(request):
            return text(
                401, "Send the token: Authorization: Bearer TOKEN", WWW_Authenticate="Bearer"
            )
        return None

    def _has_token(self, request: Request) -> bool:
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        right = hmac.compare_digest(given.strip().encode("latin-1"), self._token)
        return bool(self._token) and scheme.lower() == "bearer" and right

    def _is_ours(self, name: str) -> bool:
        return (
            name in (self._bound, "localhost") or name.endswith(".localhost") or is_loopback(name)
        )


def host_name(host: str) -> str:
    """The name in a Host header, without port, brackets and final dot, in lower case."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].rstrip(".").lower()


def is_loopback(address: str) -> bool:
    """Whether `address` is a loopback address in digits (names are not looked up)."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return (mapped or ip).is_loopback
