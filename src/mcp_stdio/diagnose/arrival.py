"""The way to the server, as far as HTTP and the credential: stages that the lanes themselves tell.

An observer of the lane below the client. Owns which stage is under way while a connection is being
made, and what of it is worth telling. Refuses to know MCP. With a proxy the order is that of what
happens: the proxy finds the server, so neither a name is resolved here nor a connection made to it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any

from mcp_stdio import spec
from mcp_stdio.config import Tls
from mcp_stdio.diagnose.observed import Listening, Observed, Unreached
from mcp_stdio.diagnose.report import CREDENTIAL, HTTP, NAME, PROTOCOL, PROXY, TCP, TLS, Report
from mcp_stdio.errors import (
    AuthorizationFailed,
    ProxyFailure,
    RelayError,
    TlsFailure,
    UsageFailure,
    quote,
)
from mcp_stdio.http import Head, Lane, Request
from mcp_stdio.http.observer import Secured
from mcp_stdio.http.redirects import is_redirect
from mcp_stdio.http.url import Url

SHOWN = 4
"""Addresses of a name that are shown: big sites have more."""

DAY = 24 * 3600

SIGN_IN = "`--oauth`"

REFUSALS = frozenset({401, 403})


class Arrival:
    """Tells the stages of `report` from `name` to `credential`.

    `source` is the setting that the credential comes from, if any. `has_session` says whether the
    server keeps one.
    """

    def __init__(
        self, report: Report, url: Url, tls: Tls, *, names_proxy: bool, source: str | None
    ) -> None:
        self._report = report
        self._url = url
        self._tls = tls
        self._names_proxy = names_proxy
        self._source = source
        self._redirected = 0
        self.proxy: str | None = None
        self.listening = Listening()
        self._is_challenged = False
        self.has_session = False
        self._sent: dict[str, str] = {}

    def begin(self) -> None:
        """The first request is on its way."""
        self._report.begin(NAME)
        if not self._names_proxy and _is_address(self._url.host):
            self._named(())

    @property
    def left_out(self) -> set[str]:
        """The stages that do not apply to this way."""
        found = set() if self._url.scheme == "https" else {TLS}
        return found | ({TCP} if self.proxy is not None else set())

    # What the lanes tell

    def around(self, lane: Lane) -> Lane:
        """See `Observer.around`."""
        return Observed(lane, self._answered, self.listening)

    def connecting(self, proxy: str | None) -> None:
        """See `Observer.connecting`."""
        if self._report.under_way != NAME:
            return
        if proxy is None:
            if _is_address(self._url.host):
                self._named(())
        else:
            self.proxy = proxy
            self._report.facts["proxy"] = proxy
            self._report.passed(NAME, "left to the proxy", is_timed=False)
            self._report.begin(PROXY)

    def resolved(self, host: str, addresses: Sequence[str]) -> None:
        """See `Observer.resolved`."""
        if self._report.under_way == NAME and host == self._url.host:
            self._named(addresses)

    def connected(self, address: str) -> None:
        """See `Observer.connected`."""
        if self._report.under_way == NAME:
            self._named((address,))
        if self._report.under_way == TCP:
            self._report.facts["address"] = address
            self._report.passed(TCP, f"connected to {address}, port {self._url.port}")
            self._report.begin(TLS if self._url.scheme == "https" else HTTP)

    def tunnelled(self) -> None:
        """See `Observer.tunnelled`."""
        if self._report.under_way == PROXY:
            text = f"`{self.proxy}` connects to `{self._url.authority}`"
            self._report.passed(PROXY, text)
            self._report.begin(TLS if self._url.scheme == "https" else HTTP)

    def secured(self, facts: Secured) -> None:
        """See `Observer.secured`."""
        if self._report.has_told(TLS) or self._report.has_told(HTTP):
            return
        found: dict[str, Any] = {
            "version": facts.version,
            "cipher": facts.cipher,
            "trust": self._trust(),
        }
        text = f"{facts.version}, {facts.cipher}; "
        certificate = facts.certificate
        if certificate is None:
            text += f"the certificate was not looked at; {self._trust()}"
        else:
            text += f"certificate of `{certificate.subject}`, issued by {certificate.issuer}"
            if certificate.expires is not None:
                days = int((certificate.expires - time.time()) // DAY)
                text += f", {days} days left"
                found["days_left"] = days
            text += f"; {self._trust()}"
            found |= {
                "subject": certificate.subject,
                "names": certificate.names,
                "issuer": certificate.issuer,
            }
        self._report.facts["tls"] = found
        self._report.passed(TLS, text)
        self._report.begin(HTTP)

    def _named(self, addresses: Sequence[str]) -> None:
        report, host = self._report, self._url.host
        if addresses:
            shown = ", ".join(addresses[:SHOWN])
            more = f" and {len(addresses) - SHOWN} more" if len(addresses) > SHOWN else ""
            report.facts["addresses"] = list(addresses)
            report.passed(NAME, f"`{host}` is {shown}{more}")
        else:
            report.passed(NAME, f"`{host}` is an address already", is_timed=False)
        none = f"none applies to `{host}`" if self._names_proxy else "none is set"
        report.facts["proxy"] = None
        report.passed(PROXY, none, is_timed=False)
        report.begin(TCP)

    def _trust(self) -> str:
        if self._tls.insecure:
            return "anybody is trusted (`--insecure`)"
        if self._tls.cacert is not None:
            return f"trusted by this system or `--cacert {self._tls.cacert}`"
        return "trusted by this system"

    def _answered(self, request: Request, head: Head) -> None:
        report = self._report
        self._sent = {name.lower(): value for name, value in request.headers}
        if head.headers.get(spec.SESSION_ID.lower()) is not None:
            self.has_session = True
        if head.status in REFUSALS:
            self._is_challenged = True
        if is_redirect(head):
            self._redirected += 1
            return
        if report.under_way == PROXY:
            if head.status == 407:  # what the lane makes of it is a failure of the proxy's
                return
            report.passed(PROXY, f"`{self.proxy}` takes requests for `{self._url.authority}`")
            report.begin(HTTP)
        if report.under_way == HTTP:
            self._tell_of_http(head)
            report.begin(CREDENTIAL)
        if report.under_way == CREDENTIAL and head.status not in REFUSALS:
            self._tell_of_credential(head)
            report.begin(PROTOCOL)

    def _tell_of_http(self, head: Head) -> None:
        kind, server = quote(head.media_type, 60), quote(head.headers.get("server") or "", 60)
        self._report.facts["http"] = {
            "status": head.status,
            "media_type": kind,
            "server": server,
            "redirects": self._redirected,
        }
        text = f"status {head.status}, {kind or 'no content type'}"
        text += f", from `{server}`" if server else ""
        text += ", after a redirect" if self._redirected else ""
        self._report.passed(HTTP, text)

    def _tell_of_credential(self, head: Head) -> None:
        sent, is_challenged = self._credential(), self._is_challenged
        is_accepted = head.status < 400
        self._report.facts["credential"] = {"sent": sent, "challenged": is_challenged}
        if sent is None:
            text = "none is sent, and none is asked for"
        else:
            text = f"{sent}: {'accepted' if is_accepted else 'not refused'}"
        if is_challenged:
            text += ", after the server had asked for one"
        self._report.passed(CREDENTIAL, text, is_timed=is_challenged)

    def _credential(self) -> str | None:
        """The credential that was sent last, in words."""
        value = self._sent.get("authorization")
        if value is None:
            return None
        scheme = quote(value.partition(" ")[0], 20) if " " in value else "`Authorization`"
        kind = {"bearer": "bearer token", "basic": "user and password"}.get(scheme.lower(), scheme)
        if self._source == SIGN_IN:
            return f"{kind} of a sign-in ({SIGN_IN})"
        return f"{kind} of {self._source}" if self._source else kind

    # What a failure means

    def place_of(self, failure: RelayError) -> tuple[str, RelayError]:
        """The stage that a failure belongs to, and what it was before it was noted."""
        if isinstance(failure, Unreached):
            failure = failure.failure
        report = self._report
        match failure:
            case ProxyFailure():
                place = PROXY
            case TlsFailure():
                place = TLS
            case AuthorizationFailed() if not report.has_told(CREDENTIAL):
                place = CREDENTIAL
            case UsageFailure() if self._names_proxy and report.under_way == NAME:
                place = PROXY
            case _:
                place = report.under_way or PROTOCOL
        return place, failure


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
