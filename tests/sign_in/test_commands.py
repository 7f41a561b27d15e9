"""`login`, `logout` and `status` on a real store; how a sign-in goes is not asked here."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar
from urllib.parse import parse_qs

import pytest
import trio

from mcp_stdio import sign_in
from mcp_stdio.config import Config, OAuth
from mcp_stdio.errors import Unreachable
from mcp_stdio.oauth.record import Record
from mcp_stdio.oauth.store import Entry, Store, default_directory
from tests.cli.command import run
from tests.sign_in.test_account import RECORD, TOKENS

URL = RECORD.server_url
WORK = Config(url=URL, oauth=OAuth(profile="work"))


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {"XDG_CONFIG_HOME": str(tmp_path), "APPDATA": str(tmp_path)}


def entry(environ: Mapping[str, str], url: str = URL, profile: str = "work") -> Entry:
    return Store(default_directory(environ)).entry(url, None, profile)


async def keep(entry: Entry, record: Record) -> None:
    async with entry.locked():
        entry.write(record)


def kept(environ: Mapping[str, str], record: Record = RECORD) -> Entry:
    there = entry(environ, record.server_url, record.profile)
    trio.run(keep, there, record)
    return there


def test_login_keeps_and_tells(environ: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    async def obtain(config: Config, entry: Entry) -> Record:
        assert config == WORK
        await keep(entry, RECORD)
        return RECORD

    assert sign_in.login(WORK, obtain=obtain, environ=environ) == 0
    assert entry(environ).read() == RECORD
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith(f"signed in\n{URL} (profile `work`)\n")
    assert "s3cr3t" not in output.err


def test_a_failed_login_is_the_caller_s(environ: dict[str, str]) -> None:
    async def obtain(config: Config, entry: Entry) -> Record:
        raise Unreachable("no")

    with pytest.raises(Unreachable):
        sign_in.login(WORK, obtain=obtain, environ=environ)


@pytest.mark.parametrize(
    "failure, endpoint, said",
    [
        (None, "https://auth.example.com/revoke", "the tokens are revoked"),
        (None, None, "revokes no tokens"),
        (Unreachable("no way"), "https://auth.example.com/revoke", "may live on until they expire"),
    ],
)
def test_logout_forgets_whatever_becomes_of_the_revocation(
    failure: Exception | None,
    endpoint: str | None,
    said: str,
    environ: dict[str, str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = {name: getattr(TOKENS, name) for name in TOKENS.__slots__}
    record = RECORD.holding(type(TOKENS)(**{**given, "revocation_endpoint": endpoint}))
    there = kept(environ, record)
    revoked = []

    async def revoke(config: Config, record: Record) -> None:
        assert there.read() is None
        revoked.append(record)
        if failure is not None:
            raise failure

    assert sign_in.logout(WORK, revoke=revoke, environ=environ) == 0
    assert not there.path.exists()
    assert revoked == ([record] if endpoint else [])
    output = capsys.readouterr()
    assert output.err.startswith(f"signed out of {URL}; ")
    assert said in output.err


def test_logout_forgets_one_profile_only(
    environ: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    there = kept(environ)
    assert sign_in.logout(Config(url=URL, oauth=OAuth()), environ=environ) == 0
    assert there.read() == RECORD
    told = capsys.readouterr().err
    assert told.startswith(f"nobody was signed in at {URL} with these options; ")
    assert told.endswith("others: `--oauth-profile work`\n")


def test_logout_where_nobody_was_signed_in(
    environ: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert sign_in.logout(WORK, environ=environ) == 0
    assert capsys.readouterr().err == f"nobody was signed in at {URL}\n"


def test_logout_forgets_a_registration_alone(
    environ: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """As a sign-in leaves it that has failed."""
    there = kept(environ, RECORD.holding(None))
    sign_in.status(None, as_json=False, environ=environ)
    told = capsys.readouterr().out
    assert "signed out" in told
    assert "signed in" not in told
    assert sign_in.logout(WORK, environ=environ) == 0
    assert not there.path.exists()
    told = capsys.readouterr().err
    assert told == f"nobody was signed in at {URL}; what was kept, a registration, is forgotten\n"


def test_status_of_one_profile(environ: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    kept(environ)
    kept(environ, Record(server_url=URL, tokens=TOKENS))
    sign_in.status(WORK, as_json=True, environ=environ)
    (account,) = json.loads(capsys.readouterr().out)["accounts"]
    assert account["profile"] == "work"


def test_status_of_one_server_and_of_all(
    environ: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    kept(environ)
    kept(environ, Record(server_url=URL, tokens=TOKENS))
    kept(environ, Record(server_url="https://other.example/mcp", tokens=TOKENS))
    # The same server, spelled in another way.
    config = Config(url="HTTPS://example.com:443/mcp", oauth=OAuth())
    for only, count in (config, 2), (None, 3):
        assert sign_in.status(only, as_json=False, environ=environ) == 0
        output = capsys.readouterr()
        assert output.out.count("signed in at") == count
        assert ("other.example" in output.out) == (only is None)
        assert "s3cr3t" not in output.out
        assert sign_in.status(only, as_json=True, environ=environ) == 0
        told = json.loads(capsys.readouterr().out)
        assert told["store"] == str(default_directory(environ))
        assert [account["signed_in"] for account in told["accounts"]] == [True] * count


def test_status_where_nobody_is_signed_in(
    environ: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    sign_in.status(WORK, as_json=False, environ=environ)
    assert f"nobody is signed in at {URL}; " in capsys.readouterr().out
    sign_in.status(None, as_json=False, environ=environ)
    assert "nobody is signed in anywhere; " in capsys.readouterr().out
    sign_in.status(None, as_json=True, environ=environ)
    assert json.loads(capsys.readouterr().out)["accounts"] == []
    assert not default_directory(environ).exists()


def test_status_of_a_file_of_a_newer_release(
    environ: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    path = kept(environ).path
    path.write_text(path.read_text(encoding="utf-8").replace('"version": 1', '"version": 99'))
    sign_in.status(None, as_json=True, environ=environ)
    (account,) = json.loads(capsys.readouterr().out)["accounts"]
    assert "newer release" in account["problem"]


class _Endpoint(BaseHTTPRequestHandler):
    """A revocation endpoint; `asked` are the forms that it got."""

    asked: ClassVar[list[dict[str, list[str]]]] = []
    status = 200

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.asked.append(parse_qs(body.decode()))
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.replace(b"=", b" "))  # careless servers repeat what they are sent

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.mark.parametrize("status", [200, 400, 503])
def test_a_real_revocation(status: int, environ: dict[str, str]) -> None:
    class Endpoint(_Endpoint):
        asked: ClassVar[list[dict[str, list[str]]]] = []

    Endpoint.status = status
    with ThreadingHTTPServer(("127.0.0.1", 0), Endpoint) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            base = f"http://127.0.0.1:{server.server_port}"
            given = {name: getattr(TOKENS, name) for name in TOKENS.__slots__}
            tokens = type(TOKENS)(**{**given, "issuer": base, "revocation_endpoint": f"{base}/r"})
            there = kept(environ, Record(server_url=f"{base}/mcp", tokens=tokens))
            done = run("logout", f"{base}/mcp", "-vv", env=environ)
        finally:
            server.shutdown()
            thread.join()
    assert done.returncode == 0, done.stderr
    assert not there.path.exists()
    first = Endpoint.asked[0]
    assert (first["token"], first["token_type_hint"]) == (["rT-s3cr3t"], ["refresh_token"])
    assert ("the tokens are revoked" in done.stderr) == (status == 200)
    assert ("may live on until they expire" in done.stderr) == (status != 200)
    assert "s3cr3t" not in done.stderr


class _WithoutMetadata(_Endpoint):
    """A server that publishes nothing about signing in."""

    kind: ClassVar[str]
    body: ClassVar[bytes]

    def do_POST(self) -> None:
        self.send_response(self.status if self.path == "/mcp" else 404)
        self.send_header("Content-Type", self.kind)
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    def do_GET(self) -> None:
        self.send_error(404)


JSON, HTML = "application/json", "text/html"
ERROR = b'{"jsonrpc":"2.0","id":"login","error":{"code":-32022,"message":"modern only"}}'


@pytest.mark.parametrize(
    "status, kind, body, code, said",
    [
        (
            200,
            JSON,
            b"{}",
            0,
            "nobody has to sign in at {}: the server answers as it is, and names ",
        ),
        (200, "text/event-stream", b": hi", 0, "nobody has to sign in at {}"),
        (400, JSON, ERROR, 0, "nobody has to sign in at {}"),
        (200, HTML, b"<p>", 5, "error: the server `{}` does not say where to sign in\n"),
        (400, JSON, b"{}", 5, "error: the server `{}` does not say where to sign in\n"),
        (403, HTML, b"no", 5, "error: the server `{}` does not say where to sign in\n"),
        (401, JSON, b"{}", 5, "error: the server `{}` does not say where to sign in\n"),
    ],
)
def test_a_login_where_there_is_none(
    status: int, kind: str, body: bytes, code: int, said: str, environ: dict[str, str]
) -> None:
    class Endpoint(_WithoutMetadata):
        pass

    Endpoint.status, Endpoint.kind, Endpoint.body = status, kind, body
    with ThreadingHTTPServer(("127.0.0.1", 0), Endpoint) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            url = f"http://127.0.0.1:{server.server_port}/mcp"
            done = run("login", url, env=environ)
        finally:
            server.shutdown()
            thread.join()
    assert done.returncode == code
    assert said.format(url) in done.stderr
    assert ("`mcp-stdio test URL` shows what is there" in done.stderr) == (
        code != 0 and status != 401
    )
    assert "register" not in done.stderr


def test_the_commands_as_processes(environ: dict[str, str]) -> None:
    given = {name: getattr(TOKENS, name) for name in TOKENS.__slots__}
    lasting = type(TOKENS)(**{**given, "expires_at": time.time() + 3700})
    there = kept(environ, RECORD.holding(lasting))
    done = run("status", URL, env=environ)
    assert (done.returncode, done.stderr) == (0, "")
    assert "in 1 hour; renewed by itself" in done.stdout
    done = run("status", "--json", env=environ)
    assert json.loads(done.stdout)["accounts"][0]["path"] == str(there.path)
    done = run("logout", URL, "--oauth-profile", "work", env=environ)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.startswith("signed out of ")
    assert not there.path.exists()
