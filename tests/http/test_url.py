from __future__ import annotations

import pytest

from mcp_stdio.http.url import Origin, Url, secrets_in, user_information


@pytest.mark.parametrize(
    "text, origin, authority, target",
    [
        ("http://example.com", Origin("http", "example.com", 80), "example.com", "/"),
        ("HTTPS://Example.COM/Mcp", Origin("https", "example.com", 443), "example.com", "/Mcp"),
        ("https://h:8443/a?b=c#d", Origin("https", "h", 8443), "h:8443", "/a?b=c"),
        ("http://h:80/", Origin("http", "h", 80), "h", "/"),
        ("http://h?q=1", Origin("http", "h", 80), "h", "/?q=1"),
        ("http://h:/x", Origin("http", "h", 80), "h", "/x"),
        ("http://[::1]:8080/", Origin("http", "::1", 8080), "[::1]:8080", "/"),
        ("http://user:secret@h/", Origin("http", "h", 80), "h", "/"),
        ("http://h/caf\u00e9|%20", Origin("http", "h", 80), "h", "/caf%C3%A9%7C%20"),
        ("http://b\u00fccher.example/", Origin("http", "xn--bcher-kva.example", 80), None, "/"),
        ("http://h/a/./b/../../c/..", Origin("http", "h", 80), "h", "/"),
        ("http://h/../a/.", Origin("http", "h", 80), "h", "/a/"),
        ("http://h//..//a/..b/.c?/../", Origin("http", "h", 80), "h", "//a/..b/.c?/../"),
        ("http://my_host/", Origin("http", "my_host", 80), "my_host", "/"),
    ],
)
def test_parts(text: str, origin: Origin, authority: str | None, target: str) -> None:
    url = Url.parse(text)
    assert (url.origin, url.authority, url.target) == (origin, authority or origin.host, target)
    assert Url.parse(str(url)) == url


@pytest.mark.parametrize(
    "text, reason",
    [
        ("", "begin with http"),
        ("example.com", "begin with http"),
        ("ftp://h/", "begin with http"),
        ("javascript:alert(1)", "begin with http"),
        ("http://", "no host"),
        ("http:///path", "no host"),
        ("http://user@/", "no host"),
        ("http://h:0/", "port"),
        ("http://h:65536/", "port"),
        ("http://h:port/", "port"),
        ("http://h /", "white space"),
        ("http://h/\r\nX: y", "white space"),
        ("http://h\x00/", "control"),
        ("http://[::1/", "valid name"),
        ("http://[v1.x]/", "valid name"),
        ("http://h\\evil.example/", "valid name"),
        ("http://a,b/", "valid name"),
        ("http://%68/", "valid name"),
        ("http://" + "\u00fc" * 70 + "/", "valid name"),
        ("http://\u2100/", "valid name"),
        ("http://[fe80::1%25eth0]/", "valid name"),
        # Two hosts, by the edition of IDNA.
        ("https://stra\u00dfe.example/", "xn--"),
        ("https://STRA\u1e9eE.example/", "xn--"),
        ("https://\u03c3\u03bf\u03c6\u03cc\u03c2.example/", "xn--"),
    ],
)
def test_refused_with_a_reason(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Url.parse(text)


@pytest.mark.parametrize(
    "host, is_loopback",
    [
        ("localhost", True),
        ("mcp.localhost", True),
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("[::1]", True),
        ("128.0.0.1", False),
        ("127.0.0.1.example.com", False),
        ("localhost.example.com", False),
        ("notlocalhost", False),
        ("localhost.", False),
        # No addresses, so that a name server is asked for them.
        ("127.0.0.256", False),
        ("127.0.0.1.", False),
        ("127.0.0.1.1", False),
        ("127", False),
    ],
)
def test_loopback(host: str, is_loopback: bool) -> None:
    assert Url.parse(f"http://{host}/").is_loopback is is_loopback


def test_what_is_printed_of_a_url_has_neither_query_nor_user() -> None:
    url = Url.parse("https://user:secret@h:1/path?token=secret#secret")
    assert url.public == "https://h:1/path"


@pytest.mark.parametrize(
    "path, public",
    [
        ("/api/mcp/s/k3yAbCdEfGhIjKlMnOpQ/mcp", "/api/mcp/s/***/mcp"),
        ("/k3yAbCdEfGhIjKlMnOpQ", "/***"),
        ("/a%2Db/k3yAbCdEfGhIjKlMnOp/", "/a%2Db/k3yAbCdEfGhIjKlMnOp/"),
        ("/organisations-and-their-members/mcp", "/organisations-and-their-members/mcp"),
        ("/20250618202506182025/mcp", "/20250618202506182025/mcp"),
        ("/%E6%97%A5%E6%9C%AC%E8%AA%9E1/mcp", "/%E6%97%A5%E6%9C%AC%E8%AA%9E1/mcp"),
    ],
)
def test_what_is_printed_of_a_path_has_no_key(path: str, public: str) -> None:
    assert Url.parse(f"https://h{path}").public == f"https://h{public}"


@pytest.mark.parametrize(
    "text, secrets",
    [
        ("https://h:8443/mcp?a=short", set()),
        ("https://us%2Fer:p%2Fw@h/", {"p%2Fw", "p/w"}),
        ("https://to%2Fken@h/", {"to%2Fken", "to/ken"}),
        ("https://h/s/k3yAbCdEfGhIjKlMnOpQ/mcp", {"k3yAbCdEfGhIjKlMnOpQ"}),
        (
            "https://h/s/k3yAbCdEfGhIjKlMnOpQ%2F",
            {"k3yAbCdEfGhIjKlMnOpQ%2F", "k3yAbCdEfGhIjKlMnOpQ/"},
        ),
        ("https://h/?a=long%2Fvalue&longer-value", {"long%2Fvalue", "long/value", "longer-value"}),
    ],
)
def test_the_secrets_of_a_url(text: str, secrets: set[str]) -> None:
    assert set(secrets_in(text)) == secrets


@pytest.mark.parametrize(
    "reference, joined",
    [
        ("/other", "https://h:1/other"),
        ("sub", "https://h:1/a/sub"),
        ("?q", "https://h:1/a/b?q"),
        ("//elsewhere/x", "https://elsewhere/x"),
        ("http://plain/", "http://plain/"),
        ("https://user:secret@h:1/z", "https://h:1/z"),
        ("", "https://h:1/a/b"),
    ],
)
def test_references_are_joined(reference: str, joined: str) -> None:
    assert str(Url.parse("https://h:1/a/b").join(reference)) == joined


@pytest.mark.parametrize("reference", ["mailto:a@b", "http://[", "http://h:x/", "/a b"])
def test_a_reference_that_leads_nowhere(reference: str) -> None:
    with pytest.raises(ValueError, match="it"):
        Url.parse("https://h/").join(reference)


@pytest.mark.parametrize(
    "text, user",
    [
        ("https://h/", None),
        ("https://u@h/", ("u", "")),
        ("https://u:p%40ss@h/", ("u", "p@ss")),
        ("https://:p@h/", ("", "p")),
    ],
)
def test_user_information(text: str, user: tuple[str, str] | None) -> None:
    assert user_information(text) == user
