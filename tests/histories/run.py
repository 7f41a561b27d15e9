"""One run: a real relay between the client and the server, in virtual time, until it has ended.

What must hold whenever nothing moves any more is checked after each step (`settle`); `finish` ends
the run in one of several ways and checks what must hold then.
"""

from __future__ import annotations

import random
import signal
from collections.abc import Awaitable, Callable, Sequence

import trio
import trio._core._run
from trio.testing import MockClock, wait_all_tasks_blocked

from mcp_stdio import spec
from mcp_stdio.http import Head, Request
from mcp_stdio.relay import FAREWELL
from tests.histories.client import Client, Use
from tests.histories.history import History, noted
from tests.histories.server import Server, Setting
from tests.histories.visits import Visit
from tests.relay.rig import Rig, relaying

AT_MOST = 2_000.0
"""Virtual seconds within which everything is answered: a person's ten minutes, and the retries."""

AT_THE_END = 1.9
"""Seconds from the end of input to the end of the process, as the design has it."""

LINGER = 1.0
"""Seconds that a withdrawn request may still be listened to (T-61)."""

DRAIN = 1.2
"""Seconds from the end of input for what is under way."""

ENDINGS = ("end of input", "healing", "late answers", "silence", "signal", "vanishing")


class Renewing:
    """A credential that can be had anew in a tenth of a second."""

    is_ready = True

    def __init__(self, server: Server) -> None:
        self._server = server
        self._had = 0

    async def headers(self) -> tuple[tuple[str, str], ...]:
        return (("Authorization", f"Bearer {self._had}"),)

    async def renew(self, refused: Request, head: Head) -> bool:
        challenge = head.headers.get("www-authenticate") or ""
        if head.status == 403 and "insufficient_scope" not in challenge:
            return False
        await trio.sleep(0.1)
        self._had = self._server.credential
        return True

    def accepted(self, request: Request) -> None:
        pass


class Run:
    """What steps act upon. `jump` is by how many seconds the wall clock is ahead."""

    def __init__(self, setting: Setting, history: History) -> None:
        self.setting = setting
        self.history = history
        self.server = Server(setting, history)
        self.jump = 0.0
        self.is_calm = True  # nothing moves
        self.rig: Rig
        self.client: Client
        self._last: Visit  # the last call, once the server was well
        self.withdrawn: list[tuple[Use, Visit]] = []  # calls that were cancelled while they ran

    def wall_clock(self) -> float:
        return trio.current_time() + self.jump

    async def settle(self) -> None:
        """Let everything happen that can happen now, and look at it."""
        await wait_all_tasks_blocked()
        reads = self.client.reads.is_set()
        for use in self.client.uses:
            if use.is_cancelled:
                use.silent_from = min(use.silent_from, self.rig.written)
            if reads:
                use.is_doubtful = False  # it would have been refused by now
        if not self.client.is_ending:
            if self.client.over.is_set():
                self.history.breach("the relay has ended by itself")
            if reads:
                self._check_answers()
                self._check_streams()
            self._check_cancelled()
        self.history.check()

    def _check_answers(self) -> None:
        """What the server has answered is at the client."""
        for use in self.client.open:
            for visit in self.server.calls[use.n]:
                if visit.is_answered and visit.asked_for is None:
                    self.history.breach(f"{use} was answered ({visit}), and the client waits")

    def _check_streams(self) -> None:
        """What the server says on a stream is at the client."""
        for stream in self.server.streams:
            if stream.visit is None or not self._passes(stream.origin):
                continue
            heard = self.client.heard(stream.number)
            if heard != stream.said:
                self.history.breach(f"{stream} said {stream.said} messages, {heard} were heard")

    def _passes(self, origin: Visit) -> bool:
        """Whether log messages on this stream are for the client, and it may hear them."""
        if origin.n is not None:
            return self.client.uses[origin.n - 1].is_open
        is_heard = self.client.has_shaken_hands and not self.server.is_misleading
        return origin.method == "GET" and is_heard

    def _check_cancelled(self) -> None:
        """P4: a cancel acts at once; by a message, or by the end of the connection."""
        for use, visit in self.withdrawn:
            if visit.header(spec.PROTOCOL_VERSION) == spec.R5:
                if not visit.is_closed:
                    self.history.breach(f"{use} was cancelled, and {visit} is still open")
            elif visit.message["id"] not in self.server.cancelled:
                self.history.breach(f"{use} was cancelled, and the server not told")
        self.withdrawn.clear()

    def lingering(self, since: float) -> list[Visit]:
        """Connections of calls that the client gave up before that time."""
        given_up = {use.n for use in self.client.uses if use.cancelled_at <= since}
        return [visit for n in given_up for visit in self.server.calls[n] if not visit.is_closed]

    # Ends

    async def finish(self, ending: str) -> None:
        """End in this way, and check that all is as it should be."""
        self.history.note(f"— {ending} —")
        if ending != "vanishing":
            self.client.reads.set()
        match ending:
            case "healing":
                await self._heal()
                await self.hang_up()
                if self._last.header(spec.SESSION_ID) in self.server.sessions:
                    self.history.breach("P6: the session was not ended")
            case "silence":
                self.server.is_mute = True
                await self.until_answered()
                await self.hang_up()
            case "end of input":
                await self.hang_up()
            case "late answers":
                await self.rig.hang_up()
                await trio.sleep(DRAIN)
                self.server.heal()
                await self._over(AT_THE_END - DRAIN)
            case "signal":
                await self.settle()  # it watches for signals
                self.client.is_ending = True
                signal.raise_signal(signal.SIGTERM)
                await self._over(AT_THE_END)
            case "vanishing":
                self.client.is_ending = True
                with trio.CancelScope() as scope:
                    scope.cancel()
                    await self.rig.aclose()
                await self._over(AT_THE_END, hears=False)
        self.history.check()

    async def hang_up(self) -> None:
        """End the input; all that is open is answered, and soon."""
        self.client.is_ending = True
        is_idle = self.server.is_well and not self.client.open
        await self.rig.hang_up()
        await self._over(FAREWELL if is_idle else AT_THE_END)

    async def _heal(self) -> None:
        """With a good server everything is answered, and the next call succeeds."""
        self.server.heal()
        await self.until_answered()
        if not self.client.is_modern:
            if not self.client.has_shaken_hands:
                await self.client.initialize("init again")
                await self.until_answered()
            await self.client.tell(spec.INITIALIZED)
        await trio.sleep(70)  # nothing waits for its next attempt any more
        last = await self.client.ask(spec.CALL_TOOL, "last")
        await self.until_answered()
        self._last = self.server.calls[last.n][-1]
        if self._is_listening_due and not self._listens():
            self.history.breach("the server is well, and nobody listens to it")
        if "result" not in (last.answer or {}):
            self.history.breach("the server is well, and the next call does not succeed")

    @property
    def _is_listening_due(self) -> bool:
        offers = self.setting.server in ("legacy", "sessionless") and self.setting.listens
        is_doubtful = self.server.is_misleading or self.server.has_declined
        return offers and self.setting.client == "legacy" and not is_doubtful

    def _listens(self) -> bool:
        streams = [stream for stream in self.server.streams if stream.origin.method == "GET"]
        sessions: set[str | None] = {*self.server.sessions} or {None}
        return any(each.visit is not None and each.session in sessions for each in streams)

    async def until_answered(self) -> None:
        """Wait for all answers, giving those that the server waits for."""
        with trio.move_on_after(AT_MOST) as scope:
            while True:
                await self.settle()
                if self.server.is_well:
                    for question in list(self.client.questions):
                        await self.client.reply(question)
                if all(use.method == spec.LISTEN for use in self.client.open):
                    break
                await trio.sleep(1)
        if scope.cancelled_caught:
            waiting = ", ".join(map(str, self.client.open))
            self.history.breach(f"P1: no answer within {AT_MOST:g} s: {waiting}")
        self.history.check()

    async def _over(self, limit: float, *, hears: bool = True) -> None:
        began = trio.current_time()
        with trio.move_on_after(60):
            await self.rig.over()
            if hears:
                await self.client.over.wait()
        took = trio.current_time() - began
        if took > limit:
            self.history.breach(f"P6: the end took {took:.2f} s")
        for use in self.client.open if hears else ():
            self.history.breach(f"P1: {use} was never answered")
        for visit in self.server.visits:
            if not visit.is_closed:
                self.history.breach(f"P6: {visit} was left open")


def running(
    setting: Setting, story: Callable[[Run], Awaitable[None]], steps: Sequence[object]
) -> None:
    """Run a story with the relay; raises what it raises, or Breach, with its steps."""
    history = History()

    async def main() -> None:
        run = Run(setting, history)
        authorizer = Renewing(run.server) if setting.renews else None
        async with (
            relaying(
                lane=run.server,
                url=run.server.url,
                authorizer=authorizer,
                wall_clock=run.wall_clock,
                drain_timeout=DRAIN,
                limit=10 * AT_MOST,
            ) as run.rig,
            trio.open_nursery() as nursery,
        ):
            run.client = Client(setting, run.rig, run.server, history)
            run.client.reads.set()
            nursery.start_soon(run.client.listen)
            await story(run)
            nursery.cancel_scope.cancel()

    random.seed(setting.seed)
    trio._core._run._r.seed(setting.seed)
    with noted(history, lambda: f"{setting}\n{steps}"):
        trio.run(main, clock=MockClock(autojump_threshold=0))
