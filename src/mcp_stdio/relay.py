"""The relay: one nursery, a dispatcher, an end.

    trio.run
    └─ background nursery       the listening stream, session renewals, watches
       └─ in-flight nursery     one task and one cancel scope per message; stopped by a deadline
          └─ read stdin         end of input begins the shutdown
    stdout is not a task: a writer guarded by one lock, whole lines per acquisition.

Every request read gets exactly one answer (P1), whatever ends its task. Knows no era, no session
and no token.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable
from math import inf

import trio

from mcp_stdio import jsonrpc, spec
from mcp_stdio.config import Config
from mcp_stdio.errors import BadAnswer, ConnectionLost, OutputClosed, RelayError
from mcp_stdio.framing import Oversized
from mcp_stdio.http import Lane
from mcp_stdio.http.client import open_client
from mcp_stdio.http.url import Url
from mcp_stdio.in_flight import InFlight, Relayed
from mcp_stdio.jsonrpc import Message, NotAMessage
from mcp_stdio.shaping import MergedPages
from mcp_stdio.stdio import Input, Output, standard_input, standard_output
from mcp_stdio.upstream import Call, Emit, Upstream
from mcp_stdio.upstream.exchange import Messenger
from mcp_stdio.upstream.session import Session

log = logging.getLogger(__name__)

LAST_WORDS = 0.15
"""Seconds after the drain in which the error answers for the unfinished are written."""

LAST_WORDS_ON_SIGNAL = 1.0
"""Seconds for the same after a signal, when nothing is drained."""

FAREWELL = 0.5
"""Seconds for ending the session (design: all within 1.9 s of the end of input)."""

WATCH_INTERVAL = 5.0
"""Seconds between looks at the clock and at the parent."""

SLEPT = 30.0
"""Seconds by which the wall clock may run ahead of the monotonic one before we distrust all
connections."""

SIGNALS = [
    getattr(signal, name)
    for name in ("SIGTERM", "SIGINT", "SIGHUP", "SIGBREAK")
    if hasattr(signal, name)
]


async def serve(config: Config) -> None:
    """Relay between standard input and output and the server until the client has gone."""
    raise_descriptor_limit()
    client = open_client(config)
    relay = Relay(
        config, client, standard_input(config.max_message_size), standard_output(), time.time
    )
    try:
        await relay.run()
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + FAREWELL):
            await client.aclose()


def assemble(config: Config, client: Lane, nursery: trio.Nursery, emit: Emit) -> Upstream:
    """The upstream that a configuration asks for; `emit` takes what belongs to no request."""
    ids = jsonrpc.mint_ids()
    messenger = Messenger(client, Url.parse(config.url), limit=config.max_message_size)
    upstream: Upstream = Session(
        messenger,
        nursery=nursery,
        emit=emit,
        ids=ids,
        timeout_read=config.timeout_read,
        timeout_call=config.timeout_call,
    )
    if config.merge_pages:
        upstream = MergedPages(upstream, ids, limit=config.max_message_size)
    return upstream


class Relay:
    """One client on standard input and output, one server behind `client`.

    `wall_clock` gives seconds since the epoch; compared with trio's, it tells of a machine's sleep.
    """

    def __init__(
        self,
        config: Config,
        client: Lane,
        source: Input,
        output: Output,
        wall_clock: Callable[[], float],
    ) -> None:
        self._config = config
        self._client = client
        self._input = source
        self._output = output
        self._clock = SleepDetector(wall_clock)
        self._in_flight = InFlight()
        self._intake = trio.CancelScope()
        self._working = trio.CancelScope()
        self._farewell = trio.CancelScope(shield=True)
        self._upstream: Upstream
        self._nursery: trio.Nursery

    async def run(self) -> None:
        """Relay until end of input, a signal, or a closed standard output."""
        upstream: Upstream | None = None
        try:
            async with trio.open_nursery() as background:
                upstream = assemble(self._config, self._client, background, self._emit)
                self._upstream = upstream
                await background.start(self._watch_signals)
                background.start_soon(self._watch)
                background.start_soon(self._client.prepare, Url.parse(self._config.url))
                with self._working:
                    async with trio.open_nursery() as self._nursery:
                        with self._intake:
                            await self._read()
                        self._end(self._drain_time())
                background.cancel_scope.cancel()
        except* OutputClosed:
            log.info("standard output is closed")
        if upstream is not None:
            self._farewell.deadline = min(self._farewell.deadline, trio.current_time() + FAREWELL)
            with self._farewell:
                await upstream.aclose()

    # Reading

    async def _read(self) -> None:
        async for line in self._input:  # never waits for the network: the end must be seen at once
            self._clock.check(self._wake)
            self._take_line(line)
            if self._input.is_regular_file:
                await self._in_flight.room()

    def _take_line(self, line: bytes | Oversized) -> None:
        if isinstance(line, Oversized):
            text = f"message of {line.size} bytes is over the limit; see `--max-message-size`"
            if line.has_method:
                self._refuse(jsonrpc.INVALID_REQUEST, text, line.id)
            return
        try:
            if not jsonrpc.is_batch(line):
                self._take(jsonrpc.parse(line))
            elif self._upstream.version == spec.R2:
                for message in jsonrpc.parse_many(line):  # answered singly (T-50)
                    self._take(message)
            else:
                raise NotAMessage(jsonrpc.INVALID_REQUEST, "batches are not part of this version")
        except NotAMessage as exc:
            self._refuse(exc.code, str(exc), exc.id)

    def _take(self, message: Message) -> None:
        if message.method == spec.CANCELLED:
            self._in_flight.cancel(message)  # its own task tells the server
        elif message in self._in_flight:
            text = "a request with this id is still being answered"
            self._refuse(jsonrpc.INVALID_REQUEST, text, message.id)
        else:
            self._nursery.start_soon(self._relay, self._in_flight.open(message))

    def _refuse(self, code: int, text: str, id: jsonrpc.Id | None) -> None:
        """Answer what never became a message of its own (S-7)."""
        log.warning("refused a line of input: %s", text)
        if id is not None or spec.has_errors_without_id(self._upstream.version):
            self._nursery.start_soon(self._emit, jsonrpc.error(id, code, text))

    # Relaying one message

    async def _relay(self, relayed: Relayed) -> None:
        """Send one message and see to it that a request gets exactly one answer."""
        message = relayed.message

        async def emit(incoming: Message) -> None:
            await self._emit_for(relayed, incoming)

        with relayed.scope:
            try:
                try:
                    await self._upstream.send(message, Call(emit, relayed.turn, relayed))
                    if not relayed.is_answered:
                        raise BadAnswer("the server's answer is missing")
                except RelayError as failure:
                    await self._answer(relayed, failure)
                except (OutputClosed, trio.Cancelled):
                    raise
                except Exception as defect:
                    log.exception("internal error")
                    await self._answer(relayed, defect)
            except trio.Cancelled:
                # Either the client withdrew the request, or this is the end of the program.
                if relayed.withdrawn is None:
                    with trio.CancelScope(shield=True):  # the output's own deadline bounds it
                        await self._answer(relayed, _cut_off())
                raise
            finally:
                self._in_flight.close(relayed)

    async def _answer(self, relayed: Relayed, cause: Exception) -> None:
        if relayed.is_answered:
            return
        id = relayed.message.id
        assert id is not None
        if isinstance(cause, RelayError):
            log.info("a request failed: %s", cause)
            answer = jsonrpc.failure(id, cause)
        else:
            text = "internal error in mcp-stdio; its log has the details"
            answer = jsonrpc.error(id, jsonrpc.INTERNAL_ERROR, text)
        await self._emit_for(relayed, answer)

    async def _emit_for(self, relayed: Relayed, message: Message) -> None:
        """Write what came back for a request, its response only once and nothing after it."""
        async with self._output.lock:
            if relayed.withdrawn is not None or (message.is_response and relayed.is_answered):
                return
            await self._output.write_line(message.raw)
            if message.is_response:
                relayed.is_answered = True

    async def _emit(self, message: Message) -> None:
        """Write what belongs to no request."""
        async with self._output.lock:
            await self._output.write_line(message.raw)

    # Watching

    async def _watch_signals(
        self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        with trio.open_signal_receiver(*SIGNALS) as signals:
            task_status.started()
            async for _ in signals:
                if self._intake.cancel_called:  # the second one: at once
                    self._working.cancel()
                    self._farewell.deadline = -inf
                    self._in_flight.end_by(-inf)
                    self._output.finish_by(-inf)
                self._intake.cancel()
                self._end(0.0)

    async def _watch(self) -> None:
        parent = os.getppid()
        while True:
            await trio.sleep(WATCH_INTERVAL)
            self._clock.check(self._wake)
            if os.getppid() != parent:
                log.info("the client has gone")
                self._intake.cancel()

    def _wake(self) -> None:
        log.info("the clock jumped: opening connections anew")
        self._client.drop_idle()
        self._upstream.refresh()

    # Ending

    def _drain_time(self) -> float:
        """Seconds that unfinished requests have: those of a file are all answered."""
        if self._intake.cancelled_caught:
            return 0.0
        return inf if self._input.is_regular_file else self._config.drain_timeout

    def _end(self, grace: float) -> None:
        """Let nothing last longer than `grace` seconds, but for the answers that say so."""
        deadline = trio.current_time() + grace
        self._working.deadline = min(self._working.deadline, deadline)
        self._in_flight.end_by(deadline)
        self._output.finish_by(deadline + (LAST_WORDS if grace else LAST_WORDS_ON_SIGNAL))


class SleepDetector:
    """Notices a wall clock that went on without the monotonic one: the machine slept."""

    def __init__(self, wall_clock: Callable[[], float]) -> None:
        self._wall_clock = wall_clock
        self._offset = wall_clock() - trio.current_time()

    def check(self, wake: Callable[[], None]) -> None:
        """Call `wake` if the clocks have come apart by more than SLEPT since the last look."""
        offset = self._wall_clock() - trio.current_time()
        if abs(offset - self._offset) > SLEPT:
            wake()
        self._offset = offset


def raise_descriptor_limit() -> None:
    """Allow as many open files as the system lets us: each running request has a connection."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65536 if hard == resource.RLIM_INFINITY else min(hard, 65536)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _cut_off() -> ConnectionLost:
    return ConnectionLost("mcp-stdio ended before the answer came; whether the call ran is unknown")
