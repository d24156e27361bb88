"""Settings of a session, held against a model that keeps whole copies."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pgguard.core.tracked import RESET, Tracked

NAMES = st.sampled_from(["a", "b", "c"])
SAVEPOINTS = st.sampled_from(["s", "t"])
STEPS = st.one_of(
    st.tuples(st.just("set"), NAMES, st.sampled_from([b"1", b"2"])),
    st.tuples(st.just("reset"), NAMES),
    st.tuples(st.just("reset_all")),
    st.tuples(st.just("begin")),
    st.tuples(st.just("commit")),
    st.tuples(st.just("rollback")),
    st.tuples(st.just("savepoint"), SAVEPOINTS),
    st.tuples(st.just("release"), SAVEPOINTS),
    st.tuples(st.just("rollback_to"), SAVEPOINTS),
)


class Model:
    """As Postgres does it, but that every level is a copy of everything."""

    def __init__(self) -> None:
        self.now: dict[str, bytes] = {}
        self.before: list[tuple[str, dict[str, bytes]]] = []
        """The open transaction and its savepoints: name, and how it was when they began."""

    def step(self, kind: str, name: str = "", text: bytes = RESET) -> None:
        if kind == "set":
            self.now[name] = text
        elif kind == "reset":
            self.now.pop(name, None)
        elif kind == "reset_all":
            self.now.clear()
        elif kind == "begin" and not self.before:
            self.before.append(("", dict(self.now)))
        elif kind == "commit":
            self.before.clear()
        elif kind == "rollback" and self.before:
            self.now = self.before[0][1]
            self.before.clear()
        elif kind == "savepoint":
            self.before.append((name, dict(self.now)))
        elif kind in ("release", "rollback_to"):
            at = max(at for at, (other, _) in enumerate(self.before) if at and other == name)
            if kind == "rollback_to":
                self.now = dict(self.before[at][1])
            del self.before[at + (kind == "rollback_to") :]

    def allows(self, kind: str, name: str = "", *_: bytes) -> bool:
        """Whether Postgres would carry it out."""
        if kind == "savepoint":
            return bool(self.before)
        if kind in ("release", "rollback_to"):
            return any(other == name for other, _ in self.before[1:])
        return True


@given(st.lists(STEPS, max_size=30))
def test_what_is_kept_is_what_postgres_would_keep(steps: list[tuple[str, ...]]) -> None:
    model, tracked = Model(), Tracked()
    for step in steps:
        kind, *rest = step
        if not model.allows(*step):  # type: ignore[arg-type]
            continue
        model.step(*step)  # type: ignore[arg-type]
        if kind == "reset":
            tracked.set(rest[0], RESET)
        else:
            getattr(tracked, kind)(*rest)
        if not model.before:
            assert tracked.settings == model.now
            assert not tracked.in_transaction
        assert tracked.in_transaction == bool(model.before)
    tracked.commit()
    assert tracked.settings == model.now


def test_the_last_text_of_a_setting_counts_and_stands_last() -> None:
    tracked = Tracked()
    for name, text in (("a", b"1"), ("b", b"2"), ("a", b"3")):
        tracked.set(name, text)
    assert list(tracked.settings.items()) == [("b", b"2"), ("a", b"3")]


def test_a_server_is_given_what_differs_and_nothing_else() -> None:
    tracked = Tracked()
    tracked.set("same", b"SET same = 1")
    tracked.set("other", b"SET other = 2")
    tracked.set("new", b"SET new = 3")
    server = {"same": b"SET same = 1", "other": b"SET other = 1", "foreign": b"SET foreign = 1"}
    assert tracked.differences(server) == (
        ["foreign"],
        {"other": b"SET other = 2", "new": b"SET new = 3"},
    )


def test_what_is_set_in_an_open_transaction_is_not_kept_yet() -> None:
    tracked = Tracked()
    tracked.begin()
    tracked.set("a", b"1")
    assert tracked.settings == {}
    tracked.commit()
    assert tracked.settings == {"a": b"1"}
