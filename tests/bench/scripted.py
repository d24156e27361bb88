"""A server that logs everybody in at once and answers every query with nothing.

`python -m tests.bench.scripted` prints the port on which it listens. It stands in for Postgres
where the guard's memory is measured: hundreds of sessions, no backends.
"""

from __future__ import annotations

import asyncio
import struct

SSL_REQUEST, GSSENC_REQUEST = 80877103, 80877104
PARAMETERS = {
    "server_version": "16.0",
    "server_encoding": "UTF8",
    "client_encoding": "UTF8",
    "standard_conforming_strings": "on",
    "TimeZone": "UTC",
}


def message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!I", len(body) + 4) + body


READY = message(b"Z", b"I")
EMPTY = message(b"T", b"\0\0") + message(b"C", b"SELECT 0\0") + READY


async def serve_session(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One session until its end."""
    try:
        while True:
            (length, code) = struct.unpack("!II", await reader.readexactly(8))
            await reader.readexactly(length - 8)
            if code not in (SSL_REQUEST, GSSENC_REQUEST):
                break
            writer.write(b"N")
        words = b"".join(message(b"S", f"{k}\0{v}\0".encode()) for k, v in PARAMETERS.items())
        key = message(b"K", struct.pack("!II", 4711, 1))
        writer.write(message(b"R", struct.pack("!I", 0)) + words + key + READY)
        while True:
            kind, length = struct.unpack("!cI", await reader.readexactly(5))
            await reader.readexactly(length - 4)
            if kind == b"X":
                break
            if kind == b"Q":
                writer.write(EMPTY)
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    writer.close()


async def serve() -> None:
    server = await asyncio.start_server(serve_session, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve())
