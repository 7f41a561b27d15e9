"""What was found, in words for a person and as values for a program.

Pure: what goes in was found by others. Refuses to know stages. Text of a server or of a certificate
is quoted, and no value of a header is repeated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Any, NamedTuple

from mcp_stdio import spec
from mcp_stdio.config import Config, Tls
from mcp_stdio.errors import quote
from mcp_stdio.http import Head
from mcp_stdio.http.observer import Certificate, Secured
from mcp_stdio.upstream.refusal import may_be_credential

Facts = dict[str, Any]

SIGN_IN = "`--oauth`"

OVER_HTTP = "Streamable HTTP"
OVER_SSE = "HTTP+SSE"
"""The transports, as the candidates for a handshake are called."""

SHOWN = 4
"""Addresses of a name, and names in a certificate, that are shown: big sites have more."""

NOT_ALLOWED = 405
UNKNOWN_SESSION = 404
"""What a DELETE is answered with by a server that lets no session be ended, or has it no more."""

NOBODY = "nobody who is named"
"""Who has made a certificate, or is meant by it, where it does not say."""

_DAY = 24 * 3600
_EPOCH = date(1970, 1, 1)

FAULT = "the server breaks the protocol here: tell who runs it"
"""The hint for what is wrong with a server that can be used all the same."""


class Found(NamedTuple):
    """The same twice; `hint` where it went well and something is wrong all the same."""

    text: str
    facts: Facts
    hint: str | None = None


def settings(config: Config, source: str | None) -> str:
    """What of the settings matters here; `source` is the one that gives the credential."""
    parts = [f"credential of {source}" if source else "no credential"]
    names = [f"`{name}`" for name, _ in config.headers if name.lower() != "authorization"]
    if names:
        parts.append(f"headers {', '.join(names)}")
    parts += [f"`{one.option}`" for one in config.sources if f"`{one.option}`" != source]
    tls = config.tls
    for option, value in ("--cacert", tls.cacert), ("--cert", tls.cert):
        if value is not None:
            parts.append(f"`{option} {value}`")
    if tls.insecure:
        parts.append("`--insecure`")
    for option, value in (
        ("--transport", config.transport),
        ("--protocol-era", config.protocol_era),
        ("--bridge", config.bridge),
    ):
        if value != "auto":
            parts.append(f"`{option} {value}`")
    for option, globs in ("--allow-tool", config.allow_tools), ("--deny-tool", config.deny_tools):
        parts += [f"`{option} {glob}`" for glob in globs]
    silence = "any time" if config.timeout_read is None else f"{config.timeout_read:g} s"
    parts.append(f"time-outs {config.timeout_connect:g} s to connect and {silence} for an answer")
    return "; ".join(parts)


def name(host: str, addresses: Sequence[str]) -> Found:
    """What a name stands for; no addresses where it is one itself."""
    if not addresses:
        return Found(f"`{host}` is an address already", {})
    more = f" and {len(addresses) - SHOWN} more" if len(addresses) > SHOWN else ""
    shown = ", ".join(addresses[:SHOWN])
    return Found(f"`{host}` is {shown}{more}", {"addresses": list(addresses)})


def tls(secured: Secured, settings: Tls, now: float) -> Found:
    """What a TLS handshake has settled, and why that is trusted; `now` counts from the epoch."""
    if settings.insecure:
        trust = "anybody is trusted (`--insecure`)"
    elif settings.cacert is not None:
        trust = f"trusted by this system or `--cacert {settings.cacert}`"
    else:
        trust = "trusted by this system"
    facts: Facts = {"version": secured.version, "cipher": secured.cipher, "trust": trust}
    certificate = secured.certificate
    if certificate is None:
        seen = "the certificate was not looked at"
    else:
        seen = f"certificate of `{certificate.subject}`, issued by {certificate.issuer}"
        facts |= _facts_of(certificate, now)
        if (days := facts.get("days_left")) is not None:
            seen += ", 1 day left" if days == 1 else f", {days} days left"
    return Found(f"{secured.version}, {secured.cipher}; {seen}; {trust}", {"tls": facts})


def distrusted(certificate: Certificate, now: float) -> Found:
    """A certificate that is not accepted: whoever knows it may see why."""
    names = [f"`{name}`" for name in certificate.names[:SHOWN]]
    more = len(certificate.names) - SHOWN
    shown = ", ".join(names) + (f" and {more} more" if more > 0 else "")
    whose = f"`{certificate.subject}`" if certificate.subject else NOBODY
    text = f"the certificate is that of {whose}, for {shown or 'no name'}"
    text += f", issued by {certificate.issuer or NOBODY}"
    if certificate.begins is not None and certificate.expires is not None:
        text += f", valid from {_date(certificate.begins)} to {_date(certificate.expires)}"
    return Found(text, {"tls": _facts_of(certificate, now)})


def _facts_of(certificate: Certificate, now: float) -> Facts:
    facts: Facts = {
        "subject": certificate.subject,
        "names": certificate.names,
        "issuer": certificate.issuer,
    }
    for name, moment in ("valid_from", certificate.begins), ("valid_to", certificate.expires):
        if moment is not None:
            facts[name] = _date(moment)
    if certificate.expires is not None:
        facts["days_left"] = int((certificate.expires - now) // _DAY)
    return facts


def _date(moment: float) -> str:
    return str(_EPOCH + timedelta(days=moment // _DAY))


def http(head: Head, redirects: int) -> Found:
    """That the server speaks HTTP, and what it says first; `redirects` were followed before."""
    kind, server = quote(head.media_type, 60), quote(head.headers.get("server") or "", 60)
    facts = {"status": head.status, "media_type": kind, "server": server, "redirects": redirects}
    text = f"status {head.status}, {kind or 'no content type'}"
    text += f", from `{server}`" if server else ""
    text += ", after a redirect" if redirects else ""
    return Found(text, {"http": facts})


def own_credentials(config: Config) -> str:
    """What of the user's headers besides `Authorization` may be a credential; empty without any."""
    names = [f"`{name}`" for name, _ in config.headers if may_be_credential(name)]
    return ", ".join(
        [name for name in names if name.lower() != "`authorization`"]
        + [f"headers of `{each.option}`" for each in config.sources if each.gives == "headers"]
    )


def credential(
    sent: str | None, source: str | None, own: str, *, is_accepted: bool, is_challenged: bool
) -> Found:
    """What becomes of a credential; `sent` is the value of its header, which is not repeated.

    `own` is what else may be one.
    """
    shown = None if sent is None else _kind_of(sent, source)
    if shown is None and not own:
        text = "none is sent, and none is asked for"
    else:
        text = f"{shown or own}: {'accepted' if is_accepted else 'not refused'}"
    if is_challenged:
        text += ", after the server had asked for one"
    return Found(text, {"credential": {"sent": shown, "challenged": is_challenged}})


def _kind_of(sent: str, source: str | None) -> str:
    scheme = sent.partition(" ")[0].lower() if " " in sent else ""
    kind = {"bearer": "bearer token", "basic": "user and password"}.get(scheme, "`Authorization`")
    if source == SIGN_IN:
        return f"{kind} of a sign-in ({SIGN_IN})"
    return f"{kind} of {source}" if source else kind


def protocol(
    eras: list[str], transport: str, *, is_native: bool, is_certain: bool, may_bridge: bool
) -> Found:
    """What the server speaks. `is_native` says that a client that shakes hands gets through."""
    words = {
        "legacy": "the server shakes hands (legacy era)",
        "modern": f"the server is stateless (modern era, {spec.R5})",
        "legacy modern": f"the server speaks both eras, up to {spec.R5}",
    }[" ".join(eras)]
    known = "" if is_certain else " as far as is known"
    text = f"{words}{known}, over {transport}"
    if may_bridge and not is_native:
        text += "; clients that shake hands are bridged"
    elif may_bridge and eras == ["legacy"]:
        text += "; modern clients are bridged"
    facts = {"eras": eras, "transport": transport, "bridged": not is_native}
    return Found(text, {"protocol": facts})


def capabilities(result: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the answer to `initialize` offers."""
    found = result.get("capabilities")
    return found if isinstance(found, dict) else {}


def tells_changes(result: Mapping[str, Any]) -> bool:
    """Whether the server announces that it tells of changes of a list."""
    offered = capabilities(result).values()
    return any(isinstance(each, dict) and each.get("listChanged") is True for each in offered)


def introduction(result: Mapping[str, Any], *, has_session: bool) -> Found:
    """Who the server is, as its answer to `initialize` says."""
    given = result.get("serverInfo")
    given = given if isinstance(given, dict) else {}
    server = {key: quote(str(given.get(key, ""))) for key in ("name", "version")}
    version = quote(str(result.get("protocolVersion")))
    offers = sorted(map(quote, capabilities(result)))
    who = " ".join(filter(None, server.values())) or "a server without name"
    session = "with a session" if has_session else "without session"
    is_known = version in (*spec.HANDSHAKE_VERSIONS, spec.R5)
    known = "" if is_known else " (a revision that clients may not know)"
    return Found(
        f"{who}, MCP {version}{known}, {session}, offers {', '.join(offers) or 'nothing'}",
        {
            "server": server,
            "protocol_version": version,
            "capabilities": offers,
            "session": has_session,
        },
    )


def count(items: str, number: int, pages: int, fault: str) -> Found:
    """How long a list is, on how many pages it came, and what is wrong with it, if anything.

    Without a page, only that.
    """
    if not pages:
        return Found(fault, {items: number}, FAULT)
    text = f"{number} {items.removesuffix('s') if number == 1 else items}"
    text += f" on {pages} pages" if pages > 1 else ""
    if fault:
        return Found(f"{text}; {fault}", {items: number}, FAULT)
    return Found(text, {items: number})


def listening(head: Head) -> Found:
    """What the server makes of the wish to hear what it says by itself."""
    is_open = head.status == 200 and head.media_type == spec.EVENT_STREAM
    text = "open: the server can speak by itself"
    return Found(text if is_open else f"not offered (status {head.status})", {"listening": is_open})


def farewell(status: int | None) -> str:
    """What has become of a session that was to be ended; the status is None without an answer."""
    if status == NOT_ALLOWED:
        return "the server does not let a client end its session"
    if status is None:
        return "whether the session is over is unknown: the server did not say"
    is_over = status < 400 or status == UNKNOWN_SESSION
    return "the session is over" if is_over else f"the session was not ended (status {status})"
