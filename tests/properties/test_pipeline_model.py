"""What the core believes to be owed, against a small model of what Postgres answers.

The model reads the frontend messages one by one, as Postgres does, and answers each at once;
between core and model they are on their way in both directions for as long as the test likes. When
everything has arrived the core must believe what is true, and until then never less than that.
"""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING

from core_fakes import World
from hypothesis import given, settings
from hypothesis import strategies as st
from notation import BACKEND, FRONTEND, encode

if TYPE_CHECKING:
    from collections.abc import Iterator

QUERIES = ("fine", "broken", "copy", "copy-copy")
"""`copy` reads data from the client, `copy-copy` does so twice in one Query."""


class Postgres:
    """A backend's main loop, reduced to which messages it answers, and how (postgres.c, copyto.c).

    `receive` takes one message and returns the messages that it is answered with.
    """

    def __init__(self) -> None:
        self.skipping = False
        """After an error in the extended protocol: until Sync."""
        self.copies = 0
        """COPY FROM STDIN statements that are running or will be, of the current message."""
        self.extended = False
        """The running copy was begun by Execute."""
        self.text = "fine"
        self.batch = False
        """Extended messages were executed, and no Sync yet."""

    def accepts(self, kind: str) -> bool:
        """Whether a client may send this here: Postgres ends the session for other messages in a
        copy, ignores the end of a copy that there is not, and core does not see it as such."""
        if self.copies:
            return kind in COPYING
        if kind in ("CopyDone", "CopyFail"):
            return not self.batch
        return not (self.batch and kind in ("Query", "FunctionCall") and not self.skipping)

    def receive(self, kind: str, text: str) -> list[str]:
        if self.copies:
            return self._copying(kind, text)
        if kind == "Sync":
            self.skipping = self.batch = False
            return ["ReadyForQuery I"]
        if kind.startswith("Copy"):
            return []
        if self.skipping or kind == "Flush":
            return []
        if kind in ("Query", "FunctionCall"):
            self.batch = False
            return self._simple(text if kind == "Query" else "fine")
        return self._extended(kind, text)

    def _simple(self, text: str) -> list[str]:
        if text.startswith("copy"):
            self.copies, self.extended = text.count("copy"), False
            return ["CopyInResponse"]
        return [*_outcome(text), "ReadyForQuery I"]

    def _extended(self, kind: str, text: str) -> list[str]:
        self.batch = True
        if kind == "Parse":
            self.text = text
            if text == "broken":
                self.skipping = True
                return _outcome(text)
            return ["ParseComplete"]
        if kind == "Bind":
            return ["BindComplete"]
        if kind == "Execute" and self.text.startswith("copy"):
            self.copies, self.extended = 1, True
            return ["CopyInResponse"]
        return ['CommandComplete ""'] if kind == "Execute" else ["NoData"]

    def _copying(self, kind: str, text: str) -> list[str]:
        if kind in ("Sync", "Flush"):
            return []
        if kind == "CopyData" and text == "fine":
            return []
        if kind == "CopyDone":
            self.copies -= 1
            done = ['CommandComplete ""']
            if self.copies:
                return [*done, "CopyInResponse"]
            return done if self.extended else [*done, "ReadyForQuery I"]
        self.copies = 0
        if self.extended:
            self.skipping = True
            return _outcome("broken")
        return [*_outcome("broken"), "ReadyForQuery I"]


def _outcome(text: str) -> list[str]:
    if text == "broken":
        return ['ErrorResponse ERROR 42601 "broken"']
    return ['CommandComplete ""']


def line(kind: str, text: str) -> str:
    """The frontend message of that kind."""
    if kind in ("Query", "CopyData", "CopyFail", "FunctionCall"):
        return f'{kind} "{text}"'
    fields = {"Describe": ' P ""', "Parse": f' "" "{text}"', "Bind": ' "" ""', "Execute": ' "" 0'}
    return kind + fields.get(kind, "")


USUAL = ("Bind", "Describe", "Execute", "Sync")
"""What most drivers send in one piece, so that the core has a short way for it."""
COPYING = ("CopyData", "CopyDone", "CopyFail", "Sync", "Flush")

MESSAGES = st.one_of(
    st.tuples(st.just("Query"), st.sampled_from(QUERIES)),
    st.tuples(st.just("Parse"), st.sampled_from(QUERIES[:3])),
    st.tuples(st.sampled_from(("Bind", "Execute", "FunctionCall")), st.just("")),
    st.tuples(st.sampled_from(COPYING[1:]), st.just("")),
    st.tuples(st.just("CopyData"), st.sampled_from(("fine", "broken"))),
    st.tuples(st.sampled_from(("Describe", "Usual")), st.just("")),
)
STEPS = st.lists(st.tuples(MESSAGES, st.integers(0, 3), st.integers(0, 4)), max_size=25)
"""What the client sends, then how many messages Postgres reads, then how many replies arrive."""


class Line:
    """A session and a server of the core with the model behind it, and what is on its way."""

    def __init__(self) -> None:
        self.world = World()
        self.session, self.server = self.world.link()
        self.postgres = Postgres()
        self.written = b""
        """By the client, and still to arrive in one piece."""
        self.requests: list[tuple[str, str]] = []
        self.replies: list[str] = []

    def sends(self, kind: str, text: str) -> None:
        self.requests.append((kind, text))
        self.written += encode(line(kind, text), FRONTEND)

    def goes_on(self, reads: int, arrive: int) -> None:
        """The client's bytes arrive, Postgres reads messages, then replies of it arrive."""
        if self.written:
            self.world.receive(self.session, self.written)
            self.written = b""
        for request in self.requests[:reads]:
            self.replies += self.postgres.receive(*request)
        del self.requests[:reads]
        replies = b"".join(encode(reply, BACKEND) for reply in self.replies[:arrive])
        if replies:
            self.world.receive(self.server, replies)
        del self.replies[:arrive]

    def owed(self) -> int:
        """ReadyForQuery that are on their way or will be sent for what is."""
        future = copy(self.postgres)
        coming = [reply for request in self.requests for reply in future.receive(*request)]
        return (self.replies + coming).count("ReadyForQuery I")


def play(messages: list[tuple[tuple[str, str], int, int]]) -> Iterator[Line]:
    """The line after each message that is legal where it comes.

    Behind bad data of a copy nobody can know which Syncs count until its error has been seen
    (transparency T14), so the client waits for it.
    """
    line = Line()
    future = Postgres()
    """As the model will be when all that was sent has been read."""
    for (name, text), reads, arrive in messages:
        for kind in USUAL if name == "Usual" else (name,):
            if future.accepts(kind):
                future.receive(kind, text)
                line.sends(kind, text)
        if (name, text) == ("CopyData", "broken"):
            line.goes_on(99, 99)
        elif reads or arrive:
            line.goes_on(reads, arrive)
            yield line
    line.goes_on(99, 99)
    yield line


@given(STEPS)
@settings(max_examples=200, deadline=None)
def test_when_all_has_arrived_the_core_believes_what_is_true(
    messages: list[tuple[tuple[str, str], int, int]],
) -> None:
    *_, line = play(messages)
    pipeline = line.server.pipeline
    in_a_copy = line.postgres.copies > 0
    assert line.server.copy_in == in_a_copy
    assert pipeline.due == (1 if in_a_copy and not line.postgres.extended else 0)
    assert pipeline.unsynced == line.postgres.batch
    assert bool(pipeline.entries) == (line.postgres.batch or in_a_copy)


@given(STEPS)
@settings(max_examples=200, deadline=None)
def test_the_core_never_believes_that_less_is_owed_than_is(
    messages: list[tuple[tuple[str, str], int, int]],
) -> None:
    sound = [step for step in messages if step[0] != ("CopyData", "broken")]
    plain = all(text in ("", "fine") for (_, text), *_ in sound)
    for line in play(sound):
        owed = line.owed()
        assert line.server.due >= owed
        if plain:
            assert line.server.due == owed
