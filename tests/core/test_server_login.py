"""Our own login at Postgres."""

from __future__ import annotations

import pytest

from pgguard.core.login import Method
from pgguard.core.secrets import Secret
from pgguard.core.server_login import Binding, ServerLogin, probe_method, unavailable
from pgguard.errors import ProtocolViolation, ServerUnavailable
from pgguard.wire import backend, codes, frontend
from pgguard.wire.auth import (
    ScramServer,
    Verifier,
    _keys,
    _salt,
    md5_response,
    md5_secret,
)

VERIFIER = Verifier.derive("secret", b"salt of sixteen.", 1)
MD5 = md5_secret("app", "secret")
NONCE = b"eighteen bytes....."
CERTIFICATE = b"hash of its certificate"


def body(message: bytes) -> bytes:
    return message[5:]


def logged_in(login: ServerLogin, *more: bytes) -> None:
    for message in (backend.authentication_ok(), *more, backend.ready_for_query(b"I")):
        assert login.receive(message[0], body(message)) is None


def test_a_login_by_trust_keeps_the_greeting_word_for_word() -> None:
    login = ServerLogin("app", None)
    told = backend.parameter_status("server_version", "16.1")
    notice = backend.notice_response(sqlstate="01000", message="hello")
    unknown = backend.message(0x7E, b"?")
    logged_in(login, told, backend.backend_key_data(7, b"abcd"), notice, unknown)
    assert (login.done, login.method) == (True, Method.TRUST)
    assert (login.pid, login.secret_key, login.status) == (7, b"abcd", "I")
    assert login.greeting == [told, notice, unknown]
    assert login.parameters == {"server_version": "16.1"}


@pytest.mark.parametrize("text", ["secret", MD5])
def test_md5_is_answered_from_a_password_or_a_hash(text: str) -> None:
    login = ServerLogin("app", Secret(text))
    challenge = backend.authentication_md5(b"salt")
    answer = login.receive(challenge[0], body(challenge))
    assert answer == frontend.password(md5_response(MD5, b"salt").encode())
    logged_in(login)
    assert login.method is Method.MD5


def test_a_password_in_clear_is_given_only_if_we_have_it() -> None:
    request = backend.authentication_cleartext()
    login = ServerLogin("app", Secret("secret"))
    assert login.receive(request[0], body(request)) == frontend.password(b"secret")
    with pytest.raises(ServerUnavailable, match="password authentication failed"):
        ServerLogin("app", Secret(MD5)).receive(request[0], body(request))


def scram_with_postgres(login: ServerLogin, *, lies: bool = False, plus: bool = True) -> bytes:
    """All of it; returns the mechanism that was chosen."""
    offered = [b"SCRAM-SHA-256-PLUS", b"SCRAM-SHA-256"] if plus else [b"SCRAM-SHA-256"]
    offer = backend.authentication_sasl(offered)
    first = login.receive(offer[0], body(offer))
    assert first is not None
    mechanism, initial = frontend.decode_sasl_initial(body(first))
    chosen = mechanism == b"SCRAM-SHA-256-PLUS"
    server = ScramServer(
        VERIFIER, nonce=NONCE, binding=CERTIFICATE if plus and chosen else b"", plus=chosen
    )
    more = backend.authentication_sasl_continue(server.first(initial or b""))
    final = login.receive(more[0], body(more))
    assert final is not None
    proof = server.final(body(final))
    last = backend.authentication_sasl_final(b"v=" + b"A" * 43 + b"=" if lies else proof)
    assert login.receive(last[0], body(last)) is None
    return mechanism


def test_scram_is_answered_from_a_password() -> None:
    login = ServerLogin("app", Secret("secret"))
    scram_with_postgres(login)
    logged_in(login)
    assert login.method is Method.SCRAM


def test_scram_is_answered_from_a_verifier_once_a_client_has_proved_itself() -> None:
    offer = backend.authentication_sasl([b"SCRAM-SHA-256"])
    with pytest.raises(ServerUnavailable, match="password authentication failed"):
        ServerLogin("app", Secret(str(VERIFIER))).receive(offer[0], body(offer))
    key = _keys(_salt(b"secret", VERIFIER.salt, 1))[0]
    login = ServerLogin("app", Secret(str(VERIFIER)).proved(key))
    scram_with_postgres(login)
    logged_in(login)


def test_a_server_that_does_not_know_us_is_not_believed() -> None:
    with pytest.raises(ProtocolViolation, match="incorrect server signature"):
        scram_with_postgres(ServerLogin("app", Secret("secret")), lies=True)
    login = ServerLogin("app", Secret("secret"))
    offer, ok = backend.authentication_sasl([b"SCRAM-SHA-256"]), backend.authentication_ok()
    login.receive(offer[0], body(offer))
    with pytest.raises(ProtocolViolation, match="did not prove"):
        login.receive(ok[0], body(ok))


def test_a_server_that_offers_only_what_we_do_not_speak_is_unavailable() -> None:
    login = ServerLogin("app", Secret("secret"))
    offer = backend.authentication_sasl([b"OAUTHBEARER"])
    with pytest.raises(ServerUnavailable, match="no login method") as caught:
        login.receive(offer[0], body(offer))
    assert not caught.value.temporary


@pytest.mark.parametrize(
    "early",
    [
        backend.ready_for_query(b"I"),
        backend.backend_key_data(1, b"abcd"),
        backend.parameter_status("a", "b"),
        backend.message(codes.DATA_ROW, b"\0\0"),
    ],
)
def test_nothing_is_taken_from_a_server_before_it_has_let_us_in(early: bytes) -> None:
    with pytest.raises(ProtocolViolation, match="before AuthenticationOk"):
        ServerLogin("app", None).receive(early[0], body(early))


@pytest.mark.parametrize("kind", b"DCTGHW12tA")
def test_an_answer_to_nothing_is_not_told_to_the_client(kind: int) -> None:
    login = ServerLogin("app", None)
    for said in (backend.authentication_ok(), backend.parameter_status("a", "b")):
        login.receive(said[0], body(said))
    with pytest.raises(ProtocolViolation, match="during login"):
        login.receive(kind, b"\0\0")
    assert login.greeting == [backend.parameter_status("a", "b")]


def test_a_second_authentication_is_not_told_to_the_client() -> None:
    login = ServerLogin("app", None)
    ok = backend.authentication_ok()
    login.receive(ok[0], body(ok))
    with pytest.raises(ProtocolViolation):
        login.receive(ok[0], body(ok))


@pytest.mark.parametrize(
    ("sqlstate", "temporary"),
    [("57P03", True), ("53300", True), ("57P01", True), ("28P01", False), ("3D000", False)],
)
def test_an_error_of_postgres_is_kept_whole_and_judged_by_its_code(
    sqlstate: str, temporary: bool
) -> None:
    error = backend.error_response(severity="FATAL", sqlstate=sqlstate, message="no", hint="h")
    with pytest.raises(ServerUnavailable) as caught:
        ServerLogin("app", None).receive(error[0], body(error))
    assert caught.value.fields == {"S": "FATAL", "V": "FATAL", "C": sqlstate, "M": "no", "H": "h"}
    assert caught.value.temporary is temporary
    assert unavailable({}).message == "unknown error"


@pytest.mark.parametrize(
    ("message", "method"),
    [
        (backend.authentication_ok(), Method.TRUST),
        (backend.authentication_md5(b"salt"), Method.MD5),
        (backend.authentication_sasl([b"SCRAM-SHA-256"]), Method.SCRAM),
        (backend.authentication_cleartext(), Method.CLEARTEXT),
        (backend.message(codes.AUTHENTICATION, b"\0\0\0\x07"), Method.OTHER),
    ],
)
def test_the_first_answer_of_postgres_shows_the_method(message: bytes, method: Method) -> None:
    assert probe_method(message[0], body(message)) is method


def test_a_first_answer_that_shows_no_method() -> None:
    with pytest.raises(ProtocolViolation):
        probe_method(codes.READY_FOR_QUERY, b"I")
    with pytest.raises(ProtocolViolation):
        probe_method(codes.AUTHENTICATION, b"\0")
    error = backend.error_response(severity="FATAL", sqlstate="28000", message="no entry")
    with pytest.raises(ServerUnavailable, match="no entry"):
        probe_method(error[0], body(error))


# Bound to TLS


@pytest.mark.parametrize(
    ("binding", "plus", "mechanism"),
    [
        (Binding(CERTIFICATE), True, b"SCRAM-SHA-256-PLUS"),
        (Binding(CERTIFICATE, "require"), True, b"SCRAM-SHA-256-PLUS"),
        (Binding(CERTIFICATE, "disable"), True, b"SCRAM-SHA-256"),
        (Binding(CERTIFICATE), False, b"SCRAM-SHA-256"),
        (Binding(), True, b"SCRAM-SHA-256"),
    ],
)
def test_a_login_is_bound_to_the_servers_certificate_where_both_can(
    binding: Binding, plus: bool, mechanism: bytes
) -> None:
    login = ServerLogin("app", Secret("secret"), binding=binding)
    assert scram_with_postgres(login, plus=plus) == mechanism
    logged_in(login)
    assert login.done


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (backend.authentication_ok(), "authenticated client without channel binding"),
        (backend.authentication_cleartext(), "not supported by server's authentication request"),
        (backend.authentication_md5(b"salt"), "not supported by server's authentication request"),
        (backend.authentication_sasl([b"SCRAM-SHA-256"]), "did not offer"),
    ],
)
def test_channel_binding_that_is_required_is_never_given_up(said: bytes, words: str) -> None:
    login = ServerLogin("app", Secret("secret"), binding=Binding(CERTIFICATE, "require"))
    with pytest.raises(ServerUnavailable, match=words) as caught:
        login.receive(said[0], body(said))
    assert not caught.value.temporary


def test_a_server_that_takes_plus_out_of_its_offer_is_found_out_by_the_server() -> None:
    login = ServerLogin("app", Secret("secret"), binding=Binding(CERTIFICATE))
    offer = backend.authentication_sasl([b"SCRAM-SHA-256"])
    first = login.receive(offer[0], body(offer))
    assert first is not None
    assert frontend.decode_sasl_initial(body(first))[1].startswith(b"y,,")


# Servers that lie


@pytest.mark.parametrize(
    ("first", "words"),
    [
        (b"r=not ours,s=c2FsdA==,i=4096", "nonce mismatch"),
        (b"r=%b,s=c2FsdA==,i=4096", "nonce mismatch"),
        (b"r=%bmore,s=c2FsdA==,i=999999999", "iteration count"),
        (b"r=%bmore,s=c2FsdA==,i=0", "iteration count"),
        (b"r=%bmore,s=,,,i=1", "attribute expected"),
        (b"r=%bmore,s=*,i=1", "malformed salt"),
        (b"", "empty"),
        (b"r=%b" + b"x" * 5000 + b",s=c2FsdA==,i=1", "too long"),
    ],
)
def test_a_first_message_that_is_not_sound_is_a_lie(first: bytes, words: str) -> None:
    login = ServerLogin("app", Secret("secret"))
    offer = backend.authentication_sasl([b"SCRAM-SHA-256"])
    said = login.receive(offer[0], body(offer))
    assert said is not None
    nonce = said.rpartition(b",r=")[2]
    more = backend.authentication_sasl_continue(first.replace(b"%b", nonce))
    with pytest.raises(ProtocolViolation, match=words) as caught:
        login.receive(more[0], body(more))
    assert caught.value.peer == "server"
    assert "secret" not in str(caught.value)


def test_a_server_that_asks_twice_is_not_told_a_second_secret() -> None:
    login = ServerLogin("app", Secret("secret"))
    offer = backend.authentication_sasl([b"SCRAM-SHA-256"])
    assert login.receive(offer[0], body(offer))
    again = backend.authentication_cleartext()
    with pytest.raises(ProtocolViolation, match="second proof"):
        login.receive(again[0], body(again))
