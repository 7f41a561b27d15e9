"""A server of the revision 2026-07-28 over Streamable HTTP: each request stands for itself.

Owns what is special about that era: headers that repeat what the body says (T-20 to T-22, T-30), no
session and no other stream, a closed response as the way to cancel (T-60), a new id for a request
that is sent again (T-13), and listen streams that outlive their connections (`subscription`). The
server never asks: a request from it is dropped, and so is a response of the client (S-4, T-10).
Knows nothing of handshakes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

from mcp_stdio import routing, spec
from mcp_stdio.errors import BadAnswer, RelayError
from mcp_stdio.http import Head
from mcp_stdio.jsonrpc import Message
from mcp_stdio.upstream import Call, Sending
from mcp_stdio.upstream.exchange import Messenger
from mcp_stdio.upstream.link import HeaderList
from mcp_stdio.upstream.patience import Patience
from mcp_stdio.upstream.progress import Rising
from mcp_stdio.upstream.refusal import HttpRefusal
from mcp_stdio.upstream.subscription import Subscription

log = logging.getLogger(__name__)


class Stateless:
    """The upstream of the modern era.

    `parameter_headers` gives the headers that a tool's schema asks for; `ids` mints the relay's own
    ids. Time-outs are seconds, None without limit.
    """

    version: str | None = None
    """Nothing is agreed on: each request names its own."""

    def __init__(
        self,
        messenger: Messenger,
        *,
        parameter_headers: Callable[[Message], HeaderList],
        ids: Iterator[str],
        timeout_read: float | None,
        timeout_call: float | None,
    ) -> None:
        self._messenger = messenger
        self._link = StatelessLink(parameter_headers, ids)
        self._ids = ids
        self._timeout_read = timeout_read
        self._timeout_call = timeout_call
        self._subscriptions: set[Subscription] = set()

    def send(self, message: Message, call: Call) -> Sending:
        """Deliver one message; see `Upstream.send`.

        A refused `server/discover` is raised, whatever its body: it tells of the server's era.
        """
        if not message.is_request:
            return self._notify(message, call)
        if message.method == spec.LISTEN:
            return self._subscribe(message, call)
        return self._request(message, call)

    def refresh(self) -> None:
        """Connect the listen streams anew."""
        for subscription in self._subscriptions:
            subscription.reopen()

    async def aclose(self) -> None:
        """Nothing is open that a server would have to be told about."""

    async def _request(self, message: Message, call: Call) -> None:
        if message.method in spec.SAFE_METHODS:  # what is sent again begins its progress again
            progress = Rising(call.emit, call.emit_all)
            call = Call(progress.emit, call.turn, call.leave, progress.emit_all)
        with Patience(silence=self._timeout_read, total=self._timeout_call) as patience:
            try:
                await self._messenger.ask(message, self._link, call, patience)
            except HttpRefusal as refusal:
                if refusal.answer is None or message.method == spec.DISCOVER:
                    raise
                await call.emit(refusal.answer)

    async def _subscribe(self, message: Message, call: Call) -> None:
        subscription = Subscription(
            self._messenger, self._link, message, call, self._ids, self._timeout_read
        )
        self._subscriptions.add(subscription)
        try:
            await subscription.run()
        finally:
            self._subscriptions.discard(subscription)

    async def _notify(self, message: Message, call: Call) -> None:
        if message.is_response:
            log.warning("dropped a response: this server asks no questions")
            return
        try:
            with Patience(silence=self._timeout_read, total=self._timeout_call) as patience:
                await self._messenger.tell(message, self._link, call, patience)
        except RelayError as exc:
            log.warning("could not deliver a notification: %s", exc)


class StatelessLink:
    """The `Link` of a server that keeps nothing between two requests."""

    has_session = False
    closing_cancels = True
    answers_elsewhere = False

    def __init__(
        self, parameter_headers: Callable[[Message], HeaderList], ids: Iterator[str]
    ) -> None:
        self._parameter_headers = parameter_headers
        self._ids = ids

    def headers(self, message: Message) -> HeaderList:
        """What the body says, for those who do not read it. Raises Unsendable."""
        return spec.POST_HEADERS + routing.headers(message) + self._parameter_headers(message)

    def anew(self, message: Message) -> Message:
        """The request under a new id (2026-07-28 transports: a broken stream loses its request)."""
        return message.with_id(next(self._ids))

    def resume_headers(self, last_event_id: str) -> HeaderList | None:
        """No stream is resumed in this era."""
        return None

    def opened(self, message: Message, call: Call, patience: Patience) -> None:
        """Nothing to remember."""

    def begun(self, message: Message, head: Head) -> None:
        """A response carries nothing for later in its head."""

    def closed(self, message: Message) -> None:
        """Nothing to forget."""

    def overheard(self, message: Message, request: Message) -> bool:
        """Notifications of the request pass; a server of this era must not ask (T-10)."""
        if message.is_request:
            log.warning("dropped a request of the server: this protocol revision has none")
        return not message.is_request

    async def wait_elsewhere(self, message: Message) -> None:
        """There is no other stream on which an answer could come."""
        raise BadAnswer("the server accepted the request without an answer")

    async def abandon(self, message: Message, withdrawn: Message | None) -> None:
        """The closed stream has told the server (T-60)."""
