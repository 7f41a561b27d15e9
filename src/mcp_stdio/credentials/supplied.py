"""Headers from files and commands: read at the start, and again when the server refuses them.

Owns when to read and who waits for it: a reading is everybody's, so that a hundred refused requests
run a command once. Refuses to know HTTP beyond the refusal. Kept here: what is read is known as a
secret before anything else happens to it; a refused request is worth a replay only if what it
carried is not what there is now (P2); a 403 that does not speak of a scope is the server's last
word about its request, and what was read is for the next.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator

import trio

from mcp_stdio.config import Source
from mcp_stdio.credentials import output, rules
from mcp_stdio.credentials.output import MAX_SIZE, MAX_TIME
from mcp_stdio.credentials.rules import AUTHORIZATION, Headers
from mcp_stdio.errors import AuthorizationFailed, UsageFailure, quote
from mcp_stdio.http import Head, Request
from mcp_stdio.redaction import Redactor, protect_supplied

log = logging.getLogger(__name__)

MAX_LINES = 50
"""Lines of a command that are known as secrets before its complaints are shown, and of those."""

Read = Callable[[Source], Awaitable[Headers]]


async def read(source: Source) -> Headers:
    """What the source gives now. Raises AuthorizationFailed with the reason."""
    data = await (_printed(source) if source.command else _content(source))
    text = data.decode("utf-8-sig", "surrogateescape")
    try:
        if source.gives == "headers":
            headers = rules.parse_lines(text, where=source.option)
        else:
            headers = ((AUTHORIZATION, rules.bearer(text, where=source.option)),)
    except UsageFailure as exc:
        raise AuthorizationFailed(str(exc), hint=exc.hint) from None
    for name, value in headers:
        for secret in rules.secrets_of(name, value):
            protect_supplied(secret)
    return headers


class Supplied:
    """An authorizer: the headers of the settings, and what the sources give.

    Of a name given twice the last source counts.
    """

    def __init__(
        self,
        fixed: Iterable[tuple[str, str]],
        sources: Iterable[Source],
        *,
        read: Read = read,
    ) -> None:
        self._fixed = tuple(fixed)
        self._sources = tuple(sources)
        self._read = read
        self._found: dict[Source, Headers] = {}
        self._alone = trio.Lock()
        self._readings = 0
        self._failure: AuthorizationFailed | None = None

    @property
    def is_ready(self) -> bool:
        """Whether everything has been read."""
        return len(self._found) == len(self._sources)

    async def headers(self) -> Headers:
        """What there is; waits for the first reading only. Raises AuthorizationFailed."""
        if not self.is_ready:
            await self._read_all()
        return rules.last_of_each(self._all())

    async def renew(self, refused: Request, head: Head) -> bool:
        """Read again; True if the request carried something else.

        Raises AuthorizationFailed when a 401 cannot be answered with anything better.
        """
        may_replay = head.status == 401 or _wants_scope(head)
        if self.is_ready and not self._is_outdated(refused):
            try:
                await self._read_all(head.status)
            except AuthorizationFailed as exc:
                if may_replay:
                    raise
                log.warning("%s", exc)
        return may_replay and self._is_outdated(refused)

    def accepted(self, request: Request) -> None:
        """What was read is good until the server says otherwise."""

    async def _read_all(self, status: int | None = None) -> None:
        """Read, once for all who want it meanwhile, be it a failure."""
        before = self._readings
        async with self._alone:
            if self._readings == before:
                self._failure = None
                try:
                    found = {source: await self._read(source) for source in self._sources}
                except AuthorizationFailed as exc:
                    self._failure = exc
                else:
                    self._tell_of_replaced(found)
                    self._found = found
                self._readings += 1
            failure = self._failure
        if failure is not None:
            raise AuthorizationFailed(str(failure), hint=failure.hint, status=status)

    def _all(self) -> Iterator[tuple[str, str]]:
        yield from self._fixed
        for headers in self._found.values():
            yield from headers

    def _is_outdated(self, refused: Request) -> bool:
        sent = {name.lower(): value for name, value in refused.headers}
        for name, value in rules.last_of_each(self._all()):
            was = sent.get(name.lower(), "")
            # The client adds the server's cookies to the user's.
            if was != value and not (name.lower() == "cookie" and was.startswith(f"{value};")):
                return True
        return False

    def _tell_of_replaced(self, found: dict[Source, Headers]) -> None:
        """Say once which headers were given in vain."""
        if self._readings:
            return
        known = {name.lower() for name, _ in self._fixed}
        for source, headers in found.items():
            for name, _ in headers:
                if name.lower() in known:
                    log.warning(
                        "`%s` is what `%s` gives; what was given otherwise is not used",
                        name,
                        source.option,
                    )
                known.add(name.lower())


def _wants_scope(head: Head) -> bool:
    challenge = ", ".join(head.headers.get_all("www-authenticate"))
    return head.status == 403 and "insufficient_scope" in challenge


async def _content(source: Source) -> bytes:
    def content() -> bytes:
        assert source.path is not None
        with open(source.path, "rb") as file:
            return file.read(MAX_SIZE + 1)

    # In a thread, for it may be a pipe or lie on a network: neither may hold up the relay.
    failure = f"the file cannot be read within {MAX_TIME:g} s"
    with trio.move_on_after(MAX_TIME):
        try:
            data = await trio.to_thread.run_sync(content, abandon_on_cancel=True)
        except OSError as exc:
            failure = f"the file cannot be read: {exc.strerror}"
        else:
            if len(data) <= MAX_SIZE:
                return data
            failure = f"the file has more than {MAX_SIZE} bytes"
    raise AuthorizationFailed(
        f"`{source.option}`: {failure}", hint=f"check the file `{quote(source.path or '')}`"
    )


async def _printed(source: Source) -> bytes:
    result = await output.run(source.command)
    if result.complaints:
        printed = Redactor()  # none of it is of interest for longer than that
        for line in _lines(result.printed):
            for secret in line, line.partition(":")[2], line.partition(" ")[2]:
                printed.protect(secret)
        for line in _lines(result.complaints):
            log.info("`%s` complains: %s", source.option, quote(printed.redact_known(line)))
    if result.failure is not None:
        raise AuthorizationFailed(
            f"`{source.option}`: {result.failure}",
            hint="run the command by itself to see why, or see what it says with `-v`",
        )
    return result.printed


def _lines(data: bytes) -> list[str]:
    lines = data.decode(errors="replace").splitlines()
    return [line.strip() for line in lines if line.strip()][:MAX_LINES]
