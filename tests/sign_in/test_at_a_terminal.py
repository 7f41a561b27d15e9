"""What a person sees who signs in by hand, or starts the relay itself, at a real terminal."""

from __future__ import annotations

import json
import re
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit
from urllib.request import urlopen

import pytest

from tests.cli.command import LIMIT
from tests.oauth.keeper import PAGE, URL
from tests.oauth.test_store_processes import keeping, said
from tests.terminal import Typed, typed

TYPED_IN_VAIN = "https://elsewhere.example/"

PROMPT = "address:"


class _Handler(BaseHTTPRequestHandler):
    """A protected server and its authorization server: any code will do, a device's never does."""

    def do_GET(self) -> None:
        base = f"http://{self.headers['Host']}"
        if "oauth-protected-resource" in self.path:
            self._say({"resource": f"{base}/mcp", "authorization_servers": [base]})
        elif "oauth-authorization-server" in self.path:
            self._say(
                {
                    "issuer": base,
                    "authorization_endpoint": f"{base}/authorize",
                    "token_endpoint": f"{base}/token",
                    "device_authorization_endpoint": f"{base}/device",
                    "registration_endpoint": f"{base}/register",
                    "code_challenge_methods_supported": ["S256"],
                }
            )
        else:
            self._say({}, 404)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        match self.path:
            case "/register":
                self._say({"client_id": "c-1", "redirect_uris": []}, 201)
            case "/device":
                page = f"http://{self.headers['Host']}/activate"
                self._say(
                    {"device_code": "d", "user_code": "WDJB-MJHT", "verification_uri": page}
                    | {"expires_in": 90, "interval": 1}
                )
            case "/token" if b"authorization_code" in body:
                self._say({"access_token": "t-1", "token_type": "Bearer"})
            case "/token":
                self._say({"error": "authorization_pending"}, 400)
            case _:
                self._say({}, 401)

    def _say(self, document: dict[str, Any], status: int = 200) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def protected_server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/mcp"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {"XDG_CONFIG_HOME": str(tmp_path)}


def came_back(login: Typed, code: str) -> str:
    """The address that a browser ends at."""
    state = re.search(r"[?&]state=([^&\s]+)", login.written)
    assert state is not None
    return f"http://127.0.0.1:9/callback?code={code}&state={state[1]}"


def test_where_an_address_may_be_pasted_the_time_stands_above_the_prompt(
    environ: dict[str, str],
) -> None:
    with protected_server() as url:
        options = ("--oauth-no-browser", "--oauth-timeout", "120")
        with typed("login", *options, url, env=environ) as login:
            text = "\n".join(login.until(PROMPT, is_last=True))
            assert "to sign in, open this page:\n\n    http" in text
            assert text.endswith(
                "\nwaiting up to 2:00 for the browser to come back;\n"
                "or paste here where it was sent in the end, and press Enter\n" + PROMPT
            )
            login.type("\x03")
            assert login.wait() == 130
            assert login.rows[-2:] == [f"{PROMPT} ^C", ""]
            assert "Traceback" not in login.written


def test_each_line_that_is_no_address_gets_another_prompt(environ: dict[str, str]) -> None:
    with protected_server() as url:
        with typed("login", "--oauth-no-browser", url, env=environ) as login:
            login.until(PROMPT, is_last=True)
            time.sleep(1)  # for less than all the time to be left
            login.type(f"{TYPED_IN_VAIN}\n")
            login.until("that cannot be used")
            assert f"{PROMPT} {TYPED_IN_VAIN}" in login.until(PROMPT, is_last=True)
            login.type("\n")
            login.until("waiting up to 1:")
            login.until(PROMPT, is_last=True)
            login.type(came_back(login, "c-1") + "\n")
            assert login.wait() == 0


def test_an_address_that_comes_in_parts_stands_as_it_was_pasted(environ: dict[str, str]) -> None:
    with protected_server() as url:
        with typed("login", "--oauth-no-browser", url, env=environ) as login:
            login.until(PROMPT, is_last=True)
            address = came_back(login, "c" * 300)
            for part in (address[:200], address[200:]):
                login.type(part)
                time.sleep(2.2)  # a line that counts would be drawn anew meanwhile
            login.type("\n")
            assert login.wait() == 0
            assert f"{PROMPT} {address}" in "".join(login.rows)


@pytest.mark.skipif(sys.platform != "linux", reason="others do not let such a line end")
def test_an_address_that_the_terminal_cuts_off_is_not_taken(environ: dict[str, str]) -> None:
    with protected_server() as url:
        with typed("login", "--oauth-no-browser", url, env=environ) as login:
            login.until(PROMPT, is_last=True)
            address = came_back(login, "c-1")
            for part in (address, "&session_state=", "s" * 3000, "s" * 3000, "\n"):
                login.type(part)
            login.until("the terminal has cut it off after 4095 bytes")
            login.until(PROMPT, is_last=True)
            login.type(address.partition("?")[2] + "\n")
            assert login.wait() == 0


def test_a_browser_that_comes_back_leaves_what_was_typed_to_stand(environ: dict[str, str]) -> None:
    with protected_server() as url:
        with typed("login", "--oauth-no-browser", url, env=environ) as login:
            login.until(PROMPT, is_last=True)
            login.type("htt")
            login.until(f"{PROMPT} htt", is_last=True)
            listening = re.search(r"redirect_uri=([^&\s]+)", login.written)
            assert listening is not None
            query = urlsplit(came_back(login, "c-1")).query
            with urlopen(f"{unquote(listening[1])}?{query}", timeout=LIMIT) as page:
                page.read()
            assert login.wait() == 0
            at = login.rows.index(f"{PROMPT} htt")
            assert login.rows[at + 1].startswith("signed in"), login.rows[at:]


def test_a_log_line_does_not_run_into_what_is_pasted(environ: dict[str, str]) -> None:
    with protected_server() as url:
        with typed("login", "--oauth-no-browser", "-vv", url, env=environ) as login:
            login.until(PROMPT)
            login.type(came_back(login, "c-1") + "\n")
            assert login.wait() == 0
            told = [row for row in login.rows if "debug: " in row]
            assert len(told) > 10
            assert all(row.startswith("mcp-stdio: debug: ") for row in told)


def test_a_code_is_waited_for_with_the_time_that_is_left(environ: dict[str, str]) -> None:
    with protected_server() as url:
        options = ("--oauth-device", "--oauth-timeout", "3")
        with typed("login", *options, url, env=environ) as login:
            rows = login.until("is confirmed: 0:0", is_last=True)
            text = "\n".join(rows)
            assert "open this page within 3 seconds:\n\n    http" in text
            assert "and confirm the code:\n\n    WDJB-MJHT\n" in text
            assert login.wait() == 5
            assert not any("is confirmed: 0:0" in row for row in login.rows)
            assert login.rows[-4:] == [
                "error: nobody has signed in within 3 s",
                "",
                "hint: sign in anew with `mcp-stdio login URL`",
                "",
            ]


def test_the_log_never_runs_into_the_line(environ: dict[str, str]) -> None:
    with protected_server() as url:
        options = ("--oauth-device", "--oauth-timeout", "4", "-vv")
        with typed("login", *options, url, env=environ) as login:
            login.until("is confirmed")
            assert login.wait() == 5
            told = [row for row in login.rows if "debug: " in row]
            assert len(told) > 10
            assert all(row.startswith("mcp-stdio: debug: ") for row in told)


def test_a_wait_for_another_process_counts(tmp_path: Path, environ: dict[str, str]) -> None:
    with keeping(tmp_path / "mcp-stdio", "ask") as holder:
        assert said(holder) == "asking"
        with typed("logout", URL, env=environ) as logout:
            logout.until(PAGE)
            rows = logout.until("waiting for another mcp-stdio process: ", is_last=True)
            assert rows[-1].endswith(" s")
            logout.type("\x03")
            assert logout.wait() == 130
            assert logout.rows[-1] == "", repr(logout.written)


@pytest.mark.parametrize("variable", [{"TERM": "dumb"}, {"NO_COLOR": "1"}])
def test_no_escape_sequence_is_ever_written(
    variable: dict[str, str], environ: dict[str, str]
) -> None:
    with protected_server() as url:
        options = ("--oauth-device", "--oauth-timeout", "2.5")
        with typed("login", *options, url, env={**environ, **variable}) as login:
            assert login.wait() == 5
            assert "\x1b" not in login.written
            assert ("is confirmed" in login.written) == ("TERM" not in variable)


def test_who_starts_the_relay_by_hand_is_told_what_it_waits_for() -> None:
    with typed("http://127.0.0.1:9/mcp") as relay:
        rows = relay.until("mcp-stdio test URL")
        assert "waiting for the messages of an MCP client on standard input" in "\n".join(rows)
        relay.type("\x04")
        assert relay.wait() == 0
