"""One session as the server knows it: its id, its version, and what is open under it.

The `Link` of the handshake era. Dresses messages in the session's headers (protocol.md 1.3), knows
which requests and questions are open, and ends them when the session is lost. It is opened, used
and replaced by `session`, and never comes back.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import trio

from mcp_stdio import jsonrpc, spec
from mcp_stdio.errors import (
    BadAnswer,
    ConnectionLost,
    Defect,
    OutputClosed,
    RelayError,
    SessionLost,
    quote,
)
from mcp_stdio.http import Head
from mcp_stdio.jsonrpc import Id, Message
from mcp_stdio.redaction import protect_passing
from mcp_stdio.upstream import Call, EmitAll, own_call
from mcp_stdio.upstream.barrier import Barrier
from mcp_stdio.upstream.exchange import Messenger
from mcp_stdio.upstream.link import HeaderList, HeadersOf, no_headers
from mcp_stdio.upstream.patience import Patience
from mcp_stdio.upstream.questions import Questions

log = logging.getLogger(__name__)

COMPLETION = 1.0
"""Seconds that the POST of a request may take to complete when the answer overtook it on another
stream; cut off at once, its connection could not be used again."""


MAX_VERSION = 64
"""Characters of a protocol version, which goes along with each message; there are ten in a date."""


class _Open:
    """A request of the client under way."""

    def __init__(self, message: Message, call: Call, patience: Patience) -> None:
        self.message = message
        self.call = call
        self.patience = patience
        self.streams = False  # the answer is yet to come, on a stream of the session
        self.waits_elsewhere = False  # the answer comes on a stream that all requests share
        self.is_over = trio.Event()  # answered there, or in vain
        self.failure: RelayError | None = None

    def fail(self, failure: RelayError) -> None:
        """No answer will come there."""
        if not self.is_over.is_set():
            self.failure = failure
            self.is_over.set()


class Handshake:
    """A session, from the `initialize` request that opens it to the farewell.

    `messenger` takes its messages; requests wait behind `barrier`. `listening` is the scope of the
    task that reads the shared stream, `has_listener` whether it was asked for, `is_listening`
    whether the server may still offer it; `listening_decided` is set once it said so, or could not
    be asked. `is_lost` says that the session is over.
    `headers` gives what a message needs besides the session's own (T-35).
    """

    closing_cancels = False
    """Disconnecting means nothing in this era: a cancel is a message (T-48)."""

    answers_elsewhere = False
    """The answer comes with the response to its request, unless that is a 202."""

    def __init__(
        self,
        messenger: Messenger,
        questions: Questions[Handshake],
        headers: HeadersOf = no_headers,
    ) -> None:
        self.messenger = messenger
        self._questions = questions
        self._headers_of = headers
        self.session_id: str | None = None
        self.version: str | None = None
        self.barrier = Barrier()
        self.listening = trio.CancelScope()
        self.has_listener = False
        self.is_listening = False
        self.listening_decided = trio.Event()
        self.is_lost = False
        self._attempt = trio.CancelScope()
        self._next_answer: trio.Event | None = None
        self._open: dict[Id, _Open] = {}
        self._unused: trio.Event | None = None

    @property
    def has_session(self) -> bool:
        """Whether the server gave a session id; without one a 404 is just a 404 (T-42)."""
        return self.session_id is not None

    def agree(self, version: object) -> None:
        """Take over the version of the server's answer. Raises BadAnswer when it is no version."""
        if (
            not isinstance(version, str)
            or len(version) > MAX_VERSION
            or not spec.is_visible_ascii(version)
        ):
            raise BadAnswer("the server's answer to `initialize` names no protocol version")
        self.version = version

    def anew(self, message: Message) -> Message:
        """The same request: safe to repeat, it may keep its id."""
        return message

    # Headers

    def headers(self, message: Message) -> HeaderList:
        """Headers of a POST; `initialize` itself goes out bare, also when it is tried again."""
        if message.method == spec.INITIALIZE:
            return spec.POST_HEADERS
        return spec.POST_HEADERS + self._own_headers() + self._headers_of(message)

    def listen_headers(self, last_event_id: str | None) -> HeaderList:
        """Headers of the GET stream."""
        resume: HeaderList = ()
        if last_event_id is not None:
            resume = ((spec.LAST_EVENT_ID, last_event_id),)
        return spec.GET_HEADERS + self._own_headers() + resume

    def resume_headers(self, last_event_id: str) -> HeaderList | None:
        """Headers of the GET that resumes any stream of this session (T-46)."""
        return self.listen_headers(last_event_id)

    def farewell_headers(self) -> HeaderList:
        """Headers of the DELETE."""
        return self._own_headers()

    def _own_headers(self) -> HeaderList:
        own: HeaderList = ()
        if self.version is not None:
            own += ((spec.PROTOCOL_VERSION, self.version),)
        if self.session_id is not None:
            own += ((spec.SESSION_ID, self.session_id),)
        return own

    # Requests under way

    def opened(self, message: Message, call: Call, patience: Patience) -> None:
        """Remember a request: its answer may arrive on another stream."""
        assert message.id is not None
        self._open[message.id] = _Open(message, call, patience)

    def begun(self, message: Message, head: Head) -> None:
        """The response has begun; that of `initialize` brings the session id (T-41)."""
        if (opened := self._opened(message)) is not None:
            # What is answered in JSON is on its way as a whole, session or not.
            is_whole = head.media_type == spec.JSON and head.status not in (202, 204)
            opened.streams = self.answers_elsewhere or not is_whole
        if self._next_answer is not None:
            self._next_answer.set()
            self._next_answer = None
        if message.method == spec.INITIALIZE:
            session_id = head.headers.get(spec.SESSION_ID.lower())
            if session_id is not None and not spec.is_visible_ascii(session_id):
                raise BadAnswer("the server's session id has characters that none may have")
            if session_id is not None:
                protect_passing(session_id)
            self.session_id = session_id

    def closed(self, message: Message) -> None:
        """Forget a request."""
        closed = self._opened(message)
        if closed is not None and message.id is not None:
            del self._open[message.id]
            self._questions.drop(closed.patience)
            if not self._open and self._unused is not None:
                self._unused.set()

    async def unused(self) -> None:
        """Wait until no request of the client is under way."""
        while self._open:
            self._unused = trio.Event()
            await self._unused.wait()

    def _opened(self, message: Message) -> _Open | None:
        """A request under way; None once it was forgotten.

        A client may use an id again as soon as it has the answer, while the task of the first
        request is still leaving.
        """
        opened = None if message.id is None else self._open.get(message.id)
        return opened if opened is not None and opened.message is message else None

    async def wait_elsewhere(self, message: Message) -> None:
        """Wait for the shared stream to bring the answer."""
        waiting = self._opened(message)
        if waiting is None:
            return
        if not self.is_listening and not waiting.is_over.is_set():
            raise self._unanswerable(waiting.patience)
        waiting.waits_elsewhere = True
        await waiting.is_over.wait()
        if waiting.failure is not None:
            raise waiting.failure

    async def take(self, messages: list[Message], emit_all: EmitAll) -> None:
        """Take what one read of the shared stream brought, perhaps nothing; a sign of life it is.

        Responses go to the requests that wait for them, the rest to `emit_all`.
        """
        for waiting in self._open.values():
            if waiting.waits_elsewhere:
                waiting.patience.heard()
        run: list[Message] = []
        with self._taking():
            for message in messages:
                if not message.is_response:
                    self.overheard(message, None)
                    run.append(message)
                    continue
                if run:
                    await emit_all(run)
                    run = []
                await self._answer(message)
            if run:
                await emit_all(run)

    async def _answer(self, message: Message) -> None:
        waiting = None if message.id is None else self._open.get(message.id)
        if waiting is None:
            log.info("dropped a response to no request on the shared stream")
            return
        try:
            await waiting.call.emit(message)
        except RelayError as failure:  # an answer that cannot be used is its request's affair
            waiting.patience.give_up(failure)
            return
        except OutputClosed:
            raise
        except Exception:
            log.exception("internal error")
            waiting.patience.give_up(Defect("internal error in mcp-stdio"))
            return
        waiting.is_over.set()
        waiting.patience.finish(COMPLETION)

    async def abandon(self, message: Message, withdrawn: Message | None) -> None:
        """Send `notifications/cancelled` under the id that the server knows (T-61)."""
        if message.method == spec.INITIALIZE:
            return  # must not be cancelled (T-16)
        self.closed(message)  # some servers answer all the same
        if withdrawn is None and "task" in message.params:
            return  # only `tasks/cancel` ends a task, and its id is not known yet (T-62)
        notice = withdrawn
        if notice is None or not jsonrpc.same_id(notice.params.get("requestId"), message.id):
            notice = jsonrpc.notification(spec.CANCELLED, {"requestId": message.id})
        patience = Patience(silence=None, total=None)  # the caller's scope bounds it
        with patience:
            await self.messenger.tell(notice, self, own_call(_ignore), patience)

    def overheard(self, message: Message, request: Message | None) -> bool:
        """Note what the server asks the client, on the stream of `request` or on the shared one.

        A question on the shared stream may belong to any request under way.
        """
        if message.method == spec.CANCELLED:
            self._questions.settle(message.params.get("requestId"))
        elif message.is_request:
            if message.method != spec.PING and _is_opening(request):
                log.warning("dropped `%s`: the server asks too early", quote(message.method))
                return False  # before `initialized` it may only ping (S-9)
            concerned = list(self._open.values())
            if request is not None:
                opened = self._opened(request)
                concerned = [] if opened is None else [opened]
            self._questions.ask(message, self, [each.patience for each in concerned])
        return True

    # Ends

    def lose(self) -> None:
        """The server knows the session no more: end what was streaming under it (E-7).

        Requests without a response yet learn it from their own 404 and are sent again; one whose
        answer has begun to come has it.
        """
        self.is_lost = True
        self.listening.cancel()
        self._questions.forget(self)
        for waiting in self._open.values():
            if waiting.streams:
                waiting.patience.give_up(
                    SessionLost("the server ended the session while the call was running")
                )

    def decline_listening(self) -> None:
        """There is no shared stream: nothing will arrive there."""
        self.is_listening = False
        for waiting in self._open.values():
            if waiting.waits_elsewhere:
                waiting.fail(self._unanswerable(waiting.patience))

    def stop_listening(self) -> None:
        """Read the shared stream no more; what was to come there comes no more (E-2)."""
        self.listening.cancel()
        self.is_listening = False
        for waiting in self._open.values():
            if waiting.waits_elsewhere:
                cause = "another session took the place of this one while the request was running"
                if not waiting.patience.is_harmless:
                    cause = f"{cause}; whether the call ran is unknown"
                waiting.fail(ConnectionLost(cause, answer_begun=True))

    async def next_answer(self) -> None:
        """Wait until the server answers a request of the client."""
        if self._next_answer is None:
            self._next_answer = trio.Event()
        await self._next_answer.wait()

    def attempt(self) -> trio.CancelScope:
        """A scope for one connection of the shared stream, which `reopen` ends."""
        self._attempt = trio.CancelScope()
        return self._attempt

    def reopen(self) -> None:
        """Have the shared stream connected anew, once what was read from it has been taken."""
        self._attempt.cancel()

    @contextmanager
    def _taking(self) -> Iterator[None]:
        # Cut off in the middle, what was written already would come again with what was not.
        connection, self._attempt = self._attempt, trio.CancelScope()
        try:
            yield
        finally:
            put_off, self._attempt = self._attempt, connection
            if put_off.cancel_called:
                connection.cancel()

    def _unanswerable(self, patience: Patience) -> RelayError:
        """Why there will be no answer to the request that `patience` is about."""
        return BadAnswer("the server accepted the request without an answer and offers no stream")


def _is_opening(request: Message | None) -> bool:
    return request is not None and request.method == spec.INITIALIZE


async def _ignore(message: Message) -> None:
    pass
