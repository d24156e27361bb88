"""The TLS contexts of both legs, made from files; what is wrong with a file names it.

Laws: TLS 1.2 is the least; a key that needs a password never asks for it on the terminal; a context
that could not be made changes nothing that is in use.
"""

from __future__ import annotations

import logging
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pgguard.errors import SettingsError
from pgguard.settings.encryption import demanded
from pgguard.wire.binding import end_point

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pgguard.settings.encryption import Demand
    from pgguard.settings.schema import Listen, Settings

log = logging.getLogger("pgguard.net")

ALPN = "postgresql"


@dataclass(slots=True)
class Entrance:
    """TLS to clients: `context` is None where there is none. Replaced in place on a reload.

    `end_point` is what logins over `context` are bound to: its certificate's.
    """

    context: ssl.SSLContext | None = None
    required: bool = False
    end_point: bytes = b""

    def renew(self, new: Entrance) -> None:
        self.context, self.required, self.end_point = new.context, new.required, new.end_point


@dataclass(slots=True)
class Encryption:
    """TLS to the server. `declined` says that the server has answered `N` where that is enough;
    `binding` is `channel_binding`, `shows` whether we show a certificate of our own."""

    mode: str
    context: ssl.SSLContext
    direct: bool = False
    declined: bool = False
    binding: str = "prefer"
    shows: bool = False


class Certificates:
    """Both legs of a guard. Raises SettingsError that names the file which cannot be used."""

    def __init__(
        self, settings: Settings, query: Mapping[str, str], env: Mapping[str, str]
    ) -> None:
        self.entrance = entrance(settings.listen)
        self._demand = demanded(settings.upstream, query, env)
        self.encryption = encryption(self._demand)

    @property
    def offered(self) -> bool:
        """Whether clients may use TLS."""
        return self.entrance.context is not None

    @property
    def mode(self) -> str:
        """That of the way to the server: `prefer`, `verify-full` …"""
        return self._demand.mode

    def renew(self, settings: Settings) -> None:
        """Read the files again, for connections to come; where one is broken the old ones stay.

        The keys `upstream.*` themselves stay, too: they take a restart.
        """
        try:
            self.entrance.renew(entrance(settings.listen))
        except SettingsError as error:
            log.error("%s; the certificate in use stays", error)
        try:
            renewed = encryption(self._demand)
            if self.encryption is not None and renewed is not None:
                self.encryption.context = renewed.context
        except SettingsError as error:
            log.error("%s; those in use towards Postgres stay", error)


def entrance(listen: Listen) -> Entrance:
    """TLS to clients as the settings say. Raises SettingsError."""
    mode, cert, client_ca = listen.tls, listen.cert, listen.client_ca
    if mode == "disable" or (cert is None and mode == "allow"):
        return Entrance()
    if cert is None:
        raise SettingsError(
            "listen.tls = require needs a certificate", where="listen.tls", hint="set listen.cert"
        )
    context = _context(ssl.PROTOCOL_TLS_SERVER)
    # As Postgres: a session that comes back begins anew.
    context.options |= ssl.OP_NO_TICKET
    context.num_tickets = 0
    certificate = _first_certificate(cert)
    _load_chain(context, "listen", cert, listen.key, "")
    if certificate != _first_certificate(cert):
        # Half of the one and half of the other would be bound to nothing that anybody sees.
        raise SettingsError(f"{cert} was changed while it was read", where="listen.cert")
    if client_ca is not None:
        _load_authorities(context, "listen.client_ca", client_ca)
        # As Postgres: who shows none is told so in words, once it has said who it is.
        context.verify_mode = ssl.CERT_OPTIONAL
    return Entrance(context, mode == "require", end_point(certificate))


def encryption(demand: Demand) -> Encryption | None:
    """TLS to the server; None for `disable`. Raises SettingsError.

    As with libpq, `require` with a CA verifies it. Without a CA the system's count.
    """
    mode, ca = demand.mode, demand.ca
    if mode == "disable":
        return None
    context = _context(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if mode.startswith("verify") or (ca is not None and mode == "require"):
        context.verify_mode = ssl.CERT_REQUIRED
        if ca is None:
            context.load_default_certs()
        else:
            _load_authorities(context, "upstream.ca", ca)
        context.check_hostname = mode == "verify-full"
    if demand.cert is not None:
        _load_chain(context, "upstream", demand.cert, demand.key, demand.password)
    return Encryption(
        mode,
        context,
        demand.direct,
        binding=demand.binding,
        shows=demand.cert is not None,
    )


def why(error: ssl.SSLError) -> str:
    """The cause in words: `certificate verify failed: certificate has expired`."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate verify failed: {error.verify_message}"
    reason = getattr(error, "reason", None)
    if reason:
        return str(reason).replace("_", " ").lower()
    return (error.strerror or "failed").partition(" (_ssl")[0]


def _context(protocol: int) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols([ALPN])
    return context


def _load_chain(
    context: ssl.SSLContext, section: str, cert: Path, key: Path | None, password: str
) -> None:
    _check(cert, f"{section}.cert")
    if key is not None:
        _check(key, f"{section}.key")
    try:
        context.load_cert_chain(cert, key, lambda: password)
    except ssl.SSLError as error:
        if getattr(error, "reason", None) == "KEY_VALUES_MISMATCH":
            text = f"{key or cert}: the key does not belong to the certificate {cert}"
            raise SettingsError(text, where=f"{section}.key") from error
        files = f"{cert} and {key}" if key is not None else f"{cert}"
        raise SettingsError(
            f"{files}: no certificate and key in PEM format that can be read ({why(error)})",
            where=f"{section}.cert",
            hint="" if key is not None else f"the key is looked for in {cert}; set {section}.key",
        ) from error


def _first_certificate(file: Path) -> bytes:
    """The certificate that is shown, as DER; empty where there is none to be read."""
    _check(file, "listen.cert")
    _, begin, rest = file.read_text("latin-1").partition(ssl.PEM_HEADER)
    try:
        return ssl.PEM_cert_to_DER_cert(begin + rest.partition(ssl.PEM_FOOTER)[0] + ssl.PEM_FOOTER)
    except ValueError:
        return b""


def _load_authorities(context: ssl.SSLContext, setting: str, ca: Path) -> None:
    _check(ca, setting)
    try:
        context.load_verify_locations(ca)
    except ssl.SSLError as error:
        text = f"{ca}: no certificates in PEM format that can be read ({why(error)})"
        raise SettingsError(text, where=setting) from error


def _check(file: Path, setting: str) -> None:
    """OpenSSL's own error does not say which file it could not open."""
    try:
        file.open("rb").close()
    except OSError as error:
        raise SettingsError(f"{file}: {error.strerror}", where=setting) from error
