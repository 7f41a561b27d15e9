"""`--test`: walks the way to the server stage by stage and says where it ends.

Owns the stages, their order and what each tells. Refuses to have ways of its own to a server: it
uses the very objects the relay consists of, behind a lane that takes notes (`observed`). Kept here:
text from the server is quoted, and what is printed goes through redaction.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import trio

from mcp_stdio import __version__, log, spec
from mcp_stdio.assembly import Access
from mcp_stdio.config import Config
from mcp_stdio.diagnose.observed import Observed, Unreached
from mcp_stdio.diagnose.peer import Facts, Peer
from mcp_stdio.diagnose.report import Report, Stage, as_object, as_text
from mcp_stdio.errors import BadAnswer, RelayError, quote
from mcp_stdio.http import Lane
from mcp_stdio.http.client import names_proxy
from mcp_stdio.http.url import Url

FAREWELL = 5.0
"""Seconds that ending the session may take."""


def run(config: Config, *, as_json: bool) -> int:
    """Test the connection; prints to stderr, or one object to stdout. Returns the exit code."""
    if not as_json:
        _tell(f"mcp-stdio {__version__} tests {config.url}")
    if config.oauth is not None:  # a person waits here, and may sign in meanwhile
        patient = config.oauth._replace(start_wait=config.oauth.timeout)
        config = config._replace(oauth=patient)
    access = Access(config)
    is_proxied = names_proxy(os.environ, sys.platform)
    narrate = _ignore if as_json else _narrate
    report = trio.run(
        partial(
            examine,
            config,
            access.client,
            narrate,
            is_proxied=is_proxied,
            attend=access.attend,
        )
    )
    if as_json:
        print(json.dumps(as_object(report)))
    return report.exit_code


async def examine(
    config: Config,
    lane: Lane,
    narrate: Callable[[Stage], None],
    *,
    is_proxied: bool = False,
    attend: Callable[[trio.Nursery], None] | None = None,
) -> Report:
    """Walk the stages until one fails; closes `lane`.

    `attend` starts what signing in takes.
    """
    report = Report(config.url, narrate)
    begun = trio.current_time()

    def connected() -> None:
        seconds = None if is_proxied else trio.current_time() - begun
        report.passed("connect", _connection(Url.parse(config.url), is_proxied), seconds)

    client = Observed(lane, is_proxied=is_proxied, on_sent=connected)
    try:
        async with trio.open_nursery() as nursery:
            if attend is not None:
                attend(nursery)
            nursery.start_soon(client.prepare, Url.parse(config.url))
            peer = Peer(config, client, nursery)
            await _stage("initialize", partial(_introduce, peer), client, report)
            await _stage("tools", partial(_count_tools, peer), client, report)
            nursery.cancel_scope.cancel()
        await _stage("farewell", partial(_say_goodbye, peer), client, report)
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 1):
            await client.aclose()
    return report


Step = Callable[["Observed", dict[str, Any]], Awaitable[str]]


async def _stage(name: str, step: Step, client: Observed, report: Report) -> None:
    """Take a step, unless an earlier one went wrong: then the rest is skipped."""
    if report.exit_code:
        report.skipped(name)
        return
    begun = trio.current_time()
    try:
        found = await step(client, report.facts)
    except RelayError as exc:
        failure = exc.failure if isinstance(exc, Unreached) else exc
        if client.has_sent:
            report.failed(name, failure, trio.current_time() - max(begun, client.sent_at))
        else:
            report.failed("connect", failure, trio.current_time() - begun)
            report.skipped(name)
    else:
        report.passed(name, found, trio.current_time() - max(begun, client.sent_at))


async def _introduce(peer: Peer, client: Observed, facts: dict[str, Any]) -> str:
    about = {"name": "mcp-stdio", "version": __version__}
    params = {"protocolVersion": spec.R4, "capabilities": {}, "clientInfo": about}
    facts |= _facts(await peer.ask(spec.INITIALIZE, params), client.has_session)
    await peer.tell(spec.INITIALIZED)
    return _introduction(facts)


async def _count_tools(peer: Peer, _: Observed, facts: dict[str, Any]) -> str:
    if "tools" not in facts["capabilities"]:
        return "none are offered"
    result = await peer.ask("tools/list")
    tools = result.get("tools")
    if not isinstance(tools, list):
        raise BadAnswer("the server's answer to `tools/list` holds no list of tools")
    facts["tools"] = len(tools)
    text = "1 tool" if len(tools) == 1 else f"{len(tools)} tools"
    return f"{text} on the first page" if "nextCursor" in result else text


async def _say_goodbye(peer: Peer, client: Observed, _: dict[str, Any]) -> str:
    if not client.has_session:
        return "there is no session to end"
    with trio.move_on_after(FAREWELL):
        await peer.leave()
        return "the session is over"
    return f"the server did not end the session within {FAREWELL:g} s"


def _connection(url: Url, is_proxied: bool) -> str:
    secured = "with TLS" if url.scheme == "https" else "without TLS"
    return f"{url.authority} {secured}" + (", as the proxy settings say" if is_proxied else "")


def _facts(result: Facts, has_session: bool) -> dict[str, Any]:
    server = result.get("serverInfo")
    server = server if isinstance(server, dict) else {}
    capabilities = result.get("capabilities")
    return {
        "server": {key: quote(str(server.get(key, ""))) for key in ("name", "version")},
        "protocol_version": quote(str(result.get("protocolVersion"))),
        "capabilities": sorted(map(quote, capabilities)) if isinstance(capabilities, dict) else [],
        "session": has_session,
    }


def _introduction(facts: Facts) -> str:
    server = facts["server"]
    name = " ".join(filter(None, (server["name"], server["version"]))) or "a server without name"
    offers = ", ".join(facts["capabilities"]) or "nothing"
    session = "with a session" if facts["session"] else "without session"
    return f"{name}, MCP {facts['protocol_version']}, {session}, offers {offers}"


def _narrate(stage: Stage) -> None:
    _tell(as_text(stage))


def _tell(text: str) -> None:
    print(log.redact(text), file=sys.stderr, flush=True)


def _ignore(stage: Stage) -> None:
    pass
