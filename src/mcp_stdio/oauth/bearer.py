"""The authorizer that signs in: shows the server a token, and sees to it that there is one.

Owns when a token is obtained or renewed, and who waits for what. One attempt at a time, in a task
that belongs to no request, under the lock that all processes share: of many requests, tasks and
processes that need a token one obtains it and the others find it (A-33). A request is held for a
sign-in as long as `start_wait` says and then told where to sign in; the sign-in goes on without it.
Never a sign-in before the server has asked for one. How a sign-in goes is the story of `login`.

Kept here: a token that the server refuses though it was just obtained is not replaced by another
(A-34); nobody is asked again soon after a sign-in that failed; scopes that were asked for already
are not asked for once more (A-40).
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from math import inf

import trio

from mcp_stdio.config import OAuth
from mcp_stdio.errors import (
    REPORT,
    AuthorizationFailed,
    InvalidGrant,
    RelayError,
    SignInPending,
)
from mcp_stdio.http import Head, Request
from mcp_stdio.http.authorizer import Authorizer
from mcp_stdio.oauth import challenge as challenges
from mcp_stdio.oauth import login
from mcp_stdio.oauth.announcing import Announcing
from mcp_stdio.oauth.answers import scopes
from mcp_stdio.oauth.attempt import Aim, Attempt, told_again
from mcp_stdio.oauth.challenge import Challenge
from mcp_stdio.oauth.commands import Fetch, Fetched, Flow
from mcp_stdio.oauth.cooldown import Cooldown
from mcp_stdio.oauth.holding import AUTHORIZATION, MARGIN, Holding, shown_by, with_authorization_of
from mcp_stdio.oauth.kept import Kept
from mcp_stdio.oauth.performer import Performer, Show
from mcp_stdio.oauth.record import Record, Tokens
from mcp_stdio.oauth.store import Entry

log = logging.getLogger(__name__)

SHORTEST = 1.0
"""Seconds for which a new token is used at least, whatever the server says of its lifetime."""

PAGE_WAIT = 2.0
"""Seconds for which a message is held at the least when it is not known yet where to sign in."""

LOOK = 30.0
"""Seconds between looks at the wall clock: it goes on while the machine sleeps, timers do not."""

GRACE = 0.7
"""Seconds for a renewal under way when everything ends: most take less."""

GLANCE = 3.0
"""Seconds between looks for a sign-in elsewhere: whoever has just signed in in a terminal turns to
the client about then, and a relay that nobody uses wakes up no more often."""

MAX_STEP_UPS = 2
"""Sign-ins for one and the same set of scopes that a request was refused for (A-40)."""


class Bearer:
    """An `Authorizer` for the server of `entry`; `others` gives the headers besides the token.

    `fetch` gets what a flow fetches. What is obtained is obtained while `attend` runs.
    """

    def __init__(
        self,
        oauth: OAuth,
        entry: Entry,
        others: Authorizer,
        fetch: Callable[[Fetch], Awaitable[Fetched]],
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._oauth = oauth
        self._url = entry.server_url
        self._kept = Kept(entry)
        self._others = others
        self._fetch = fetch
        self._clock = clock
        self._nursery: trio.Nursery | None = None
        self._has_ended = False
        self._held = Holding(oauth, clock)
        self._attempt: Attempt | None = None
        self._not_renewed: RelayError | None = None  # why the last renewal failed
        self._renewing = trio.CancelScope()  # around the attempt under way
        self._excused: str | None = None  # a token that may have been refused for other headers
        self._unproven: str | None = None  # a token just obtained that the server has not accepted
        self._cooldown = Cooldown()
        self._missed: str | None = None  # the token that the last failed attempt was to replace
        self._step_ups: Counter[str] = Counter()

    def recall(self) -> None:
        """Use what is kept from earlier sign-ins."""
        try:
            self._held.take_over(self._kept.read())
        except RelayError as exc:
            log.warning("%s", exc)

    async def attend(self, grace: Callable[[], float] = lambda: GRACE) -> None:
        """Run what goes on in the background, and renew tokens before they expire.

        Cancelled, it lets a renewal under way finish for as many seconds as `grace` then says: what
        comes of it must not be lost.
        """
        try:
            async with trio.open_nursery() as self._nursery:
                if self._attempt is not None:
                    self._nursery.start_soon(self._run, self._attempt)
                try:
                    await self._keep_fresh()
                finally:
                    self._renewing.deadline = trio.current_time() + grace()
        finally:
            self._has_ended = True

    async def signed_in(self) -> None:
        """Wait until there is a token. Raises the RelayError that the sign-in under way ends in."""
        if self._attempt is not None:
            await self._attempt.outcome()
        elif self._held.tokens is None:
            raise told_again(self._cooldown.in_vain or AuthorizationFailed("nobody is signing in"))

    async def signed_in_elsewhere(self) -> None:
        """Wait until another process has obtained a token, after an attempt here that failed."""
        while not self._held.replaces(self._missed):
            await trio.sleep(GLANCE)
            self._look()

    # What the client asks

    @property
    def is_ready(self) -> bool:
        """Whether `headers` would answer without waiting."""
        return self._others.is_ready and not self._waits_for_renewal()

    async def headers(self) -> tuple[tuple[str, str], ...]:
        """The headers to send now, with a token if there is one."""
        given = await self._others.headers()
        self._look()
        if self._held.is_due and self._attempt is None:
            self._begin(Aim.RENEWAL, None, None)
        if self._waits_for_renewal() and self._attempt is not None:
            await self._settled(self._attempt)
        if self._held.tokens is None:
            return given  # the challenge that is the answer begins the sign-in
        if self._held.has_expired:
            if self._not_renewed is not None and self._held.is_renewable:
                # Without it the request might run as somebody else's.
                raise told_again(self._not_renewed)
            return given
        return (*given, (AUTHORIZATION, f"Bearer {self._held.tokens.bearer}"))

    def accepted(self, request: Request) -> None:
        """The server took the request: what it showed is good."""
        if self._unproven is not None and self._unproven == shown_by(request):
            self._unproven = None

    async def renew(self, refused: Request, head: Head) -> bool:
        """Have a token that the server takes, or one that reaches farther.

        Raises SignInPending when that takes longer than the user lets a message wait, or another
        AuthorizationFailed when there will be none.
        """
        challenge = challenges.parse(head.headers.get_all("www-authenticate"))
        if head.status == 403 and not challenge.wants_more_scope:
            return await self._others.renew(await self._without_token(refused), head)
        if self._attempt is not None and self._attempt.aim is Aim.RENEWAL:
            await self._settled(self._attempt)
        sent = shown_by(refused)
        if self._held.replaces(sent):
            return True  # renewed meanwhile, for another request
        if head.status == 403:
            aim = Aim.STEP_UP
            if not self._may_step_up(challenge):
                # It was asked for already, and this is what was granted; unless by hand.
                self.recall()
                return self._held.replaces(sent)
        else:
            aim = Aim.SIGN_IN
            renewed = await self._others.renew(await self._without_token(refused), head)
            if renewed and sent is not None and sent != self._excused:
                self._excused = sent  # once: a command may print something else each time
                return True
            if sent is not None and sent == self._unproven:
                return self._is_replaced_by_hand(sent)
        if self._held.replaces(sent):
            return True
        await self._obtained(self._attempt or self._begin(aim, sent, challenge))
        return True

    async def _without_token(self, refused: Request) -> Request:
        """The request as if only what the others give had gone with it."""
        return with_authorization_of(await self._others.headers(), refused)

    def _is_replaced_by_hand(self, sent: str) -> bool:
        """Look for a sign-in by hand: nothing else helps against a server that refuses its own."""
        self.recall()
        if self._held.replaces(sent):
            return True
        raise AuthorizationFailed(
            "the server refuses the token that it was just given (401)",
            hint="its authorization server and it do not agree; tell who runs them, or sign in "
            "anew with `mcp-stdio login`",
            status=401,
        )

    def _may_step_up(self, challenge: Challenge) -> bool:
        wanted, held = set(scopes(challenge.scope)), self._held.tokens
        asked = scopes(held.requested_scope or held.scope) if held is not None else ()
        is_new = not wanted or not wanted <= set(asked)
        return is_new and self._step_ups[_name(challenge)] < MAX_STEP_UPS

    async def _obtained(self, attempt: Attempt) -> None:
        """Wait for an attempt as long as a message may wait. Raises its failure, SignInPending."""
        await self._settled(attempt)
        await attempt.outcome()

    async def _settled(self, attempt: Attempt) -> None:
        """Wait for the end of an attempt as long as a message may. Raises SignInPending."""
        begun = trio.current_time()
        with trio.move_on_at(begun + self._oauth.start_wait):
            await attempt.is_over.wait()
        with trio.move_on_at(begun + PAGE_WAIT):
            await attempt.is_shown.wait()
        if not attempt.is_over.is_set():
            elsewhere = "" if attempt.is_ours.is_set() else self._kept.page_elsewhere()
            raise SignInPending(attempt.url or elsewhere)

    # Attempts

    def _begin(self, aim: Aim, refused: str | None, challenge: Challenge | None) -> Attempt:
        # No `await` between looking for an attempt and having one: that makes it the only one.
        assert self._attempt is None
        attempt = Attempt(aim, refused, challenge)
        if self._has_ended:
            attempt.end(attempt.failure)
            return attempt
        self._attempt = attempt
        if self._nursery is not None:
            self._nursery.start_soon(self._run, attempt)
        return attempt

    async def _run(self, attempt: Attempt) -> None:
        failure = attempt.failure
        try:
            with trio.CancelScope() as self._renewing:
                await self._obtain(attempt)
                failure = None
        except RelayError as exc:
            log.warning("could not obtain %s: %s", attempt.aim.value, exc)
            failure = exc
        except Exception:
            log.exception("could not obtain %s", attempt.aim.value)
            failure = AuthorizationFailed("internal error while signing in", hint=REPORT)
        finally:
            self._attempt = None
            if failure is not None:
                self._missed = attempt.refused
            self._not_renewed = failure if attempt.aim is Aim.RENEWAL else None
            if failure is not None and attempt.aim is Aim.RENEWAL and self._held.is_due:
                self._held.put_off(LOOK)
            attempt.end(failure)

    async def _obtain(self, attempt: Attempt) -> None:
        begun = self._clock()
        async with self._kept.alone() as unwritable:
            attempt.is_ours.set()
            record = self._kept.known()
            held = record.tokens
            if held is not None and self._is_better(held, attempt):
                log.info("another process has obtained a token")
                self._held.take_over(record)
                return
            if attempt.aim is Aim.STEP_UP:
                record = await self._outlasting(record, attempt)
            else:
                try:
                    await self._renew(record, attempt, attempt.challenge)
                    return
                except InvalidGrant as exc:
                    log.info("the token cannot be renewed: %s", exc)
                    record = self._kept.known()
                    if attempt.aim is Aim.RENEWAL:
                        self._held.take_over(record)
                        raise
            was_in_vain = self._kept.was_in_vain_elsewhere(begun, self._clock())
            if attempt.aim is Aim.SIGN_IN and was_in_vain:
                failure = AuthorizationFailed("nobody finished the sign-in of another process")
                self._cooldown.begin(failure)
            if unwritable is not None and self._oauth.grant != "client-credentials":
                raise unwritable  # nobody is asked for what is lost with this process
            await self._sign_in(attempt, record)

    async def _renew(self, record: Record, attempt: Attempt, challenge: Challenge | None) -> None:
        flow = login.refresh(self._oauth, self._url, record, challenge)
        # The server may have replaced the refresh token before we hear of it.
        self._renewing.shield = True
        try:
            renewed = await self._performed(flow, attempt, inf)
            self._keep(renewed, is_unproven=attempt.aim is Aim.SIGN_IN)
        finally:
            self._renewing.shield = False

    async def _outlasting(self, record: Record, attempt: Attempt) -> Record:
        """Have the token in use last while a person is waited for: nothing is renewed meanwhile."""
        if self._held.may_run_out(self._oauth.timeout + MARGIN):
            try:
                await self._renew(record, attempt, None)
            except RelayError as exc:
                log.info("the token cannot be renewed: %s", exc)
            record = self._kept.known()
        return record

    async def _performed(
        self, flow: Flow[Record], show: Show, within: float | None = None
    ) -> Record:
        performer = Performer(
            self._oauth, fetch=self._fetch, keep=self._kept.write, show=show, clock=self._clock
        )
        return await performer.perform(flow, within=within)

    async def _sign_in(self, attempt: Attempt, record: Record) -> None:
        self._cooldown.check()
        url, challenge = self._url, attempt.challenge
        if attempt.aim is Aim.STEP_UP and challenge is not None:
            flow = login.step_up(self._oauth, url, challenge, record)
        else:
            flow = login.sign_in(self._oauth, url, challenge, record)
        try:
            with Announcing(self._kept.entry, attempt, self._clock) as show:
                self._keep(await self._performed(flow, show), is_unproven=True)
        except RelayError as failure:
            if attempt.is_shown.is_set():  # a person was asked
                self._cooldown.begin(failure)
                self._count(attempt)
            raise
        self._count(attempt)
        log.info("signed in")

    def _count(self, attempt: Attempt) -> None:
        if attempt.aim is Aim.STEP_UP and attempt.challenge is not None:
            self._step_ups[_name(attempt.challenge)] += 1

    # Tokens

    def _keep(self, record: Record, *, is_unproven: bool) -> None:
        self._kept.write(record)
        self._held.take_over(record)
        self._held.put_off(SHORTEST)
        if record.tokens is not None and is_unproven:
            self._unproven = record.tokens.bearer

    def _look(self) -> None:
        """Use what another process has kept since; none of it while one of ours is about to."""
        if self._attempt is None and self._kept.has_changed():
            self.recall()

    def _is_better(self, held: Tokens, attempt: Attempt) -> bool:
        """Whether what another process has kept will do."""
        if self._held.is_over(held):
            return False
        if attempt.aim is Aim.RENEWAL:
            return self._held.tokens is None or held.bearer != self._held.tokens.bearer
        return held.bearer != attempt.refused

    def _waits_for_renewal(self) -> bool:
        """Whether there is no token to send until the renewal that is due, or going on, is over."""
        is_renewing = self._attempt is not None and self._attempt.aim is Aim.RENEWAL
        is_awaited = is_renewing or (self._attempt is None and self._held.is_due)
        return is_awaited and self._held.has_expired

    async def _keep_fresh(self) -> None:
        """Renew each token in time, also while nothing is sent."""
        while True:
            changed, attempt = self._held.has_changed, self._attempt
            if attempt is not None:
                await attempt.is_over.wait()
            elif self._held.is_due:
                attempt = self._begin(Aim.RENEWAL, None, None)
                await attempt.is_over.wait()
            else:
                await self._kept.catch_up()
                with trio.move_on_after(min(LOOK, self._held.due_in)):
                    await changed.wait()


def _name(challenge: Challenge) -> str:
    return " ".join(sorted(scopes(challenge.scope)))
