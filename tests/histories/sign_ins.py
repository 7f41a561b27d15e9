"""Processes that share one sign-in, their authorization server, and a person who may be there.

`Watched` is the authorization server of other tests, which here also sees what must never happen: a
refresh token that comes again, a person who is asked twice at the same time or soon after in vain.
`World` has the processes in front of the protected server, and says after each step, and at the
end, whether all is as it should be.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from pathlib import Path

import trio
from trio.testing import wait_all_tasks_blocked

from mcp_stdio.errors import AuthorizationFailed, ConnectionLost, RelayError, Unreachable
from mcp_stdio.http import Request
from mcp_stdio.http.authorizer import Fixed
from mcp_stdio.http.client import Client
from mcp_stdio.oauth.bearer import Bearer
from mcp_stdio.oauth.commands import Fetch, Fetched
from tests.histories.history import History
from tests.http.fakes import Answer
from tests.oauth.fakes import DEVICE, Authority, Rig, Trouble, ask, now, refusal
from tests.oauth.pump import AS, form_of, found

HELD = 2 * DEVICE.start_wait
"""Seconds within which a request is answered: held for a renewal, then for a sign-in."""

SOON = 60.0
"""Seconds within which a person who was asked in vain must not be asked again."""

AT_ONCE = 1.0
"""Seconds for which a new token is used at least."""

SCOPES = ("read", "read write", "read write admin")

OUTAGES: dict[str, Exception] = {
    "unreachable": Unreachable("no way there"),
    "lost": ConnectionLost("broken off"),
}
"""What any request to the authorization server may meet."""

TROUBLE: dict[str, Trouble] = {
    **OUTAGES,
    "503": Fetched(503, {}, b"<h1>Down"),
    "unavailable": found({"error": "temporarily_unavailable"}, 400),
    "429": Fetched(429, {"retry-after": "1"}, b""),
}
"""What a request for tokens may meet, after which the grant is as good as before."""

LIFETIMES = (3600.0, 90.0, 5.0, None)


@dataclass
class Watched(Authority):
    """`history` is told what is asked for, and what must not be."""

    history: History = field(default_factory=History)
    lives: dict[str, float] = field(default_factory=dict)  # until when each token does
    scope_of: dict[str, str] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)  # refresh tokens that were exchanged
    was_revoked: bool = False  # the last grant, by nobody here
    last: str | None = None  # the refresh token that is to be kept
    last_at: float = -inf
    was_refused: bool = False  # the last token, by the server

    def _granted(self, form: dict[str, str]) -> Fetched:
        grant = form["grant_type"].rpartition(":")[2]
        spent = form.get("refresh_token", "")
        if spent in self.used:
            self.history.breach(f"the refresh token {spent} comes again")
        if spent and trio.current_time() - self.last_at < AT_ONCE and not self.was_refused:
            self.history.breach("a token that was just obtained is renewed")
        before = set(self.tokens)
        answer = super()._granted(form)
        for token in set(self.tokens) - before:
            refresh = token.replace("access", "refresh")
            scope = self.scope_of.get(spent, "") if spent else self.scopes[-1] or ""
            self.scope_of[token] = self.scope_of[refresh] = scope
            lifetime = inf if self.lifetime is None else self.lifetime
            self.lives[token] = trio.current_time() + lifetime
            self.was_revoked = self.was_refused = False
            self.last, self.last_at = refresh, trio.current_time()
            if spent:
                self.used.add(spent)
        self.history.note(f"  authority: {grant} {spent} → {answer.status} {answer.body!r:.90}")
        return answer


class World:
    """All that there is. `demanded` is the scope that requests need."""

    def __init__(self, directory: Path, nursery: trio.Nursery, history: History) -> None:
        self.history = history
        self.nursery = nursery
        self.authority = Watched(history=history)
        self.rig = Rig(directory, nursery, self.authority)
        self.rig.server.judge = self.judge
        self.demanded = ""
        self.has_demanded = False  # more scope, at any time
        self.processes: list[Client] = []
        self.asked_in_vain: dict[str, float] = {}
        self.waiting = 0
        self.proven: set[str] = set()  # tokens that the server has taken once

    def judge(self, token: str | None, request: Request) -> Answer | None:
        if token is not None and trio.current_time() >= self.authority.lives[token]:
            self.history.breach(f"{token} was sent, and has expired")
        if token not in self.authority.tokens:
            return refusal()
        if not set(self.demanded.split()) <= set(self.authority.scope_of[token].split()):
            return refusal(403, error="insufficient_scope", scope=self.demanded)
        self.proven.add(token)
        return None

    # Steps

    def start(self) -> None:
        """One more process."""
        name = f"process {len(self.processes) + 1}"

        async def fetch(fetch: Fetch) -> Fetched:
            if fetch.url == f"{AS}/device_authorization":
                self._look_at_asking(name)
            answer = await self.authority.fetch(fetch)
            is_poll = fetch.url == f"{AS}/token" and "device_code" in form_of(fetch)
            if is_poll and b"access_denied" in answer.body:
                self.asked_in_vain[name] = trio.current_time()
            return answer

        bearer = Bearer(DEVICE, self.rig.entry(), Fixed(), fetch, clock=now)
        bearer.recall()
        self.nursery.start_soon(bearer.attend)
        self.processes.append(self.rig.client(bearer))
        self.history.note(f"{name} starts")

    def _look_at_asking(self, name: str) -> None:
        """Nobody is asked soon after they were asked in vain."""
        self.history.note(f"  {name} asks a person to sign in")
        since = trio.current_time() - self.asked_in_vain.get(name, -SOON)
        if since < SOON:
            self.history.breach(f"{name} asks again after {since:g} s")
        kept = self.rig.kept()
        is_good = kept is not None and kept.refresh_token in self.authority.refresh_tokens
        if is_good and not self.has_demanded:
            self.history.breach(f"{name} asks, and the grant that is kept is good")

    def request(self, number: int) -> None:
        """A process sends a request, and waits for its answer."""
        self.nursery.start_soon(self._request, number)

    async def _request(self, number: int) -> None:
        begun = trio.current_time()
        self.waiting += 1
        try:
            outcome: object = await ask(self.processes[number])
        except (AuthorizationFailed, Unreachable) as failure:
            outcome = failure
        except RelayError as failure:
            outcome = failure
            self.history.breach(f"a request failed for another reason: {failure!r}")
        finally:
            self.waiting -= 1
        took = trio.current_time() - begun
        self.history.note(f"process {number + 1}: {outcome!r} after {took:g} s")
        if took > HELD + 4 * self.authority.delay + 1:
            self.history.breach(f"a request was held for {took:g} s")

    def revoke(self) -> None:
        """The server takes the tokens no more that it has taken before."""
        self.authority.tokens -= self.proven
        self.authority.was_refused = True

    def withdraw(self) -> None:
        """The authorization server forgets all grants."""
        self.authority.refresh_tokens.clear()
        self.authority.was_revoked = True

    async def forget(self) -> None:
        """Somebody signs out by hand."""
        entry = self.rig.entry()
        async with entry.locked():
            entry.delete()
            self.authority.last = None

    async def settle(self) -> None:
        await wait_all_tasks_blocked()
        self.history.check()

    # What must hold

    def check_grant(self) -> None:
        """The grant is not lost: what is kept can be renewed, if anything can."""
        kept = self.rig.kept()
        if self.authority.was_revoked or self.authority.last is None:
            return
        if kept is None or kept.refresh_token != self.authority.last:
            self.history.breach(f"{self.authority.last} is not kept, but {kept}")

    async def heal(self) -> None:
        """With servers that are well and a person who signs in every process gets through."""
        authority = self.authority
        authority.trouble.clear()
        authority.outages.clear()
        authority.delay, authority.denies, authority.lifetime = 0.0, False, 3600
        authority.confirmed.set()
        self.demanded = ""
        await trio.sleep(SOON + 60)
        await self.settle()
        if self.waiting:
            self.history.breach("a request is still waiting")
        self.check_grant()
        for number, client in enumerate(self.processes):
            status = await ask(client)
            self.history.note(f"process {number + 1}: {status}")
            if status != 200:
                self.history.breach("all is well, and a request does not get through")
        self.history.check()
