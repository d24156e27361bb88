"""Both login dialogues: a session's with us, and ours with Postgres."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pgguard.core.login import (
    LOOPBACK_HINT,
    Method,
    Need,
    Secret,
    Secrets,
    ServerLogin,
    probe_method,
    session_login,
    unavailable,
)
from pgguard.errors import LoginRefused, ProtocolViolation, ServerUnavailable
from pgguard.wire import backend, codes, frontend
from pgguard.wire.auth import ScramClient, ScramServer, Verifier, md5_response, md5_secret
from pgguard.wire.scan import Framer

if TYPE_CHECKING:
    from collections.abc import Generator

VERIFIER = Verifier.derive("secret", b"salt of sixteen.", 1)
MD5 = md5_secret("app", "secret")
NONCE = b"eighteen bytes....."


def messages(data: bytes) -> list[tuple[int, bytes]]:
    return Framer(codes.BACKEND_LIMIT, "server").feed(data)


def body(message: bytes) -> bytes:
    return message[5:]


class Dialogue:
    """A session's login, answered step by step."""

    def __init__(self, secrets: Secrets, method: Method, *, trusted: bool = True) -> None:
        self.said = b""
        self.generator: Generator[Need, object, None] = session_login(
            "app", secrets, self._say, trusted=trusted
        )
        assert next(self.generator) is Need.METHOD
        self.over = False
        self.send(method)

    def _say(self, data: bytes) -> None:
        self.said += data

    def send(self, value: object) -> None:
        try:
            assert self.generator.send(value) is Need.MESSAGE
        except StopIteration:
            self.over = True

    def answer(self, message: bytes) -> None:
        self.send((message[0], body(message)))

    def last(self) -> bytes:
        """The data of the newest Authentication message."""
        return messages(self.said)[-1][1][4:]


def scram(dialogue: Dialogue, password: str) -> None:
    client = ScramClient("app", password=password, nonce=NONCE)
    dialogue.answer(frontend.sasl_initial(b"SCRAM-SHA-256", client.first()))
    dialogue.answer(frontend.sasl_response(client.final(dialogue.last())))
    client.verify(dialogue.last())


def test_trust_lets_a_trusted_client_in_without_a_word() -> None:
    dialogue = Dialogue(Secrets({}), Method.TRUST)
    assert dialogue.over
    assert dialogue.said == b""


def test_trust_refuses_who_is_not_trusted_and_has_no_secret() -> None:
    with pytest.raises(LoginRefused) as caught:
        Dialogue(Secrets({}), Method.TRUST, trusted=False)
    assert (caught.value.sqlstate, caught.value.hint) == ("28000", LOOPBACK_HINT)


@pytest.mark.parametrize("text", ["secret", str(VERIFIER)])
@pytest.mark.parametrize(
    ("method", "trusted"), [(Method.CHALLENGE, True), (Method.MD5, True), (Method.TRUST, False)]
)
def test_scram_proves_a_password_against_what_we_hold(
    text: str, method: Method, trusted: bool
) -> None:
    secrets = Secrets({"app": text})
    dialogue = Dialogue(secrets, method, trusted=trusted)
    scram(dialogue, "secret")
    assert dialogue.over
    secret = secrets.get("app")
    assert secret is not None
    assert secret.client_key


@pytest.mark.parametrize("secrets", [Secrets({"app": str(VERIFIER)}), Secrets({})])
def test_a_wrong_password_and_an_unknown_user_get_the_same_dialogue(secrets: Secrets) -> None:
    dialogue = Dialogue(secrets, Method.CHALLENGE)
    client = ScramClient("app", password="guess", nonce=NONCE)
    dialogue.answer(frontend.sasl_initial(b"SCRAM-SHA-256", client.first()))
    with pytest.raises(LoginRefused, match='password authentication failed for user "app"') as got:
        dialogue.answer(frontend.sasl_response(client.final(dialogue.last())))
    assert got.value.sqlstate == "28P01"
    assert [kind for kind, _ in messages(dialogue.said)] == [codes.AUTHENTICATION] * 2


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        (frontend.query(b"select 1"), "expected password response, got message type 81"),
        (frontend.sasl_initial(b"SCRAM-SHA-256-PLUS", b"n,,n=,r=x"), "invalid SASL authentication"),
        (frontend.password(b"secret"), "invalid message format"),
        (frontend.sasl_initial(b"SCRAM-SHA-256", b"p=tls-unique,,n=,r=x"), "channel binding"),
    ],
)
def test_anything_but_the_message_that_was_asked_for_ends_the_login(
    answer: bytes, what: str
) -> None:
    dialogue = Dialogue(Secrets({"app": str(VERIFIER)}), Method.CHALLENGE)
    with pytest.raises(ProtocolViolation, match=what):
        dialogue.answer(answer)


def test_an_md5_hash_is_proved_by_md5_where_postgres_asks_for_no_more() -> None:
    dialogue = Dialogue(Secrets({"app": MD5}), Method.MD5)
    dialogue.answer(frontend.password(md5_response(MD5, dialogue.last()).encode()))
    assert dialogue.over


def test_an_md5_hash_is_not_enough_where_postgres_wants_the_password_which_is_then_kept() -> None:
    secrets = Secrets({"app": MD5})
    dialogue = Dialogue(secrets, Method.CHALLENGE)
    dialogue.answer(frontend.password(b"secret"))
    assert dialogue.over
    secret = secrets.get("app")
    assert secret is not None
    assert secret.password == "secret"


@pytest.mark.parametrize("method", [Method.MD5, Method.CHALLENGE])
def test_a_wrong_answer_to_md5_or_in_clear_is_refused(method: Method) -> None:
    dialogue = Dialogue(Secrets({"app": MD5}), method)
    with pytest.raises(LoginRefused, match="password authentication failed"):
        dialogue.answer(frontend.password(b"guess"))


@pytest.mark.parametrize("text", ["secret", str(VERIFIER), MD5])
def test_no_secret_shows_itself(text: str) -> None:
    secrets = Secrets({"app": text})
    assert text not in repr(secrets.get("app")) + repr(secrets)


def test_a_verifier_is_derived_once_and_an_md5_hash_has_none() -> None:
    secret = Secret("secret")
    assert secret.verifier() is secret.verifier()
    assert Secret(MD5).verifier() is None


# Our login at Postgres


def logged_in(login: ServerLogin, *more: bytes) -> None:
    for message in (backend.authentication_ok(), *more, backend.ready_for_query(b"I")):
        assert login.receive(message[0], body(message)) is None


def test_a_login_by_trust_keeps_the_greeting_word_for_word() -> None:
    login = ServerLogin("app", Secrets({}))
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
    login = ServerLogin("app", Secrets({"app": text}))
    challenge = backend.authentication_md5(b"salt")
    answer = login.receive(challenge[0], body(challenge))
    assert answer == frontend.password(md5_response(MD5, b"salt").encode())
    logged_in(login)
    assert login.method is Method.MD5


def test_a_password_in_clear_is_given_only_if_we_have_it() -> None:
    request = backend.authentication_cleartext()
    login = ServerLogin("app", Secrets({"app": "secret"}))
    assert login.receive(request[0], body(request)) == frontend.password(b"secret")
    with pytest.raises(ServerUnavailable, match="password authentication failed"):
        ServerLogin("app", Secrets({"app": MD5})).receive(request[0], body(request))


def scram_with_postgres(login: ServerLogin, *, lies: bool = False) -> None:
    server = ScramServer(VERIFIER, nonce=NONCE)
    offer = backend.authentication_sasl([b"SCRAM-SHA-256-PLUS", b"SCRAM-SHA-256"])
    first = login.receive(offer[0], body(offer))
    assert first is not None
    _, initial = frontend.decode_sasl_initial(body(first))
    more = backend.authentication_sasl_continue(server.first(initial or b""))
    final = login.receive(more[0], body(more))
    assert final is not None
    proof = server.final(body(final))
    last = backend.authentication_sasl_final(b"v=" + b"A" * 43 + b"=" if lies else proof)
    assert login.receive(last[0], body(last)) is None


def test_scram_is_answered_from_a_password() -> None:
    login = ServerLogin("app", Secrets({"app": "secret"}))
    scram_with_postgres(login)
    logged_in(login)
    assert login.method is Method.CHALLENGE


def test_scram_is_answered_from_a_verifier_once_a_client_has_proved_itself() -> None:
    secrets = Secrets({"app": str(VERIFIER)})
    offer = backend.authentication_sasl([b"SCRAM-SHA-256"])
    with pytest.raises(ServerUnavailable, match="password authentication failed"):
        ServerLogin("app", secrets).receive(offer[0], body(offer))
    scram(Dialogue(secrets, Method.CHALLENGE), "secret")
    login = ServerLogin("app", secrets)
    scram_with_postgres(login)
    logged_in(login)


def test_a_server_that_does_not_know_us_is_not_believed() -> None:
    with pytest.raises(ProtocolViolation, match="incorrect server signature"):
        scram_with_postgres(ServerLogin("app", Secrets({"app": "secret"})), lies=True)
    login = ServerLogin("app", Secrets({"app": "secret"}))
    offer, ok = backend.authentication_sasl([b"SCRAM-SHA-256"]), backend.authentication_ok()
    login.receive(offer[0], body(offer))
    with pytest.raises(ProtocolViolation, match="did not prove"):
        login.receive(ok[0], body(ok))


def test_a_server_that_offers_only_what_we_do_not_speak_is_unavailable() -> None:
    login = ServerLogin("app", Secrets({"app": "secret"}))
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
        ServerLogin("app", Secrets({})).receive(early[0], body(early))


def test_a_second_authentication_is_not_told_to_the_client() -> None:
    login = ServerLogin("app", Secrets({}))
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
        ServerLogin("app", Secrets({})).receive(error[0], body(error))
    assert caught.value.fields == {"S": "FATAL", "V": "FATAL", "C": sqlstate, "M": "no", "H": "h"}
    assert caught.value.temporary is temporary
    assert unavailable({}).message == "unknown error"


@pytest.mark.parametrize(
    ("message", "method"),
    [
        (backend.authentication_ok(), Method.TRUST),
        (backend.authentication_md5(b"salt"), Method.MD5),
        (backend.authentication_sasl([b"SCRAM-SHA-256"]), Method.CHALLENGE),
        (backend.authentication_cleartext(), Method.CHALLENGE),
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
