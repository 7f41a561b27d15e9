"""The certificate that a server shows, whatever is wrong with it; and nothing is said to it."""

from __future__ import annotations

import datetime
import os
import ssl
from pathlib import Path

import pytest
import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID
from trio.testing import MockClock

from mcp_stdio.config import Config, Tls
from mcp_stdio.http.observer import Certificate
from mcp_stdio.http.unverified import LOOK_TIME, NO_CHECK_TIME, look
from tests.http.conftest import Setenv
from tests.http.raw_server import TIMEOUT, Peer, RawServer, serve
from tests.http.test_proxied import SocksProxy

pytestmark = pytest.mark.usefixtures("setenv")  # no proxy but those of a test

BEGINS = datetime.datetime(2001, 2, 3, tzinfo=datetime.UTC)
EXPIRES = datetime.datetime(2002, 3, 4, tzinfo=datetime.UTC)


def shown(directory: Path, *, bits: int = 2048, subject: str = "old", names: int = 0) -> Path:
    """A certificate by nobody but itself, long over, with its key."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=bits)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)] if subject else [])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(BEGINS)
        .not_valid_after(EXPIRES)
    )
    if names:
        hosts = [x509.DNSName(f"h{number}.example") for number in range(names)]
        builder = builder.add_extension(x509.SubjectAlternativeName(hosts), critical=not subject)
    certificate = builder.sign(key, hashes.SHA256())
    file = directory / "shown.pem"
    file.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return file


class Listener:
    """A server over TLS that only listens; `heard` tells of each handshake if silence followed."""

    def __init__(self, server: RawServer, heard: trio.MemoryReceiveChannel[bool]) -> None:
        self._server = server
        self.heard = heard

    async def shows(self, tls: Tls | None = None, *, handshakes: int = 2) -> Certificate | None:
        config = Config(str(self._server.url()), tls=tls or Tls())
        found = await look(config, os.environ, "linux")
        with trio.fail_after(TIMEOUT):
            assert [await self.heard.receive() for _ in range(handshakes)] == [True] * handshakes
        assert self._server.connections == 2
        return found


async def listening(nursery: trio.Nursery, file: Path, *, is_strict: bool = False) -> Listener:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    context.load_cert_chain(file)
    if is_strict:
        context.load_verify_locations(file)
        context.verify_mode = ssl.CERT_REQUIRED
        context.verify_flags |= ssl.VerifyFlags(NO_CHECK_TIME)  # so that it would be let in
    tell, heard = trio.open_memory_channel[bool](10)

    async def script(peer: Peer) -> None:
        await tell.send(await peer.hung_up())

    return Listener(await nursery.start(serve, script, context), heard)


@pytest.mark.parametrize(
    "bits, subject, names",
    [(2048, "old", 0), (1024, "weak", 0), (2048, "", 2), (2048, "many", 300)],
)
async def test_it_is_seen_whatever_is_wrong_with_it(
    nursery: trio.Nursery, tmp_path: Path, bits: int, subject: str, names: int
) -> None:
    server = await listening(nursery, shown(tmp_path, bits=bits, subject=subject, names=names))
    assert await server.shows() == Certificate(
        subject=subject or "h0.example",
        names=tuple(f"h{number}.example" for number in range(names)),
        issuer=subject,
        begins=BEGINS.timestamp(),
        expires=EXPIRES.timestamp(),
    )
    nursery.cancel_scope.cancel()


async def test_what_cannot_be_read_is_not_shown(nursery: trio.Nursery, tmp_path: Path) -> None:
    """A name in no encoding; to the server's own library it is one all the same."""
    file = shown(tmp_path, names=1)
    certificate, begin, key = file.read_text().partition("-----BEGIN PRIVATE")
    damaged = ssl.PEM_cert_to_DER_cert(certificate).replace(b"h0.example", b"\xff\xfeexample.")
    file.write_text(ssl.DER_cert_to_PEM_cert(damaged) + begin + key)
    assert await (await listening(nursery, file)).shows() is None
    nursery.cancel_scope.cancel()


async def test_through_a_socks_proxy(nursery: trio.Nursery, tmp_path: Path, setenv: Setenv) -> None:
    pytest.importorskip("socksio")
    proxy = SocksProxy()
    await nursery.start(proxy.serve)
    setenv(ALL_PROXY=f"socks5://127.0.0.1:{proxy.port}")
    server = await listening(nursery, shown(tmp_path))
    certificate = await server.shows()
    assert certificate is not None
    assert certificate.subject == "old"
    nursery.cancel_scope.cancel()


async def test_a_server_that_insists_on_our_certificate_is_shown_none(
    nursery: trio.Nursery, tmp_path: Path
) -> None:
    """In TLS 1.3 its own comes first; it learns nothing of the user's."""
    file = shown(tmp_path)
    server = await listening(nursery, file, is_strict=True)
    certificate = await server.shows(Tls(cert=str(file)), handshakes=0)
    with pytest.raises(trio.WouldBlock):
        server.heard.receive_nowait()
    assert certificate is not None
    nursery.cancel_scope.cancel()


async def test_a_server_that_is_none_any_more(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    async def script(peer: Peer) -> None:
        await peer.hung_up()

    silent: RawServer = await nursery.start(serve, script)
    url = str(silent.url()).replace("http:", "https:")
    begun = trio.current_time()
    assert await look(Config(url), os.environ, "linux") is None
    assert trio.current_time() - begun <= LOOK_TIME
    nursery.cancel_scope.cancel()


async def test_a_server_that_redirects_from_http_is_told_nothing(nursery: trio.Nursery) -> None:
    server: RawServer = await nursery.start(serve, Peer.hung_up)
    assert await look(Config(str(server.url())), os.environ, "linux") is None
    assert server.connections == 0
