"""What a session that holds a server looks like to those who wait: how long silent, doing what.

Laws: a session is stuck only while its server waits for it, never while a statement of its runs,
but for one that waits for the lock of a silent session of the same client, or, where all clients
wait for each other, of any (transparency T11); what is said of a session is plain ASCII, one line,
literals masked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgguard.core import guarding
from pgguard.core.ahead import HELD_LIMIT, has_left
from pgguard.core.states import SessionState
from pgguard.errors import ProtocolViolation

if TYPE_CHECKING:
    from pgguard.core.server import Server
    from pgguard.core.session import Session


def keep(session: Session, data: bytes) -> None:
    """What a session says while nothing of it is forwarded: part of its login, or kept (T4)."""
    if session.state is SessionState.CLOSING or session.gone_at is not None:
        return
    if session.entrance is not None:
        try:
            session.entrance.receive(data)
        except ProtocolViolation as error:
            session.hub.session_violated(session, error.message)
        return
    if session.relay is not None:
        session.relay.from_session(data)
        return
    if session.guard is not None and session.guard.drop:
        guarding.drop(session, data)
        return
    session.held += data
    if session.server is None and has_left(session.held):
        session.hub.session_gone(session, "client closed the session while it waited")
    elif len(session.held) > HELD_LIMIT:
        session.out.pause_reading()


def let_go(session: Session) -> None:
    """The service connections are closed: what was held back goes on, as it came."""
    data, session.held_back = session.held_back, None
    if data is None or session.server is None:
        return
    if data:
        session.server.write(data)
    session.catch_up()


def catch_up(session: Session) -> None:
    """Go on with what came while something was held back."""
    server = session.server
    if session.guard is not None and session.guard.drop:
        session.held_back = b""
    held, session.held = session.held, b""
    if len(held) > HELD_LIMIT and server is not None and not server.paused:
        session.out.resume_reading()
    if held:
        session.receive(held)
    server = session.server
    if server is not None and session.gone_at is not None and not session.held_back:
        server.write_eof()


def stuck_since(session: Session, *, everybody: bool = False) -> float | None:
    """Monotonic seconds since when the session's server waits for it; None = it does not."""
    server = session.server
    if server is None:
        return None
    if server.pipeline.due:
        return _blocked_since(session, server, everybody=everybody)
    if server.status == "I" and not server.pipeline.unsynced:
        return None
    return max(session.last_byte, server.ready_at)


def is_blocked(session: Session) -> bool:
    """Whether its statement waits for the lock of a silent session, whosever it is."""
    server = session.server
    if server is None or not server.pipeline.due:
        return False
    return _blocked_since(session, server, everybody=True) is not None


def _blocked_since(session: Session, server: Server, *, everybody: bool) -> float | None:
    """Since when locks of silent sessions, of the same client or of any, keep our statement
    waiting, perhaps behind others that wait for the same. Each of them is looked at once, however
    long the line is: of everybody in it Postgres names all who stand before (pg_blocking_pids)."""
    servers, client = session.hub.servers, session.client
    ours = {other.pid: other for other in servers if everybody or other.client is client}
    waits: list[float] = []
    silent: set[int] = set()
    line: dict[int, frozenset[int]] = {}
    left = {server.pid}
    while left:
        pid = left.pop()
        one = ours.get(pid)
        if one is None or one.session is None:
            return None
        if not one.pipeline.due:
            since = one.session.stuck_since(everybody=everybody)
            if since is None:
                return None
            waits.append(since)
            silent.add(pid)
            continue
        started, blockers = one.blockers
        if started != one.started or not blockers:
            return None
        waits.append(started)
        line[pid] = blockers
        left |= blockers - line.keys() - silent
    return None if _is_circle(line, silent) else max(waits)


def _is_circle(line: dict[int, frozenset[int]], silent: set[int]) -> bool:
    """Whether some of a line wait for each other, which Postgres resolves by itself."""
    done, left = set(silent), sorted(line, key=lambda pid: len(line[pid]))
    while left:
        before = left
        left = []
        for pid in before:
            if line[pid] <= done:
                done.add(pid)
            else:
                left.append(pid)
        if len(left) == len(before):
            return True
    return False


def describe(session: Session, now: float) -> str:
    return described(session, now, "")


def described(session: Session, now: float, kept: str) -> str:
    """Client, session, pid, age, what it does, why its server is `kept`, last statement."""
    server = session.server
    age = now - session.opened
    if server is None:
        doing = f"{session.state.value} for {now - session.since:.1f} s"
    elif server.pipeline.due:
        doing = f"active for {now - server.started:.1f} s"
    elif server.status == "I":
        doing = f"idle for {now - max(session.last_byte, server.ready_at):.1f} s"
    else:
        since = server.transaction_since or server.ready_at
        doing = f"idle in transaction, transaction open for {now - since:.1f} s"
    pid = f", pid {server.pid}" if server is not None else ""
    doing += f", keeps its server: {kept}" if kept else ""
    text = " ".join(session.last.masked.split())[:80] if session.last is not None else ""
    last = f", last statement: {text}" if text else ""
    who = f'client "{session.client.key}" session {session.id}{pid}'
    line = f"{who}, open for {age:.1f} s: {doing}{last}"
    return line.encode("ascii", "replace").decode("ascii")
