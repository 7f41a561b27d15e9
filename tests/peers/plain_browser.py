"""A browser for sign-ins without a window: follows redirects, keeps cookies, sends forms off.

    python plain_browser.py [--log FILE] [--deny | --leave | --delay SECONDS] URL

It logs in as anybody and agrees to everything. With `--deny` it takes the way out that the page
offers, with `--leave` it looks at the first page and goes, with `--delay` the user takes a while.
The log gets `opened URL` first and at the end `ended URL: what the page says`. It needs nothing but
the standard library.
"""

from __future__ import annotations

import argparse
import http.cookiejar
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

LIMIT = 20.0
MOST = 8
"""Pages of one sign-in; a server that shows more goes in circles."""


@dataclass
class Form:
    action: str
    method: str
    fields: dict[str, str] = field(default_factory=dict)


class Page(HTMLParser):
    """The forms and links of a page."""

    def __init__(self, url: str, text: str) -> None:
        super().__init__()
        self.url = url
        self.forms: list[Form] = []
        self.links: list[str] = []
        self.text = ""
        self._is_style = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._is_style = tag == "style"
        of = {name: value or "" for name, value in attrs}
        if tag == "form":
            target = urllib.parse.urljoin(self.url, of.get("action", ""))
            self.forms.append(Form(target, of.get("method", "get").lower()))
        elif tag == "input" and self.forms and "name" in of:
            self.forms[-1].fields[of["name"]] = of.get("value") or "somebody"
        elif tag == "a":
            self.links.append(urllib.parse.urljoin(self.url, of.get("href", "")))

    def handle_data(self, data: str) -> None:
        if not self._is_style:
            self.text = " ".join([*self.text.split(), *data.split()])


def browse(url: str, *, denies: bool) -> Page:
    """Where it ends: a page without a form."""
    jar = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), jar)

    def get(url: str, data: bytes | None = None) -> Page:
        try:
            answer = opener.open(url, data, timeout=LIMIT)
        except urllib.error.HTTPError as exc:
            answer = exc  # a page as well
        with answer:
            return Page(answer.url, answer.read().decode(errors="replace"))

    page = get(url)
    for _ in range(MOST):
        way_out = [link for link in page.links if link.endswith("/abort")]
        if denies and way_out:
            page = get(way_out[0])
        elif page.forms:
            form = page.forms[0]
            fields = urllib.parse.urlencode(form.fields)
            if form.method == "post":
                page = get(form.action, fields.encode())
            else:
                page = get(f"{form.action}?{fields}")
        else:
            return page
    raise RuntimeError(f"still a form after {MOST} pages: {page.url}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--log", type=Path)
    parser.add_argument("--deny", action="store_true")
    parser.add_argument("--leave", action="store_true")
    parser.add_argument("--delay", type=float, default=0.0)
    parser.add_argument("url")
    options = parser.parse_args()

    def note(text: str) -> None:
        if options.log:
            with options.log.open("a", encoding="utf-8") as log:
                log.write(f"{text}\n")

    note(f"opened {options.url}")
    if options.leave:
        with urllib.request.urlopen(options.url, timeout=LIMIT):
            return
    time.sleep(options.delay)
    last = browse(options.url, denies=options.deny)
    note(f"ended {last.url}: {last.text}")


if __name__ == "__main__":
    main()
