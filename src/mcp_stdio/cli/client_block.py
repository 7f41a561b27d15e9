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
from mcp_stdio.http.url import DEFAULT_PORTS, Url, secrets_in, user_information

PATHS = ("bearer_token_file", "header_file", "cacert", "cert", "key", "log_file")
"""Options that name a file."""

LONGEST_NAME = 64
"""Characters of a server's name."""

_USUAL_PATH = "/mcp"
"""Says nothing about a server."""

_A_VALUE = "x"
"""Stands for the value of a variable that only the client will have."""

_AROUND = (
    *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "XDG_CONFIG_HOME"),
)
"""Variables that say how servers are reached and where sign-ins are kept."""

_PUBLIC_HEADER = (
    r"accept(-language)?|date|user-agent|"
    r"(x-)?(tenant|org|organi[sz]ation|project|workspace|team|region|locale|env|environment)(-name)?"
)
"""Headers whose values are shown, unless they look like more than a word or a date."""

_PUBLIC_PARAMETERS = (
    *("prompt", "audience", "access_type", "display", "ui_locales", "max_age", "acr_values"),
    *("login_hint", "domain_hint", "response_mode", "include_granted_scopes", "hd"),
)
"""Parameters of authorize requests that servers document, none of them a secret."""

_LABEL = r"\s*[;,]?\s*(.{0,4}|[A-Za-z_-]{1,20}[=: ]\s*)"
"""What may stand beside a `${NAME}`: next to nothing, a scheme, the name of a cookie."""

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


def notes(arguments: Arguments, url: str, environ: Mapping[str, str]) -> Iterator[str]:
    """What the block shows all the same, and what it leaves out."""
    if any(secrets_in(url)):
        yield "the URL may hold a secret: the block has it as it is"
    if shown := list(dict.fromkeys(_shown(arguments))):
        yield f"{', '.join(shown)} may hold a secret: the block has it as it is"
    for option, command in _commands(arguments):
        for word in command[1:]:
            if os.path.exists(word) and not os.path.isabs(word):
                yield (
                    f"`{option}` names `{quote(word)}`, which the client will look for in another "
                    "directory: give its full path"
                )
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
    used = {name for line in arguments.header for name in headers.references(line)}
    for header in given:
        kept.header += _without_secrets(header, secrets, used)
    if access.oauth is not None:
        kept.client_id = access.oauth.client_id
        if access.oauth.client_id and access.oauth.client_secret:
            secrets[SECRET_VARIABLE] = "the secret of the client that is registered"
    for option in PATHS:
        if (path := getattr(arguments, option)) is not None:
            setattr(kept, option, os.path.abspath(path))
    for source in access.sources:
        if source.command:
            program, *rest = source.command
            command = (os.path.abspath(program), *rest)
            setattr(kept, source.option.removeprefix("--").replace("-", "_"), command)
    # Some clients look for variables in arguments; a request has `{` as `%7B` anyway.
    words = (*options.written(kept), url.replace("${", "$%7B"))
    plain = [argument for argument in words if argument not in kept.header]
    return Server(
        name,
        words,
        tuple(Secret(*item) for item in secrets.items()),
        has_references=any(headers.references(line) for line in kept.header),
        has_literals=any("${" in argument for argument in plain)
        or any("${" in part for line in kept.header for part in headers.literals(line)),
    )


def _without_secrets(header: Header, secrets: dict[str, str], used: set[str]) -> Iterator[str]:
    """The header as it goes into the arguments; what it takes from the environment is added.

    `used` are the variables that already mean something.
    """
    name, value = header
    named = headers.references(value)
    if named and all(re.fullmatch(_LABEL, part) for part in headers.literals(value)):
        secrets.update((variable, f"a part of the header `{name}`") for variable in named)
        yield f"{name}: {value}"
    elif not named and not _may_be_secret(name, value):
        yield f"{name}: {value}"
    elif is_credential(name) and value.partition(" ")[0].lower() == "bearer":
        secrets[TOKEN_VARIABLE] = _BEARER
    else:
        stem = variable = "MCP_HEADER_" + re.sub("[^A-Z0-9]+", "_", name.upper())
        number = 1
        while variable in used:
            number += 1
            variable = f"{stem}_{number}"
        used.add(variable)
        whole = "whole value" if named else "value"
        secrets[variable] = f"the {whole} of the header `{name}`"
        yield f"{name}: ${{{variable}}}"


def _may_be_secret(name: str, value: str) -> bool:
    """Errs on the side of yes: anything but a word or a date under a name known to be harmless."""
    is_harmless = re.fullmatch(_PUBLIC_HEADER, name, re.IGNORECASE) and len(value) <= 40
    return bool(value) and not (is_harmless and not _is_opaque(value))


def _is_opaque(word: str) -> bool:
    return len(word) >= 8 and any(map(str.isalpha, word)) and any(map(str.isdigit, word))


def _shown(arguments: Arguments) -> Iterator[str]:
    """The options that may hold a secret which no variable can hold instead."""
    for key, value in arguments.oauth_param:
        if key not in _PUBLIC_PARAMETERS and value:
            yield f"`--oauth-param {key}=…`"
    if arguments.client_metadata_url and urlsplit(arguments.client_metadata_url).query:
        yield "`--client-metadata-url`"
    for option, command in _commands(arguments):
        # Code for a shell has blanks.
        if any(re.search(r"\s", word) or _is_opaque(word) for word in command[1:]):
            yield f"`{option}`"


def _commands(arguments: Arguments) -> Iterator[tuple[str, tuple[str, ...]]]:
    if arguments.bearer_token_command is not None:
        yield "--bearer-token-command", arguments.bearer_token_command
    if arguments.header_command is not None:
        yield "--header-command", arguments.header_command


def _name_for(url: str) -> str:
    """Host, port and path as a name, as far as they are not what they usually are.

    Clients take letters, digits and `-`, a letter first, and show it to models: so it ends before
    what may be a secret in the path.
    """
    parsed = Url.parse(url)
    words = [parsed.host]
    if parsed.port != DEFAULT_PORTS[parsed.scheme]:
        words.append(str(parsed.port))
    path = urlsplit(url).path.rstrip("/")
    for segment in path.split("/")[1:] if path != _USUAL_PATH else ():
        if len(segment) > 20 or _is_opaque(segment):
            break
        words.append(segment.lower())
    name = re.sub("[^a-z0-9]+", "-", "-".join(words)).strip("-")
    return (name if name[:1].isalpha() else f"mcp-{name}")[:LONGEST_NAME].rstrip("-")
