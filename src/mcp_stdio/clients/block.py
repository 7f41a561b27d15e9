"""What a client's configuration needs in order to start this program, and what to tell about it.

Owns the texts of both. Knows a client by its row in the `table`, and nothing of files: what is
printed here is pasted by a person.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from mcp_stdio.clients.table import CLIENTS, Client
from mcp_stdio.words import join

TO_PUT_IN = "REPLACE-ME"
"""Stands where a secret goes. One word, since a token is."""


class Secret(NamedTuple):
    """A variable of the environment that has a secret, and what that is."""

    variable: str
    meaning: str


class Server(NamedTuple):
    """The server as a client sees it: a name, the program's arguments, what its environment needs.

    `has_references` says that arguments name variables, as `${NAME}`; `has_literals`, that there
    is a `${` in them that means nothing but itself.
    """

    name: str
    arguments: tuple[str, ...]
    secrets: tuple[Secret, ...] = ()
    has_references: bool = False
    has_literals: bool = False


def block(client: Client, server: Server, command: Sequence[str]) -> str:
    """The block to paste, where `command` starts this program."""
    program, *rest = command
    entry: dict[str, Any] = {"type": "stdio"} if client.names_type else {}
    entry |= {"command": program, "args": [*rest, *server.arguments]}
    names = [secret.variable for secret in server.secrets]
    if client.secrets == "forwarded":
        if names:
            entry["env_vars"] = names
    elif names:
        entry["env"] = {name: _value(client, server, name) for name in names}
    if client.syntax == "toml":
        return _toml(client.servers, server.name, entry)
    whole: dict[str, Any] = {}
    if client.secrets == "asked for" and names:
        whole["inputs"] = [_input(server, secret) for secret in server.secrets]
    return json.dumps(whole | {client.servers: {server.name: entry}}, indent=2)


def advice(client: Client, server: Server, command: Sequence[str], platform: str) -> str:
    """Where the block belongs on the system `platform` and what is to be put in, for a person."""
    return "\n".join(_advice(client, server, command, platform))


def _advice(client: Client, server: Server, command: Sequence[str], platform: str) -> Iterator[str]:
    places = []
    if client.file is not None:
        menu = "" if client.menu is None else f" ({client.menu})"
        places.append(f"`{client.file.on(platform)}`{menu}")
    if client.project_file is not None:
        places.append(f"`{client.project_file}` of a project")
    if places:
        yield f"{client.title}: this belongs into {', or into '.join(places)}"
    else:
        names = ", ".join(CLIENTS)
        yield f"this is what most clients read; `--client` prints what one of these does: {names}"
    for variable, meaning in server.secrets:
        match client.secrets:
            case "put in":
                yield f"put in for `{TO_PUT_IN}` at `{variable}`: {meaning}"
            case "asked for":
                yield f"{client.title} will ask for `{variable}`: {meaning}"
            case _:
                yield f"set `{variable}` in the environment of {client.title}: {meaning}"
    if client.expands_arguments and server.has_references:
        yield (
            f"{client.title} puts the values of `${{NAME}}` into the arguments by itself, where "
            "`ps` shows them; `--header-file` and `--header-command` avoid that"
        )
    if client.expands_arguments and server.has_literals:
        yield (
            f"{client.title} takes every `${{NAME}}` in the arguments for a variable, also what is "
            "meant as it is; `--header-file` keeps such a header out of them"
        )
    if client is CLIENTS["claude-code"]:
        yield f"or run this, for all projects:\n{adding(server, command, platform)}"


def adding(server: Server, command: Sequence[str], platform: str) -> str:
    """The command that makes Claude Code know the server."""
    words = ["claude", "mcp", "add"]
    for variable, _ in server.secrets:
        words += "--env", f"{variable}={_value(CLIENTS['claude-code'], server, variable)}"
    # `--env` takes all words up to the next option, so the name must not follow it.
    words += "--scope", "user", server.name, "--", *command, *server.arguments
    return join(words, platform)


def _value(client: Client, server: Server, variable: str) -> str:
    match client.secrets:
        case "asked for":
            return client.reference.format(_input_id(server, variable))
        case "referenced":
            return client.reference.format(variable)
    return TO_PUT_IN


def _input(server: Server, secret: Secret) -> dict[str, Any]:
    return {
        "type": "promptString",
        "id": _input_id(server, secret.variable),
        "description": f"{server.name}: {secret.meaning}",
        "password": True,
    }


def _input_id(server: Server, variable: str) -> str:
    """An input of this server: what is entered for one is kept under its id, for all servers."""
    return f"{server.name}-{variable}"


def _toml(table: str, name: str, entry: dict[str, Any]) -> str:
    lines = [f"[{table}.{name}]"]
    for key, value in entry.items():
        if isinstance(value, list):
            lines.append(f"{key} = [{', '.join(map(_toml_string, value))}]")
        else:
            lines.append(f"{key} = {_toml_string(value)}")
    return "\n".join(lines)


def _toml_string(text: str) -> str:
    """A basic string (TOML 1.0), ASCII only, since nobody knows what the terminal writes."""
    escaped = re.sub(r'["\\]', r"\\\g<0>", text)
    return '"' + re.sub("[^ -~]", lambda found: rf"\U{ord(found[0]):08x}", escaped) + '"'
