"""The clients and the form of their configuration, as their documentation has it: values only.

Kept here: a secret is named where the client can look it up (an environment variable of its own, an
input it asks for, a variable it forwards), and left to be put in where it cannot.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

Secrets = Literal["put in", "referenced", "asked for", "forwarded"]
"""How a secret gets into the program's environment: as text in the block, from the client's own
environment by a reference, from a person whom the client asks, or by being in a list of names."""


class Files(NamedTuple):
    """Where the configuration is, on each system, as one would write it there."""

    linux: str
    darwin: str
    win32: str

    def on(self, platform: str) -> str:
        """The file on the system that `sys.platform` names."""
        return {"darwin": self.darwin, "win32": self.win32}.get(platform, self.linux)


class Client(NamedTuple):
    """One client: `title` is what people call it, `servers` the member that holds the servers.

    `file` is that of the user, `project_file` that of a project, `menu` the way to it. `reference`
    is how a value of `env` is looked up, with `{}` for the name. `names_type` says whether a server
    says that it is one for `stdio`, `expands_arguments` whether `${NAME}` is looked up by the
    client in arguments as well.
    """

    title: str
    file: Files | None = None
    project_file: str | None = None
    menu: str | None = None
    syntax: Literal["json", "toml"] = "json"
    servers: str = "mcpServers"
    secrets: Secrets = "put in"
    reference: str = ""
    names_type: bool = False
    expands_arguments: bool = False


GENERAL = Client("most clients")
"""What clients that are not in the table read, most of them."""


def _at_home(path: str) -> Files:
    windows = "%USERPROFILE%\\" + path.replace("/", "\\")
    return Files(f"~/{path}", f"~/{path}", windows)


def _of_application(path: str) -> Files:
    windows = "%APPDATA%\\" + path.replace("/", "\\")
    return Files(f"~/.config/{path}", f"~/Library/Application Support/{path}", windows)


CLIENTS = {
    # modelcontextprotocol.io, "Connect to local MCP servers". Values of `env` are taken as they
    # are; it starts programs with little of its own environment.
    "claude-desktop": Client(
        "Claude Desktop",
        _of_application("Claude/claude_desktop_config.json"),
        menu="Settings > Developer > Edit Config",
    ),
    # code.claude.com/docs/en/mcp, "Environment variable expansion in .mcp.json": in command,
    # arguments and env.
    "claude-code": Client(
        "Claude Code",
        project_file=".mcp.json",
        secrets="referenced",
        reference="${{{}}}",
        names_type=True,
        expands_arguments=True,
    ),
    # cursor.com/docs/mcp, "Config interpolation".
    "cursor": Client(
        "Cursor",
        _at_home(".cursor/mcp.json"),
        ".cursor/mcp.json",
        secrets="referenced",
        reference="${{env:{}}}",
    ),
    # code.visualstudio.com/docs/copilot/reference/mcp-configuration.
    "vscode": Client(
        "VS Code",
        _of_application("Code/User/mcp.json"),
        ".vscode/mcp.json",
        menu="MCP: Open User Configuration",
        servers="servers",
        secrets="asked for",
        reference="${{input:{}}}",
        names_type=True,
    ),
    # docs.cline.bot/mcp/configuring-mcp-servers; references since cline/cline#8079.
    "cline": Client(
        "Cline",
        _of_application(
            "Code/User/globalStorage/saoudrizwan.claude-dev/settings/cline_mcp_settings.json"
        ),
        menu="MCP Servers > Configure > Configure MCP Servers",
        secrets="referenced",
        reference="${{env:{}}}",
    ),
    # openai/codex, docs/config.md, "mcp_servers": the environment is cleared but for a few names
    # and those of `env_vars`.
    "codex": Client(
        "Codex",
        _at_home(".codex/config.toml"),
        ".codex/config.toml",
        syntax="toml",
        servers="mcp_servers",
        secrets="forwarded",
    ),
    # google-gemini/gemini-cli, docs/tools/mcp-server.md; references in all strings of the settings.
    "gemini": Client(
        "Gemini CLI",
        _at_home(".gemini/settings.json"),
        ".gemini/settings.json",
        secrets="referenced",
        reference="${{{}}}",
        expands_arguments=True,
    ),
}
"""By the name that `--client` takes."""
