"""The real core has what we read of it."""

from __future__ import annotations

import pytest

from pgguard.core.hub import Hub
from pgguard.core.server import Server
from pgguard.core.session import Session
from pgguard.core.types import Client, Flagged
from pgguard.pool.admission import Admission
from pgguard.pool.identity import ProcessInfo
from pgguard.pool.limits import ClientLimits
from pgguard.pool.tickets import Share
from pgguard.record import subject
from pgguard.sql.statement import Statement

PAIRS = [
    (subject.Hub, Hub),
    (subject.Client, Client),
    (subject.Session, Session),
    (subject.Server, Server),
    (subject.Tally, Flagged),
    (subject.Holding, Share),
    (subject.Limits, ClientLimits),
    (subject.Process, ProcessInfo),
    (subject.Admission, Admission),
    (subject.Judged, Statement),
]


def names(cls: type) -> set[str]:
    """Attributes of a class: methods, slots, annotations, and what `__init__` sets."""
    found = set(dir(cls)) | set(getattr(cls, "__annotations__", {}))
    return found | set(cls.__init__.__code__.co_names)


@pytest.mark.parametrize(("ours", "theirs"), PAIRS, ids=lambda cls: cls.__name__)
def test_every_attribute_that_we_read_exists(ours, theirs):
    wanted = {name for name, value in vars(ours).items() if isinstance(value, property)}
    assert wanted
    assert wanted <= names(theirs)
