from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_stdio.http import content

PLAIN = b'{"jsonrpc":"2.0","id":1,"result":{}}\r\n' * 8


def raw_deflate(data: bytes) -> bytes:
    return zlib.compress(data, wbits=-zlib.MAX_WBITS)


CODINGS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
    "Deflate": raw_deflate,
}


def decoded(coding: str, *parts: bytes) -> bytes:
    """The whole body; fails when it breaks off."""
    decoder = content.decoder(coding)
    assert decoder is not None
    plain = []
    for part in parts:
        decoder.feed(part)
        while step := decoder.step():
            assert len(step) <= content.STEP
            plain.append(step)
    assert decoder.is_complete
    return b"".join(plain)


@pytest.mark.parametrize("coding", CODINGS)
def test_a_body_cut_at_every_byte_is_decoded(coding: str) -> None:
    body = CODINGS[coding](PLAIN)
    assert decoded(coding, body) == PLAIN
    assert decoded(coding, *(body[i : i + 1] for i in range(len(body)))) == PLAIN
    for cut in range(len(body)):
        assert decoded(coding, body[:cut], body[cut:]) == PLAIN


@pytest.mark.parametrize("coding", CODINGS)
def test_a_body_that_breaks_off_is_not_complete(coding: str) -> None:
    body = CODINGS[coding](PLAIN)
    for end in range(1, len(body)):
        with pytest.raises(AssertionError):
            decoded(coding, body[:end])


@given(st.binary(max_size=300_000), st.sampled_from(sorted(CODINGS)), st.integers(1, 70_000))
def test_any_body_comes_back(plain: bytes, coding: str, size: int) -> None:
    body = CODINGS[coding](plain)
    assert decoded(coding, *(body[i : i + size] for i in range(0, len(body), size))) == plain


def test_what_was_flushed_comes_out_at_once() -> None:
    deflate = zlib.compressobj(wbits=31)
    decoder = content.decoder("gzip")
    assert decoder is not None
    for event in (b"data: 1\n\n", b"data: 2\n\n"):
        decoder.feed(deflate.compress(event) + deflate.flush(zlib.Z_SYNC_FLUSH))
        assert decoder.step() == event
        assert decoder.step() == b""


@pytest.mark.parametrize("coding", CODINGS)
def test_a_bomb_goes_off_in_small_steps(coding: str) -> None:
    size = 50 * 1024 * 1024
    body = CODINGS[coding](bytes(size))
    assert len(body) < 64 * 1024
    decoder = content.decoder(coding)
    assert decoder is not None
    decoder.feed(body)
    total = 0
    while step := decoder.step():
        assert len(step) <= 64 * 1024
        total += len(step)
    assert total == size
    assert decoder.is_complete


def test_gzip_members_follow_each_other() -> None:
    body = gzip.compress(b"one") + gzip.compress(b"") + gzip.compress(b"two")
    assert decoded("gzip", body) == b"onetwo"
    assert decoded("gzip", *(body[i : i + 1] for i in range(len(body)))) == b"onetwo"


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("padding", [b"\0" * 8, b"junk"])
def test_padding_after_the_end_is_ignored(coding: str, padding: bytes) -> None:
    body = CODINGS[coding](PLAIN)
    assert decoded(coding, body + padding) == PLAIN
    assert decoded(coding, body, padding, padding) == PLAIN


def test_what_follows_padding_is_padding_however_it_arrives() -> None:
    body = gzip.compress(b"one") + b"\0" + gzip.compress(b"two")
    assert decoded("gzip", body) == b"one"
    assert decoded("gzip", *(body[i : i + 1] for i in range(len(body)))) == b"one"


@pytest.mark.parametrize("coding", CODINGS)
def test_an_empty_body_is_complete(coding: str) -> None:
    assert decoded(coding) == b""
    assert decoded(coding, CODINGS[coding](b"")) == b""


@pytest.mark.parametrize(
    "coding, body",
    [
        ("gzip", b'{"jsonrpc":"2.0"}'),
        ("deflate", b'{"jsonrpc":"2.0"}'),
        ("gzip", gzip.compress(PLAIN)[:-8] + bytes(8)),
        ("deflate", zlib.compress(PLAIN)[:-4] + bytes(4)),
    ],
)
def test_damage_is_noticed(coding: str, body: bytes) -> None:
    with pytest.raises(content.Malformed):
        decoded(coding, body)


@pytest.mark.parametrize("coding", [None, "", "identity", "Identity", " identity , identity"])
def test_a_plain_body_needs_no_decoder(coding: str | None) -> None:
    assert content.decoder(coding) is None


@pytest.mark.parametrize("coding", ["br", "zstd", "gzip, gzip", "compress"])
def test_other_codings_are_named(coding: str) -> None:
    with pytest.raises(content.Unsupported, match=coding):
        content.decoder(coding)


def test_identity_beside_a_coding_means_nothing() -> None:
    assert decoded("identity, GZIP", gzip.compress(PLAIN)) == PLAIN
