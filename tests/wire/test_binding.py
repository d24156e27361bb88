"""The end point that a login is bound to."""

from __future__ import annotations

import hashlib
import ssl
from datetime import UTC, datetime, timedelta

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from pgguard.wire.binding import end_point, hash_name

RSA = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())
NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def certificate(key: object, algorithm: object, pss: bool = False) -> bytes:
    builder = (
        x509.CertificateBuilder()
        .subject_name(NAME)
        .issuer_name(NAME)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW)
        .not_valid_after(NOW + timedelta(days=1))
    )
    options = {}
    if pss:
        options["rsa_padding"] = padding.PSS(padding.MGF1(algorithm), 20)
    made = builder.sign(key, algorithm, **options)
    return made.public_bytes(serialization.Encoding.DER)


@pytest.mark.parametrize("key", [RSA, EC], ids=["rsa", "ecdsa"])
@pytest.mark.parametrize(
    "algorithm", [hashes.SHA224(), hashes.SHA256(), hashes.SHA384(), hashes.SHA512()]
)
def test_the_hash_is_that_of_the_signature(key: object, algorithm: hashes.HashAlgorithm) -> None:
    made = certificate(key, algorithm)
    assert hash_name(made) == algorithm.name
    assert end_point(made) == hashlib.new(algorithm.name, made).digest()


@pytest.mark.parametrize("algorithm", [hashes.SHA256(), hashes.SHA384(), hashes.SHA512()])
def test_the_parameters_of_pss_name_the_hash(algorithm: hashes.HashAlgorithm) -> None:
    assert hash_name(certificate(RSA, algorithm, pss=True)) == algorithm.name


@pytest.mark.parametrize(
    "identifier", ["2a864886f70d010104", "2a864886f70d010105", "2a8648ce3d0401", "2a8648ce380403"]
)
def test_md5_and_sha1_are_replaced_by_sha256(identifier: str) -> None:
    oid = bytes.fromhex(identifier)
    algorithm = b"\x06" + bytes([len(oid)]) + oid
    whole = b"\x30\x00" + b"\x30" + bytes([len(algorithm)]) + algorithm + b"\x03\x01\x00"
    assert hash_name(b"\x30" + bytes([len(whole)]) + whole) == "sha256"


def test_a_signature_without_a_hash_has_no_end_point() -> None:
    made = certificate(ed25519.Ed25519PrivateKey.generate(), None)
    assert (hash_name(made), end_point(made)) == ("", b"")


def test_the_certificates_of_the_tests_have_one() -> None:
    pem = trustme.CA().issue_cert("localhost").cert_chain_pems[0].bytes().decode()
    assert hash_name(ssl.PEM_cert_to_DER_cert(pem)) == "sha256"


@given(st.binary(max_size=80))
def test_whatever_is_no_certificate_gives_no_binding_and_raises_nothing(data: bytes) -> None:
    assert end_point(data) == b"" or hash_name(data)


def test_a_certificate_cut_anywhere_gives_none() -> None:
    made = certificate(EC, hashes.SHA256())
    assert {hash_name(made[:size]) for size in range(len(made))} == {""}
    assert hash_name(made + b"x") == ""
