"""Who is capped and reported: the clients that have come so far, by name.

Laws: a name that a client gives itself is taken unless several live processes use it at once, then
it is a label and each process is a client of its own; names are bounded in number; a client stays
known after its last session, because the report speaks of it.
"""

from __future__ import annotations

from itertools import chain, count
from typing import TYPE_CHECKING

from pgguard import events
from pgguard.core.types import LOCAL, Client
from pgguard.pool.identity import Carriers, identify
from pgguard.wire.startup import split_options

if TYPE_CHECKING:
    from pgguard.core.hub import Hub
    from pgguard.core.session import Session
    from pgguard.pool.identity import ClientKey, ProcessInfo

CLIENTS_LIMIT = 2_000
"""Different clients; later ones are counted together as `other`."""
OTHER = "other"

EXPLICIT = ("startup_setting", "user_suffix", "application_name")
"""Rules by which a client names itself."""


class Clients(dict[str, Client]):
    """Clients by name."""

    def __init__(self, hub: Hub) -> None:
        super().__init__()
        self._hub = hub
        self._owners: dict[str, int] = {}
        """Client → the process that uses its name now."""

    def is_named(self, session: Session) -> bool:
        """Whether the session brings a name that nobody else uses now: no need to ask procfs."""
        key = self._key_of(session)
        known = self.get(key.name)
        return key.rule in EXPLICIT and not (known and known.sessions)

    def used_by(self, session: Session) -> None:
        """The process of a session has become known after the session came in."""
        if session.process is not None:
            self._owners.setdefault(session.client.key, session.process.pid)

    def left(self, client: Client) -> None:
        """A session has ended: a name without sessions is free for any process."""
        if not client.sessions:
            self._owners.pop(client.key, None)

    def _key_of(self, session: Session) -> ClientKey:
        entrance = session.entrance
        said = entrance.said if entrance is not None else None
        assert said is not None
        settings = self._hub.settings
        basis = settings.identify, session.address, session.process
        before, key = said.known_as
        if key is None or basis != before:
            original = said.original
            key = identify(
                settings.identify,
                Carriers(
                    parameters=original,
                    options=split_options(original.get("options", "")),
                    user=original.get("user", ""),
                    address="" if session.address == LOCAL else session.address,
                    process=session.process,
                ),
                separator=settings.user_separator,
            )
            said.known_as = basis, key
        return key

    def of(self, session: Session) -> Client:
        """The client of a session, made on first use."""
        key = self._key_of(session)
        name = key.name
        if session.process is not None and key.rule in ("application_name", "process"):
            name = self._name_for(name, session.process)
        client = self.get(name)
        if client is None:
            if len(self) >= CLIENTS_LIMIT:
                self._owners.pop(name, None)
                self._hub.emit(events.ClientsMerged(self._hub.clock(), name))
                name = OTHER
            share = self._hub.admission.share(name)
            client = self.setdefault(name, Client(name, key.rule, share))
        return client

    def _name_for(self, name: str, process: ProcessInfo) -> str:
        """A name that several live processes use at once is a label: each becomes its own client,
        told apart by its test worker, else by a number."""
        if self._owners.get(name) == process.pid:
            return name
        choices = chain(
            [name],
            [f"{name} ({process.worker})"] if process.worker else [],
            (f"{name} #{number}" for number in count(2)),
        )
        for choice in choices:
            client = self.get(choice)
            owner = self._owners.get(choice)
            if owner in (None, process.pid) or client is None or not client.sessions:
                self._owners[choice] = process.pid
                return choice
        raise AssertionError("count() ends never")
