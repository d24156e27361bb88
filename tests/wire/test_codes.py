"""The tables of message types and limits."""

from __future__ import annotations

from pgguard.wire import codes

FRONTEND = {
    "Q": codes.QUERY,
    "P": codes.PARSE,
    "B": codes.BIND,
    "D": codes.DESCRIBE,
    "E": codes.EXECUTE,
    "C": codes.CLOSE,
    "S": codes.SYNC,
    "H": codes.FLUSH,
    "F": codes.FUNCTION_CALL,
    "d": codes.COPY_DATA,
    "c": codes.COPY_DONE,
    "f": codes.COPY_FAIL,
    "p": codes.PASSWORD,
    "X": codes.TERMINATE,
}
BACKEND = {
    "R": codes.AUTHENTICATION,
    "K": codes.BACKEND_KEY_DATA,
    "S": codes.PARAMETER_STATUS,
    "Z": codes.READY_FOR_QUERY,
    "T": codes.ROW_DESCRIPTION,
    "D": codes.DATA_ROW,
    "C": codes.COMMAND_COMPLETE,
    "E": codes.ERROR_RESPONSE,
    "N": codes.NOTICE_RESPONSE,
    "A": codes.NOTIFICATION_RESPONSE,
    "t": codes.PARAMETER_DESCRIPTION,
    "n": codes.NO_DATA,
    "1": codes.PARSE_COMPLETE,
    "2": codes.BIND_COMPLETE,
    "3": codes.CLOSE_COMPLETE,
    "s": codes.PORTAL_SUSPENDED,
    "I": codes.EMPTY_QUERY_RESPONSE,
    "G": codes.COPY_IN_RESPONSE,
    "H": codes.COPY_OUT_RESPONSE,
    "W": codes.COPY_BOTH_RESPONSE,
    "d": codes.COPY_DATA,
    "c": codes.COPY_DONE,
    "V": codes.FUNCTION_CALL_RESPONSE,
    "v": codes.NEGOTIATE_PROTOCOL_VERSION,
}
UNKNOWN = ord("~")


def test_every_frontend_type_of_the_manual_has_its_letter_and_is_known() -> None:
    assert {letter: ord(letter) for letter in FRONTEND} == FRONTEND
    assert set(FRONTEND.values()) == codes.KNOWN_FRONTEND


def test_every_backend_type_of_the_manual_has_its_letter_and_is_known() -> None:
    assert {letter: ord(letter) for letter in BACKEND} == BACKEND
    assert set(BACKEND.values()) == codes.KNOWN_BACKEND


def test_request_codes_are_version_1234_of_something() -> None:
    requests = (codes.CANCEL_REQUEST, codes.SSL_REQUEST, codes.GSSENC_REQUEST)
    assert [(code >> 16, code & 0xFFFF) for code in requests] == [
        (1234, 5678),
        (1234, 5679),
        (1234, 5680),
    ]
    assert divmod(codes.PROTOCOL_3_0, 1 << 16) == (3, 0)
    assert divmod(codes.PROTOCOL_3_2, 1 << 16) == (3, 2)


def test_there_is_a_limit_for_every_type_byte_that_lets_an_empty_message_pass() -> None:
    for limits in (
        codes.FRONTEND_LIMIT,
        codes.LOGIN_LIMIT,
        codes.BACKEND_LIMIT,
        codes.BACKEND_LOGIN_LIMIT,
    ):
        assert len(limits) == 256
        assert min(limits) >= 4


def test_small_messages_of_a_session_are_bounded_as_in_postgres() -> None:
    small = {letter: codes.FRONTEND_LIMIT[ord(letter)] for letter in "SHXDCEcf"}
    assert set(small.values()) == {10_000}
    assert codes.FRONTEND_LIMIT[codes.PASSWORD] == 65_535


def test_large_and_unknown_messages_go_up_to_one_gibibyte() -> None:
    for letter in "QPBFd~":
        assert codes.FRONTEND_LIMIT[ord(letter)] == 2**30 - 2
    for letter in "DdTEN~":
        assert codes.BACKEND_LIMIT[ord(letter)] >= 2**30 - 1


def test_before_login_nothing_large_is_accepted_from_either_side() -> None:
    assert max(codes.LOGIN_LIMIT) == codes.LOGIN_LIMIT[codes.PASSWORD] == 65_535
    assert codes.LOGIN_LIMIT[codes.QUERY] == codes.LOGIN_LIMIT[UNKNOWN] == 10_000
    assert max(codes.BACKEND_LOGIN_LIMIT) == 30_000


def test_a_key_of_256_bytes_passes_and_one_more_does_not() -> None:
    assert codes.BACKEND_LIMIT[codes.BACKEND_KEY_DATA] == 4 + 4 + 256
