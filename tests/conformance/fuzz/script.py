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

ENDS = ("eof", "terminate")
"""Half-close, or Terminate: whoever is spoken to answers what it owes and closes."""


@dataclass(slots=True)
class Script:
    """`messages` begins with the startup packet.

    `seed` decides where the pieces are cut.
    """

    seed: str
    messages: list[bytes] = field(default_factory=list)
    wait: str = "login"
    end: str = "eof"

    def text(self) -> str:
        head = [f"seed {self.seed}", f"wait {self.wait}", f"end {self.end}"]
        lines = [f"{data.hex() or '-'}  {_remark(data)}" for data in self.messages]
        return "\n".join([*head, *lines, ""])

    @classmethod
    def read(cls, text: str) -> Self:
        """Raises ValueError for what is no script."""
        lines = [line for line in text.splitlines() if line and not line.startswith("#")]
        head = dict(line.split(" ", 1) for line in lines[:3])
        if set(head) != {"seed", "wait", "end"} or (
            head["end"] not in ENDS or head["wait"] not in WAITS
        ):
            raise ValueError("a script begins with the lines seed, wait and end")
        words = [line.split(" ", 1)[0] for line in lines[3:]]
        messages = [bytes.fromhex(word) if word != "-" else b"" for word in words]
        return cls(head["seed"], messages, head["wait"], head["end"])

    def but(self, messages: list[bytes]) -> Script:
        """The same with other messages."""
        return Script(self.seed, messages, self.wait, self.end)


def _remark(data: bytes) -> str:
    """The message for human eyes, on one line."""
    shown = data[:72].decode("latin-1").replace("\0", "·")
    return "".join(c if c.isprintable() else "." for c in shown)
