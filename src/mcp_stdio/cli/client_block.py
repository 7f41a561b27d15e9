"""What of a command line goes into the configuration of a client, and how secrets stay out of it.

Owns the way from arguments and environment to a `Server` of `clients`. Kept here: whatever was
given as a value and may be a secret becomes a variable of the environment, by name alone (P7); what
is named by a variable stays named; files and programs get full paths, since a client starts the
relay somewhere else.
"""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

from mcp_stdio.cli import headers, options
from mcp_stdio.cli.access import SECRET_VARIABLE, Access
from mcp_stdio.cli.arguments import Arguments
from mcp_stdio.cli.headers import TOKEN_VARIABLE
from mcp_stdio.cli.settings import ShowBlock
from mcp_stdio.clients.block import Secret, Server
from mcp_stdio.clients.table import CLIENTS
from mcp_stdio.credentials import rules
from mcp_stdio.credentials.rules import Header, is_credential
from mcp_stdio.errors import UsageFailure, quote
from mcp_stdio.http.url import secrets_in, user_information

PATHS = ("bearer_token_file", "header_file", "cacert", "cert", "key", "log_file")
"""Options that name a file."""

_A_VALUE = "x"
"""Stands for the value of a variable that only the client will have."""

_AROUND = (
    *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "XDG_CONFIG_HOME"),
)
"""Variables that say how servers are reached and where sign-ins are kept."""

_LOOKS_SECRET = r"auth|token|key|secret|pass|cookie|session|credential|signature|jwt"

_BEARER = "the token, without `Bearer` before it"


def with_what_the_client_brings(
    arguments: Arguments, environ: Mapping[str, str]
) -> Mapping[str, str]:
    """The environment in which the client will start the relay, as far as we can tell.

    What is to be set there need not be set here.
    """
    needed = [name for line in arguments.header for name in headers.references(line)]
    if arguments.oauth_grant == "client-credentials":
        needed.append(SECRET_VARIABLE)
    return {**dict.fromkeys(needed, _A_VALUE), **{k: v for k, v in environ.items() if v}}


def task(arguments: Arguments, access: Access, url: str) -> ShowBlock:
    """The block that was asked for, once all options have been found right. Raises UsageFailure."""
    client = arguments.client
    if client is not None and client not in CLIENTS:
        accepted = ", ".join(f"`{each}`" for each in CLIENTS)
        raise UsageFailure(
            f"`--client`: `{quote(client)}` is not one of {accepted}",
            hint="leave it out for the block that most clients read",
        )
    if user_information(url) is not None:
        raise UsageFailure(
            "a URL with a user's name or password does not belong into a client's configuration",
            hint="leave them out, and give the header `Authorization` as a `${NAME}` with `-H`",
        )
    name = arguments.name
    if name is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", name):
        raise UsageFailure(
            f"`--name`: `{quote(name)}` is not up to 64 letters, digits, `_` and `-`",
            hint="clients make parts of tools' names of it",
        )
    return ShowBlock(_server(arguments, access, url, name or _name_for(url)), client)


def notes(url: str, environ: Mapping[str, str]) -> Iterator[str]:
    """What the block shows all the same, and what it leaves out."""
    if any(secrets_in(url)):
        yield "the URL may hold a secret: the block has it as it is"
    # Clients pass on little of their own environment, and may have another one anyway.
    if here := [name for name in environ if name.upper() in _AROUND]:
        names = ", ".join(f"`{name}`" for name in here)
        yield f"the relay heeds {names} of this environment; the client may need the same in `env`"


def _server(arguments: Arguments, access: Access, url: str, name: str) -> Server:
    secrets: dict[str, str] = {}
    if access.credential in ("--bearer-token", TOKEN_VARIABLE):
        secrets[TOKEN_VARIABLE] = _BEARER
    kept = copy.copy(arguments)
    kept.bearer_token = None
    kept.header = []
    given = rules.last_of_each(rules.parse_header(line, where="-H") for line in arguments.header)
    for header in given:
        kept.header += _without_secrets(header, secrets)
    if access.oauth is not None:
        kept.client_id = access.oauth.client_id
        if access.oauth.client_id and access.oauth.client_secret:
            secrets[SECRET_VARIABLE] = "the secret of the client that is registered"
    for option in PATHS:
        if (path := getattr(arguments, option)) is not None:
            setattr(kept, option, os.path.abspath(path))
    for source in access.sources:
        if source.command:
            setattr(kept, source.option.removeprefix("--").replace("-", "_"), source.command)
    return Server(
        name,
        (*options.written(kept), url),
        tuple(Secret(*item) for item in secrets.items()),
        has_references=any(headers.references(line) for line in kept.header),
    )


def _without_secrets(header: Header, secrets: dict[str, str]) -> Iterator[str]:
    """The header as it goes into the arguments; what it takes from the environment is added."""
    name, value = header
    if named := headers.references(value):
        secrets.update((variable, f"a part of the header `{name}`") for variable in named)
        yield f"{name}: {value}"
    elif not _may_be_secret(name, value):
        yield f"{name}: {value}"
    elif is_credential(name) and value.partition(" ")[0].lower() == "bearer":
        secrets[TOKEN_VARIABLE] = _BEARER
    else:
        variable = "MCP_HEADER_" + re.sub("[^A-Z0-9]+", "_", name.upper())
        secrets[variable] = f"the value of the header `{name}`"
        yield f"{name}: ${{{variable}}}"


def _may_be_secret(name: str, value: str) -> bool:
    """Errs on the side of yes: by the header's name, or by letters mixed with digits."""
    return bool(re.search(_LOOKS_SECRET, name, re.IGNORECASE)) or (
        len(value) >= 8 and any(map(str.isalpha, value)) and any(map(str.isdigit, value))
    )


def _name_for(url: str) -> str:
    """The host as a name: clients take letters, digits and `-`, and a letter first."""
    host = urlsplit(url).hostname or ""
    name = re.sub("[^a-z0-9]+", "-", host).strip("-")
    return name if name[:1].isalpha() else f"mcp-{name}"
