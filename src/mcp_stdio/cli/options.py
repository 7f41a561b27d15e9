"""The command line as a grammar: every option once, in the order of the help text.

Owns names and help. Refuses to know the environment, files and what the options mean together
(`settings`). Kept here: no abbreviations, so that a new option can never change the meaning of an
old command line; options stand before, between or after the words; a complaint never repeats a
value that might be a secret.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from typing import NoReturn, get_args

from mcp_stdio import __version__
from mcp_stdio.cli import values
from mcp_stdio.cli.arguments import SEE_HELP, USAGE, Arguments
from mcp_stdio.cli.oauth_options import add_oauth
from mcp_stdio.cli.values import duration, positive_duration, size
from mcp_stdio.config import Bridging, ProtocolEra, Transport
from mcp_stdio.errors import UsageFailure, quote

_DESCRIPTION = """\
Relays a local MCP client, which starts this program and talks to it through
stdin and stdout, to the remote MCP server at URL.

commands:
  mcp-stdio URL         relay; what an MCP client starts
  mcp-stdio test URL    find out step by step whether the server can be used
  mcp-stdio login URL   sign in now and remember it
  mcp-stdio logout URL  forget that, also at the server where it can be told
  mcp-stdio status      show who is signed in where (or at URL) and until when
  mcp-stdio config URL  print what a client's configuration needs, options included
  mcp-stdio demo        show a conversation with a small server of its own
"""

_EPILOG = """\
Durations are seconds and may be fractions. Proxies are taken from HTTP_PROXY,
HTTPS_PROXY and NO_PROXY.

Arguments can be seen by every user of this machine, for instance with `ps`.
Give secrets through MCP_BEARER_TOKEN and MCP_OAUTH_CLIENT_SECRET, through a
file or a command, or through a variable of your own: -H 'X-Api-Key: ${MY_KEY}'.
Commands are split as a shell would, and run without one.
"""

_DEFAULT = Arguments()


NOT_OF_THE_RELAY = frozenset(("test", "json", "client", "name", "serve"))
"""Options that say what else to do."""


def read(argv: Sequence[str]) -> Arguments:
    """Read a command line that has options; raises as `arguments.parse` does."""
    try:
        arguments, unknown = _parser().parse_known_intermixed_args(argv, Arguments())
    except argparse.ArgumentError as exc:
        raise _in_our_words(exc.argument_name or "", exc.message) from None
    if unknown:
        # What follows an `=` may be a secret given to a mistyped option.
        name = quote(unknown[0].partition("=")[0])
        raise UsageFailure(f"unknown option `{name}`", hint=SEE_HELP)
    return arguments


def _in_our_words(name: str, message: str) -> UsageFailure:
    """What argparse found wrong, where it is not one of our `values` that has said it."""
    option = name.rpartition("/")[2]  # argparse joins all spellings
    if message.startswith("not allowed with argument "):
        other = message.rpartition(" ")[2].rpartition("/")[2]
        return UsageFailure(f"`{other}` and `{option}` exclude each other", hint="leave one out")
    if message == "expected one argument":
        return UsageFailure(
            f"`{option}` needs a value",
            hint=f"a value that begins with `-` is written as in `{option}=-x`",
        )
    if message.startswith("ignored explicit argument"):  # which it repeats
        return UsageFailure(f"`{option}` takes no value", hint="leave the value out")
    return UsageFailure(f"`{name}`: {message}", hint=SEE_HELP)


def written(arguments: Arguments) -> Iterator[str]:
    """The options of the relay that say what `arguments` do, in the order of the help text."""
    done = set(NOT_OF_THE_RELAY)
    for action in _parser()._actions:
        value = getattr(arguments, action.dest, None)
        if not action.option_strings or action.dest in done:
            continue
        done.add(action.dest)
        if value == getattr(_DEFAULT, action.dest, None):
            continue
        option = action.option_strings[-1]
        if action.nargs == 0:
            yield from [option] * (arguments.verbose if action.dest == "verbose" else 1)
            continue
        for one in value if isinstance(value, list) else [value]:
            text = values.text(one, action.type)
            if text.startswith("-"):
                yield f"{option}={text}"
            else:
                yield from (option, text)


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
        argument_default=argparse.SUPPRESS,  # `Arguments` has the defaults
        add_help=False,
        allow_abbrev=False,
        exit_on_error=False,
    )
    parser.add_argument("words", nargs="*", help=argparse.SUPPRESS)
    _add_credentials(parser.add_argument_group("credentials"))
    add_oauth(parser.add_argument_group("signing in with OAuth"))
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
    group.add_argument(
        "--bearer-token-file",
        metavar="PATH",
        type=values.path,
        help="take the token from a file, and again when the server refuses it",
    )
    group.add_argument(
        "--bearer-token-command",
        metavar="CMD",
        type=values.command,
        help="take the token from what a command prints, and again when the server refuses it",
    )
    group.add_argument(
        "-H",
        "--header",
        metavar="'KEY: VALUE'",
        action="append",
        help="send this header as well; may be repeated; ${NAME} stands for a variable of the "
        "environment, $${ for a plain ${",
    )
    group.add_argument(
        "--header-file",
        metavar="PATH",
        type=values.path,
        help="take headers from a file, a `Key: Value` on each line, `#` before comments; read "
        "again when the server refuses them",
    )
    group.add_argument(
        "--header-command",
        metavar="CMD",
        type=values.command,
        help="the same from what a command prints",
    )


def _add_network(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--timeout-connect",
        metavar="SEC",
        type=positive_duration,
        help="for name, connection, proxy and TLS together "
        f"(default: {_DEFAULT.timeout_connect:g})",
    )
    group.add_argument(
        "--timeout-read",
        metavar="SEC",
        type=duration,
        help="silence allowed while waiting for an answer; 0: any "
        f"(default: {_DEFAULT.timeout_read:g})",
    )
    group.add_argument(
        "--timeout-call",
        metavar="SEC",
        type=duration,
        help=f"the longest a call may take in all; 0: any (default: {_DEFAULT.timeout_call:g})",
    )
    group.add_argument(
        "--cacert",
        metavar="PATH",
        type=values.path,
        help="PEM file of certificates to trust as well",
    )
    group.add_argument(
        "--cert",
        metavar="PATH",
        type=values.path,
        help="PEM file of the client certificate to show",
    )
    group.add_argument(
        "--key", metavar="PATH", type=values.path, help="its private key, if it is in another file"
    )
    group.add_argument(
        "--insecure", action="store_true", help="accept any certificate; for experiments only"
    )
    group.add_argument(
        "--max-message-size",
        metavar="BYTES",
        type=size,
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
        "--allow-tool",
        metavar="GLOB",
        type=values.glob,
        action="append",
        help="offer only the tools whose names match, as in `read_*`; may be repeated",
    )
    group.add_argument(
        "--deny-tool",
        metavar="GLOB",
        type=values.glob,
        action="append",
        help="offer no tool whose name matches, allowed or not; may be repeated",
    )
    group.add_argument(
        "--drain-timeout",
        metavar="SEC",
        type=duration,
        help="time for running calls to finish once stdin has ended "
        f"(default: {_DEFAULT.drain_timeout:g})",
    )


def _add_choice(
    group: argparse._ArgumentGroup, option: str, choices: Sequence[str], default: str, text: str
) -> None:
    group.add_argument(
        option,
        metavar="|".join(choices),
        type=values.one_of(choices),
        help=f"{text} (default: {default})",
    )


def _add_output(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--test",
        "--check",
        action="store_true",
        help="the same as the command `test`; ends, as `login` does, with 0, or 3 unreachable, "
        "4 TLS, 5 authentication, 6 not an MCP server, 7 server error",
    )
    group.add_argument(
        "--json", action="store_true", help="with --test and status: one object on stdout"
    )
    group.add_argument(
        "--client",
        metavar="CLIENT",
        help="with `config`: as claude-desktop, claude-code, cursor, vscode, cline, codex or "
        "gemini reads it (default: as most do)",
    )
    group.add_argument(
        "--name", metavar="NAME", help="with `config`: what the client shall call the server"
    )
    group.add_argument("--serve", action="store_true", help="with `demo`: leave its server running")
    loudness = group.add_mutually_exclusive_group()
    loudness.add_argument(
        "-v", "--verbose", action="count", help="tell more; twice: the wire as well"
    )
    loudness.add_argument("-q", "--quiet", action="store_true", help="tell errors only")
    group.add_argument(
        "--log-file", metavar="PATH", type=values.path, help="write the log there as well"
    )
    group.add_argument(
        "-V",
        "--version",
        action="version",
        version=f"mcp-stdio {__version__}",
        help="print the version",
    )
    group.add_argument("-h", "--help", action="help", help="print this text")
