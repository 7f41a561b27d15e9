"""Performs flows: does what each command asks and hands back what came of it.

The only place where a sign-in meets the outside: fetches, the loopback listener, the browser, the
clock, and what is kept. Owns how these are put together for one flow, and that nothing of it stays
open afterwards. Knows no story: what comes after what is the flow's business, and where a person is
told what to do, `show` knows.
"""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable, Mapping
from math import inf
from typing import Any, Protocol, TypeVar

import trio

from mcp_stdio.config import OAuth
from mcp_stdio.errors import NobodySignedIn, RelayError, TimedOut
from mcp_stdio.oauth.browser import open_page, printed
from mcp_stdio.oauth.callback import NOT_SIGNED_IN, PASSED_ON, SIGNED_IN, Callback, Page, listen
from mcp_stdio.oauth.commands import (
    Command,
    Fetch,
    Fetched,
    Flow,
    Keep,
    Listen,
    Now,
    ShowCode,
    Visit,
    Wait,
)
from mcp_stdio.oauth.record import Record
from mcp_stdio.redaction import HIDDEN, redact_known

T = TypeVar("T")

SECRETS = frozenset({"MCP_BEARER_TOKEN", "MCP_OAUTH_CLIENT_SECRET"})
"""Variables of the environment that no browser gets to see, besides those with what is known to be
a secret. A command that the user names for a credential is another matter: it has all of the user's
environment, as in their shell."""

Paste = Callable[[str], Awaitable[Mapping[str, str]]]
"""Waits until a person has pasted the redirect with this state; its parameters."""


class Show(Protocol):
    """Tells a person what to do."""

    def page(self, url: str, *, is_opened: bool, within: float) -> None:
        """A page has to be visited within so many seconds.

        With `is_opened` a browser is being sent there.
        """
        ...

    def code(self, url: str, code: str, complete_url: str | None, *, within: float) -> None:
        """A code has to be typed at `url` within so many seconds; `complete_url` holds it."""
        ...


class Performer:
    """Performs the flows of one sign-in.

    `fetch` gets responses, `keep` puts a record where it outlives the flow, `show` speaks to a
    person. With `paste`, the redirect may come from there as well.
    """

    def __init__(
        self,
        oauth: OAuth,
        *,
        fetch: Callable[[Fetch], Awaitable[Fetched]],
        keep: Callable[[Record], None],
        show: Show,
        paste: Paste | None = None,
        environ: Mapping[str, str] = os.environ,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._oauth = oauth
        self._fetch = fetch
        self._keep = keep
        self._show = show
        self._paste = paste
        self._clock = clock
        # A browser, and all that it starts, has no business with the user's tokens.
        self._environ = {
            key: value
            for key, value in environ.items()
            if key not in SECRETS and redact_known(value) != HIDDEN
        }

    async def perform(self, flow: Flow[T], *, within: float | None = None) -> T:
        """Run the flow to its end and return what it returns. Raises what it raises.

        It has so many seconds, by default those for a sign-in, until a person has done their part;
        what is left then has the limits of what is fetched.
        """
        performance = _Performance(self, self._oauth.timeout if within is None else within)
        answer: Any = None
        failure: RelayError | None = None
        outcome = PASSED_ON
        try:
            while True:
                try:
                    command = flow.send(answer) if failure is None else flow.throw(failure)
                except StopIteration as end:
                    value: T = end.value
                    outcome = SIGNED_IN
                    return value
                answer = failure = None
                try:
                    answer = await performance.do(command)
                except RelayError as exc:
                    failure = exc
        except Exception:
            outcome = NOT_SIGNED_IN
            raise
        finally:
            flow.close()
            with trio.CancelScope(shield=True):
                await performance.aclose(outcome)


class _Performance:
    """What is open while one flow is performed."""

    def __init__(self, performer: Performer, seconds: float) -> None:
        self._by = performer
        self._seconds = seconds
        self._deadline = trio.current_time() + seconds
        self._callback: Callback | None = None

    async def do(self, command: Command) -> Any:
        """Do what a command asks, in time. Raises the RelayError that is the flow's to see to."""
        with trio.move_on_at(self._deadline):
            return await self._do(command)
        what = "nobody has signed in"
        if isinstance(command, Fetch):
            what = f"could not {command.purpose}"
        kind = NobodySignedIn if isinstance(command, Wait) else TimedOut
        raise kind(
            f"{what} within {self._seconds:g} s",
            hint="`--oauth-timeout` sets how long a sign-in may take",
        )

    async def _do(self, command: Command) -> Any:
        match command:
            case Fetch():
                return await self._fetched(command)
            case Listen(port):
                await self.aclose()
                self._callback = await listen(port)
                return self._callback.redirect_uri
            case Visit(url, state):
                return await self._visit(url, state)
            case ShowCode(url, code, complete_url, patience):
                self._by._show.code(url, code, complete_url, within=patience)
            case Wait(seconds):
                await trio.sleep(seconds)
            case Now():
                return self._by._clock()
            case Keep(record):
                self._by._keep(record)
        return None

    async def aclose(self, outcome: Page = PASSED_ON) -> None:
        if self._callback is not None:
            callback, self._callback = self._callback, None
            await callback.tell(outcome)
            await callback.aclose()

    async def _fetched(self, fetch: Fetch) -> Fetched:
        """The response; a browser that waits for what it says does not wait for ever."""
        if self._callback is None:
            return await self._by._fetch(fetch)
        answers: list[Fetched] = []
        failure: RelayError | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._callback.console)
            try:
                answers.append(await self._by._fetch(fetch))
            except RelayError as exc:
                failure = exc
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure
        return answers[0]

    async def _visit(self, url: str, state: str) -> Mapping[str, str]:
        assert self._callback is not None
        oauth, page = self._by._oauth, printed(url)
        answers: list[Mapping[str, str]] = []
        async with trio.open_nursery() as nursery:

            async def take(wait: Paste) -> None:
                answers.append(await wait(state))
                nursery.cancel_scope.cancel()

            nursery.start_soon(take, self._callback.redirected)
            if self._by._paste is not None:
                nursery.start_soon(take, self._by._paste)
            left = self._deadline - trio.current_time()
            self._by._show.page(page, is_opened=oauth.opens_browser, within=left)
            if oauth.opens_browser:
                await open_page(page, nursery, environ=self._by._environ)
        self._deadline = inf
        return answers[0]
