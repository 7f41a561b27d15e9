"""From arguments and environment to what is to be done: an `Order`, frozen.

Owns what options mean together: commands, the URL, files that must exist, options that need one
another. Refuses to do anything of it (`cli`). Pure but for a look whether named files can be read.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from mcp_stdio.cli.access import Access, access_of
from mcp_stdio.cli.arguments import Arguments
from mcp_stdio.config import Config, Tls, shown
from mcp_stdio.errors import UsageFailure, quote
from mcp_stdio.http.url import Url

if TYPE_CHECKING:
    from mcp_stdio.clients.block import Server

COMMANDS = ("test", "login", "logout", "status", "config", "demo")


class Relay(NamedTuple):
    """Relay until the client leaves."""

    config: Config


class Check(NamedTuple):
    """Test the connection, stage by stage; `source` says where the credential comes from."""

    config: Config
    as_json: bool = False
    source: str | None = None


class Login(NamedTuple):
    """Sign in by hand."""

    config: Config


class Logout(NamedTuple):
    """Forget a sign-in."""

    config: Config


class Status(NamedTuple):
    """Show who is signed in: at one server, or everywhere."""

    config: Config | None = None
    as_json: bool = False


class ShowBlock(NamedTuple):
    """Show what the configuration of a client needs: one in the table, or most of them."""

    server: "Server"
    client: str | None = None


class Demo(NamedTuple):
    """Show a conversation, or leave the demo's server running."""

    is_serving: bool = False


Task = Relay | Check | Login | Logout | Status | ShowBlock | Demo


class Order(NamedTuple):
    """What to do, how loudly, and what the user should know before.

    `secrets` must never be printed; `verbosity` runs from -1 (quiet) to 2 (the wire).
    """

    task: Task
    verbosity: int = 0
    log_file: str | None = None
    notes: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return shown(self, "secrets")


def order(arguments: Arguments, environ: Mapping[str, str]) -> Order:
    """Make sense of the command line. Raises UsageFailure."""
    command, words = _command(arguments)
    verbosity = -1 if arguments.quiet else arguments.verbose
    if command == "demo":
        return Order(_demo(arguments, words), verbosity, arguments.log_file)
    if arguments.serve:
        raise UsageFailure("`--serve` goes with `demo`", hint="run `mcp-stdio demo --serve`")
    for option, value in (("--client", arguments.client), ("--name", arguments.name)):
        if value is not None and command != "config":
            raise UsageFailure(
                f"`{option}` goes with `config`", hint="run `mcp-stdio config URL`, or leave it out"
            )
    if arguments.json and command not in ("test", "status"):
        raise UsageFailure(
            "`--json` goes with `--test` and with `status`", hint="add `--test`, or leave it out"
        )
    if arguments.test and command != "test":
        raise UsageFailure(f"`--test` does not go with `{command}`", hint="leave one of them out")
    if command == "status" and not words:
        if arguments.oauth_profile is not None:
            raise UsageFailure(
                "`status` with `--oauth-profile` needs the URL of a server",
                hint="name the server as well, or leave the profile out to see all",
            )
        return Order(Status(None, arguments.json), verbosity, arguments.log_file)
    if arguments.transport == "sse" and arguments.protocol_era == "modern":
        raise UsageFailure(
            "`--transport sse` and `--protocol-era modern` exclude each other",
            hint="HTTP+SSE is of 2024-11-05; leave out one of the two",
        )
    given = _url(words, command)
    url = _parse_url(given)
    if command == "config":
        from mcp_stdio.cli import client_block

        environ = client_block.with_what_the_client_brings(arguments, environ)
    access = access_of(arguments, environ, given, command)
    config = Config(
        url=str(url),
        headers=access.headers,
        sources=access.sources,
        oauth=access.oauth,
        tls=_tls(arguments),
        timeout_connect=arguments.timeout_connect,
        timeout_read=arguments.timeout_read or None,
        timeout_call=arguments.timeout_call or None,
        drain_timeout=arguments.drain_timeout,
        max_message_size=arguments.max_message_size,
        merge_pages=arguments.merge_pages,
        allow_tools=tuple(arguments.allow_tool),
        deny_tools=tuple(arguments.deny_tool),
        transport=arguments.transport,
        protocol_era=arguments.protocol_era,
        bridge=arguments.bridge,
    )
    notes = tuple(_notes(arguments, access, url))
    if command == "config":  # the log is that of the relay, when a client starts it
        shown = client_block.task(arguments, access, given)
        notes += tuple(client_block.notes(arguments, given, environ))
        return Order(shown, verbosity, None, notes, access.secrets)
    return Order(
        _task(command, config, access.credential, as_json=arguments.json),
        verbosity,
        arguments.log_file,
        notes,
        access.secrets,
    )


def _task(command: str, config: Config, source: str | None, *, as_json: bool) -> Task:
    match command:
        case "test":
            return Check(config, as_json, source)
        case "login":
            return Login(config)
        case "logout":
            return Logout(config)
        case "status":
            return Status(config, as_json)
    return Relay(config)


def _command(arguments: Arguments) -> tuple[str, Sequence[str]]:
    words = arguments.words
    if words and words[0] in COMMANDS:
        return words[0], words[1:]
    return ("test" if arguments.test else "relay"), words


def _demo(arguments: Arguments, words: Sequence[str]) -> Demo:
    if words or arguments.test:
        raise UsageFailure(
            "`demo` takes no URL: it has a server of its own",
            hint="run `mcp-stdio test URL` to see how a server of yours is reached",
        )
    return Demo(arguments.serve)


def _url(words: Sequence[str], command: str) -> str:
    if not words:
        start = "mcp-stdio" if command == "relay" else f"mcp-stdio {command}"
        raise UsageFailure(
            "the URL of the server is missing", hint=f"as in `{start} https://example.com/mcp`"
        )
    if len(words) > 1:
        # The words are not repeated: `-H Authorization: Bearer TOKEN` without quotes ends here.
        raise UsageFailure(
            f"one URL is expected, and {len(words)} words were found",
            hint="put values that contain spaces in quotes, as in `-H 'Key: Value'`",
        )
    word = words[0]
    if "://" not in word:
        shown = quote(word.rpartition("@")[2])  # before it may stand a password
        scheme, rest = _probable_scheme(word), shown
        if typo := re.match("(https?):/*(?=[^/])", shown, re.IGNORECASE):
            scheme, rest = typo[1].lower(), shown[typo.end() :]
        raise UsageFailure(
            f"`{shown}` is neither a URL nor a command", hint=f"did you mean `{scheme}://{rest}`?"
        )
    return word


def _probable_scheme(word: str) -> str:
    try:
        return "http" if Url.parse(f"http://{word}").is_loopback else "https"
    except ValueError:
        return "https"


def _parse_url(text: str) -> Url:
    try:
        return Url.parse(text)
    except ValueError as exc:
        # The URL is not repeated, since it may contain a password.
        raise UsageFailure(
            f"the URL cannot be used: {quote(str(exc))}",
            hint="a URL looks like `https://example.com/mcp`",
        ) from None


def _tls(arguments: Arguments) -> Tls:
    if arguments.key is not None and arguments.cert is None:
        raise UsageFailure(
            "`--key` goes with `--cert`", hint="name the certificate the key belongs to"
        )
    for option, path in (
        ("--cacert", arguments.cacert),
        ("--cert", arguments.cert),
        ("--key", arguments.key),
    ):
        if path is not None and not os.access(path, os.R_OK):
            raise UsageFailure(
                f"`{option}`: `{quote(path)}` cannot be read", hint="name a file in PEM format"
            )
    return Tls(
        cacert=arguments.cacert,
        cert=arguments.cert,
        key=arguments.key,
        insecure=arguments.insecure,
    )


def _notes(arguments: Arguments, access: Access, url: Url) -> Iterator[str]:
    yield from access.notes
    if url.scheme == "http" and not url.is_loopback:
        given = [*(name for name, _ in access.headers), *(one.option for one in access.sources)]
        if given:
            names = ", ".join(f"`{name}`" for name in given)
            yield f"{names} will travel unencrypted to `{url.host}`: anybody on the way can read it"
    if arguments.insecure and url.scheme == "https":
        yield "with `--insecure` nothing proves that this is the right server"
