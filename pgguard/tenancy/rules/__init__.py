"""One rule per file: its page (the docstring, read by `pgguard explain`), remedy and fixes.

Laws: a page has a title line and the headings What it does, Why it is bad, Example, Use instead and
References; `RULES` names every rule of this package; remedies are one sentence, fixes name the very
column, alias and parameter.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pgguard.sql.statement import Part
    from pgguard.tenancy.model import Model
    from pgguard.tenancy.outcome import Outcome

RULES: Final = {
    "PGG101": "pgg101_unscoped",
    "PGG102": "pgg102_cross_tenant",
    "PGG103": "pgg103_cross_tenant_transaction",
    "PGG104": "pgg104_by_id",
    "PGG105": "pgg105_scoped_fk",
    "PGG106": "pgg106_unknown",
    "PGG107": "pgg107_leak_proven",
    "PGG108": "pgg108_row_security",
    "PGG109": "pgg109_allow_entries",
    "PGG110": "pgg110_ambiguous_model",
    "PGG901": "pgg901_not_analysed",
}


def load() -> None:
    """Import all rules now: later no descriptor may be left for them."""
    for name in RULES.values():
        import_module(f"{__name__}.{name}")


def remedy(code: str, outcomes: list[Outcome], why: str) -> str:
    """What to do about a statement, in one sentence."""
    module = import_module(f"{__name__}.{RULES[code]}")
    text: str = module.remedy(outcomes, why)
    return text


def fix(code: str, outcome: Outcome, part: Part | None, model: Model) -> str:
    """The smallest change that would cure one occurrence; empty if there is none to name."""
    module = import_module(f"{__name__}.{RULES[code]}")
    text: str = module.fix(outcome, part, model)
    return text
