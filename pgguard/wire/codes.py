"""The numbers of the wire protocol: message types, request and authentication codes, limits.

Laws: names are those of the manual ("Message Formats") in capitals; limits are named after
Postgres's own constants and bound the length word, which counts itself but not the type byte.
The hot loops of `core/` compare literal bytes with these names in a comment.
"""

from __future__ import annotations

# Frontend: sent by a session.
QUERY = 0x51  # Q
PARSE = 0x50  # P
BIND = 0x42  # B
DESCRIBE = 0x44  # D
EXECUTE = 0x45  # E
CLOSE = 0x43  # C
FLUSH = 0x48  # H
SYNC = 0x53  # S
FUNCTION_CALL = 0x46  # F
TERMINATE = 0x58  # X
PASSWORD = 0x70  # p: also SASLInitialResponse, SASLResponse and GSSResponse

# Both directions.
COPY_DATA = 0x64  # d
COPY_DONE = 0x63  # c
COPY_FAIL = 0x66  # f: frontend only

# Backend: sent by a server.
AUTHENTICATION = 0x52  # R
PARAMETER_STATUS = 0x53  # S
BACKEND_KEY_DATA = 0x4B  # K
READY_FOR_QUERY = 0x5A  # Z
ROW_DESCRIPTION = 0x54  # T
DATA_ROW = 0x44  # D
COMMAND_COMPLETE = 0x43  # C
EMPTY_QUERY_RESPONSE = 0x49  # I
ERROR_RESPONSE = 0x45  # E
NOTICE_RESPONSE = 0x4E  # N
NOTIFICATION_RESPONSE = 0x41  # A
PARSE_COMPLETE = 0x31  # 1
BIND_COMPLETE = 0x32  # 2
CLOSE_COMPLETE = 0x33  # 3
NO_DATA = 0x6E  # n
PARAMETER_DESCRIPTION = 0x74  # t
PORTAL_SUSPENDED = 0x73  # s
COPY_IN_RESPONSE = 0x47  # G
COPY_OUT_RESPONSE = 0x48  # H
COPY_BOTH_RESPONSE = 0x57  # W
FUNCTION_CALL_RESPONSE = 0x56  # V
NEGOTIATE_PROTOCOL_VERSION = 0x76  # v

# What Describe and Close point at.
STATEMENT = 0x53  # S
PORTAL = 0x50  # P

# The first word of a packet without type byte: a version or one of these requests.
PROTOCOL_3_0 = 0x0003_0000
PROTOCOL_3_2 = 0x0003_0002
CANCEL_REQUEST = 80877102
SSL_REQUEST = 80877103
GSSENC_REQUEST = 80877104

# The first word of an Authentication message.
AUTH_OK = 0
AUTH_KERBEROS_V5 = 2
AUTH_CLEARTEXT = 3
AUTH_MD5 = 5
AUTH_GSS = 7
AUTH_GSS_CONTINUE = 8
AUTH_SSPI = 9
AUTH_SASL = 10
AUTH_SASL_CONTINUE = 11
AUTH_SASL_FINAL = 12

# Limits in bytes.
MAX_STARTUP_PACKET_LENGTH = 10_000
"""Of a packet without type byte, its length word not counted."""
PG_MAX_AUTH_TOKEN_LENGTH = 65_535
PG_MAX_SASL_MESSAGE_LENGTH = 1_024
PQ_SMALL_MESSAGE_LIMIT = 10_000
MAX_ALLOC_SIZE = 0x3FFF_FFFF
"""1 GiB - 1: whatever Postgres holds in memory is smaller."""
PQ_LARGE_MESSAGE_LIMIT = MAX_ALLOC_SIZE - 1
"""A frontend message is held with the NUL behind it."""
LIBPQ_SHORT_MESSAGE_LIMIT = 30_000
"""What libpq takes for a lost synchronisation when a message of a short kind is longer."""
MAX_CANCEL_KEY_LENGTH = 256

_SMALL = (SYNC, FLUSH, TERMINATE, DESCRIBE, CLOSE, EXECUTE, COPY_DONE, COPY_FAIL)
_EMPTY = (
    EMPTY_QUERY_RESPONSE,
    PARSE_COMPLETE,
    BIND_COMPLETE,
    CLOSE_COMPLETE,
    NO_DATA,
    PORTAL_SUSPENDED,
    COPY_DONE,
)
_SHORT = (
    AUTHENTICATION,
    PARAMETER_STATUS,
    COMMAND_COMPLETE,
    COPY_IN_RESPONSE,
    COPY_OUT_RESPONSE,
    COPY_BOTH_RESPONSE,
    NEGOTIATE_PROTOCOL_VERSION,
)


def _limits(rest: int, *special: tuple[tuple[int, ...], int]) -> list[int]:
    limits = [rest] * 256
    for types, limit in special:
        for type_ in types:
            limits[type_] = limit
    return limits


FRONTEND_LIMIT = _limits(
    PQ_LARGE_MESSAGE_LIMIT,
    (_SMALL, PQ_SMALL_MESSAGE_LIMIT),
    ((PASSWORD,), PG_MAX_AUTH_TOKEN_LENGTH),
)
"""The largest length word of a frontend message, by type byte."""

LOGIN_LIMIT = _limits(PQ_SMALL_MESSAGE_LIMIT, ((PASSWORD,), PG_MAX_AUTH_TOKEN_LENGTH))
"""The same before a session is logged in: nothing large is expected, so nothing large is held."""

# A message of the server is built in memory of MAX_ALLOC_SIZE; the length word comes on top.
BACKEND_LIMIT = _limits(
    MAX_ALLOC_SIZE + 4,
    (_EMPTY, 4),
    ((READY_FOR_QUERY,), 5),
    ((BACKEND_KEY_DATA,), 8 + MAX_CANCEL_KEY_LENGTH),
    (_SHORT, LIBPQ_SHORT_MESSAGE_LIMIT),
)
"""The largest length word of a backend message, by type byte."""

BACKEND_LOGIN_LIMIT = [min(limit, LIBPQ_SHORT_MESSAGE_LIMIT) for limit in BACKEND_LIMIT]
"""The same before a server has logged us in, when libpq takes nothing longer either."""

KNOWN_FRONTEND = frozenset(
    {QUERY, PARSE, BIND, FLUSH, FUNCTION_CALL, TERMINATE, PASSWORD, COPY_DATA, *_SMALL}
)
KNOWN_BACKEND = frozenset(
    {
        AUTHENTICATION,
        BACKEND_KEY_DATA,
        READY_FOR_QUERY,
        ROW_DESCRIPTION,
        DATA_ROW,
        ERROR_RESPONSE,
        NOTICE_RESPONSE,
        NOTIFICATION_RESPONSE,
        PARAMETER_DESCRIPTION,
        FUNCTION_CALL_RESPONSE,
        COPY_DATA,
        *_EMPTY,
        *_SHORT,
    }
)
"""The types that the manual names: what else is well framed is forwarded and counted."""
