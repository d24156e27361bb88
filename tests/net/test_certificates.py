"""The contexts of both legs: what they demand, and that a bad file is named."""

from __future__ import annotations

import logging
import ssl
from typing import TYPE_CHECKING

import pytest
from guard import settings_for
from tls import files

from pgguard.errors import SettingsError
from pgguard.net.certificates import Certificates, encryption, entrance, why
from pgguard.settings.encryption import Demand
from pgguard.settings.schema import Listen

if TYPE_CHECKING:
    from pathlib import Path

URL = "postgresql://u@h/d"


def test_without_a_certificate_there_is_no_tls() -> None:
    assert entrance(Listen()).context is None
    with pytest.raises(SettingsError, match=r"listen\.tls: .*needs a certificate"):
        entrance(Listen(tls="require"))


def test_disable_wins_over_a_certificate(tmp_path: Path) -> None:
    pem = files(tmp_path)
    assert entrance(Listen(tls="disable", cert=pem.cert, key=pem.key)).context is None


def test_a_certificate_alone_allows_tls_of_1_2_and_newer(tmp_path: Path) -> None:
    pem = files(tmp_path)
    made = entrance(Listen(cert=pem.cert, key=pem.key))
    assert made.context is not None
    assert not made.required
    assert made.context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert made.context.verify_mode == ssl.CERT_NONE
    assert entrance(Listen(tls="require", cert=pem.cert, key=pem.key)).required


def test_an_authority_for_clients_has_their_certificates_asked_for(tmp_path: Path) -> None:
    pem = files(tmp_path)
    made = entrance(Listen(cert=pem.cert, key=pem.key, client_ca=pem.ca))
    assert made.context is not None
    assert made.context.verify_mode == ssl.CERT_OPTIONAL


def test_a_file_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    pem, other = files(tmp_path / "one"), files(tmp_path / "two")
    junk, absent = tmp_path / "junk.pem", tmp_path / "absent.pem"
    junk.write_text("nothing of use")
    wrong = {
        (junk, pem.key, None): r"listen\.cert: .*junk\.pem",
        (absent, pem.key, None): r"listen\.cert: .*absent\.pem: No such file",
        (pem.cert, absent, None): r"listen\.key: .*absent\.pem: No such file",
        (pem.cert, junk, None): r"junk\.pem",
        (pem.cert, None, None): r"listen\.cert: .*cert\.pem.*set listen\.key",
        (pem.cert, other.key, None): r"listen\.key: .*two/key\.pem: the key does not belong to",
        (pem.cert, pem.key, junk): r"listen\.client_ca: .*junk\.pem",
    }
    for (cert, key, ca), said in wrong.items():
        with pytest.raises(SettingsError, match=said):
            entrance(Listen(cert=cert, key=key, client_ca=ca))
    with pytest.raises(SettingsError, match=r"upstream\.ca: .*absent\.pem: No such file"):
        encryption(Demand("verify-full", ca=absent))
    with pytest.raises(SettingsError, match=r"upstream\.cert: .*junk\.pem"):
        encryption(Demand("require", cert=junk))


def test_a_key_with_a_password_asks_nobody_for_it(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization as form

    pem = files(tmp_path)
    key = form.load_pem_private_key(pem.key.read_bytes(), None)
    locked = form.BestAvailableEncryption(b"secret")
    pem.key.write_bytes(key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, locked))
    with pytest.raises(SettingsError, match=r"key\.pem"):
        entrance(Listen(cert=pem.cert, key=pem.key))
    assert encryption(Demand("require", cert=pem.cert, key=pem.key, password="secret"))


@pytest.mark.parametrize(
    ("mode", "ca", "verifies", "names"),
    [
        ("prefer", False, False, False),
        ("prefer", True, False, False),
        ("require", False, False, False),
        ("require", True, True, False),
        ("verify-ca", True, True, False),
        ("verify-full", True, True, True),
        ("verify-full", False, True, True),
    ],
)
def test_each_mode_verifies_what_it_says(
    mode: str, ca: bool, verifies: bool, names: bool, tmp_path: Path
) -> None:
    made = encryption(Demand(mode, ca=files(tmp_path).ca if ca else None))
    assert made is not None
    assert made.context.verify_mode == (ssl.CERT_REQUIRED if verifies else ssl.CERT_NONE)
    assert made.context.check_hostname == names


def test_disable_is_no_tls_to_the_server() -> None:
    assert encryption(Demand("disable")) is None


def test_files_are_read_again_and_a_broken_one_leaves_the_old_in_use(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pem = files(tmp_path)
    settings = settings_for(
        URL,
        listen__cert=str(pem.cert),
        listen__key=str(pem.key),
        upstream__tls="verify-full",
        upstream__ca=str(pem.ca),
    )
    both = Certificates(settings, {}, {})
    assert (both.offered, both.mode) == (True, "verify-full")
    assert both.encryption is not None
    first, towards = both.entrance.context, both.encryption.context
    both.renew(settings)
    second, renewed = both.entrance.context, both.encryption.context
    assert second is not first
    assert renewed is not towards
    pem.key.write_text("broken")
    pem.ca.write_text("broken")
    with caplog.at_level(logging.ERROR):
        both.renew(settings)
    assert both.entrance.context is second
    assert both.encryption.context is renewed
    assert "key.pem" in caplog.text
    assert "the certificate in use stays" in caplog.text
    assert "ca.pem" in caplog.text


def test_a_reload_may_turn_tls_on_and_off(tmp_path: Path) -> None:
    pem = files(tmp_path)
    plain = settings_for(URL)
    both = Certificates(plain, {}, {})
    assert not both.offered
    entering = both.entrance
    both.renew(settings_for(URL, listen__cert=str(pem.cert), listen__key=str(pem.key)))
    assert entering.context is not None
    both.renew(plain)
    assert entering.context is None


def test_the_cause_is_said_in_words() -> None:
    assert why(ssl.SSLError(1, "no use (_ssl.c:1)")) == "no use"
    with pytest.raises(ssl.SSLError) as caught:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=b"junk")
    assert "_ssl" not in why(caught.value)
