"""tls-server-end-point: the hash of a server's certificate that a SCRAM login is bound to.

The hash function is that of the certificate's signature, SHA-256 for MD5 and SHA-1; a signature
without one (Ed25519) has no such binding. RFC 5929 section 4.1; X.690 for DER, RFC 5280 section
4.1 for Certificate, RFC 4055 section 3.1 for RSASSA-PSS. Laws: no more is read than the way to the
name of the algorithm; whatever is not DER gives no binding, and nothing raises.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

_SEQUENCE, _OID, _HASH_OF_PSS = 0x30, 0x06, 0xA0

_PSS = "2a864886f70d01010a"
_SIGNATURES = {
    "2a864886f70d010104": "sha256",  # md5WithRSAEncryption
    "2a864886f70d010105": "sha256",  # sha1WithRSAEncryption
    "2a864886f70d01010b": "sha256",
    "2a864886f70d01010c": "sha384",
    "2a864886f70d01010d": "sha512",
    "2a864886f70d01010e": "sha224",
    "2a8648ce380403": "sha256",  # dsa-with-sha1
    "608648016503040301": "sha224",
    "608648016503040302": "sha256",
    "2a8648ce3d0401": "sha256",  # ecdsa-with-SHA1
    "2a8648ce3d040301": "sha224",
    "2a8648ce3d040302": "sha256",
    "2a8648ce3d040303": "sha384",
    "2a8648ce3d040304": "sha512",
}
"""Object identifier of a signature's algorithm, its DER in hexadecimal → hash function."""
_HASHES = {
    "2b0e03021a": "sha256",  # SHA-1
    "608648016503040201": "sha256",
    "608648016503040202": "sha384",
    "608648016503040203": "sha512",
    "608648016503040204": "sha224",
}


@lru_cache(maxsize=16)
def end_point(certificate: bytes) -> bytes:
    """What a login is bound to; `certificate` is DER. Empty where there is no such binding."""
    name = hash_name(certificate)
    return hashlib.new(name, certificate).digest() if name else b""


def hash_name(certificate: bytes) -> str:
    """The hash function for a certificate; empty if its signature has none, or it is no DER."""
    try:
        kind, whole, rest = _read(certificate)
        if kind != _SEQUENCE or rest:
            return ""
        _, _, after_tbs = _read(whole)
        kind, algorithm, _ = _read(after_tbs)
        if kind != _SEQUENCE:
            return ""
        kind, identifier, parameters = _read(algorithm)
        if kind != _OID:
            return ""
        if identifier.hex() == _PSS:
            return _hash_of_pss(parameters)
        return _SIGNATURES.get(identifier.hex(), "")
    except IndexError:
        return ""


def _hash_of_pss(parameters: bytes) -> str:
    """RSASSA-PSS-params name their hash function first; without one it is SHA-1."""
    kind, fields, _ = _read(parameters)
    if kind != _SEQUENCE:
        return ""
    if not fields or fields[0] != _HASH_OF_PSS:
        return "sha256"
    _, tagged, _ = _read(fields)
    _, algorithm, _ = _read(tagged)
    kind, identifier, _ = _read(algorithm)
    return _HASHES.get(identifier.hex(), "") if kind == _OID else ""


def _read(data: bytes) -> tuple[int, bytes, bytes]:
    """(tag, contents, what follows) of one element. Raises IndexError where it is not whole."""
    kind, length, start = data[0], data[1], 2
    if length & 0x80:
        start += length & 0x7F
        if not 2 < start <= 6:
            raise IndexError
        length = int.from_bytes(data[2:start], "big")
    end = start + length
    if end > len(data) or start > len(data):
        raise IndexError
    return kind, data[start:end], data[end:]
