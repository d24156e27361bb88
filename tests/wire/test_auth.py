"""SCRAM against RFC 7677 and against ourselves, honest and hostile; MD5; SASLprep."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgguard.errors import ProtocolViolation
from pgguard.wire.auth import (
    MAX_ITERATIONS,
    AuthenticationFailed,
    ScramClient,
    ScramServer,
    Verifier,
    cleartext_matches,
    md5_matches,
    md5_response,
    md5_secret,
    mock_verifier,
    saslprep,
)

# RFC 7677, section 3.
CLIENT_NONCE = b"rOprNGfwEbeRWgbNEkqO"
SERVER_FIRST = (
    b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
)
CLIENT_FINAL = (
    b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
    b"p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
)
SERVER_FINAL = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
SALT = b"\x5b\x6d\x99\x68\x9d\x12\x35\x8e\xec\xa0\x4b\x14\x12\x36\xfa\x81"

RAW = bytes(range(18))
PENCIL = Verifier.derive("pencil", SALT, 10)


class FixedServer(ScramServer):
    """A server whose part of the nonce is given as text, as the RFC's example is not base64."""

    def __init__(self, verifier: Verifier, text: bytes) -> None:
        super().__init__(verifier, nonce=b"")
        self._nonce = text


def rfc_client() -> ScramClient:
    raw = bytes.fromhex("acea6b3467f011b7915a06cd124a8e")
    assert b64encode(raw) == CLIENT_NONCE
    return ScramClient("user", password="pencil", nonce=raw)


def client(password: str = "pencil") -> ScramClient:
    return ScramClient("", password=password, nonce=RAW)


def exchange(ours: ScramClient, theirs: ScramServer) -> None:
    ours.verify(theirs.final(ours.final(theirs.first(ours.first()))))


def test_the_client_speaks_the_example_of_the_rfc() -> None:
    ours = rfc_client()
    assert ours.first() == b"n,,n=user,r=" + CLIENT_NONCE
    assert ours.final(SERVER_FIRST) == CLIENT_FINAL
    assert not ours.verified
    ours.verify(SERVER_FINAL)
    assert ours.verified


def test_the_server_speaks_the_example_of_the_rfc() -> None:
    server = FixedServer(Verifier.derive("pencil", SALT), b"%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0")
    assert server.first(b"n,,n=user,r=" + CLIENT_NONCE) == SERVER_FIRST
    assert server.final(CLIENT_FINAL) == SERVER_FINAL


@pytest.mark.parametrize(
    "password", ["pencil", "", " ", "pässwörd", "\U0001f511", "a\tb", "\udcff", "x" * 1000]
)
def test_both_sides_agree_on_any_password(password: str) -> None:
    ours = client(password)
    exchange(ours, ScramServer(Verifier.derive(password, b"salt", 10), nonce=RAW))
    assert ours.verified


def test_a_user_with_the_characters_of_the_syntax_is_escaped() -> None:
    ours = ScramClient("a,b=cé\udcff", password="pencil", nonce=RAW)
    assert ours.first().startswith(b"n,,n=a=2Cb=3Dc\xc3\xa9\xff,r=")
    exchange(ours, ScramServer(PENCIL, nonce=RAW))


def test_a_wrong_password_fails() -> None:
    server = ScramServer(PENCIL, nonce=RAW)
    with pytest.raises(AuthenticationFailed):
        exchange(client("crayon"), server)
    assert server.client_key == b""


def test_the_client_key_of_one_login_serves_for_the_next_in_place_of_the_password() -> None:
    server = ScramServer(PENCIL, nonce=RAW)
    exchange(client(), server)
    assert hashlib.sha256(server.client_key).digest() == PENCIL.stored_key
    ours = ScramClient("", client_key=server.client_key, verifier=PENCIL, nonce=RAW)
    exchange(ours, ScramServer(PENCIL, nonce=RAW))
    assert ours.verified


def test_a_client_key_without_its_verifier_is_not_enough() -> None:
    with pytest.raises(ValueError, match="needed"):
        ScramClient("", client_key=bytes(32), nonce=RAW)
    with pytest.raises(ValueError, match="needed"):
        ScramClient("", verifier=PENCIL, nonce=RAW)


def test_a_password_is_derived_once_for_each_salt_and_count() -> None:
    salted: dict[tuple[bytes, bytes, int], bytes] = {}
    for iterations in (10, 10, 11):
        ours = ScramClient("", password="pencil", nonce=RAW, salted=salted)
        exchange(ours, ScramServer(Verifier.derive("pencil", SALT, iterations), nonce=RAW))
    assert list(salted) == [(b"pencil", SALT, 10), (b"pencil", SALT, 11)]
    salted[b"pencil", SALT, 10] = bytes(32)
    ours = ScramClient("", password="pencil", nonce=RAW, salted=salted)
    with pytest.raises(AuthenticationFailed):
        exchange(ours, ScramServer(PENCIL, nonce=RAW))


def test_salts_without_end_do_not_fill_the_cache() -> None:
    salted = {(b"", number.to_bytes(4, "big"), 1): b"" for number in range(1000)}
    ours = ScramClient("", password="pencil", nonce=RAW, salted=salted)
    exchange(ours, ScramServer(PENCIL, nonce=RAW))
    assert len(salted) == 1000
    assert (b"pencil", SALT, 10) in salted


# What a hostile or broken server may say.


def server_first(nonce: bytes = b"MORE", salt: bytes = b"c2FsdA==", count: bytes = b"10") -> bytes:
    return b"r=" + b64encode(RAW) + nonce + b",s=" + salt + b",i=" + count


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\0",
        b"r=",
        b"e=other-error",
        b"m=x," + server_first(),
        b"r=XXXX,s=c2FsdA==,i=10",
        b"r=XXXX" + b64encode(RAW) + b",s=c2FsdA==,i=10",
        server_first(nonce=b""),
        server_first(nonce=b"\x7f"),
        server_first(nonce=b" "),
        server_first(nonce="é".encode()),
        server_first(nonce=b"x" * 1024),
        server_first(salt=b"c2FsdA="),
        server_first(salt=b"!"),
        server_first(count=b"0"),
        server_first(count=b"-1"),
        server_first(count=b"+1"),
        server_first(count=b" 1"),
        server_first(count=b"1_0"),
        server_first(count=b""),
        server_first(count=b"ten"),
        server_first(count=b"%d" % (MAX_ITERATIONS + 1)),
        server_first(count=b"9" * 900),
        server_first(count="\u0661".encode()),
        server_first() + b",1=x",
        server_first() + b",x",
        server_first() + b"\0",
        b",".join(server_first().split(b",")[:2]),
        b",".join(reversed(server_first().split(b","))),
    ],
)
def test_a_first_message_of_the_server_that_is_not_sound_is_refused(message: bytes) -> None:
    with pytest.raises(ProtocolViolation) as caught:
        client().final(message)
    assert caught.value.peer == "server"


@pytest.mark.parametrize("count", [1, MAX_ITERATIONS])
@pytest.mark.parametrize("nonce", [b"!", b"~", b"+-"])
def test_the_edges_of_what_a_server_may_say_are_taken(count: int, nonce: bytes) -> None:
    salted = {(b"pencil", b"salt", count): bytes(32)}
    ours = ScramClient("", password="pencil", nonce=RAW, salted=salted)
    assert nonce in ours.final(server_first(nonce=nonce, count=b"%d" % count))


def test_extensions_of_the_server_are_passed_over() -> None:
    assert client().final(server_first() + b",x=1").startswith(b"c=biws,r=")


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"v=",
        b"v=AAAA",
        b"v=" + b64encode(bytes(32)),
        b"v=***",
        b"e=invalid-proof",
        b"x=" + b64encode(bytes(32)),
        SERVER_FINAL[:-1],
        SERVER_FINAL + b"\0",
        b" " + SERVER_FINAL,
    ],
)
def test_a_server_that_cannot_prove_itself_is_not_trusted(message: bytes) -> None:
    ours = rfc_client()
    ours.final(SERVER_FIRST)
    with pytest.raises(ProtocolViolation) as caught:
        ours.verify(message)
    assert caught.value.peer == "server"
    assert not ours.verified


def test_a_proof_of_the_server_before_its_turn_is_refused() -> None:
    ours = rfc_client()
    with pytest.raises(ProtocolViolation):
        ours.verify(SERVER_FINAL)
    with pytest.raises(ProtocolViolation):
        ours.verify(b"v=")
    assert not ours.verified


# What a hostile or broken session may say.


@pytest.mark.parametrize("flag", [b"n", b"y"])
def test_a_session_may_know_of_channel_binding_or_not(flag: bytes) -> None:
    server = ScramServer(PENCIL, nonce=RAW)
    first = server.first(flag + b",,n=,r=abc")
    nonce = first.split(b",")[0]
    other = {b"n": b"c=eSws,", b"y": b"c=biws,"}[flag]
    with pytest.raises(ProtocolViolation, match="unexpected SCRAM channel-binding attribute"):
        server.final(other + nonce + b",p=" + b64encode(bytes(32)))
    right = b"c=" + b64encode(flag + b",,") + b","
    with pytest.raises(AuthenticationFailed):
        server.final(right + nonce + b",p=" + b64encode(bytes(32)))


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (b"", "unexpected channel-binding flag"),
        (b"n", "unexpected channel-binding flag"),
        (b"n,", "comma expected"),
        (b"x,,n=,r=abc", "unexpected channel-binding flag"),
        (b"nn,,n=,r=abc", "unexpected channel-binding flag"),
        (b"p=tls-server-end-point,,n=,r=abc", "channel binding data"),
        (b"p,,n=,r=abc", "unexpected channel-binding flag"),
        (b"n,a=admin,n=,r=abc", "authorization identity"),
        (b"n,,m=x,n=,r=abc", "unsupported SCRAM extension"),
        (b"n,,", "malformed"),
        (b"n,,n=", "attribute missing"),
        (b"n,,r=abc", 'expected attribute "n"'),
        (b"n,,n=,x=1,r=abc", 'expected attribute "r"'),
        (b"n,,n=,r=", "nonce"),
        (b"n,,n=,r=a b", "nonce"),
        (b"n,,n=,r=\xff", "nonce"),
        (b"n,,n=,r=abc,1=x", "attribute expected"),
        (b"n,,n=,r=abc\0", "NUL"),
        (b"n,,n=,r=" + b"x" * 1024, "too long"),
    ],
)
def test_a_first_message_that_is_not_sound_is_refused(message: bytes, words: str) -> None:
    with pytest.raises(ProtocolViolation, match=words) as caught:
        ScramServer(PENCIL, nonce=RAW).first(message)
    assert caught.value.peer == "session"


def test_the_user_and_extensions_of_a_session_are_passed_over() -> None:
    first = ScramServer(PENCIL, nonce=RAW).first(b"n,,n=somebody else,r=abc,x=1")
    assert first == b"r=abc" + b64encode(RAW) + b",s=" + b64encode(SALT) + b",i=10"


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (b"", "empty"),
        (b"c=biws", "attribute missing"),
        (b"c=biws,r=%N", "malformed proof"),
        (b"c=biws,r=abc,p=%P", "nonce does not match"),
        (b"c=biws,r=%Nx,p=%P", "nonce does not match"),
        (b"c=biws,r=,p=%P", "nonce does not match"),
        (b"r=%N,c=biws,p=%P", 'expected attribute "c"'),
        (b"c=biws,r=%N,p=", "malformed proof"),
        (b"c=biws,r=%N,p=AAAA", "malformed proof"),
        (b"c=biws,r=%N,p=%P%P", "malformed proof"),
        (b"c=biws,r=%N,p=!!!!", "malformed proof"),
        (b"c=biws,r=%N,p=%P,x=1", "malformed proof"),
        (b"c=biws,r=%N,p=%P\0", "NUL"),
        (b"c=cD10bHM=,r=%N,p=%P", "channel-binding"),
        (b"c=biws,r=%N,x=" + b"x" * 1024 + b",p=%P", "too long"),
    ],
)
def test_a_final_message_that_is_not_sound_is_refused(message: bytes, words: str) -> None:
    server = ScramServer(PENCIL, nonce=RAW)
    server.first(b"n,,n=,r=abc")
    message = message.replace(b"%N", b"abc" + b64encode(RAW))
    with pytest.raises(ProtocolViolation, match=words) as caught:
        server.final(message.replace(b"%P", b64encode(bytes(32))))
    assert caught.value.peer == "session"


def test_a_final_message_before_the_first_is_refused() -> None:
    with pytest.raises(ProtocolViolation):
        ScramServer(PENCIL, nonce=RAW).final(b"c=,r=" + b64encode(RAW) + b",p=AAAA")


@pytest.mark.parametrize("length", range(len(CLIENT_FINAL)))
def test_no_truncated_final_message_gets_in(length: int) -> None:
    server = FixedServer(Verifier.derive("pencil", SALT, 10), b"x")
    first = server.first(b"n,,n=,r=abc")
    ours = CLIENT_FINAL.replace(SERVER_FIRST.split(b",")[0], first.split(b",")[0])
    with pytest.raises((ProtocolViolation, AuthenticationFailed)):
        server.final(ours[:length])


@given(st.binary(max_size=80), st.binary(max_size=80))
def test_random_messages_are_a_violation_or_a_failure(first: bytes, final: bytes) -> None:
    server = ScramServer(PENCIL, nonce=RAW)
    ours = client()
    with suppress(ProtocolViolation):
        server.first(b"n,,n=,r=" + first)
    with suppress(ProtocolViolation, AuthenticationFailed):
        server.final(final)
    with suppress(ProtocolViolation):
        ours.final(b"r=" + b64encode(RAW) + first)
    with suppress(ProtocolViolation):
        ours.verify(final)
    assert not ours.verified
    assert not server.client_key


# Verifiers.

STORED = (
    "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ=="
    "$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
)


def test_a_verifier_has_the_form_that_postgres_keeps() -> None:
    assert str(Verifier.derive("pencil", SALT)) == STORED
    assert Verifier.parse(STORED) == Verifier.derive("pencil", SALT)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "pencil",
        "md5" + "0" * 32,
        STORED[:-1],
        STORED + "$",
        STORED.replace("SCRAM-SHA-256", "SCRAM-SHA-1"),
        STORED.replace("4096", "0"),
        STORED.replace("4096", "-1"),
        STORED.replace("4096", "4_096"),
        STORED.replace("4096", "99999999999"),
        STORED.replace("W22Z", "W2*Z"),
        STORED.replace("WG5d", "é"),
        STORED.replace("WG5d8oPm", ""),
    ],
)
def test_what_is_no_verifier_is_refused_without_being_shown(text: str) -> None:
    with pytest.raises(ValueError, match=r"^not a SCRAM-SHA-256 verifier$"):
        Verifier.parse(text)


@pytest.mark.parametrize("count", [1, 2**31 - 1])
def test_a_verifier_may_have_any_count_that_the_server_allows(count: int) -> None:
    assert Verifier.parse(STORED.replace("4096", str(count))).iterations == count


def test_a_verifier_shows_no_key_in_a_log() -> None:
    assert repr(PENCIL) == "Verifier(iterations=10)"


def test_the_challenge_of_an_unknown_user_is_the_same_each_time_and_cannot_be_met() -> None:
    verifier = mock_verifier("nobody", b"seed")
    assert verifier == mock_verifier("nobody", b"seed")
    assert verifier.salt != mock_verifier("nobody", b"other seed").salt
    assert verifier.salt != mock_verifier("somebody", b"seed").salt
    assert (len(verifier.salt), verifier.iterations) == (16, 4096)
    assert Verifier.parse(str(verifier)) == verifier
    with pytest.raises(AuthenticationFailed):
        exchange(client(""), ScramServer(verifier, nonce=RAW))


# SASLprep as pg_saslprep does it.


@pytest.mark.parametrize(
    ("password", "expected"),
    [
        ("user", b"user"),
        ("", b""),
        ("a\tb\x7f", b"a\tb\x7f"),
        ("I\u00adX", b"IX"),
        ("\u00aa", b"a"),
        ("\u2168", b"IX"),
        ("USER\u00a0", b"USER "),
        ("a\u200bb", b"a b"),
        ("e\u0301", "é".encode()),
        ("\u0627\u0628", "\u0627\u0628".encode()),
    ],
)
def test_a_password_is_prepared(password: str, expected: bytes) -> None:
    assert saslprep(password) == expected


@pytest.mark.parametrize(
    ("why", "prohibited"),
    [
        ("a control character", "\x07"),
        ("a control character that is not ASCII", "\x85"),
        ("unassigned in Unicode 3.2", "\U0001f511"),
        ("private use", "\ue000"),
        ("not a character", "\ufdd0"),
        ("not UTF-8", "\udcff"),
        ("not fit for plain text", "\ufffd"),
        ("not fit for canonical form", "\u2ff0"),
        ("changes the display", "\u206a"),
        ("a tag", "\U000e0001"),
        ("right to left", "\u0627"),
    ],
)
def test_a_password_with_something_prohibited_keeps_its_bytes(why: str, prohibited: str) -> None:
    password = f"\u00aa{prohibited}\u00aa"
    assert saslprep("\u00aa\u00aa") == b"aa"
    assert saslprep(password) == password.encode("utf-8", "surrogateescape")


@pytest.mark.parametrize("password", ["\ufe8d1", "1\ufe8d", "\ufe8da\ufe8d", "\u00ad"])
def test_a_password_that_breaks_a_rule_as_a_whole_keeps_its_bytes(password: str) -> None:
    assert saslprep("\ufe8d") == "\u0627".encode()
    assert saslprep(password) == password.encode()


@given(st.text())
def test_any_password_has_bytes(password: str) -> None:
    assert isinstance(saslprep(password), bytes)


# MD5 and clear text.


def test_md5_is_hashed_with_the_user_and_then_with_the_salt() -> None:
    inner = hashlib.md5(b"pencilme").hexdigest()
    outer = hashlib.md5(inner.encode() + b"salt").hexdigest()
    assert md5_secret("me", "pencil") == "md5" + inner
    assert md5_secret("é", "ü") == "md5" + hashlib.md5("üé".encode()).hexdigest()
    assert md5_response("md5" + inner, b"salt") == "md5" + outer


def test_an_answer_to_an_md5_request_is_right_or_wrong() -> None:
    secret = md5_secret("me", "pencil")
    answer = md5_response(secret, b"salt").encode()
    assert md5_matches(secret, b"salt", answer)
    assert not md5_matches(secret, b"pepp", answer)
    assert not md5_matches(secret, b"salt", secret.encode())
    for wrong in (b"", b"md5", b"\xff", answer[:-1], answer + b"0"):
        assert not md5_matches(secret, b"salt", wrong)


def test_a_password_in_clear_is_compared_byte_by_byte() -> None:
    assert cleartext_matches("p\udcff", b"p\xff")
    assert not cleartext_matches("p\udcff", b"p\xfe")
    assert not cleartext_matches("p\udcff", b"")
