"""What a command line says once it is read, and what counts where it says nothing.

Kept here: a command line of words alone, which is what most clients start, is read without the
grammar. It would find the same, but to load and build it takes 5 ms of each start.
"""

from __future__ import annotations

from collections.abc import Sequence

from mcp_stdio.config import Bridging, Config, Grant, ProtocolEra, Transport

USAGE = """mcp-stdio [OPTIONS] URL
       mcp-stdio test|login|logout [OPTIONS] URL
       mcp-stdio status [OPTIONS] [URL]
       mcp-stdio config [--client CLIENT] [OPTIONS] URL
       mcp-stdio demo [--serve]"""

SEE_HELP = "`mcp-stdio --help` lists commands and options"

NO_RESOURCE = "none"

_DEFAULT = Config(url="")


class Arguments:
    """The command line; `words` is what was left besides options, in order."""

    words: Sequence[str] = ()
    bearer_token: str | None = None
    bearer_token_file: str | None = None
    bearer_token_command: tuple[str, ...] | None = None
    header_file: str | None = None
    header_command: tuple[str, ...] | None = None
    oauth: bool = False
    client_id: str | None = None
    oauth_scope: str | None = None
    oauth_grant: Grant | None = None
    client_metadata_url: str | None = None
    oauth_resource: str | None = None
    oauth_use_id_token: bool = False
    oauth_assume_pkce: bool = False
    oauth_allow_private: bool = False
    oauth_callback_port: int | None = None
    oauth_no_browser: bool = False
    oauth_profile: str | None = None
    oauth_timeout: float | None = None
    oauth_start_wait: float | None = None
    timeout_connect: float = _DEFAULT.timeout_connect
    timeout_read: float = _DEFAULT.timeout_read or 0.0
    timeout_call: float = _DEFAULT.timeout_call or 0.0
    cacert: str | None = None
    cert: str | None = None
    key: str | None = None
    insecure: bool = False
    max_message_size: int = _DEFAULT.max_message_size
    transport: Transport = _DEFAULT.transport
    protocol_era: ProtocolEra = _DEFAULT.protocol_era
    bridge: Bridging = _DEFAULT.bridge
    merge_pages: bool = _DEFAULT.merge_pages
    drain_timeout: float = _DEFAULT.drain_timeout
    test: bool = False
    json: bool = False
    client: str | None = None
    name: str | None = None
    serve: bool = False
    verbose: int = 0
    quiet: bool = False
    log_file: str | None = None

    def __init__(self) -> None:
        self.header: list[str] = []
        self.oauth_param: list[tuple[str, str]] = []
        self.allow_tool: list[str] = []
        self.deny_tool: list[str] = []


def parse(argv: Sequence[str]) -> Arguments:
    """Read the command line.

    Raises UsageFailure naming option, value and what is accepted. `-h` and `-V` print to stdout and
    raise SystemExit(0), as argparse has it.
    """
    if not any(argument.startswith("-") for argument in argv):
        arguments = Arguments()
        arguments.words = argv
        return arguments
    from mcp_stdio.cli import options

    return options.read(argv)
