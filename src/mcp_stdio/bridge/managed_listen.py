"""The one listen stream that tells a client of the handshake era what it is told unasked (B-12).

Owns what to listen for: the changes of lists that the server offers, and the resources that the
client subscribed to (B-11). Another wish means another stream: the new one is opened and
acknowledged before the old one is closed, and what both tell meanwhile is told once. Streams that
break off are opened again by the upstream (T-71); here only those that the server ended.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from math import inf

import trio

from mcp_stdio import spec, splice
from mcp_stdio.bridge.reshaping import CHANGES, Filter
from mcp_stdio.errors import ConnectionLost, RelayError, TimedOut, Unreachable, quote
from mcp_stdio.jsonrpc import Id, Message
from mcp_stdio.upstream import Emit, Upstream, own_call
from mcp_stdio.upstream.background import guarded
from mcp_stdio.upstream.refusal import HttpRefusal

log = logging.getLogger(__name__)

DEBOUNCE = 0.05
"""Seconds for further wishes: clients subscribe to many resources in one go."""

OVERLAP = 0.05
"""Seconds in which the new stream may repeat what the old one has told."""

ACKNOWLEDGEMENT = 10.0
"""Seconds a server has to acknowledge; it comes first and needs no work."""

FIRST_PAUSE = 1.0
"""Seconds before a stream that has ended is opened again; doubled each time."""

LONGEST_PAUSE = 300.0
"""Seconds of the longest pause: a server that ends each stream at once is left in peace."""

LONG_LIFE = 60.0
"""Seconds after which the end of a stream is no sign of a server that wants none."""


class NotGranted(Exception):
    """The server does not tell of this resource."""


def untagged(message: Message) -> Message:
    """A notification without the id of its subscription, and what then is empty."""
    meta = spec.meta_of(message)
    if spec.META_SUBSCRIPTION not in meta:
        return message

    def change(text: str) -> str:
        if len(meta) > 1:
            return splice.drop(text, "params", "_meta", spec.META_SUBSCRIPTION)
        if len(message.params) > 1:
            return splice.drop(text, "params", "_meta")
        return splice.drop(text, "params")

    return message.edited(change)


class _Stream:
    """A listen request under way, and what of it was granted."""

    def __init__(self, request: Message, asked: frozenset[str]) -> None:
        self.request = request
        self.asked = asked
        self.uris: frozenset[str] = frozenset()  # those of them that are granted
        self.scope = trio.CancelScope()
        self.patience = trio.CancelScope()
        self.granted = Filter((), ())
        self.settled = trio.Event()  # acknowledged, refused or failed
        self.is_acknowledged = False
        self.is_over = False
        self.began = trio.current_time()
        self.failure: RelayError | None = None
        self.refusal = "no reason given"

    def acknowledge(self, acknowledgement: Message) -> None:
        """Take note of what the server is willing to tell; there is no more hurry."""
        self.granted = Filter.of(acknowledgement)
        self.uris = self.asked.intersection(self.granted.uris)
        self.is_acknowledged = True
        self.began = trio.current_time()
        self.patience.deadline = inf
        self.settled.set()

    def may_come_again(self) -> bool:
        """Whether the end of this stream is no answer for good; only the server's own words are."""
        match self.failure:
            case None:
                return self.is_acknowledged
            case HttpRefusal(answer=answer):
                return answer is None or self.failure.retryable
            case Unreachable() | ConnectionLost() | TimedOut():
                return True
        return self.failure.retryable


class _Wish:
    """A resource that someone waits to be told of."""

    def __init__(self) -> None:
        self.decided = trio.Event()
        self.failure: Exception | None = None

    def decide(self, failure: Exception | None) -> None:
        self.failure = failure
        self.decided.set()


class ManagedListen:
    """What the client is told unasked. Nothing runs before `start` or the first `subscribe`.

    `kinds` are the lists whose changes are wanted; `request` makes a listen request from its id and
    filter. Tasks run in `nursery`, until `close`; `emit` reaches the client.
    """

    def __init__(
        self,
        upstream: Upstream,
        *,
        kinds: Sequence[str],
        request: Callable[[Id, Mapping[str, object]], Message],
        ids: Iterator[str],
        nursery: trio.Nursery,
        emit: Emit,
    ) -> None:
        self._upstream = upstream
        self._kinds = kinds
        self._request = request
        self._ids = ids
        self._nursery = nursery
        self._emit = emit
        self._scope = trio.CancelScope()
        self._is_started = False
        self._changed = trio.Event()
        self._uris: dict[str, None] = {}  # in the order in which they were wished for
        self._wishes: dict[str, _Wish] = {}  # those that are not decided yet
        self._streams: set[_Stream] = set()
        self._current: _Stream | None = None
        self._held: dict[bytes, Message] | None = None  # while one stream replaces another
        self._has_gap = False
        self._pause = FIRST_PAUSE
        self._was_refused = False

    def start(self) -> None:
        """Listen from now on, if there is anything to listen for."""
        self._changed.set()
        if not self._is_started:
            self._is_started = True
            self._nursery.start_soon(guarded, self._keep)

    def close(self) -> None:
        """Listen no more."""
        self._scope.cancel()
        for stream in self._streams:
            stream.scope.cancel()
        for uri in list(self._wishes):
            self._decide(uri, NotGranted())

    async def subscribe(self, uri: str) -> None:
        """Listen for updates of a resource; returns once they are granted.

        Raises NotGranted, or RelayError when no stream could be opened.
        """
        current = self._current
        if uri in self._uris and current is not None and uri in current.uris:
            return
        self._uris[uri] = None
        wish = self._wishes.setdefault(uri, _Wish())
        self.start()
        await wish.decided.wait()
        if wish.failure is not None:
            raise wish.failure

    def unsubscribe(self, uri: str) -> None:
        """Listen no more for updates of a resource."""
        if uri in self._uris:
            self._decide(uri, None)  # who waits to be subscribed has been overtaken, not refused
            del self._uris[uri]
            self.start()

    # The stream that fits

    async def _keep(self) -> None:
        with self._scope:
            while True:
                await self._changed.wait()
                await trio.sleep(DEBOUNCE)
                self._changed = trio.Event()
                await self._adjust()

    async def _adjust(self) -> None:
        """See to it that the stream is the one that is wanted now."""
        uris, old = frozenset(self._uris), self._current
        if old is not None and old.uris == uris:
            new = old
        elif uris or self._kinds:
            new = await self._replace(old, uris)
        else:
            if old is not None:
                self._current = None
                old.scope.cancel()
            return
        for uri in uris:
            if uri in new.uris:
                self._decide(uri, None)
            elif new.is_acknowledged or uri in self._wishes:
                self._decide(uri, new.failure or NotGranted())
        await self._catch_up(new)

    async def _replace(self, old: _Stream | None, uris: frozenset[str]) -> _Stream:
        """Open a stream and, if that succeeds, close the old one: make before break."""
        filter: dict[str, object] = dict.fromkeys(self._kinds, True)
        if uris:
            filter["resourceSubscriptions"] = [uri for uri in self._uris if uri in uris]
        new = _Stream(self._request(next(self._ids), filter), uris)
        self._streams.add(new)
        if old is not None:
            self._held = {}
        self._nursery.start_soon(guarded, self._listen, new)
        await new.settled.wait()
        if new.is_acknowledged:
            if old is not None:
                old.scope.cancel()
            self._current = None if new.is_over else new
        return new

    async def _catch_up(self, stream: _Stream) -> None:
        """Tell what was held back while streams were changed, or missed while there was none."""
        if self._held:
            await trio.sleep(OVERLAP)
        held, self._held = self._held or {}, None
        missed: Iterable[Message] = ()
        if self._has_gap and stream.is_acknowledged:
            self._has_gap = False
            missed = stream.granted.everything()
        for message in [*held.values(), *missed]:
            await self._emit(message)

    def _decide(self, uri: str, failure: Exception | None) -> None:
        """Tell who waits for a resource what became of it; without it, it is wished for no more."""
        if failure is not None:
            self._uris.pop(uri, None)
        if (wish := self._wishes.pop(uri, None)) is not None:
            wish.decide(failure)

    # One stream

    async def _listen(self, stream: _Stream) -> None:
        try:
            with stream.scope:
                await self._open(stream)
                await self._end(stream)
        finally:
            self._over(stream)
            self._streams.discard(stream)

    async def _open(self, stream: _Stream) -> None:
        stream.patience.deadline = trio.current_time() + ACKNOWLEDGEMENT
        try:
            with stream.patience:
                await self._upstream.send(stream.request, own_call(partial(self._take, stream)))
            if stream.patience.cancelled_caught:
                raise TimedOut(
                    "the server did not acknowledge that it is listened to",
                    hint="the server tells no changes; tell who runs it",
                )
        except RelayError as failure:
            stream.failure = failure

    def _over(self, stream: _Stream) -> None:
        stream.is_over = True
        stream.settled.set()
        if self._current is stream:
            self._current = None

    async def _end(self, stream: _Stream) -> None:
        """The server, or what lies in between, has ended a stream that was still wanted."""
        self._over(stream)
        if stream.may_come_again():
            if stream.is_acknowledged and trio.current_time() - stream.began >= LONG_LIFE:
                self._pause = FIRST_PAUSE
            self._has_gap = True
            pause, self._pause = self._pause, min(2 * self._pause, LONGEST_PAUSE)
            await trio.sleep(pause)
            self._changed.set()
        elif not self._was_refused:
            self._was_refused = True
            log.warning("the server tells no changes: %s", stream.failure or stream.refusal)

    async def _take(self, stream: _Stream, message: Message) -> None:
        if message.is_response:
            if message.error is not None:
                stream.is_acknowledged = False
                stream.refusal = quote(str(message.error.get("message", "")))
        elif message.method == spec.ACKNOWLEDGED:
            stream.acknowledge(message)
        elif message.is_request or message.method in (spec.PROGRESS, spec.LOG_MESSAGE):
            log.info("dropped `%s`: it belongs to no listen stream", message.method)  # T-72
        else:
            await self._tell(untagged(message))

    async def _tell(self, message: Message) -> None:
        if self._held is not None and message.method in CHANGES:  # two of them say no more than one
            self._held[message.raw] = message
        else:
            await self._emit(message)
