"""The authorizer that signs in: shows the server a token, and sees to it that there is one.

Owns the token in use, when it is renewed, and who waits for what. One attempt at a time, in a task
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
from enum import Enum
from math import inf

import trio

from mcp_stdio.config import OAuth
from mcp_stdio.errors import AuthorizationFailed, InvalidGrant, RelayError, SignInPending
from mcp_stdio.http import Head, Request
from mcp_stdio.http.authorizer import Authorizer
from mcp_stdio.log import TO_BE_FOLLOWED
from mcp_stdio.oauth import challenge as challenges
from mcp_stdio.oauth import login
from mcp_stdio.oauth.challenge import Challenge
from mcp_stdio.oauth.commands import Fetch, Fetched
from mcp_stdio.oauth.performer import Performer
from mcp_stdio.oauth.record import Record, Tokens
from mcp_stdio.oauth.store import Entry
from mcp_stdio.redaction import protect

log = logging.getLogger(__name__)

AUTHORIZATION = "Authorization"

COOLDOWN = 60.0
"""Seconds after a sign-in that failed in which nobody is asked again (design.md 5)."""

MARGIN = 60.0
"""Seconds before its expiry at which a token is renewed; less for one that lives for minutes."""

LOCK_WAIT = 1.0
"""Seconds in which the lock is had unless another process signs in or renews."""

LOOK = 30.0
"""Seconds between looks at the wall clock: it goes on while the machine sleeps, timers do not."""

MAX_STEP_UPS = 2
"""Sign-ins for one and the same set of scopes that a request was refused for (A-40)."""


class Aim(Enum):
    """What an attempt is for."""

    RENEWAL = "a token that lasts"
    SIGN_IN = "a token"
    STEP_UP = "a token that reaches farther"


class _Attempt:
    """One attempt to have a (better) token. `refused` is the one that will not do."""

    def __init__(self, aim: Aim, refused: str | None, challenge: Challenge | None) -> None:
        self.aim = aim
        self.refused = refused
        self.challenge = challenge
        self.url = ""  # where a person has to sign in
        self.is_ours = trio.Event()  # no other process is at it
        self.is_shown = trio.Event()  # it takes a person
        self.is_over = trio.Event()
        self.failure: RelayError | None = None


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
        self._entry = entry
        self._others = others
        self._fetch = fetch
        self._clock = clock
        self._nursery: trio.Nursery | None = None
        self._tokens: Tokens | None = None
        self._renew_at = inf  # wall clock
        self._has_changed = trio.Event()  # the tokens
        self._attempt: _Attempt | None = None
        self._unproven: str | None = None  # a token just obtained that the server has not accepted
        self._rests_until = -inf  # trio's clock
        self._last_failure: RelayError | None = None
        self._step_ups: Counter[str] = Counter()

    def recall(self) -> None:
        """Use what is kept from earlier sign-ins."""
        try:
            self._take_over(self._entry.read())
        except RelayError as exc:
            log.warning("%s", exc)

    async def attend(self) -> None:
        """Run what goes on in the background, and renew tokens before they expire."""
        async with trio.open_nursery() as self._nursery:
            if self._attempt is not None:
                self._nursery.start_soon(self._run, self._attempt)
            await self._keep_fresh()

    async def signed_in(self) -> None:
        """Wait until there is a token. Raises the RelayError that the sign-in under way ends in."""
        if self._attempt is not None:
            await self._attempt.is_over.wait()
        if self._tokens is None:
            raise self._last_failure or AuthorizationFailed("nobody is signing in")

    # What the client asks

    @property
    def is_ready(self) -> bool:
        """Whether `headers` would answer without waiting."""
        return self._others.is_ready and not self._is_due()

    async def headers(self) -> tuple[tuple[str, str], ...]:
        """The headers to send now, with a token if there is one."""
        given = await self._others.headers()
        if self._is_due():
            attempt = self._attempt or self._begin(Aim.RENEWAL, None, None)
            if attempt.aim is Aim.RENEWAL:
                await attempt.is_over.wait()  # its failure shows where the token is refused
        if self._tokens is None or self._has_expired(self._tokens):
            return given  # the challenge that is the answer begins the sign-in
        return (*given, (AUTHORIZATION, f"Bearer {self._tokens.bearer}"))

    def accepted(self, request: Request) -> None:
        """The server took the request: what it showed is good."""
        if self._unproven is not None and self._unproven == _shown_by(request):
            self._unproven = None

    async def renew(self, refused: Request, head: Head) -> bool:
        """Have a token that the server takes, or one that reaches farther.

        Raises SignInPending when that takes longer than the user lets a message wait, or another
        AuthorizationFailed when there will be none.
        """
        challenge = challenges.parse(head.headers.get_all("www-authenticate"))
        sent = _shown_by(refused)
        if head.status == 403 and not challenge.wants_more_scope:
            return await self._others.renew(refused, head)
        if self._attempt is not None and self._attempt.aim is Aim.RENEWAL:
            await self._attempt.is_over.wait()
        held = self._tokens
        if held is not None and sent != held.bearer and not self._has_expired(held):
            return True  # renewed meanwhile, for another request
        if head.status == 403:
            return await self._step_up(sent, challenge)
        if self._others.is_ready and await self._others.renew(refused, head):
            return True
        if sent is not None and sent == self._unproven:
            raise AuthorizationFailed(
                "the server refuses the token that it was just given (401)",
                hint="its authorization server and it do not agree; tell who runs them",
                status=401,
            )
        await self._obtained(self._attempt or self._begin(Aim.SIGN_IN, sent, challenge))
        return True

    async def _step_up(self, sent: str | None, challenge: Challenge) -> bool:
        wanted = set((challenge.scope or "").split())
        held = self._tokens
        asked = set(((held.requested_scope or held.scope or "") if held else "").split())
        name = " ".join(sorted(wanted))
        if (wanted and wanted <= asked) or self._step_ups[name] >= MAX_STEP_UPS:
            return False  # it was asked for already, and this is what was granted
        attempt = self._attempt
        if attempt is None or attempt.aim is not Aim.STEP_UP:
            self._step_ups[name] += 1
            attempt = self._begin(Aim.STEP_UP, sent, challenge)
        await self._obtained(attempt)
        return True

    async def _obtained(self, attempt: _Attempt) -> None:
        """Wait for an attempt as long as a message may wait. Raises its failure, SignInPending."""
        with trio.move_on_after(self._oauth.start_wait):
            await attempt.is_over.wait()
        if not attempt.is_over.is_set():
            with trio.move_on_after(LOCK_WAIT):
                await attempt.is_ours.wait()
            if attempt.is_ours.is_set():
                await attempt.is_shown.wait()  # bounded by what each fetch may take
        if not attempt.is_over.is_set():
            raise SignInPending(attempt.url)
        if attempt.failure is not None:
            raise attempt.failure

    # Attempts

    def _begin(self, aim: Aim, refused: str | None, challenge: Challenge | None) -> _Attempt:
        # No `await` between looking for an attempt and having one: that makes it the only one.
        self._attempt = attempt = _Attempt(aim, refused, challenge)
        if self._nursery is not None:
            self._nursery.start_soon(self._run, attempt)
        return attempt

    async def _run(self, attempt: _Attempt) -> None:
        try:
            await self._obtain(attempt)
        except RelayError as failure:
            log.warning("could not obtain %s: %s", attempt.aim.value, failure)
            attempt.failure = self._last_failure = failure
            if attempt.aim is Aim.RENEWAL and self._is_due():
                self._renew_at = self._clock() + LOOK
        except Exception:
            log.exception("could not obtain %s", attempt.aim.value)
            attempt.failure = RelayError("internal error while signing in")
        finally:
            if self._attempt is attempt:
                self._attempt = None
            attempt.is_shown.set()
            attempt.is_over.set()

    async def _obtain(self, attempt: _Attempt) -> None:
        async with self._entry.locked():
            attempt.is_ours.set()
            record = self._entry.read() or self._blank()
            held = record.tokens
            if held is not None and self._is_better(held, attempt):
                log.info("another process has obtained a token")
                self._take_over(record)
                return
            performer = Performer(
                self._oauth,
                fetch=self._fetch,
                keep=self._entry.write,
                show=_Told(attempt),
            )
            if attempt.aim is not Aim.STEP_UP:
                try:
                    flow = login.refresh(
                        self._oauth, self._entry.server_url, record, attempt.challenge
                    )
                    self._keep(await performer.perform(flow))
                    return
                except InvalidGrant as exc:
                    log.info("the token cannot be renewed: %s", exc)
                    record = self._entry.read() or self._blank()
                    if attempt.aim is Aim.RENEWAL:
                        self._take_over(record)
                        raise
            await self._sign_in(attempt, record, performer)

    async def _sign_in(self, attempt: _Attempt, record: Record, performer: Performer) -> None:
        if trio.current_time() < self._rests_until and self._last_failure is not None:
            raise AuthorizationFailed(
                f"the last sign-in failed, and the next one is not tried yet: {self._last_failure}",
                hint=self._last_failure.hint or "try again in a minute",
                status=401,
            )
        url, challenge = self._entry.server_url, attempt.challenge
        if attempt.aim is Aim.STEP_UP and challenge is not None:
            flow = login.step_up(self._oauth, url, challenge, record)
        else:
            flow = login.sign_in(self._oauth, url, challenge, record)
        try:
            self._keep(await performer.perform(flow))
        except RelayError:
            self._rests_until = trio.current_time() + COOLDOWN
            raise
        log.info("signed in")

    # Tokens

    def _keep(self, record: Record) -> None:
        self._entry.write(record)
        self._take_over(record)
        self._unproven = None if record.tokens is None else record.tokens.bearer

    def _take_over(self, record: Record | None) -> None:
        """Use from now on what a record holds."""
        self._tokens = tokens = None if record is None else record.tokens
        self._renew_at = inf
        if tokens is not None:
            for secret in (tokens.access_token, tokens.refresh_token, tokens.id_token):
                if secret:
                    protect(secret)
            if tokens.expires_at is not None and self._is_renewable(tokens):
                left = tokens.expires_at - self._clock()
                self._renew_at = tokens.expires_at - min(MARGIN, max(left, 0.0) / 4)
        self._has_changed.set()
        self._has_changed = trio.Event()

    def _blank(self) -> Record:
        entry = self._entry
        return Record(server_url=entry.server_url, client_id=entry.client_id, profile=entry.profile)

    def _is_better(self, held: Tokens, attempt: _Attempt) -> bool:
        """Whether what another process has kept will do."""
        if self._has_expired(held):
            return False
        if attempt.aim is Aim.RENEWAL:
            return self._tokens is None or held.bearer != self._tokens.bearer
        return held.bearer != attempt.refused

    def _is_renewable(self, tokens: Tokens) -> bool:
        return tokens.refresh_token is not None or self._oauth.grant == "client-credentials"

    def _is_due(self) -> bool:
        return self._clock() >= self._renew_at

    def _has_expired(self, tokens: Tokens) -> bool:
        return tokens.expires_at is not None and self._clock() >= tokens.expires_at

    async def _keep_fresh(self) -> None:
        """Renew each token in time, also while nothing is sent."""
        while True:
            changed, attempt = self._has_changed, self._attempt
            if attempt is not None:
                await attempt.is_over.wait()
            elif self._is_due():
                attempt = self._begin(Aim.RENEWAL, None, None)
                await attempt.is_over.wait()
            else:
                left = self._renew_at - self._clock()
                with trio.move_on_after(min(LOOK, max(left, 0.0))):
                    await changed.wait()


class _Told:
    """Tells the user of a sign-in on stderr, and those who wait for it where it is."""

    def __init__(self, attempt: _Attempt) -> None:
        self._attempt = attempt

    def page(self, url: str, *, is_opened: bool) -> None:
        """A page has to be visited."""
        log.warning("sign in at %s", url, extra=TO_BE_FOLLOWED)
        self._attempt.url = url
        self._attempt.is_shown.set()

    def code(self, url: str, code: str, complete_url: str | None) -> None:
        """A code has to be typed."""
        text = "sign in at %s with the code %s"
        log.warning(text, complete_url or url, code, extra=TO_BE_FOLLOWED)
        self._attempt.url = complete_url or f"{url} (code {code})"
        self._attempt.is_shown.set()


def _shown_by(request: Request) -> str | None:
    """The bearer token that a request was sent with."""
    for name, value in request.headers:
        if name.lower() == "authorization" and value.startswith("Bearer "):
            return value.removeprefix("Bearer ")
    return None
