"""The settings of the tenant guard: the model, the modes, and what is allowed."""

from __future__ import annotations

from contextlib import ExitStack
from datetime import date
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, Strict, StringConstraints, model_validator

from pgguard.settings.forms import Name, Names, Section, Size
from pgguard.settings.plugins import no_plugins

Mode = Literal["observe", "warn", "block"]
Code = Annotated[str, StringConstraints(pattern=r"^PGG(1\d\d|901)$")]


def _read_day(value: object) -> object:
    if isinstance(value, str):
        try:
            return date.fromisoformat(value)
        except ValueError:
            raise ValueError('should be a day such as "2027-01-31"') from None
    return value


Day = Annotated[date, BeforeValidator(_read_day)]

_building = ExitStack()
_building.enter_context(no_plugins())


class ModeRule(Section):
    """A mode for the findings that fit."""

    code: Code | None = None
    table: Name | None = None
    client: Name | None = None
    mode: Mode


class Allow(Section):
    """An exception, with its reason."""

    fingerprint: Name | None = None
    table: Name | None = None
    client: Name | None = None
    comment: Name | None = None
    reason: Name
    expires: Day | None = None

    @model_validator(mode="after")
    def _names_something(self) -> Allow:
        if not (self.fingerprint or self.table or self.client or self.comment):
            raise ValueError("should name a fingerprint, a table, a client or a comment")
        return self


class Tenancy(Section):
    columns: Names = ("tenant_id", "tenantId")
    """Names of the columns that carry the tenant."""
    root: Names = ()
    """The tables of the tenants themselves; empty = discovered."""
    owned: dict[Name, Name] = Field(default={})
    """`{BookingAddOn = "bookingId"}`: a table without a tenant column and the column that leads to
    its owner; empty = discovered."""
    shared: Names = ()
    """Tables whose rows without a tenant are visible to all."""
    global_: Names = Field(default=(), alias="global")
    """Tables that belong to no tenant."""
    functions: Names = ()
    """Functions that return the current tenant."""
    settings: Names = ("app.tenant_id", "app.current_tenant")
    """Settings (GUCs) that carry the tenant."""
    mode: Mode = "observe"
    """`observe`: statements are judged and reported; `warn`: their sessions get a NOTICE, too;
    `block`: statements that are not scoped to a tenant are refused before they run."""
    rules: Annotated[tuple[ModeRule, ...], Strict(False)] = ()
    """Modes for some: `{code, table, client, mode}`, of which table and client are globs. Of
    several entries that fit the last decides; only one that names a code blocks what is less than
    an error."""
    setup: Names = ()
    """Clients that set up or clean up, as globs: what they do is class `setup`, and not blocked."""
    allow: Annotated[tuple[Allow, ...], Strict(False)] = ()
    """Exceptions: `{fingerprint, table, client, comment, reason, expires}`. What an entry names has
    to fit; `comment` is NAME of `/* pgguard:allow NAME */` in the statement; `expires` is its last
    day. Entries that are not used, and those that have expired, are findings."""
    max_statement: Size = 16 * 1024 * 1024
    """A longer statement is not parsed: `unknown`, PGG901."""


_building.close()
