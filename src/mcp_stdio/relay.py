"""The relay: one nursery, a dispatcher, an end.

    trio.run
    └─ signals                  watched until the farewell is over
       └─ background nursery    the listening stream, session renewals, a look at clock and parent
          └─ in-flight nursery  one task and one cancel scope per message
             └─ read stdin      end of input begins the shutdown, which is a deadline
    stdout is not a task: a writer guarded by one lock, whole lines per acquisition.

Every request read gets exactly one answer (P1), whatever ends its task. Knows no era, no session
and no token.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Callable
from math import inf

import trio

from mcp_stdio import jsonrpc, signals, spec
from mcp_stdio.delivery import ToClient, ToRequest
from mcp_stdio.errors import (
    BadAnswer,
    ConnectionLost,
    Defect,
    OutputClosed,
    RelayError,
    SignInPending,
    quote,
    shortage,
)
from mcp_stdio.framing import Oversized
from mcp_stdio.http import Lane
from mcp_stdio.in_flight import WINDOW, InFlight, Relayed
from mcp_stdio.jsonrpc import Message, NotAMessage
from mcp_stdio.last_words import last_words
from mcp_stdio.redaction import beginning
from mcp_stdio.sleep import SleepDetector
from mcp_stdio.stdio import Input, Output
from mcp_stdio.upstream import Call, Emit, Upstream

log = logging.getLogger(__name__)

LAST_WORDS = 0.15
"""Seconds after the drain in which a client that does not read may take the last answers."""

LAST_WORDS_UNDRAINED = 1.0
"""Seconds for the same after a signal, when nothing is drained."""

LAST_WORK = 1.35
"""Seconds from the beginning of the end for what must not be cut off in the background."""

FAREWELL = 0.5
"""Seconds for ending the session (design: all within 1.9 s of the end of input)."""

BEGUN_AT_ONCE = 8
"""Messages begun in one pass of trio's loop, if so many came together. The first are answered while
the last are still to be begun, so that fewer are in memory and on connections at a time: a thousand
begun at once cost a third more CPU each."""

OPENINGS = (spec.INITIALIZE, spec.DISCOVER)
"""Requests without which the client has nothing."""

WATCH_INTERVAL = 5.0
"""Seconds between looks at the clock and at the parent."""


class Relay:
    """One client on standard input and output, one server behind an upstream.

    `open_upstream` is given the nursery for what runs in the background and the way to the client
    for what belongs to no request. `client` is where that upstream has its connections.
    `drain_timeout` is how many seconds requests have left once a pipe has ended. `wall_clock` gives
    seconds since the epoch; compared with trio's, it tells of a machine's sleep.
    """

    def __init__(
        self,
        source: Input,
        output: Output,
        client: Lane,
        open_upstream: Callable[[trio.Nursery, Emit], Upstream],
        *,
        drain_timeout: float,
        wall_clock: Callable[[], float],
    ) -> None:
        self._input = source
        self._output = output
        self._client = client
        self._open_upstream = open_upstream
        self._drain_timeout = drain_timeout
        self._sleep = SleepDetector(wall_clock)
        self._to_client = ToClient(output)
        self._in_flight = InFlight()
        self._read_messages: deque[Relayed] = deque()  # their tasks have not begun yet
        self._refusals: deque[Message] = deque()  # not written yet
        self._intake = trio.CancelScope()
        self._draining = trio.CancelScope()
        self._last_words = LAST_WORDS
        self._ended_at = inf  # trio's clock, once the end has begun
        self._farewell = trio.CancelScope(shield=True)
        self._upstream: Upstream
        self._nursery: trio.Nursery

    async def run(self) -> None:
        """Relay until end of input, a signal, or a closed standard output."""
        async with trio.open_nursery() as watching:
            await watching.start(self._watch_signals)
            try:
                async with trio.open_nursery() as background:
                    self._upstream = self._open_upstream(background, self._to_client)
                    background.start_soon(self._watch)
                    await self._work()
                    background.cancel_scope.cancel()
            except* OutputClosed:
                log.info("standard output is closed")
            finally:
                await self._say_goodbye()
            watching.cancel_scope.cancel()

    async def _work(self) -> None:
        """Read to the end; then what is under way may finish, and what does not is answered."""
        async with trio.open_nursery() as self._nursery:
            try:
                with self._intake:
                    await self._read()
                    self._end(self._drain_time(), LAST_WORDS)
                with self._draining:
                    await self._in_flight.fewer_than(1)
            finally:
                self._take_without_beginning()
                await self._say_last_words()
            self._nursery.cancel_scope.cancel()

    # Reading

    async def _read(self) -> None:
        begun = 0
        async for line in self._input:  # never waits for the network: the end must be seen at once
            self._look_at_clock()
            self._take_line(line)
            begun += 1
            if begun % BEGUN_AT_ONCE == 0:
                await trio.lowlevel.checkpoint()
            if self._input.is_regular_file:
                await self._in_flight.fewer_than(WINDOW)

    def _take_without_beginning(self) -> None:
        """What was read and not begun when the end came is answered, and never sent."""
        for line in self._input.already_read():
            self._take_line(line)
        for relayed in self._read_messages:
            relayed.scope.cancel()

    def _take_line(self, line: bytes | Oversized) -> None:
        try:
            if isinstance(line, Oversized):
                self._take_oversized(line)
            elif jsonrpc.is_batch(line) and self._upstream.version == spec.R2:
                for member in jsonrpc.split(line):  # each is answered by itself (T-50)
                    self._take_member(member)
            else:
                self._take(jsonrpc.parse(line))
        except NotAMessage as exc:
            self._refuse(exc.code, str(exc), exc.id)
        except Exception:
            log.exception("internal error")
            self._refuse(jsonrpc.INTERNAL_ERROR, "internal error in mcp-stdio", None)

    def _take_member(self, raw: bytes) -> None:
        try:
            self._take(jsonrpc.parse(raw), is_in_batch=True)
        except NotAMessage as exc:
            self._refuse(exc.code, str(exc), exc.id)

    def _take_oversized(self, line: Oversized) -> None:
        text = f"message of {line.size} bytes is too large; see `--max-message-size`"
        if line.has_method == (line.id is not None):  # a request, or something unheard of
            raise NotAMessage(jsonrpc.INVALID_REQUEST, text, line.id)
        log.warning("dropped a %s: %s", "notification" if line.has_method else "response", text)

    def _take(self, message: Message, *, is_in_batch: bool = False) -> None:
        if log.isEnabledFor(logging.DEBUG):
            log.debug("client: %s: %s", message, beginning(message.raw))
        if message in self._in_flight:
            text = "a request with this id is still being answered"
            self._refuse(jsonrpc.INVALID_REQUEST, text, message.id)
        elif is_in_batch and message.method == spec.INITIALIZE:
            text = "`initialize` must not be part of a batch"
            self._refuse(jsonrpc.INVALID_REQUEST, text, message.id)
        elif message.method == spec.CANCELLED and not message.is_request:
            self._in_flight.cancel(message)  # its own task tells the server
        else:
            self._read_messages.append(self._in_flight.open(message))
            self._nursery.start_soon(self._relay)

    def _refuse(self, code: int, text: str, id: jsonrpc.Id | None) -> None:
        """Answer what never became a message of its own (S-7)."""
        log.warning("refused a line of input: %s", text)
        if id is not None or spec.has_errors_without_id(self._upstream.version):
            self._refusals.append(jsonrpc.error(id, code, text))
            self._nursery.start_soon(self._say_refusals)

    # Relaying one message

    async def _relay(self) -> None:
        """Send one message and see to it that a request gets exactly one answer.

        Trio begins tasks in an order of its own. Whichever comes first takes what was read first,
        so that none waits for its turn only because of that.
        """
        relayed = self._read_messages.popleft()
        with relayed.scope:
            try:
                await trio.lowlevel.checkpoint_if_cancelled()  # what is withdrawn is never sent
                to_request = ToRequest(self._output, relayed)
                await self._upstream.send(relayed.message, Call(to_request, relayed.turn, relayed))
                if relayed.is_open:
                    if relayed.is_cut_off:
                        raise _cut_off()
                    raise BadAnswer("the server's answer is missing")
            except* RelayError as failures:  # in groups, too: an upstream may have used a nursery
                failure = _first(failures)
                _tell_of(relayed.message, failure)
                await self._fail(relayed, failure)
            except* OutputClosed:
                raise
            except* Exception as defects:
                lack = _lack(defects, relayed.message)
                if lack is None:
                    log.exception("internal error")
                else:
                    _tell_of(relayed.message, lack)
                await self._fail(relayed, lack or Defect("internal error in mcp-stdio"))
            finally:
                self._in_flight.close(relayed)
                if relayed.is_open:  # something else has failed that ends the program
                    with trio.CancelScope(shield=True):  # the output's deadline bounds it
                        await self._fail(relayed, _cut_off())

    async def _fail(self, relayed: Relayed, cause: RelayError) -> None:
        """Answer a request that still waits for it."""
        id = relayed.message.id
        if relayed.is_open and id is not None:
            answer = jsonrpc.failure(id, cause)
            await ToRequest(self._output, relayed)(answer, is_ours=True)

    async def _say_refusals(self) -> None:
        """Write what was refused and the last words have not taken along, also in the end."""
        with trio.CancelScope(shield=True):  # the output's deadline bounds it
            await self._output.lock.acquire()
            try:
                while self._refusals:
                    await self._output.write_line(self._refusals.popleft().raw)
            finally:
                self._output.lock.release()

    def grace(self) -> float:
        """Seconds that background work has left once everything ends."""
        return max(0.0, self._ended_at + LAST_WORK - trio.current_time())

    # Watching

    async def _watch_signals(
        self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        with trio.open_signal_receiver(*signals.heeded()) as arrived:
            task_status.started()
            async for _ in arrived:
                if not self._intake.cancel_called:
                    self._end_undrained()
                else:  # the second one: at once
                    self._end(0.0, -inf)
                    self._output.finish_by(-inf)
                    self._farewell.deadline = -inf

    async def _watch(self) -> None:
        parent = os.getppid()
        while True:
            await trio.sleep(WATCH_INTERVAL)
            self._look_at_clock()
            # A file does not need anybody: all of it is answered, and then it ends.
            if os.getppid() != parent and not self._input.is_regular_file:
                log.info("the client has gone")
                self._end_undrained()

    def _look_at_clock(self) -> None:
        if self._sleep.has_slept():
            log.info("the clock jumped: opening connections anew")
            self._client.drop_idle()
            self._upstream.refresh()

    # Ending

    def _drain_time(self) -> float:
        """Seconds that unfinished requests have: those of a file are all answered."""
        return inf if self._input.is_regular_file else self._drain_timeout

    def _end_undrained(self) -> None:
        self._intake.cancel()
        self._end(0.0, LAST_WORDS_UNDRAINED)

    def _end(self, grace: float, last_words: float) -> None:
        """Give the unfinished `grace` seconds, then the client `last_words` to take an answer."""
        self._ended_at = min(self._ended_at, trio.current_time())
        deadline = trio.current_time() + grace
        self._draining.deadline = deadline
        self._in_flight.end_by(deadline)
        self._last_words = last_words

    async def _say_last_words(self) -> None:
        """Answer what is unfinished, in one go: unwinding a thousand calls first takes a second."""
        failure = _cut_off()
        answers: dict[Relayed, bytes] = {}

        def answer(relayed: Relayed) -> bytes:
            if relayed not in answers:
                words = last_words(relayed.message, failure)
                answers[relayed] = b"".join(each.raw + b"\n" for each in words)
            return answers[relayed]

        for relayed in self._in_flight.open_requests():
            answer(relayed)  # before the time runs
        self._output.finish_by(trio.current_time() + self._last_words)
        await self._output.lock.acquire(first=True)
        try:
            # Fewer by now, or more: the answer that another writer had could not be written.
            unfinished = self._in_flight.open_requests()
            refused = b"".join(message.raw + b"\n" for message in self._refusals)
            self._refusals.clear()
            await self._output.write(refused, b"".join(map(answer, unfinished)))
            for relayed in unfinished:
                relayed.is_answered = True
        finally:
            self._output.lock.release()

    async def _say_goodbye(self) -> None:
        self._farewell.deadline = min(self._farewell.deadline, trio.current_time() + FAREWELL)
        with self._farewell:
            await self._upstream.aclose()


def _tell_of(message: Message, failure: RelayError) -> None:
    """Log why a message failed; by default where the client cannot show it.

    Most show nothing but "failed" of an opening that does, and of the rest there is no answer.
    """
    is_shown = message.is_request and message.method not in OPENINGS
    level = logging.INFO if is_shown or isinstance(failure, SignInPending) else logging.WARNING
    name = f"`{quote(message.method)}`" if message.method else "a response"
    log.log(level, "%s failed: %s", name, failure)


def _lack(defects: ExceptionGroup[Exception], message: Message) -> RelayError | None:
    """What the machine has too little of, where nothing else went wrong."""
    lack = shortage(defects)
    if lack is not None and message.method not in spec.SAFE_METHODS:
        lack.hint = f"{ConnectionLost.usual_hint}; {lack.hint}"
    return lack


def _first(failures: ExceptionGroup[RelayError]) -> RelayError:
    first = failures.exceptions[0]
    return _first(first) if isinstance(first, ExceptionGroup) else first


def _cut_off() -> ConnectionLost:
    return ConnectionLost("mcp-stdio ended before the answer came; whether the call ran is unknown")
