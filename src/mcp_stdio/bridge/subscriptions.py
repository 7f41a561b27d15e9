"""`subscriptions/listen` in front of a server that knows `resources/subscribe` instead (B-59).

Owns the client's open listens and how many of them want each resource: the server is asked once for
each, when the first one comes, and told off when the last one goes. What changes is brought to all
that asked for it, whichever stream it came on, under the id of each; nothing before its
acknowledgement (S-15). Knows neither sessions nor whether they are renewed: it is told.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import trio

from mcp_stdio import spec
from mcp_stdio.bridge import reshaping
from mcp_stdio.bridge.log_level import Own
from mcp_stdio.errors import RelayError
from mcp_stdio.jsonrpc import Id, Message
from mcp_stdio.upstream import Call, Emit

log = logging.getLogger(__name__)

LEAVING = 1.0
"""Seconds for taking back what a listen had subscribed to; its id is not free before. As long as
the server is given to be told of any other cancel."""


MAX_EARLY = 1000
"""Changes remembered until a listen is acknowledged; more of them tell nothing new."""


class Subscriptions:
    """All listens of the client."""

    def __init__(self, own: Own) -> None:
        self._own = own
        self._listens: list[_Listen] = []
        self._resources: dict[str, _Resource] = {}

    async def listen(self, request: Message, call: Call, capabilities: Mapping[str, Any]) -> None:
        """Bring what `request` asks for until it is cancelled. Raises RelayError."""
        assert request.id is not None
        asked = reshaping.Filter.of(request)
        listen = _Listen(request.id, asked, call.emit)
        held: list[_Resource] = []
        self._listens.append(listen)
        try:
            granted = []
            for uri in asked.uris:
                resource = self._resources.setdefault(uri, _Resource(uri))
                resource.users += 1
                held.append(resource)
                if await resource.subscribe(self._own):
                    granted.append(uri)
            await listen.acknowledge(asked.granted(capabilities, granted))
            await trio.sleep_forever()
        finally:
            self._listens.remove(listen)
            for resource in held:
                resource.users -= 1
            with call.leave.shielded(LEAVING):
                async with trio.open_nursery() as nursery:
                    for resource in held:
                        nursery.start_soon(resource.unsubscribe, self._own)
            for resource in held:
                if resource.is_forgotten and self._resources.get(resource.uri) is resource:
                    del self._resources[resource.uri]

    async def deliver(self, notification: Message) -> None:
        """Something has changed: tell all that asked for it."""
        for listen in list(self._listens):
            if listen in self._listens:  # it may have gone while another one was told
                await listen.deliver(notification)

    async def renewed(self) -> None:
        """Changes may have been missed: have everything read again."""
        for listen in list(self._listens):
            for notification in listen.filter.everything():
                if listen in self._listens:
                    await listen.deliver(notification)


class _Listen:
    """One listen. `filter` is what it asks for, later what it was granted."""

    def __init__(self, id: Id, filter: reshaping.Filter, emit: Emit) -> None:
        self.filter = filter
        self._id = id
        self._emit = emit
        # What changed before the acknowledgement, each once.
        self._early: dict[bytes, Message] | None = {}

    async def acknowledge(self, granted: reshaping.Filter) -> None:
        self.filter = granted
        await self._emit(reshaping.tagged(granted.acknowledgement(), self._id))
        early, self._early = self._early or {}, None
        for notification in early.values():
            await self.deliver(notification)

    async def deliver(self, notification: Message) -> None:
        if not self.filter.wants(notification):
            return
        if self._early is not None:
            if len(self._early) < MAX_EARLY:
                self._early.setdefault(notification.raw, notification)
            return
        try:
            tagged = reshaping.tagged(notification, self._id)
        except RelayError as exc:
            log.warning("dropped a `%s`: %s", notification.method, exc)
            return
        await self._emit(tagged)


class _Resource:
    """A resource that `users` listens want; `is_granted` once the server agreed."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.users = 0
        self._is_granted = False
        self._was_asked = False  # the server may have it, also if the answer never came
        self._asking = trio.Lock()  # what is asked first must arrive first

    @property
    def is_forgotten(self) -> bool:
        """Whether nobody wants it and the server does not have it."""
        return not (self.users or self._was_asked)

    async def subscribe(self, own: Own) -> bool:
        """Ask the server unless it has agreed; whether it does. Raises RelayError."""
        async with self._asking:
            if not self._is_granted:
                self._was_asked = True
                answer = await own(spec.SUBSCRIBE, {"uri": self.uri})
                self._is_granted = self._was_asked = answer.error is None
                if answer.error is not None:
                    log.info("the server does not tell of changes of a resource")
            return self._is_granted

    async def unsubscribe(self, own: Own) -> None:
        """Take it back if nobody wants it any more."""
        async with self._asking:
            if self.users or not self._was_asked:
                return
            self._is_granted = False
            try:
                await own(spec.UNSUBSCRIBE, {"uri": self.uri})
            except RelayError as exc:
                log.info("could not unsubscribe from a resource: %s", exc)
            self._was_asked = False
