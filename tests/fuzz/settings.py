"""What the user gives: header files, variables, commands, and what is made of all that."""

from __future__ import annotations

import argparse
import math
import re
import shlex
from contextlib import redirect_stdout
from io import StringIO

from mcp_stdio.cli import headers, options, settings, values
from mcp_stdio.clients.block import Secret, Server, adding, block
from mcp_stdio.clients.table import CLIENTS
from mcp_stdio.credentials import rules
from mcp_stdio.errors import UsageFailure
from mcp_stdio.http import Request
from mcp_stdio.http.request_head import request_head
from mcp_stdio.http.url import Url
from mcp_stdio.words import split
from tests.fuzz.target import Material, as_text, target

URL = Url.parse("https://mcp.example.com/mcp")
SECRET = "secret-12345678"
ENVIRON = {"A": "value-of-a", "MCP_BEARER_TOKEN": "t0ken-of-the-environment", "E": ""}


@target(
    b"X-Key: value\r\n# a comment\n\nAuthorization: Basic eA==\nx-key:other\t\n",
    "\ufeffX-A: é\n".encode(),
    words=(
        *(b"\n", b"\r\n", b"\r", b": ", b":", b"#", b"\0", b"\x0b", b"\x85", b"\xe2\x80\xa8", b" "),
        *(
            SECRET.encode(),
            b"Host: x",
            b"Content-Length: 0",
            b"Mcp-Session-Id: x",
            b"Cookie: a=b",
            b"\xff",
            b"\t",
        ),
    ),
)
def header_lines(data: bytes) -> None:
    """Lines of a file are headers that can be sent, or a complaint that repeats no value."""
    text = data.decode("utf-8-sig", "surrogateescape")
    try:
        found = rules.parse_lines(text, where="--header-file")
    except UsageFailure as exc:
        said = f"{exc} {exc.hint}"
        # Names are shown: what stands before a colon, if it is one.
        assert SECRET not in said or any(
            SECRET in line.partition(":")[0] for line in text.split("\n")
        )
        return
    head = request_head(Request("POST", URL, found, b"{}"))
    assert len({name.lower() for name, _ in found}) == len(found)
    for name, value in found:
        assert f"\r\n{name}: {value}\r\n".encode("utf-8", "surrogateescape") in head
    assert head.count(b"\n") == head.count(b"\r") <= 7 + len(found)


@target(
    b"token-1\n",
    b" \t\xc3\xa9 a b",
    b"Bearer secret-12345678\n",
    words=(b"\n", b"\r", b" ", b"\0", b"Bearer ", b"\xe2\x80\xa8", b"\x7f"),
)
def bearer(data: bytes) -> None:
    """A token is one word that can be sent, or a complaint that does not repeat it."""
    text = as_text(data)
    try:
        value = rules.bearer(text, where="--bearer-token-file")
    except UsageFailure as exc:
        assert SECRET not in f"{exc} {exc.hint}"
        return
    assert value == f"Bearer {text.strip()}"
    request_head(Request("GET", URL, ((rules.AUTHORIZATION, value),)))


@target(
    b"a ${A} $${A} b",
    b"${NOT_SET}",
    b"$${${A",
    words=(b"${A}", b"${", b"$${", b"}", b"$", b"${E}", b"${ A}", b"${}"),
)
def variables(data: bytes) -> None:
    """Are replaced by their values, once, and told apart from what stands around them."""
    text = as_text(data)
    names, literals = headers.references(text), headers.literals(text)
    try:
        found = headers.expand(text, ENVIRON, where="-H")
    except UsageFailure as exc:
        assert not any(value in str(exc) for value in ENVIRON.values() if value)
        return
    assert set(names) <= ENVIRON.keys()
    rest = found
    for literal in literals[:-1]:
        assert rest.startswith(literal)
        rest = rest.removeprefix(literal)
        value = next(v for v in sorted(ENVIRON.values(), reverse=True) if rest.startswith(v))
        rest = rest.removeprefix(value)
    assert rest == literals[-1]
    assert list(headers.expanded([text], ENVIRON)) == [ENVIRON[name] for name in names]


FORMS = (
    *(values.duration, values.positive_duration, values.size, values.port, values.scope),
    *(values.profile, values.resource, values.metadata_url, values.parameter, values.glob),
    *(values.path, values.command, values.one_of(("a", "b"))),
)


@target(
    *(b"\0" + text for text in (b"2.5", b"1e308", b"inf", b"nan", b"-0", b"1_0", b"0x1")),
    *(b"\2" + text for text in (b"64M", b"1KiB", b"9" * 30, b" 5 b")),
    *(b"\3" + text for text in (b"80", b"065535", b"\xd9\xa3")),
    b"\5work",
    b"\6https://a.example/x",
    b"\7https://a.example/client.json",
    b"\x08prompt=consent",
    b"\x0bsh -c 'a \"b\"'",
    words=(b"e", b".", b"-", b"+", b" ", b"'", b'"', b"\\", b"=", b"#", b"://", b"@", b"~", b"\0"),
)
def value(data: bytes) -> None:
    """The value of an option is understood, or what is accepted is named; written, it is itself."""
    material = Material(data)
    form = FORMS[material.number(len(FORMS) - 1)]
    text = material.text().replace("\0", "")  # which no argument can have
    try:
        found = form(text)
    except argparse.ArgumentTypeError as exc:
        assert str(exc).isprintable()
        return
    if isinstance(found, float):
        assert math.isfinite(found)
        assert found >= 0
        assert math.isclose(float(values.text(found, form)), found, rel_tol=1e-14)
        return
    again = values.text(found, form)
    assert form is values.path or form(again) == found


OPTIONS = sorted(
    option for action in options._parser()._actions for option in action.option_strings
)


@target(
    b"https://mcp.example.com/mcp\n--header\nX-Key: ${A}\n--timeout-read\n5\n--oauth",
    b"config\n--client\ncodex\n--header=X-Tenant: a b\nhttps://user@h.example/x\n--allow-tool=*",
    b"test\n--bearer-token\nsecret-12345678\nhttp://127.0.0.1:1\n-vv\n--json",
    b"login\nhttps://h\n--oauth-param=prompt=consent\n--oauth-scope\na b\n--client-id=c",
    b"config\n--bearer-token=secret-12345678\nhttps://h\n--allow-tool=-x\n-q",
    b"config\nhttps://h\n--bearer-token-command\nsh -c 'x y'\n--max-message-size=1M",
    words=(b"\n", b"=", b"--", b"-H\n", b"config\n", b"\n-v", *(each.encode() for each in OPTIONS)),
)
def command_line(data: bytes) -> None:
    """Is understood or refused; what a client's configuration is given of it means the same."""
    argv = [word.replace("\0", "") for word in as_text(data).split("\n")]
    try:
        with redirect_stdout(StringIO()):
            arguments = options.read(argv)
        order = settings.order(arguments, ENVIRON)
    except UsageFailure as exc:
        said = f"{exc} {exc.hint}"
        assert "t0ken-of-the-environment" not in said
        if SECRET not in re.sub(f"(--bearer-token[\n=]){SECRET}(?=\n|$)", "", "\n".join(argv)):
            assert SECRET not in said  # elsewhere it is the name of something, for all we know
        return
    except SystemExit:
        return  # `--help` and `--version`
    assert SECRET not in repr(order)
    again = options.read(list(options.written(arguments)))
    assert {name: value for name, value in vars(again).items() if name not in OURS} == {
        name: value
        for name, value in vars(arguments).items()
        if name not in OURS and value != getattr(options._DEFAULT, name, None)
    } | {name: value for name, value in vars(again).items() if value == []}
    if isinstance(order.task, settings.ShowBlock):
        server = order.task.server
        assert SECRET not in " ".join(server.arguments)
        for secret in server.secrets:
            assert secret.variable.isidentifier()
        # What is in the block is a command line that is understood, with what it asks for.
        environ = {secret.variable: "x" for secret in server.secrets} | ENVIRON
        settings.order(options.read(list(server.arguments)), environ)


OURS = {"words", *options.NOT_OF_THE_RELAY}


@target(
    b"\3-H\nX-Key: ${KEY}\nhttps://h/?a=b&c=$d",
    b"\1a b\n\n'\n\"\\",
    words=(b"'", b'"', b"\\", b"$", b"`", b"!", b"%", b"^", b"&", b" ", b"\n", b"\xc3\xa9", b"\t"),
)
def pasted_block(data: bytes) -> None:
    """A command to paste is one command with these words, in a shell and on Windows."""
    material = Material(data)
    client = list(CLIENTS.values())[material.number(len(CLIENTS) - 1)]
    words = [word.replace("\0", "") for word in material.text().split("\n")]
    server = Server("example", tuple(words), (Secret("KEY", "the key"),))
    assert block(client, server, ("/opt/mcp-stdio",)).isascii()
    posix = adding(server, ("/opt/mcp-stdio",), "linux")
    assert shlex.split(posix)[-len(words) :] == words
    windows = adding(server, ("C:\\mcp-stdio",), "win32")
    if "\r" not in posix:  # we take line breaks for blanks, which programs there do not
        assert list(split(windows, "win32"))[-len(words) :] == words
