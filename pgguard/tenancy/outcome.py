"""What is known of one use of a tenant table: what proofs give and words are made of.

It stands alone because a guard whose command says no statement must not load the proof.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pgguard.findings import Verdict
    from pgguard.sql.statement import Constant, KeyValue
    from pgguard.tenancy.catalogue import Table
    from pgguard.tenancy.model import Role


@dataclass(slots=True)
class Outcome:
    """The level of one occurrence and why.

    `cure` says which fix applies: `condition`, `insert`, `conflict`, `assign`, `truncate`,
    `copy`, or nothing. `ambiguous` = the model must be settled first.
    """

    table: Table
    alias: str
    level: Verdict
    why: str
    cure: str = ""
    role: Role | None = None
    ambiguous: bool = False
    tenant: tuple[frozenset[Constant], str] | None = None
    """What the tenant column may be, and its type."""
    key: KeyValue | None = None
    """The key that chooses the row instead, or that it is inserted with."""
    use: str = "read"
    position: int = -1
    """Bytes before its name in the text; -1 = not known."""
    condition: str = ""
    """The WHERE that a condition is added to: `` (none), `and`, `or`."""
    outer: str = ""
    """Whose ON a condition belongs into."""
    named: bool = False
    """Columns need its name in front of them."""
    inside: str = ""
    """The view that it stands in."""
    renamed: dict[str, str] = field(default_factory=dict)
    """Columns that go by another name here; of a view, all that it shows."""
    columns: tuple[str, ...] | None = None
    """INSERT: the column list as it was written."""
