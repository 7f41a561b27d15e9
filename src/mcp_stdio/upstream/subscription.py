"""One `subscriptions/listen` of the client, over as many connections as it takes (T-71, S-15).

A listen stream that breaks off is opened again under a new id, and the client notices nothing: the
tag of what arrives is rewritten to its own id, the later acknowledgements are swallowed, and after
a gap one change of each kind that it listens to is told, so that it reads again what it may have
missed. There is no silence to be measured: a server may have nothing to say for days. Bounded by
the client's cancel, the server's result, or an answer that says that there will be nothing more.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator

import trio

from mcp_stdio import jsonrpc, retry, spec, splice
from mcp_stdio.errors import ConnectionLost, RelayError, TimedOut, Unreachable
from mcp_stdio.jsonrpc import Message
from mcp_stdio.upstream import Call
from mcp_stdio.upstream.exchange import Messenger
from mcp_stdio.upstream.link import Link
from mcp_stdio.upstream.patience import Patience
from mcp_stdio.upstream.refusal import HttpRefusal

log = logging.getLogger(__name__)


class Subscription:
    """A listen stream; `timeout_read` is how many seconds the server has to acknowledge it."""

    def __init__(
        self,
        messenger: Messenger,
        link: Link,
        request: Message,
        call: Call,
        ids: Iterator[str],
        timeout_read: float | None,
    ) -> None:
        self._messenger = messenger
        self._link = link
        self._request = request
        self._call = call
        self._ids = ids
        self._timeout_read = timeout_read
        self._backoff = retry.Backoff()
        self._granted: dict[str, object] | None = None  # as last acknowledged
        self._attempt = trio.CancelScope()

    async def run(self) -> None:
        """Listen until the client cancels or the server ends it.

        Raises RelayError where there is no stream, or no more.
        """
        request, has_tried_twice = self._request, False
        while True:
            begun = trio.current_time()
            with trio.CancelScope() as self._attempt:
                try:
                    await self._listen(request)
                    return
                except RelayError as failure:
                    if self._granted is None:
                        if has_tried_twice or not isinstance(failure, ConnectionLost):
                            raise
                        has_tried_twice = True  # safe to repeat, once as any such request
                    elif not _passes(failure):
                        raise
                    log.info("a listen stream broke off: %s", failure)
                # One that breaks off at once each time is not to be asked twice a second.
                if trio.current_time() - begun >= self._backoff.LONGEST:
                    self._backoff.reset()
                if self._granted is not None:
                    await trio.sleep(self._backoff.delay(asked=None, jitter=random.random()))
            request = self._request.with_id(next(self._ids))

    def reopen(self) -> None:
        """Connect anew at once: the machine has slept, and the connection may be dead."""
        if self._granted is not None:
            self._backoff.reset()
            self._attempt.cancel()

    async def _listen(self, request: Message) -> None:
        with Patience(silence=self._timeout_read, total=None) as patience:

            async def take(message: Message) -> None:
                patience.relax()
                await self._take(message)

            try:
                await self._messenger.ask(request, self._link, self._call.emitting(take), patience)
            except HttpRefusal as refusal:
                if refusal.answer is None or (self._granted is not None and _passes(refusal)):
                    raise
                await self._take(refusal.answer)

    async def _take(self, message: Message) -> None:
        if message.is_response:
            assert self._request.id is not None
            if not jsonrpc.same_id(message.id, self._request.id):
                message = message.with_id(self._request.id)
            await self._call.emit(self._tagged(message, "result"))
        elif message.method == spec.ACKNOWLEDGED:
            await self._acknowledge(message)
        elif message.method in (spec.PROGRESS, spec.LOG_MESSAGE):
            log.info("dropped `%s`: it belongs to no listen stream", message.method)  # T-72
        else:
            await self._call.emit(self._tagged(message, "params"))

    async def _acknowledge(self, message: Message) -> None:
        granted = message.params.get("notifications")
        before, self._granted = self._granted, granted if isinstance(granted, dict) else {}
        if before is None:
            await self._call.emit(self._tagged(message, "params"))
            return
        if self._granted != before:
            log.warning("the server grants a listen stream other notifications than before")
        for change in changes(self._granted):
            await self._call.emit(self._tagged(change, "params"))

    def _tagged(self, message: Message, member: str) -> Message:
        """The message with the client's own id as its subscription (S-15)."""
        meta = message.body.get(member)
        meta = meta.get("_meta") if isinstance(meta, dict) else None
        tag = meta.get(spec.META_SUBSCRIPTION) if isinstance(meta, dict) else None
        if tag is None or jsonrpc.same_id(tag, self._request.id):
            return message
        own = splice.encode(self._request.id)
        path = (member, "_meta", spec.META_SUBSCRIPTION)
        return message.edited(lambda text: splice.put(text, own, *path))


def changes(granted: dict[str, object]) -> Iterator[Message]:
    """One change of each kind that a listen filter lets through; their tag is to be put right."""
    tag = {"_meta": {spec.META_SUBSCRIPTION: ""}}
    for kind, (_, method) in spec.LIST_CHANGES.items():
        if granted.get(kind) is True:
            yield jsonrpc.notification(method, tag)
    uris = granted.get("resourceSubscriptions")
    for uri in uris if isinstance(uris, list) else ():
        yield jsonrpc.notification(spec.RESOURCE_UPDATED, tag | {"uri": uri})


def _passes(failure: RelayError) -> bool:
    """Whether a stream that was open may be open again later.

    Only the server's own words end it: a status without any may be that of a gateway meanwhile.
    """
    if isinstance(failure, HttpRefusal):
        return failure.answer is None or failure.event is not None
    return isinstance(failure, Unreachable | ConnectionLost | TimedOut)
