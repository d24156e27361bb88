"""A session's login with us: whom it lets in, by which dialogue, and whom it leaves to Postgres."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pgguard.core.login import (
    IDENTIFIED_HINT,
    TRUST_HINT,
    Asking,
    Method,
    Need,
    Way,
    session_login,
)
from pgguard.core.secrets import Role, Secret, Secrets, role_of
from pgguard.errors import LoginRefused, ProtocolViolation
from pgguard.wire import backend, codes, frontend
from pgguard.wire.auth import BINDING_TYPE, ScramClient, Verifier, md5_response, md5_secret
from pgguard.wire.scan import Framer

if TYPE_CHECKING:
    from collections.abc import Generator

VERIFIER = Verifier.derive("secret", b"salt of sixteen.", 1)
MD5 = md5_secret("app", "secret")
NONCE = b"eighteen bytes....."
NEAR = Asking("app", own=False, near=True)
FAR = NEAR._replace(near=False)
BOUND = NEAR._replace(binding=b"hash of our certificate")
KNOWN = role_of(True, str(VERIFIER), False, 4096)
HASHED = role_of(True, MD5, False, 4096)
UNKNOWN = role_of(False, None, False, 4096)


def messages(data: bytes) -> list[tuple[int, bytes]]:
    return Framer(codes.BACKEND_LIMIT, "server").feed(data)


class Dialogue:
    """A session's login, answered step by step; `role` is what pg_authid says."""

    def __init__(
        self,
        method: Method,
        *,
        asking: Asking = NEAR,
        role: Role | None = None,
        secrets: Secrets | None = None,
    ) -> None:
        self.said = b""
        self.outcome: Secret | Way | None = None
        self.looked_up = False
        self._role = role
        self.generator: Generator[Need, object, Secret | Way] = session_login(
            asking, secrets or Secrets({}), self._say
        )
        assert next(self.generator) is Need.METHOD
        self.send(method)

    def _say(self, data: bytes) -> None:
        self.said += data

    def send(self, value: object) -> None:
        try:
            need = self.generator.send(value)
            if need is Need.ROLE:
                self.looked_up = True
                need = self.generator.send(self._role)
            assert need is Need.MESSAGE
        except StopIteration as over:
            self.outcome = over.value

    def answer(self, message: bytes) -> None:
        self.send((message[0], message[5:]))

    def last(self) -> bytes:
        """The data of the newest Authentication message."""
        return messages(self.said)[-1][1][4:]

    def proved(self) -> Secret:
        assert isinstance(self.outcome, Secret)
        return self.outcome


def scram(dialogue: Dialogue, password: str, *, flag: bytes = b"n", binding: bytes = b"") -> None:
    client = ScramClient("app", password=password, nonce=NONCE, flag=flag, binding=binding)
    mechanism = b"SCRAM-SHA-256-PLUS" if binding else b"SCRAM-SHA-256"
    dialogue.answer(frontend.sasl_initial(mechanism, client.first()))
    dialogue.answer(frontend.sasl_response(client.final(dialogue.last())))
    client.verify(dialogue.last())


# Without a challenge


@pytest.mark.parametrize(
    ("method", "asking", "enters"),
    [
        (Method.TRUST, NEAR, True),
        (Method.TRUST, FAR, False),
        (Method.TRUST, FAR._replace(own=True), True),
        (Method.PEER, NEAR, False),
        (Method.PEER, FAR._replace(own=True), True),
        (Method.CERT, NEAR, False),
        (Method.CERT, FAR._replace(own=True), True),
    ],
)
def test_who_needs_no_proof_where_postgres_asks_us_for_none(
    method: Method, asking: Asking, enters: bool
) -> None:
    if enters:
        dialogue = Dialogue(method, asking=asking)
        assert (dialogue.outcome, dialogue.said) == (Way.UNPROVEN, b"")
        return
    with pytest.raises(LoginRefused) as caught:
        Dialogue(method, asking=asking)
    hint = TRUST_HINT if method is Method.TRUST else IDENTIFIED_HINT
    assert (caught.value.sqlstate, caught.value.hint) == ("28000", hint)


@pytest.mark.parametrize(
    ("method", "words"),
    [
        (Method.TRUST, 'pgguard: user "app" needs a password that pgguard does not know'),
        (Method.PEER, 'Peer authentication failed for user "app"'),
        (Method.CERT, 'certificate authentication failed for user "app"'),
    ],
)
def test_who_is_taken_for_another_one_hears_it_in_postgres_own_words(
    method: Method, words: str
) -> None:
    with pytest.raises(LoginRefused) as caught:
        Dialogue(method, asking=FAR)
    assert caught.value.message == words


def test_who_is_not_let_in_without_a_proof_may_give_one_that_we_can_check() -> None:
    dialogue = Dialogue(Method.TRUST, asking=FAR, secrets=Secrets({"app": "secret"}))
    scram(dialogue, "secret")
    assert dialogue.proved().password == "secret"
    dialogue = Dialogue(Method.TRUST, asking=FAR, secrets=Secrets({"app": MD5}))
    dialogue.answer(frontend.password(md5_response(MD5, dialogue.last()).encode()))
    assert dialogue.proved().md5 == MD5


# By what pg_authid holds


def test_scram_proves_a_password_against_the_verifier_and_shows_the_client_key() -> None:
    dialogue = Dialogue(Method.SCRAM, role=KNOWN)
    scram(dialogue, "secret")
    assert dialogue.proved().client_key
    assert dialogue.proved().password is None
    assert KNOWN.secret is not None
    assert KNOWN.secret.client_key is None


def test_what_pg_authid_says_counts_more_than_what_the_settings_say() -> None:
    secrets = Secrets({"app": "stale"})
    scram(Dialogue(Method.SCRAM, role=KNOWN, secrets=secrets), "secret")
    with pytest.raises(LoginRefused, match="password authentication failed"):
        scram(Dialogue(Method.SCRAM, role=KNOWN, secrets=secrets), "stale")


@pytest.mark.parametrize(
    "role",
    [
        KNOWN,
        UNKNOWN,
        role_of(True, None, False, 4096),
        role_of(True, str(VERIFIER), True, 4096),
        role_of(True, "gibberish", False, 4096),
        HASHED,
    ],
    ids=["wrong", "unknown", "null", "expired", "unreadable", "md5"],
)
def test_a_wrong_password_and_a_user_without_one_get_the_same_dialogue(role: Role) -> None:
    dialogue = Dialogue(Method.SCRAM, role=role)
    client = ScramClient("app", password="guess", nonce=NONCE)
    dialogue.answer(frontend.sasl_initial(b"SCRAM-SHA-256", client.first()))
    with pytest.raises(LoginRefused, match='password authentication failed for user "app"') as got:
        dialogue.answer(frontend.sasl_response(client.final(dialogue.last())))
    assert got.value.sqlstate == "28P01"
    assert got.value.log
    assert [kind for kind, _ in messages(dialogue.said)] == [codes.AUTHENTICATION] * 2


def test_the_right_password_does_not_help_once_it_has_expired() -> None:
    with pytest.raises(LoginRefused, match="password authentication failed"):
        scram(Dialogue(Method.SCRAM, role=role_of(True, str(VERIFIER), True, 4096)), "secret")


def test_an_unknown_user_is_asked_with_as_many_iterations_as_the_server_uses() -> None:
    dialogue = Dialogue(Method.SCRAM, role=role_of(False, None, False, 7))
    client = ScramClient("app", password="guess", nonce=NONCE)
    dialogue.answer(frontend.sasl_initial(b"SCRAM-SHA-256", client.first()))
    assert dialogue.last().endswith(b",i=7")


def test_an_md5_hash_of_pg_authid_is_proved_by_md5() -> None:
    dialogue = Dialogue(Method.MD5, role=HASHED)
    dialogue.answer(frontend.password(md5_response(MD5, dialogue.last()).encode()))
    assert dialogue.proved().md5 == MD5


# By what the settings hold


@pytest.mark.parametrize("text", ["secret", str(VERIFIER)])
def test_scram_proves_a_password_against_what_the_settings_hold(text: str) -> None:
    dialogue = Dialogue(Method.SCRAM, secrets=Secrets({"app": text}))
    scram(dialogue, "secret")
    assert dialogue.looked_up
    assert dialogue.proved().client_key


@pytest.mark.parametrize("text", ["secret", MD5])
def test_md5_proves_a_password_or_its_hash(text: str) -> None:
    dialogue = Dialogue(Method.MD5, secrets=Secrets({"app": text}))
    dialogue.answer(frontend.password(md5_response(MD5, dialogue.last()).encode()))
    assert dialogue.outcome


def test_a_password_is_asked_for_in_clear_where_postgres_does_and_we_hold_it() -> None:
    dialogue = Dialogue(Method.CLEARTEXT, secrets=Secrets({"app": "secret"}))
    dialogue.answer(frontend.password(b"secret"))
    assert dialogue.proved().password == "secret"


@pytest.mark.parametrize("method", [Method.MD5, Method.CLEARTEXT])
@pytest.mark.parametrize(
    ("said", "words"),
    [(b"guess", 'password authentication failed for user "app"'), (b"", "empty password returned")],
)
def test_a_wrong_or_empty_password_is_refused_in_the_words_of_postgres(
    method: Method, said: bytes, words: str
) -> None:
    dialogue = Dialogue(method, secrets=Secrets({"app": "secret"}))
    with pytest.raises(LoginRefused, match=words) as caught:
        dialogue.answer(frontend.password(said))
    assert caught.value.sqlstate == "28P01"


# By Postgres itself


@pytest.mark.parametrize(
    ("method", "text"),
    [
        (Method.SCRAM, ""),
        (Method.SCRAM, MD5),
        (Method.MD5, ""),
        (Method.MD5, str(VERIFIER)),
        (Method.CLEARTEXT, ""),
        (Method.CLEARTEXT, MD5),
        (Method.CLEARTEXT, str(VERIFIER)),
        (Method.OTHER, "secret"),
    ],
)
def test_whom_we_cannot_judge_is_left_to_postgres(method: Method, text: str) -> None:
    dialogue = Dialogue(method, secrets=Secrets({"app": text} if text else {}))
    assert (dialogue.outcome, dialogue.said) == (Way.RELAYED, b"")


@pytest.mark.parametrize(
    ("method", "role"),
    [(Method.CLEARTEXT, KNOWN), (Method.OTHER, KNOWN), (Method.MD5, KNOWN), (Method.MD5, UNKNOWN)],
)
def test_what_pg_authid_holds_does_not_serve_every_method(method: Method, role: Role) -> None:
    assert Dialogue(method, role=role).outcome is Way.RELAYED


# What may be said, and when


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        (frontend.query(b"select 1"), "expected SASL response, got message type 81"),
        (frontend.sasl_initial(b"SCRAM-SHA-256-PLUS", b"n,,n=,r=x"), "invalid SASL authentication"),
        (frontend.password(b"secret"), "invalid message format"),
        (frontend.sasl_initial(b"SCRAM-SHA-256", b"p=tls-unique,,n=,r=x"), "channel binding"),
    ],
)
def test_anything_but_the_message_that_was_asked_for_ends_the_login(
    answer: bytes, what: str
) -> None:
    dialogue = Dialogue(Method.SCRAM, role=KNOWN)
    with pytest.raises(ProtocolViolation, match=what):
        dialogue.answer(answer)


def test_a_client_may_begin_without_an_initial_response() -> None:
    dialogue = Dialogue(Method.SCRAM, role=KNOWN)
    client = ScramClient("app", password="secret", nonce=NONCE)
    dialogue.answer(backend.message(codes.PASSWORD, b"SCRAM-SHA-256\0\xff\xff\xff\xff"))
    assert dialogue.last() == b""
    dialogue.answer(frontend.sasl_response(client.first()))
    dialogue.answer(frontend.sasl_response(client.final(dialogue.last())))
    assert dialogue.proved()


# Bound to TLS


def test_plus_is_offered_first_where_there_is_a_certificate_and_only_there() -> None:
    offered = Dialogue(Method.SCRAM, role=KNOWN, asking=BOUND).last()
    assert offered == b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0"
    assert Dialogue(Method.SCRAM, role=KNOWN).last() == b"SCRAM-SHA-256\0\0"


def test_a_login_is_bound_to_our_certificate_and_to_no_other() -> None:
    flag = b"p=" + BINDING_TYPE
    dialogue = Dialogue(Method.SCRAM, role=KNOWN, asking=BOUND)
    scram(dialogue, "secret", flag=flag, binding=BOUND.binding)
    assert dialogue.proved().client_key
    with pytest.raises(LoginRefused, match="SCRAM channel binding check failed") as caught:
        scram(
            Dialogue(Method.SCRAM, role=KNOWN, asking=BOUND),
            "secret",
            flag=flag,
            binding=b"that of another",
        )
    assert caught.value.sqlstate == "28000"


def test_a_client_that_may_do_without_plus_is_let_in_and_one_that_was_told_a_lie_is_not() -> None:
    dialogue = Dialogue(Method.SCRAM, role=KNOWN, asking=BOUND)
    scram(dialogue, "secret")
    assert dialogue.outcome
    scram(Dialogue(Method.SCRAM, role=KNOWN), "secret", flag=b"y")
    with pytest.raises(LoginRefused, match="channel binding negotiation error"):
        scram(Dialogue(Method.SCRAM, role=KNOWN, asking=BOUND), "secret", flag=b"y")


@pytest.mark.parametrize(
    ("initial", "words"),
    [
        (b"p=tls-unique,,n=,r=x", 'unsupported SCRAM channel-binding type "tls-unique"'),
        (b"n,,n=,r=x", "does not include channel binding data"),
        (b"y,,n=,r=x", "does not include channel binding data"),
    ],
)
def test_plus_without_the_binding_that_it_promises(initial: bytes, words: str) -> None:
    dialogue = Dialogue(Method.SCRAM, role=KNOWN, asking=BOUND)
    with pytest.raises(ProtocolViolation, match=words):
        dialogue.answer(frontend.sasl_initial(b"SCRAM-SHA-256-PLUS", initial))
