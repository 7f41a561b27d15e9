"""The command line as a grammar: every option once, in the order of the help text.

Owns names, value types, defaults and help. Refuses to know the environment, files and what the
options mean together (`settings`). Kept here: no abbreviations, so that a new option can never
change the meaning of an old command line; options stand before, between or after the words; a
complaint never repeats a value that might be a secret.
"""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Sequence
from typing import NoReturn, get_args

from mcp_stdio import __version__
from mcp_stdio.config import Bridging, Config, ProtocolEra, Transport
from mcp_stdio.errors import UsageFailure, quote

USAGE = """mcp-stdio [OPTIONS] URL
       mcp-stdio test [OPTIONS] URL
       mcp-stdio demo [--serve]"""

SEE_HELP = "`mcp-stdio --help` lists commands and options"

_DESCRIPTION = """\
Relays a local MCP client, which starts this program and talks to it through
stdin and stdout, to the remote MCP server at URL.

commands:
  mcp-stdio URL         relay; what an MCP client starts
  mcp-stdio test URL    find out step by step whether the server can be used
  mcp-stdio demo        show a conversation with a small server of its own
"""

_EPILOG = """\
Durations are seconds and may be fractions. Proxies are taken from HTTP_PROXY,
HTTPS_PROXY and NO_PROXY.

Arguments can be seen by every user of this machine, for instance with `ps`.
Give secrets through MCP_BEARER_TOKEN, or through a variable of your own:
-H 'X-Api-Key: ${MY_KEY}'.
"""

_DEFAULT = Config(url="")
_UNITS = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3}


class Arguments(argparse.Namespace):
    """The parsed command line; `words` is what was left besides options, in order."""

    words: list[str]
    bearer_token: str | None
    oauth: bool
    client_id: str | None
    oauth_scope: str | None
    header: list[str]
    timeout_connect: float
    timeout_read: float
    timeout_call: float
    cacert: str | None
    cert: str | None
    key: str | None
    insecure: bool
    max_message_size: int
    transport: Transport
    protocol_era: ProtocolEra
    bridge: Bridging
    merge_pages: bool
    drain_timeout: float
    test: bool
    json: bool
    serve: bool
    verbose: int
    quiet: bool
    log_file: str | None


def parse(argv: Sequence[str]) -> Arguments:
    """Read the command line.

    Raises UsageFailure naming option, value and what is accepted. `-h` and `-V` print to stdout and
    raise SystemExit(0), as argparse has it.
    """
    try:
        arguments, unknown = _parser().parse_known_intermixed_args(argv, Arguments())
    except argparse.ArgumentError as exc:
        raise UsageFailure(f"`{exc.argument_name}`: {exc.message}", hint=SEE_HELP) from None
    if unknown:
        # What follows an `=` may be a secret given to a mistyped option.
        name = quote(unknown[0].partition("=")[0])
        raise UsageFailure(f"unknown option `{name}`", hint=SEE_HELP)
    return arguments


def duration(text: str) -> float:
    """Seconds: a finite number, not negative."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not math.isfinite(seconds) or seconds < 0:
        raise argparse.ArgumentTypeError(
            f"`{quote(text)}` is not a duration, which is a number of seconds from 0 on, such as "
            "`30` or `2.5`"
        )
    return seconds


def positive_duration(text: str) -> float:
    """Seconds, more than none."""
    seconds = duration(text)
    if seconds == 0:
        raise argparse.ArgumentTypeError(
            f"`{quote(text)}` is no time at all; a number of seconds above 0 is expected, such as "
            "`10` or `2.5`"
        )
    return seconds


def size(text: str) -> int:
    """Bytes: a whole number above 0, with K, M or G for powers of 1024."""
    match = re.fullmatch(r"([0-9]{1,15})([kmg]?)(?:i?b)?", text.strip().lower())
    if match is None or int(match[1]) == 0:
        raise argparse.ArgumentTypeError(
            f"`{quote(text)}` is not a size, which is a number of bytes above 0, such as "
            "`67108864` or `64M`"
        )
    return int(match[1]) * _UNITS[match[2]]


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageFailure(message, hint=SEE_HELP)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="mcp-stdio",
        usage=USAGE,
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=False,
        allow_abbrev=False,
        exit_on_error=False,
    )
    parser.add_argument("words", nargs="*", help=argparse.SUPPRESS)
    _add_credentials(parser.add_argument_group("credentials"))
    _add_network(parser.add_argument_group("network"))
    _add_protocol(parser.add_argument_group("protocol"))
    _add_output(parser.add_argument_group("what to do and what to show"))
    return parser


def _add_credentials(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--bearer-token",
        metavar="TOKEN",
        help="send `Authorization: Bearer TOKEN`; visible in `ps`, so better set MCP_BEARER_TOKEN",
    )
    group.add_argument("--oauth", action="store_true", help="sign in (not available yet)")
    group.add_argument("--client-id", metavar="ID", help="registered OAuth client (with --oauth)")
    group.add_argument("--oauth-scope", metavar="SCOPE", help="scope to ask for (with --oauth)")
    group.add_argument(
        "-H",
        "--header",
        metavar="'KEY: VALUE'",
        action="append",
        default=[],
        help="send this header as well; may be repeated; ${NAME} stands for a variable of the "
        "environment, $${ for a plain ${",
    )


def _add_network(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--timeout-connect",
        metavar="SEC",
        type=positive_duration,
        default=_DEFAULT.timeout_connect,
        help="for name, connection, proxy and TLS together (default: %(default)g)",
    )
    group.add_argument(
        "--timeout-read",
        metavar="SEC",
        type=duration,
        default=_DEFAULT.timeout_read,
        help="silence allowed while waiting for an answer; 0: any (default: %(default)g)",
    )
    group.add_argument(
        "--timeout-call",
        metavar="SEC",
        type=duration,
        default=_DEFAULT.timeout_call or 0.0,
        help="the longest a call may take in all; 0: any (default: %(default)g)",
    )
    group.add_argument("--cacert", metavar="PATH", help="PEM file of certificates to trust as well")
    group.add_argument("--cert", metavar="PATH", help="PEM file of the client certificate to show")
    group.add_argument("--key", metavar="PATH", help="its private key, if it is in another file")
    group.add_argument(
        "--insecure", action="store_true", help="accept any certificate; for experiments only"
    )
    group.add_argument(
        "--max-message-size",
        metavar="BYTES",
        type=size,
        default=_DEFAULT.max_message_size,
        help="limit for one message either way (default: 64M)",
    )


def _add_protocol(group: argparse._ArgumentGroup) -> None:
    _add_choice(
        group,
        "--transport",
        get_args(Transport),
        _DEFAULT.transport,
        "how the server is reached; `sse` is HTTP+SSE of 2024-11-05, which `auto` finds by itself",
    )
    _add_choice(
        group,
        "--protocol-era",
        get_args(ProtocolEra),
        _DEFAULT.protocol_era,
        "what the server speaks: `legacy` opens with `initialize`, `modern` is 2026-07-28 or later",
    )
    _add_choice(
        group,
        "--bridge",
        get_args(Bridging),
        _DEFAULT.bridge,
        "bring a client and a server of different eras together; `always` is for clients that know "
        "only 2026-07-28 and begin with `server/discover`",
    )
    group.add_argument(
        "--no-merge-pages",
        dest="merge_pages",
        action="store_false",
        help="pass lists on page by page, as the server sends them",
    )
    group.add_argument(
        "--drain-timeout",
        metavar="SEC",
        type=duration,
        default=_DEFAULT.drain_timeout,
        help="time for running calls to finish once stdin has ended (default: %(default)g)",
    )


def _add_choice(
    group: argparse._ArgumentGroup, option: str, choices: Sequence[str], default: str, text: str
) -> None:
    def choice(value: str) -> str:
        if value not in choices:
            accepted = ", ".join(f"`{each}`" for each in choices)
            raise argparse.ArgumentTypeError(f"`{quote(value)}` is not one of {accepted}")
        return value

    group.add_argument(
        option,
        metavar="|".join(choices),
        type=choice,
        default=default,
        help=f"{text} (default: %(default)s)",
    )


def _add_output(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--test",
        "--check",
        action="store_true",
        help="the same as the command `test`; ends with 0, or 3 unreachable, 4 TLS, "
        "5 authentication, 6 not an MCP server, 7 server error",
    )
    group.add_argument("--json", action="store_true", help="with --test: one object on stdout")
    group.add_argument("--serve", action="store_true", help="with `demo`: leave its server running")
    loudness = group.add_mutually_exclusive_group()
    loudness.add_argument(
        "-v", "--verbose", action="count", default=0, help="tell more; twice: the wire as well"
    )
    loudness.add_argument("-q", "--quiet", action="store_true", help="tell errors only")
    group.add_argument("--log-file", metavar="PATH", help="write the log there as well")
    group.add_argument(
        "-V",
        "--version",
        action="version",
        version=f"mcp-stdio {__version__}",
        help="print the version",
    )
    group.add_argument("-h", "--help", action="help", help="print this text")
