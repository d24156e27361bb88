"""The forms that values of settings have, and what all models of settings share.

Laws: whoever defines a model does so inside `no_plugins`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    Strict,
    StringConstraints,
    WithJsonSchema,
)

from pgguard.settings.plugins import no_plugins
from pgguard.settings.values import (
    Address,
    read_address,
    read_auto,
    read_directory,
    read_duration,
    read_off,
    read_size,
    show_duration,
    show_size,
)

if TYPE_CHECKING:
    from collections.abc import Callable

_DAY = 86_400.0


@dataclass(frozen=True, slots=True)
class Shown:
    """How a value is written back: a function, or the word for None."""

    value: Callable[[Any], str] | None = None
    none: str = ""
    secret: bool = False


def _text_form(pattern: str, example: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": pattern, "examples": [example]})


def _plain_path(value: object) -> object:
    return Path(value) if isinstance(value, str) and value else value


Duration = Annotated[
    float,
    PlainValidator(read_duration),
    PlainSerializer(show_duration, when_used="json"),
    _text_form(r"^\d+(\.\d+)?\s*(ms|s|m|h)$", "20s"),
    Shown(show_duration),
    Field(ge=0, le=_DAY),
]
Positive = Annotated[Duration, Field(gt=0)]
Size = Annotated[
    int,
    PlainValidator(read_size),
    PlainSerializer(show_size, when_used="json"),
    _text_form(r"^\d+\s*(B|kB|KB|KiB|MB|MiB|GB|GiB)$", "16MiB"),
    Shown(show_size),
    Field(ge=1, le=1024**3),
]
HostPort = Annotated[
    Address,
    PlainValidator(read_address),
    PlainSerializer(str, when_used="json"),
    _text_form(r"^.+:\d+$", "127.0.0.1:6433"),
    Shown(str),
]
Directory = Annotated[str, AfterValidator(read_directory), Shown(str)]
File = Annotated[Path, BeforeValidator(_plain_path), Shown(str)]
Name = Annotated[str, StringConstraints(min_length=1)]
Names = Annotated[tuple[Name, ...], Strict(False)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]


def _or(word: Literal["off", "auto"], form: dict[str, Any]) -> WithJsonSchema:
    return WithJsonSchema({"anyOf": [form, {"const": word}]})


_COUNT_FORM = {"type": "integer", "minimum": 1}
CountOrOff = Annotated[
    Count | None, BeforeValidator(read_off), _or("off", _COUNT_FORM), Shown(none="off")
]
CountOrAuto = Annotated[
    Count | None, BeforeValidator(read_auto), _or("auto", _COUNT_FORM), Shown(none="auto")
]
DurationOrOff = Annotated[
    Positive | None,
    BeforeValidator(read_off),
    _or("off", {"type": "string"}),
    Shown(show_duration, none="off"),
]
HostPortOrOff = Annotated[
    HostPort | None,
    BeforeValidator(read_off),
    _or("off", {"type": "string", "pattern": r"^.+:\d+$"}),
    Shown(str, none="off"),
]


with no_plugins():

    class Section(BaseModel):
        """What all models share: unknown keys are errors, types are not guessed, nothing changes.

        The text below a field describes it; `schema.describe` reads it from the source when
        somebody asks, because pydantic's own extraction would cost every start 10 ms.
        """

        model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
