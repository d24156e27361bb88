"""A script of the fuzzer: what one connection sends, message by message, and how it ends.

Its text form is one line for each message, hexadecimal with a readable remark, so that a script
that fails can be kept, read, shortened by hand and replayed. Laws: the text holds everything; two
plays of a script send the same bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

WAITS = ("login", "end", "never")
"""What waits for the first ReadyForQuery: all behind the startup packet, only the end, nothing."""

ENDS = ("eof", "terminate", "close", "reset")
"""Half-close, or Terminate: whoever is spoken to answers what it owes and closes. Or the client
closes, or resets, and hears no more."""
ALL = -1


@dataclass(slots=True)
class Script:
    """`messages` begins with the startup packet.

    `seed` decides where the pieces are cut.
    """

    seed: str
    messages: list[bytes] = field(default_factory=list)
    wait: str = "login"
    end: str = "eof"
    cut: int = ALL
    """Bytes of the messages that are sent before the end."""

    @property
    def said(self) -> tuple[bytes, bytes]:
        """The startup packet and what comes behind it, as far as they are sent."""
        first, rest = self.messages[0], b"".join(self.messages[1:])
        if self.cut != ALL:
            first, rest = first[: self.cut], rest[: max(0, self.cut - len(first))]
        return first, rest

    @property
    def listens(self) -> bool:
        """Whether it waits for its answers."""
        return self.end in ENDS[:2]

    @property
    def unfinished(self) -> bool:
        """Whether not even the startup packet is sent to its end."""
        return len(self.said[0]) < len(self.messages[0])

    @property
    def early(self) -> bool:
        """Whether its end may come before the first ReadyForQuery."""
        return self.wait == "never" or self.unfinished

    def text(self) -> str:
        end = self.end if self.cut == ALL else f"{self.end} {self.cut}"
        head = [f"seed {self.seed}", f"wait {self.wait}", f"end {end}"]
        lines = [f"{data.hex() or '-'}  {_remark(data)}" for data in self.messages]
        return "\n".join([*head, *lines, ""])

    @classmethod
    def read(cls, text: str) -> Self:
        """Raises ValueError for what is no script."""
        lines = [line for line in text.splitlines() if line and not line.startswith("#")]
        head = dict(line.split(" ", 1) for line in lines[:3])
        end, _, cut = head.get("end", "").partition(" ")
        if set(head) != {"seed", "wait", "end"} or (end not in ENDS or head["wait"] not in WAITS):
            raise ValueError("a script begins with the lines seed, wait and end")
        words = [line.split(" ", 1)[0] for line in lines[3:]]
        messages = [bytes.fromhex(word) if word != "-" else b"" for word in words]
        return cls(head["seed"], messages, head["wait"], end, int(cut or ALL))

    def but(self, messages: list[bytes]) -> Script:
        """The same with other messages."""
        return Script(self.seed, messages, self.wait, self.end, self.cut)


def _remark(data: bytes) -> str:
    """The message for human eyes, on one line."""
    shown = data[:72].decode("latin-1").replace("\0", "·")
    return "".join(c if c.isprintable() else "." for c in shown)
