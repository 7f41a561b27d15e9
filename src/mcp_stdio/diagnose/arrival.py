"""The way to the server, as far as HTTP and the credential: stages that the lanes themselves tell.

An observer of the lane below the client. Owns which stage is under way while a connection is being
made, and what of it is worth telling. Refuses to know MCP. With a proxy the order is that of what
happens: the proxy finds the server, so neither a name is resolved here nor a connection made to it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from ipaddress import ip_address

from mcp_stdio import spec
from mcp_stdio.config import Config
from mcp_stdio.diagnose import facts
from mcp_stdio.diagnose.facts import Found
from mcp_stdio.diagnose.observed import Listening, Observed, Unreached
from mcp_stdio.diagnose.report import CREDENTIAL, HTTP, NAME, PROTOCOL, PROXY, TCP, TLS, Report
from mcp_stdio.errors import (
    AuthorizationFailed,
    ProxyFailure,
    RelayError,
    TlsFailure,
    UsageFailure,
)
from mcp_stdio.http import Head, Lane, Request
from mcp_stdio.http.observer import Secured
from mcp_stdio.http.redirects import is_redirect
from mcp_stdio.http.url import Url

REFUSALS = frozenset({401, 403})


class Arrival:
    """Tells the stages of `report` from `name` to `credential`.

    `source` is the setting that the credential comes from, if any. `has_session` says whether the
    server keeps one, `status` is that of its first answer to whom it lets in, and `farewell` that
    with which it answered the wish to end the session.
    """

    def __init__(
        self, report: Report, config: Config, *, names_proxy: bool, source: str | None
    ) -> None:
        self._report = report
        self._url = Url.parse(config.url)
        self._tls = config.tls
        self._own = facts.own_credentials(config)
        self._names_proxy = names_proxy
        self._source = source
        self._redirects = 0
        self.proxy: str | None = None
        self.listening = Listening()
        self._is_challenged = False
        self.has_session = False
        self.status: int | None = None
        self.farewell: int | None = None

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
            found = Found("left to the proxy", {"proxy": proxy})
            self._report.found(NAME, found, is_timed=False)
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
            text = f"connected to {address}, port {self._url.port}"
            self._report.found(TCP, Found(text, {"address": address}))
            self._report.begin(TLS if self._url.scheme == "https" else HTTP)

    def tunnelled(self) -> None:
        """See `Observer.tunnelled`."""
        if self._report.under_way == PROXY:
            text = f"`{self.proxy}` connects to `{self._url.authority}`"
            self._report.passed(PROXY, text)
            self._report.begin(TLS if self._url.scheme == "https" else HTTP)

    def secured(self, secured: Secured) -> None:
        """See `Observer.secured`."""
        if self._report.has_told(TLS) or self._report.has_told(HTTP):
            return
        self._report.found(TLS, facts.tls(secured, self._tls, time.time()))
        self._report.begin(HTTP)

    def _named(self, addresses: Sequence[str]) -> None:
        report, host = self._report, self._url.host
        report.found(NAME, facts.name(host, addresses), is_timed=bool(addresses))
        none = f"none applies to `{host}`" if self._names_proxy else "none is set"
        report.found(PROXY, Found(none, {"proxy": None}), is_timed=False)
        report.begin(TCP)

    def _answered(self, request: Request, head: Head) -> None:
        report = self._report
        if head.headers.get(spec.SESSION_ID.lower()) is not None:
            self.has_session = True
        if head.status in REFUSALS:
            self._is_challenged = True
        if is_redirect(head):
            self._redirects += 1
            return
        if request.method == "DELETE":
            self.farewell = head.status
        if report.under_way == PROXY:
            report.passed(PROXY, f"`{self.proxy}` takes requests for `{self._url.authority}`")
            report.begin(HTTP)
        if report.under_way == HTTP:
            report.found(HTTP, facts.http(head, self._redirects))
            report.begin(CREDENTIAL)
        if report.under_way == CREDENTIAL and head.status not in REFUSALS:
            found = facts.credential(
                _value_of("authorization", request),
                self._source,
                self._own,
                is_accepted=head.status < 400,
                is_challenged=self._is_challenged,
            )
            self.status = head.status
            report.found(CREDENTIAL, found, is_timed=self._is_challenged)
            report.begin(PROTOCOL)

    # What a failure means

    def place_of(self, failure: RelayError) -> tuple[str, RelayError]:
        """The stage that a failure belongs to, and what it was before it was noted."""
        if isinstance(failure, Unreached):
            failure = failure.failure
        report = self._report
        match failure:
            case ProxyFailure() if not report.has_told(PROXY):
                place = PROXY
            case TlsFailure() if not report.has_told(TLS):
                place = TLS
            case AuthorizationFailed() if not report.has_told(CREDENTIAL):
                place = CREDENTIAL
            case UsageFailure() if self._names_proxy and report.under_way == NAME:
                place = PROXY
            case _:
                place = report.under_way or PROTOCOL
        return place, failure


def _value_of(name: str, request: Request) -> str | None:
    return next((value for key, value in request.headers if key.lower() == name), None)


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
