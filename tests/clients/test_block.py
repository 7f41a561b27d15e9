"""Blocks and advice, by values: what each client's documentation wants to find."""

from __future__ import annotations

import json
import tomllib

import hypothesis
import hypothesis.strategies as st
import pytest

from mcp_stdio.clients.block import Secret, Server, advice, block
from mcp_stdio.clients.table import CLIENTS, GENERAL, Client

PROGRAM = ("/opt/bin/mcp-stdio",)
URL = "https://example.com/mcp"

PLAIN = Server("example", ("--insecure", URL))
SECRET = Server("example", ("--header", "X-Key: ${KEY}", URL), (Secret("KEY", "the key"),), True)

ENTRY = {"command": "/opt/bin/mcp-stdio", "args": ["--insecure", URL]}
WITH_KEY = {"command": "/opt/bin/mcp-stdio", "args": ["--header", "X-Key: ${KEY}", URL]}
TYPED = {"type": "stdio"}


def parsed(client: Client, server: Server) -> object:
    text = block(client, server, PROGRAM)
    return tomllib.loads(text) if client.syntax == "toml" else json.loads(text)


@pytest.mark.parametrize(
    "name, whole",
    [
        ("claude-desktop", {"mcpServers": {"example": ENTRY}}),
        ("claude-code", {"mcpServers": {"example": TYPED | ENTRY}}),
        ("cursor", {"mcpServers": {"example": ENTRY}}),
        ("vscode", {"servers": {"example": TYPED | ENTRY}}),
        ("cline", {"mcpServers": {"example": ENTRY}}),
        ("codex", {"mcp_servers": {"example": ENTRY}}),
        ("gemini", {"mcpServers": {"example": ENTRY}}),
    ],
)
def test_a_block_without_secrets(name: str, whole: object) -> None:
    assert parsed(CLIENTS[name], PLAIN) == whole


ASKED = {"type": "promptString", "id": "example-KEY", "description": "example: the key"}


@pytest.mark.parametrize(
    "name, whole",
    [
        ("claude-desktop", {"mcpServers": {"example": WITH_KEY | {"env": {"KEY": "REPLACE-ME"}}}}),
        ("claude-code", {"mcpServers": {"example": TYPED | WITH_KEY | {"env": {"KEY": "${KEY}"}}}}),
        ("cursor", {"mcpServers": {"example": WITH_KEY | {"env": {"KEY": "${env:KEY}"}}}}),
        (
            "vscode",
            {
                "inputs": [ASKED | {"password": True}],
                "servers": {"example": TYPED | WITH_KEY | {"env": {"KEY": "${input:example-KEY}"}}},
            },
        ),
        ("cline", {"mcpServers": {"example": WITH_KEY | {"env": {"KEY": "${env:KEY}"}}}}),
        ("codex", {"mcp_servers": {"example": WITH_KEY | {"env_vars": ["KEY"]}}}),
        ("gemini", {"mcpServers": {"example": WITH_KEY | {"env": {"KEY": "${KEY}"}}}}),
    ],
)
def test_a_secret_is_named_as_the_client_can(name: str, whole: object) -> None:
    assert parsed(CLIENTS[name], SECRET) == whole


def test_every_client_is_looked_at_above() -> None:
    assert set(CLIENTS) == {
        *("claude-desktop", "claude-code", "cursor", "vscode", "cline", "codex", "gemini")
    }
    assert parsed(GENERAL, SECRET) == parsed(CLIENTS["claude-desktop"], SECRET)


def test_the_block_of_most_clients_as_text() -> None:
    text = block(GENERAL, Server("x", (URL,)), ("python", "-m", "mcp_stdio"))
    assert text == (
        '{\n  "mcpServers": {\n    "x": {\n      "command": "python",\n      "args": [\n'
        '        "-m",\n        "mcp_stdio",\n        "https://example.com/mcp"\n      ]\n'
        "    }\n  }\n}"
    )


def test_the_block_of_codex_as_text() -> None:
    assert block(CLIENTS["codex"], SECRET, PROGRAM) == (
        "[mcp_servers.example]\n"
        'command = "/opt/bin/mcp-stdio"\n'
        'args = ["--header", "X-Key: ${KEY}", "https://example.com/mcp"]\n'
        'env_vars = ["KEY"]'
    )


@pytest.mark.parametrize("client", CLIENTS.values(), ids=list(CLIENTS))
@hypothesis.given(words=st.lists(st.text(st.characters(exclude_categories=["Cs"]))))
def test_any_argument_survives_in_ascii(client: Client, words: list[str]) -> None:
    text = block(client, Server("x", tuple(words)), PROGRAM)
    assert text.isascii()
    whole = tomllib.loads(text) if client.syntax == "toml" else json.loads(text)
    assert whole[client.servers]["x"]["args"] == words


@pytest.mark.parametrize(
    "name, platform, file",
    [
        ("claude-desktop", "linux", "~/.config/Claude/claude_desktop_config.json"),
        (
            "claude-desktop",
            "darwin",
            "~/Library/Application Support/Claude/claude_desktop_config.json",
        ),
        ("claude-desktop", "win32", r"%APPDATA%\Claude\claude_desktop_config.json"),
        ("claude-code", "linux", ".mcp.json"),
        ("cursor", "darwin", "~/.cursor/mcp.json"),
        ("cursor", "win32", r"%USERPROFILE%\.cursor\mcp.json"),
        ("vscode", "linux", "~/.config/Code/User/mcp.json"),
        ("vscode", "win32", ".vscode/mcp.json"),
        (
            "cline",
            "win32",
            "%APPDATA%\\Code\\User\\globalStorage\\saoudrizwan.claude-dev\\settings\\cline_mcp_settings.json",
        ),
        ("codex", "freebsd14", "~/.codex/config.toml"),
        ("gemini", "darwin", "~/.gemini/settings.json"),
    ],
)
def test_the_advice_names_the_file_of_this_system(name: str, platform: str, file: str) -> None:
    assert f"`{file}`" in advice(CLIENTS[name], PLAIN, PROGRAM, platform)


@pytest.mark.parametrize(
    "name, said",
    [
        ("claude-desktop", "put in for `REPLACE-ME` at `KEY`: the key"),
        ("claude-code", "set `KEY` in the environment of Claude Code: the key"),
        ("cursor", "set `KEY` in the environment of Cursor: the key"),
        ("vscode", "VS Code will ask for `KEY`: the key"),
        ("codex", "set `KEY` in the environment of Codex: the key"),
    ],
)
def test_the_advice_says_where_a_secret_goes(name: str, said: str) -> None:
    assert said in advice(CLIENTS[name], SECRET, PROGRAM, "linux").splitlines()


def test_the_advice_for_most_clients_names_the_others() -> None:
    said = advice(GENERAL, PLAIN, PROGRAM, "linux")
    assert all(name in said for name in CLIENTS)


@pytest.mark.parametrize("name, is_so", [("claude-code", 1), ("gemini", 1), ("cursor", 0)])
def test_it_is_said_where_a_header_s_value_becomes_visible(name: str, is_so: int) -> None:
    assert advice(CLIENTS[name], SECRET, PROGRAM, "linux").count("`ps`") == is_so
    assert "`ps`" not in advice(CLIENTS[name], PLAIN, PROGRAM, "linux")


@pytest.mark.parametrize("name, is_so", [("claude-code", 1), ("gemini", 1), ("cursor", 0)])
def test_it_is_said_where_a_client_takes_plain_text_for_a_variable(name: str, is_so: int) -> None:
    server = Server("example", (f"{URL}?x=${{HOME}}",), has_literals=True)
    assert advice(CLIENTS[name], server, PROGRAM, "linux").count("meant as it is") == is_so
    assert "meant as it is" not in advice(CLIENTS[name], SECRET, PROGRAM, "linux")


def test_claude_code_has_a_command_for_it() -> None:
    assert advice(CLIENTS["claude-code"], SECRET, PROGRAM, "linux").splitlines()[-1] == (
        "claude mcp add --env 'KEY=${KEY}' --scope user example -- /opt/bin/mcp-stdio --header "
        "'X-Key: ${KEY}' https://example.com/mcp"
    )
    windows = (r"C:\Program Files\mcp-stdio.exe",)
    assert advice(CLIENTS["claude-code"], SECRET, windows, "win32").splitlines()[-1] == (
        r'claude mcp add --env KEY=${KEY} --scope user example -- "C:\Program Files\mcp-stdio.exe" '
        '--header "X-Key: ${KEY}" https://example.com/mcp'
    )
