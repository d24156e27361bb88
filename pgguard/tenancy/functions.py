"""What a call of a function may read, and whether its result is a constant.

Laws: Postgres's own functions read no tenant's rows, but for those that run SQL given as text; a
function of the user is trusted only if it is immutable or known by name; what the catalogue does
not know may do anything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pgguard.tenancy.calls import RUNS_TEXT

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pgguard.sql.statement import Constant, Name
    from pgguard.tenancy.catalogue import Function
    from pgguard.tenancy.model import Model

_HARMLESS: Final = frozenset(
    {
        "armor",
        "crypt",
        "gen_random_bytes",
        "gen_random_uuid",
        "gen_salt",
        "insert_username",
        "moddatetime",
        "similarity",
        "unaccent",
        "uuid_generate_v1",
        "uuid_generate_v1mc",
        "uuid_generate_v4",
        "word_similarity",
    }
)
"""Functions of the contrib extensions, written in C, that read no table."""


def obstacle(functions: Iterable[Name], model: Model, *, in_from: bool) -> str:
    """Why calls make a statement's reach unknown; empty if they do not."""
    for name in functions:
        if configured(name, model):
            continue
        if name.name in RUNS_TEXT and name.schema in {"", "pg_catalog"}:
            return f"{name.name}() reads what its argument says"
        theirs = definitions(name, model)
        if not theirs:
            if not builtin(name, model):
                return f"function {name} is not in the catalogue"
            continue
        if in_from or not all(_reads_nothing(name.name, one) for one in theirs):
            return f"what function {name} reads cannot be seen"
    return ""


def operator_obstacle(operators: Iterable[str], model: Model) -> str:
    """The same for operators; those written in C come with extensions and read nothing."""
    for name in operators:
        for one in model.catalogue.operators.get(name, ()):
            if one.volatility != "i" and one.language not in {"c", "internal"}:
                return f"what operator {name} reads cannot be seen"
    return ""


def is_constant(constant: Constant, model: Model) -> bool:
    """Whether the functions of an expression let it be a constant (M2)."""
    if constant.kind in {"opaque", "default"}:
        return False
    for name in constant.functions:
        if configured(name, model):
            continue
        theirs = definitions(name, model)
        # A stable one keeps its result within a statement; what it reads is the obstacle's matter.
        if any(one.volatility == "v" for one in theirs):
            return False
        if theirs:
            continue
        if not builtin(name, model) or name.name in model.catalogue.volatile_builtins:
            return False
    return True


def configured(name: Name, model: Model) -> bool:
    """Whether the settings say that the function returns the tenant."""
    return name.name in model.settings.functions or str(name) in model.settings.functions


def definitions(name: Name, model: Model) -> list[Function]:
    """The user's functions of that name, whatever their arguments."""
    found = model.catalogue.functions.get(name.name, [])
    return [one for one in found if not name.schema or one.schema == name.schema]


def builtin(name: Name, model: Model) -> bool:
    """Whether it may be one of Postgres's own."""
    if name.schema:
        return name.schema in {"pg_catalog", "information_schema"}
    return name.name in model.catalogue.builtins


def _reads_nothing(name: str, function: Function) -> bool:
    if function.volatility == "i" or function.quiet:
        return True
    return function.language == "c" and name in _HARMLESS
