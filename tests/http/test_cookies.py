from __future__ import annotations

import os
import subprocess
import sys

import pytest

from mcp_stdio.http import Headers
from mcp_stdio.http.cookies import MAX_COOKIES, MAX_SIZE, Cookies
from mcp_stdio.http.fields import fields
from mcp_stdio.http.url import Url

URL = Url.parse("https://mcp.example.com/mcp")


def after(*lines: str, url: Url = URL) -> Cookies:
    cookies = Cookies()
    store(cookies, *lines, url=url)
    return cookies


def store(cookies: Cookies, *lines: str, url: Url = URL) -> None:
    cookies.store(url, Headers((b"Set-Cookie", line.encode()) for line in lines))


def test_a_cookie_comes_back() -> None:
    assert after("instance=7; Path=/; HttpOnly").header(URL) == "instance=7"


@pytest.mark.parametrize("host", ["localhost:8080", "127.0.0.1:8080", "[::1]:8080", "h"])
def test_on_any_kind_of_host(host: str) -> None:
    url = Url.parse(f"http://{host}/mcp")
    assert after("instance=7; Path=/", url=url).header(url) == "instance=7"


def test_no_cookie_no_header() -> None:
    assert after().header(URL) is None
    assert after("gone=1; Max-Age=0").header(URL) is None


def test_several_cookies_and_the_latest_value() -> None:
    cookies = after("a=1; Path=/", "b=2; Path=/")
    store(cookies, "a=3; Path=/")
    assert sorted((cookies.header(URL) or "").split("; ")) == ["a=3", "b=2"]


@pytest.mark.parametrize(
    "end",
    ["Max-Age=0", "Expires=Thu, 01 Jan 1970 00:00:00 GMT", "expires=Thu, 01-Jan-1970 00:00:01 GMT"],
)
def test_expiry_ends_a_cookie(end: str) -> None:
    cookies = after("a=1; Path=/; Max-Age=3600")
    assert cookies.header(URL) == "a=1"
    store(cookies, f"a=1; Path=/; {end}")
    assert cookies.header(URL) is None


def test_a_path_confines_a_cookie() -> None:
    cookies = after("a=1; Path=/mcp")
    assert cookies.header(URL) == "a=1"
    assert cookies.header(Url.parse("https://mcp.example.com/mcp/sub")) == "a=1"
    assert cookies.header(Url.parse("https://mcp.example.com/other")) is None


def test_secure_cookies_do_not_travel_in_plain_text() -> None:
    plain = Url.parse("http://mcp.example.com/mcp")
    assert after("a=1; Secure").header(URL) == "a=1"
    assert after("a=1; Secure", url=plain).header(plain) is None


@pytest.mark.parametrize(
    "other",
    [
        "http://mcp.example.com/mcp",
        "https://mcp.example.com:8443/mcp",
        "https://other.example.com/mcp",
        "https://example.com/mcp",
    ],
)
def test_only_the_origin_that_set_a_cookie_gets_it(other: str) -> None:
    cookies = after("a=1; Path=/; Domain=example.com", "b=2; Path=/")
    assert cookies.header(Url.parse(other)) is None


def test_a_foreign_domain_is_not_accepted() -> None:
    assert after("a=1; Domain=elsewhere.example").header(URL) is None


@pytest.mark.parametrize(
    "line",
    ["", ";", "=", "a", "\u00e9=\u00e9", "a=1; Expires=tomorrow", "a=1; Path=/\u00e9", "a=" * 999],
)
def test_odd_cookies_do_no_harm(line: str) -> None:
    after(line).header(URL)


@pytest.mark.parametrize("age", ["Max-Age", "max-age ", "Max-Age=", "Max-Age=soon", "Max-Age=1.5"])
def test_an_age_that_is_no_number_is_ignored(age: str) -> None:
    assert after(f"a=1; {age}; Path=/", "b=2").header(URL) == "a=1; b=2"


@pytest.mark.parametrize("date", ["", "=", "=soon", "=Thu, 01 Jam 2099 00:00:00 GMT", '="'])
def test_an_expiry_that_is_no_date_is_ignored(date: str) -> None:
    assert after(f"a=1; Expires{date}; Path=/", "b=2").header(URL) == "a=1; b=2"


@pytest.mark.parametrize("octets", [b"\xff\x80", "caf\u00e9".encode(), "\u00e0".encode(), b"\xa0"])
def test_a_cookie_goes_back_byte_for_byte(octets: bytes) -> None:
    cookies = Cookies()
    cookies.store(URL, Headers([(b"Set-Cookie", b"a=" + octets + b"; Path=/")]))
    cookie = cookies.header(URL)
    assert cookie is not None
    assert (b"Cookie", b"a=" + octets) in fields("GET", URL, [("Cookie", cookie)], 0)


def test_there_is_an_end_to_how_many_are_kept() -> None:
    cookies = Cookies()
    for number in range(3 * MAX_COOKIES):
        store(cookies, f"c{number}=x; Path=/")
    header = cookies.header(URL) or ""
    assert header.count("=") <= MAX_COOKIES
    assert f"c{3 * MAX_COOKIES - 1}=x" in header


def test_there_is_an_end_to_how_many_one_response_sets() -> None:
    cookies = after(*(f"c{number}=x; Path=/" for number in range(20_000)))
    header = cookies.header(URL) or ""
    assert header.count("=") == MAX_COOKIES
    assert "c19999=x" in header


def test_there_is_an_end_to_how_long_one_is() -> None:
    """Else fifty of them, each as long as a head may be, would go with every request."""
    cookies = after("a=" + "x" * (MAX_SIZE - 2) + "; Path=/", "b=" + "x" * (MAX_SIZE - 1))
    assert cookies.header(URL) == "a=" + "x" * (MAX_SIZE - 2)


def test_nothing_is_imported_before_the_first_cookie() -> None:
    script = """
import sys
from mcp_stdio.http import Headers
from mcp_stdio.http.cookies import Cookies
from mcp_stdio.http.url import Url
cookies, url = Cookies(), Url.parse("http://h/")
cookies.store(url, Headers([]))
assert cookies.header(url) is None
sys.exit("http.cookiejar" in sys.modules or "urllib.request" in sys.modules)
"""
    environ = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", script], env=environ, timeout=60, check=True)
