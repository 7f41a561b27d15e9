"""Servers that mean harm, against `login` as a real process: refused, said plainly, nothing sent.

One server plays all of them, a protected server and its authorization server each, told apart by
the first part of the path; its answers are the table below.
"""

from __future__ import annotations

import json
import threading
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.peers import browsers
from tests.process import LIMIT, command, environment

Members = Mapping[str, Any]

EVIL = "https://evil.example"
MARKUP = "<script>alert(1)</script>\x1b[31mred\x07\r\nnext line"
BIG = 50 * 1024 * 1024


@dataclass(frozen=True)
class Hostile:
    """How one of them differs from an honest one; `said` is what the user must be told.

    `reached` are the requests it gets at most. `HERE` in a text stands for its own address.
    """

    said: str
    reached: frozenset[str]
    challenge: str = 'Bearer resource_metadata="HERE/resource"'
    resource: Members = field(default_factory=dict)
    server: Members = field(default_factory=dict)
    redirects: tuple[Members, ...] = ({},)
    answers: Mapping[str, tuple[int, Mapping[str, str], bytes]] = field(default_factory=dict)
    options: tuple[str, ...] = ()
    is_beaten: bool = True


ASKED = frozenset({"mcp"})
FOUND = ASKED | {"resource"}
READ = FOUND | {"metadata", "openid-configuration"}
REGISTERED = READ | {"register"}
VISITED = REGISTERED | {"authorize"}
ALL = VISITED | {"token"}

IMPATIENT = ("--oauth-timeout", "2")

CASES: dict[str, Hostile] = {
    **{
        f"a {scheme} page": Hostile(
            "authorization endpoint", READ, server={"authorization_endpoint": url}
        )
        for scheme, url in {
            "javascript": "javascript:alert(1)//https://as.example",
            "file": "file:///etc/passwd",
            "data": "data:text/html,<script>alert(1)</script>",
        }.items()
    },
    "a page over http elsewhere": Hostile(
        "http", READ, server={"authorization_endpoint": "http://as.example/authorize"}
    ),
    "a token endpoint over http elsewhere": Hostile(
        "http", READ, server={"token_endpoint": "http://as.example/token"}
    ),
    "metadata over http elsewhere": Hostile(
        "http", ASKED, challenge='Bearer resource_metadata="http://as.example/resource"'
    ),
    "a private address": Hostile(
        "10.0.0.1", READ, server={"registration_endpoint": "https://10.0.0.1/register"}
    ),
    "a link-local address": Hostile(
        "169.254.169.254", ASKED, challenge='Bearer resource_metadata="https://169.254.169.254/x"'
    ),
    "another issuer": Hostile("evil.example", READ, server={"issuer": EVIL}),
    "another resource": Hostile("evil.example", FOUND, resource={"resource": f"{EVIL}/mcp"}),
    "a redirect to where nothing may go": Hostile(
        "169.254.169.254",
        FOUND,
        answers={"resource": (302, {"Location": "https://169.254.169.254/latest"}, b"")},
    ),
    "a redirect of a form": Hostile(
        "HTTP 307", ALL, answers={"token": (307, {"Location": "HERE/thief"}, b"")}
    ),
    "fifty megabytes": Hostile(
        "larger than", READ, answers={"metadata": (200, {}, b" " * BIG + b"{}")}
    ),
    "DPoP alone": Hostile("DPoP", ASKED, challenge='DPoP algs="ES256"'),
    "a wrong state": Hostile(
        "nobody has signed in", VISITED, redirects=({"state": "wrong"},), options=IMPATIENT
    ),
    "two codes": Hostile(
        "nobody has signed in", VISITED, redirects=({"code": ["evil", "good"]},), options=IMPATIENT
    ),
    "a wrong iss": Hostile("evil.example", VISITED, redirects=({"iss": EVIL},)),
    "an error of a wrong iss": Hostile(
        "evil.example",
        VISITED,
        redirects=({"iss": EVIL, "code": None, "error": "x", "error_description": "call 0900"},),
    ),
    "an error with markup": Hostile(
        "access_denied: <script>",
        VISITED,
        redirects=({"code": None, "error": "access_denied", "error_description": MARKUP},),
    ),
    "an error page with markup": Hostile(
        "HTTP 500 from", ALL, answers={"token": (500, {}, MARKUP.encode())}
    ),
    "names with markup": Hostile(
        "evil.example", READ, server={"issuer": f"https://evil.example/{MARKUP}"}
    ),
    # This one is an honest server; it is the callback that is attacked.
    "an injected code": Hostile(
        "signed in",
        ALL,
        redirects=({"code": "evil", "state": "guessed"}, {"code": "evil", "state": None}, {}),
        is_beaten=False,
    ),
}


class Site:
    """The server of all of them; `received` is what each was asked, and with what body."""

    def __init__(self) -> None:
        site = self
        self.received: dict[str, list[tuple[str, str]]] = {name: [] for name in CASES}

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.answer(self, "")

            def do_POST(self) -> None:
                length = int(self.headers.get("Content-Length", 0))
                site.answer(self, self.rfile.read(length).decode())

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.origin = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def at(self, name: str) -> str:
        return f"{self.origin}/{list(CASES).index(name)}"

    def answer(self, handler: BaseHTTPRequestHandler, body: str) -> None:
        path = urllib.parse.urlsplit(handler.path).path
        well_known = "/.well-known/oauth-authorization-server/"
        number = path.removeprefix(well_known).strip("/").partition("/")[0]
        if not number.isdecimal():
            handler.send_error(404)
            return
        name = list(CASES)[int(number)]
        place = "metadata" if path.startswith(well_known) else path.rpartition("/")[2]
        self.received[name].append((place, body))
        status, headers, answer = self._answer(name, place, handler.path)
        handler.send_response(status)
        for key, value in headers.items():
            handler.send_header(key, value.replace("HERE", self.at(name)))
        handler.send_header("Content-Length", str(len(answer)))
        handler.end_headers()
        with suppress(ConnectionError):
            handler.wfile.write(answer)

    def _answer(self, name: str, place: str, target: str) -> tuple[int, Mapping[str, str], bytes]:
        case, here = CASES[name], self.at(name)
        if place in case.answers:
            return case.answers[place]
        documents: dict[str, Callable[[], Members]] = {
            "resource": lambda: {
                "resource": f"{here}/mcp",
                "authorization_servers": [here],
                **case.resource,
            },
            "metadata": lambda: {
                "issuer": here,
                "authorization_endpoint": f"{here}/authorize",
                "token_endpoint": f"{here}/token",
                "registration_endpoint": f"{here}/register",
                "code_challenge_methods_supported": ["S256"],
                **case.server,
            },
            "register": lambda: {"client_id": "client"},
            "token": lambda: {"access_token": "t0ken", "token_type": "Bearer"},
        }
        if place == "mcp":
            return 401, {"WWW-Authenticate": case.challenge}, b""
        if place == "authorize":
            return 302, {"Location": self._come_back(case, target)}, b""
        if place in documents:
            return (
                200,
                {"Content-Type": "application/json"},
                json.dumps(documents[place]()).encode(),
            )
        return 404, {}, b""

    def _come_back(self, case: Hostile, target: str) -> str:
        """Where the browser is sent; whoever attacks the callback comes before it."""
        asked = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(target).query))
        honest = {"code": "good", "state": asked["state"]}
        urls = []
        for redirect in case.redirects:
            members = {key: value for key, value in {**honest, **redirect}.items() if value}
            query = urllib.parse.urlencode(members, doseq=True)
            urls.append(f"{asked['redirect_uri']}?{query}")
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        for url in urls[:-1]:
            with pytest.raises(urllib.error.HTTPError, match="400"):
                opener.open(url, timeout=LIMIT)
        return urls[-1]


@pytest.fixture(scope="module")
def hostile() -> Iterator[Site]:
    site = Site()
    yield site
    site.close()


@pytest.mark.parametrize("name", CASES)
async def test_what_a_hostile_server_tries_comes_to_nothing(
    hostile: Site, tmp_path: Path, name: str
) -> None:
    """A-3, A-6, A-20, A-21, A-24, A-26, A-50 to A-53."""
    case = CASES[name]
    log = tmp_path / "browser.log"
    kept = str(tmp_path / "config")
    shown = browsers.variable([*browsers.plain(), "--log", log])
    with trio.fail_after(LIMIT):
        done = await trio.run_process(
            command(f"{hostile.at(name)}/mcp", "login", *case.options),
            capture_stdout=True,
            capture_stderr=True,
            check=False,
            env=environment({"XDG_CONFIG_HOME": kept, "APPDATA": kept, "BROWSER": shown}),
        )
    told = (done.stdout + done.stderr).decode()
    assert case.said in told
    assert (done.returncode != 0) == case.is_beaten, told

    # Nothing is sent where nothing may be, and no page is opened but its own.
    received = hostile.received[name]
    assert {place for place, _ in received} <= case.reached
    assert ("authorize" in case.reached) == ("authorize" in dict(received))
    opened = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
    pages = [line for line in opened if line.startswith("opened ")]
    assert all(page.startswith(f"opened {hostile.at(name)}/authorize?") for page in pages)
    assert len(pages) == ("authorize" in case.reached)
    assert not any("evil" in body for _, body in received)

    # Nothing is shown as it came.
    assert "call 0900" not in told
    assert "Traceback" not in told
    assert all(char.isprintable() or char == "\n" for char in told), ascii(told)
    assert "\nnext line" not in told
