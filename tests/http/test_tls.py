"""TLS: whom we trust, whom not and what the user is told; odd ends; the files of the settings."""

from __future__ import annotations

import datetime
import os
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from mcp_stdio.config import Tls
from mcp_stdio.errors import ConnectionLost, TlsFailure, UsageFailure
from mcp_stdio.http import Request
from mcp_stdio.http.direct import Direct
from mcp_stdio.http.tls import context
from mcp_stdio.http.url import Url
from tests.http.fetching import fetch, get, post, until
from tests.http.raw_server import TIMEOUT, Peer, answering, saying, serve

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
UNSIZED = b"HTTP/1.1 200 OK\r\n\r\nok"
LARGE = bytes(20_000_000)


def lane_for(tls: Tls) -> Direct:
    return Direct(lambda: context(tls), timeout_connect=TIMEOUT, timeout_write=TIMEOUT)


@pytest.fixture
async def lane(authority_file: Path) -> AsyncIterator[Direct]:
    """A lane that trusts the test's authority."""
    lane = lane_for(Tls(cacert=str(authority_file)))
    yield lane
    await lane.aclose()


def server_side(
    certificate: trustme.LeafCert, *, wants: trustme.CA | None = None
) -> ssl.SSLContext:
    result = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate.configure_cert(result)
    if wants is not None:
        wants.configure_trust(result)
        result.verify_mode = ssl.CERT_REQUIRED
    return result


# Whom we trust


async def test_a_trusted_server_answers_on_a_kept_connection(
    lane: Direct, nursery: trio.Nursery, server_context: ssl.SSLContext
) -> None:
    server = await nursery.start(serve, answering(OK), server_context)
    for _ in range(3):
        assert (await fetch(lane, post(server))).body == b"ok"
    assert server.connections == 1


async def test_http_1_1_is_what_we_offer(
    lane: Direct, nursery: trio.Nursery, authority: trustme.CA
) -> None:
    chosen = []
    ours = server_side(authority.issue_cert("127.0.0.1"))
    ours.set_alpn_protocols(["h2", "http/1.1"])

    async def script(peer: Peer) -> None:
        assert isinstance(peer.stream, trio.SSLStream)
        chosen.append(peer.stream.selected_alpn_protocol())
        await answering(OK)(peer)

    server = await nursery.start(serve, script, ours)
    await fetch(lane, get(server))
    assert chosen == ["http/1.1"]


async def test_the_context_is_built_once_and_not_before_it_is_needed(
    nursery: trio.Nursery, server_context: ssl.SSLContext
) -> None:
    built = []

    def build() -> ssl.SSLContext:
        built.append(context(Tls(insecure=True)))
        return built[-1]

    lane = Direct(build)
    plain = await nursery.start(serve, answering(OK))
    secure = await nursery.start(serve, answering(OK), server_context)
    await fetch(lane, get(plain))
    assert not built
    for _ in range(2):
        await fetch(lane, get(secure))
        lane.drop_idle()
    assert (len(built), secure.connections) == (1, 2)
    await lane.aclose()


Certificate = Callable[[trustme.CA], trustme.LeafCert]


def _expired(authority: trustme.CA) -> trustme.LeafCert:
    return authority.issue_cert(
        "127.0.0.1",
        not_before=datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC),
        not_after=datetime.datetime(2021, 1, 1, tzinfo=datetime.UTC),
    )


def _premature(authority: trustme.CA) -> trustme.LeafCert:
    return authority.issue_cert(
        "127.0.0.1",
        not_before=datetime.datetime(2090, 1, 1, tzinfo=datetime.UTC),
        not_after=datetime.datetime(2091, 1, 1, tzinfo=datetime.UTC),
    )


@pytest.mark.parametrize(
    "certificate, hint",
    [
        (lambda _: trustme.CA().issue_cert("127.0.0.1"), "--cacert"),
        (lambda authority: authority.issue_cert("elsewhere.example"), "host name"),
        (_expired, "renew"),
        (_premature, "clock"),
    ],
    ids=["unknown authority", "other name", "expired", "not yet valid"],
)
async def test_a_certificate_we_do_not_accept(
    lane: Direct,
    nursery: trio.Nursery,
    authority: trustme.CA,
    certificate: Certificate,
    hint: str,
) -> None:
    server = await nursery.start(serve, answering(OK), server_side(certificate(authority)))
    with pytest.raises(TlsFailure) as failure:
        await fetch(lane, post(server))
    assert f"the certificate of `127.0.0.1:{server.port}` is not accepted" in str(failure.value)
    assert hint in (failure.value.hint or "")
    assert "--insecure" in (failure.value.hint or "")
    insecure = lane_for(Tls(insecure=True))
    assert (await fetch(insecure, post(server))).body == b"ok"
    await insecure.aclose()


async def test_the_name_counts_not_only_the_authority(
    lane: Direct, nursery: trio.Nursery, authority: trustme.CA
) -> None:
    server = await nursery.start(
        serve, answering(OK), server_side(authority.issue_cert("localhost"))
    )
    with pytest.raises(TlsFailure):
        await fetch(lane, get(server))
    server.host = "localhost"
    assert (await fetch(lane, get(server))).body == b"ok"


# Who we are


async def test_a_server_that_wants_a_certificate_gets_it(
    nursery: trio.Nursery, authority: trustme.CA, authority_file: Path, tmp_path: Path
) -> None:
    cert, key = _identity(authority, tmp_path)
    wanting = server_side(authority.issue_cert("127.0.0.1"), wants=authority)
    server = await nursery.start(serve, answering(OK), wanting)
    lane = lane_for(Tls(cacert=str(authority_file), cert=str(cert), key=str(key)))
    assert (await fetch(lane, post(server))).body == b"ok"
    await lane.aclose()


@pytest.mark.parametrize("size", [2, len(LARGE)])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_server_that_misses_a_certificate_is_a_tls_failure(
    lane: Direct,
    nursery: trio.Nursery,
    authority: trustme.CA,
    version: ssl.TLSVersion,
    size: int,
) -> None:
    # In TLS 1.3 the verdict follows our handshake; the request was written for nobody.
    wanting = server_side(authority.issue_cert("127.0.0.1"), wants=authority)
    wanting.maximum_version = version
    server = await nursery.start(serve_blocking, wanting, b"")
    with pytest.raises(TlsFailure) as failure:
        await fetch(lane, server.request(LARGE[:size]))
    assert "--cert" in (failure.value.hint or "")


def _identity(authority: trustme.CA, directory: Path) -> tuple[Path, Path]:
    certificate = authority.issue_cert("client@example.org")
    cert, key = directory / "cert.pem", directory / "key.pem"
    certificate.cert_chain_pems[0].write_to_path(str(cert))
    certificate.private_key_pem.write_to_path(str(key))
    return cert, key


# What is no TLS


@pytest.mark.parametrize(
    "said", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"220 smtp.example ESMTP\r\n"]
)
async def test_a_plain_server_under_https_is_named(
    lane: Direct, nursery: trio.Nursery, said: bytes
) -> None:
    async def script(peer: Peer) -> None:
        await peer.send(said)
        await peer.hung_up()

    server = await nursery.start(serve, script)
    server.scheme = "https"
    with pytest.raises(TlsFailure) as failure:
        await fetch(lane, post(server))
    assert "does not speak TLS" in str(failure.value)


@pytest.mark.parametrize("ending", ["close", "reset"])
async def test_a_handshake_that_is_cut(lane: Direct, nursery: trio.Nursery, ending: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.skip()
        if ending == "reset":
            peer.reset()

    server = await nursery.start(serve, script)
    server.scheme = "https"
    with pytest.raises(TlsFailure) as failure:
        await fetch(lane, post(server))
    assert "during the TLS handshake" in str(failure.value)


# Ends and cuts


@pytest.mark.parametrize("ending", ["close", "cut"])
async def test_a_body_ended_by_the_close_needs_no_close_notify(
    lane: Direct, nursery: trio.Nursery, server_context: ssl.SSLContext, ending: str
) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(UNSIZED)
        if ending == "close":
            await peer.close()
        else:
            peer.cut()

    server = await nursery.start(serve, script, server_context)
    assert (await fetch(lane, get(server))).body == b"ok"


@pytest.mark.parametrize("ending", ["close", "cut", "reset"])
@pytest.mark.parametrize("said", [b"", OK[:10], OK[:-1]], ids=["nothing", "half a head", "half"])
async def test_a_cut_is_never_an_answer(
    lane: Direct, nursery: trio.Nursery, server_context: ssl.SSLContext, said: bytes, ending: str
) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        if said:
            await peer.send(said)
        match ending:
            case "close":
                await peer.close()
            case "cut":
                peer.cut()
            case _:
                peer.reset()

    server = await nursery.start(serve, script, server_context)
    with pytest.raises(ConnectionLost) as lost:
        await fetch(lane, post(server))
    if ending != "reset":
        assert lost.value.answer_begun is bool(said)


async def test_a_connection_closed_while_idle_is_not_used(
    lane: Direct, nursery: trio.Nursery, server_context: ssl.SSLContext
) -> None:
    server = await nursery.start(serve, saying(OK), server_context)
    for _ in range(2):
        await fetch(lane, post(server))
        await until(lambda: server.open_connections == 0)
        assert not lane.is_ready(post(server))
    assert server.connections == 2


async def test_a_large_body_arrives_exactly(
    lane: Direct, nursery: trio.Nursery, server_context: ssl.SSLContext
) -> None:
    body = os.urandom(3_000_000)

    async def script(peer: Peer) -> None:
        request = await peer.request()
        assert request is not None
        head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(request.body)
        await peer.send(head + request.body)

    server = await nursery.start(serve, script, server_context)
    assert (await fetch(lane, post(server, body))).body == body


@pytest.mark.parametrize("ending", ["close", "stay"])
async def test_a_refusal_in_the_middle_of_a_large_body_is_read(
    lane: Direct, nursery: trio.Nursery, server_context: ssl.SSLContext, ending: str
) -> None:
    # Two records, the second one after we gave up sending: TLS must still be readable then.
    async def script(peer: Peer) -> None:
        await peer.request_head()
        await peer.send(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 5\r\n\r\n")
        await peer.send(b"large")
        if ending == "stay":
            await trio.sleep_forever()

    server = await nursery.start(serve, script, server_context)
    answer = await fetch(lane, post(server, LARGE))
    assert (answer.head.status, answer.body) == (413, b"large")


# Prepared connections and the tickets that TLS 1.3 servers send unasked


async def test_a_prepared_connection_with_unread_tickets_is_used(
    lane: Direct, nursery: trio.Nursery, server_context: ssl.SSLContext
) -> None:
    server = await nursery.start(serve_blocking, server_context, OK)
    request = server.request()
    await lane.prepare(request.url)
    await until(lambda: not lane.is_ready(request))  # The tickets have come.
    assert (await fetch(lane, request)).body == b"ok"
    assert lane.is_ready(request)
    assert (await fetch(lane, request)).body == b"ok"
    await lane.aclose()


async def test_a_prepared_connection_that_was_closed_since_is_not_used(
    lane: Direct, nursery: trio.Nursery, server_context: ssl.SSLContext
) -> None:
    # First come the tickets, then the end: only reading the former brings up the latter.
    server = await nursery.start(serve_blocking, server_context, b"", OK)
    request = server.request()
    await lane.prepare(request.url)
    await until(lambda: server.served == 1)
    assert (await fetch(lane, request)).body == b"ok"
    await lane.aclose()


@dataclass
class BlockingServer:
    """The `ssl` module's own server, which sends its tickets at once."""

    url: Url
    served: int = 0

    def request(self, body: bytes = b"{}") -> Request:
        return Request("POST", self.url, body=body)


async def serve_blocking(
    context: ssl.SSLContext, *answers: bytes, task_status: trio.TaskStatus[BlockingServer]
) -> None:
    """Take one connection for each answer, which follows each read; an empty one is a close."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(TIMEOUT)
        server = BlockingServer(Url.parse(f"https://127.0.0.1:{listener.getsockname()[1]}/"))
        task_status.started(server)
        for answer in answers:
            await trio.to_thread.run_sync(_serve_one, listener, context, answer)
            server.served += 1


def _serve_one(listener: socket.socket, context: ssl.SSLContext, answer: bytes) -> None:
    plain, _ = listener.accept()
    plain.settimeout(TIMEOUT)
    try:
        with context.wrap_socket(plain, server_side=True) as secure:
            while answer and secure.recv(65536):
                secure.sendall(answer)
    except OSError:
        pass  # The client is gone, or we do not like its certificate.
    finally:
        plain.close()


# The settings


def test_certificate_and_key_may_share_a_file(authority: trustme.CA, tmp_path: Path) -> None:
    both = tmp_path / "both.pem"
    authority.issue_cert("client@example.org").private_key_and_cert_chain_pem.write_to_path(
        str(both)
    )
    context(Tls(cert=str(both)))


def test_authorities_may_be_a_directory(tmp_path: Path) -> None:
    assert context(Tls(cacert=str(tmp_path))).verify_mode is ssl.CERT_REQUIRED


def test_an_authority_is_added_to_the_ones_of_the_platform(
    authority_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(str(other))
    monkeypatch.setenv("SSL_CERT_FILE", str(other))
    monkeypatch.setenv("SSL_CERT_DIR", "")
    before = context(Tls()).cert_store_stats()["x509_ca"]
    assert context(Tls(cacert=str(authority_file))).cert_store_stats()["x509_ca"] == before + 1


def test_insecure_checks_nothing() -> None:
    result = context(Tls(insecure=True))
    assert result.verify_mode is ssl.CERT_NONE
    assert not result.check_hostname


def test_the_platforms_variables_are_honoured(
    authority_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority_file))
    monkeypatch.setenv("SSL_CERT_DIR", "")
    assert context(Tls()).cert_store_stats()["x509_ca"] == 1


def test_certifi_stands_in_where_the_platform_has_no_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "none"))
    if ssl.create_default_context().cert_store_stats()["x509_ca"]:
        pytest.skip("this platform has a store beside OpenSSL's")
    assert context(Tls()).cert_store_stats()["x509_ca"] > 50


@pytest.mark.parametrize("option", ["cacert", "cert", "key"])
@pytest.mark.parametrize("kind", ["missing", "empty", "no certificate"])
def test_a_file_that_cannot_be_used_is_named(
    authority: trustme.CA, tmp_path: Path, option: str, kind: str
) -> None:
    cert, key = _identity(authority, tmp_path)
    bad = tmp_path / "bad.pem"
    if kind != "missing":
        bad.write_text("" if kind == "empty" else "-----BEGIN CERTIFICATE-----\nAAAA\n")
    tls = {
        "cacert": Tls(cacert=str(bad)),
        "cert": Tls(cert=str(bad), key=str(key)),
        "key": Tls(cert=str(cert), key=str(bad)),
    }[option]
    with pytest.raises(UsageFailure) as failure:
        context(tls)
    assert f"`--{option} {bad}`" in str(failure.value)
    assert failure.value.hint


def test_a_key_of_another_certificate_is_named(authority: trustme.CA, tmp_path: Path) -> None:
    cert, _ = _identity(authority, tmp_path)
    (tmp_path / "other").mkdir()
    _, key = _identity(authority, tmp_path / "other")
    with pytest.raises(UsageFailure, match="does not belong"):
        context(Tls(cert=str(cert), key=str(key)))


def test_a_key_with_a_passphrase_is_refused_and_nobody_is_asked(
    authority: trustme.CA, tmp_path: Path
) -> None:
    cert, key = _identity(authority, tmp_path)
    locked = load_pem_private_key(key.read_bytes(), None).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")
    )
    key.write_bytes(locked)
    with pytest.raises(UsageFailure, match="protected by a passphrase"):
        context(Tls(cert=str(cert), key=str(key)))
