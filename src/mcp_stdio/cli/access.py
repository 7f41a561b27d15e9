"""How the server is to be convinced: headers, credentials and sign-in that the arguments ask for.

Owns what these options and variables mean together; the one credential that counts is chosen in
`headers`. Refuses to know commands beyond whether they are about signing in. Kept here: a token
got by signing in never goes over plain http to another machine (A-44).
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from mcp_stdio.cli import headers
from mcp_stdio.cli.arguments import NO_RESOURCE, Arguments
from mcp_stdio.cli.headers import TOKEN_VARIABLE, Credential
from mcp_stdio.config import Gives, OAuth, Source, shown
from mcp_stdio.credentials import rules
from mcp_stdio.credentials.rules import AUTHORIZATION, Headers, is_credential, secrets_of
from mcp_stdio.errors import UsageFailure, quote
from mcp_stdio.http.url import Url, secrets_in, user_information

CLIENT_VARIABLE = "MCP_OAUTH_CLIENT_ID"
SECRET_VARIABLE = "MCP_OAUTH_CLIENT_SECRET"

SIGN_IN_COMMANDS = ("login", "logout", "status")
"""Commands that mean `--oauth` by themselves."""

_OPTIONS = (
    "--client-id",
    "--oauth-scope",
    "--oauth-grant",
    "--client-metadata-url",
    "--oauth-resource",
    "--oauth-param",
    "--oauth-use-id-token",
    "--oauth-assume-pkce",
    "--oauth-allow-private",
    "--oauth-callback-port",
    "--oauth-no-browser",
    "--oauth-profile",
    "--oauth-timeout",
    "--oauth-start-wait",
)
"""Options that have no effect without `--oauth`."""

_WITH_A_BROWSER_HERE = (
    "--oauth-param",
    "--oauth-assume-pkce",
    "--oauth-callback-port",
    "--oauth-no-browser",
)
"""Options of the authorization code grant."""

_OF_A_USER = ("--client-metadata-url", "--oauth-use-id-token")
"""Options of grants that a user gives, besides those with a browser here."""


class Access(NamedTuple):
    """What the settings need of all this; `secrets` must never be printed.

    `credential` is the user's name for where the one that counts comes from.
    """

    headers: Headers = ()
    sources: tuple[Source, ...] = ()
    oauth: OAuth | None = None
    notes: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()
    credential: str | None = None

    def __repr__(self) -> str:
        return shown(self, "headers", "secrets")


def access_of(arguments: Arguments, environ: Mapping[str, str], given: str, command: str) -> Access:
    """What arguments and environment say for the URL as it was `given`. Raises UsageFailure."""
    asked = command if command in SIGN_IN_COMMANDS else "--oauth" if arguments.oauth else None
    custom = headers.parse_headers(arguments.header, environ)
    explicit = _explicit(arguments, given, custom, asked)
    credential, note = headers.choose(explicit, environ.get(TOKEN_VARIABLE, "").strip())
    others = tuple(item for item in custom if not is_credential(item[0]))
    sent = others
    if credential is not None and credential.value is not None:
        sent = ((AUTHORIZATION, credential.value), *others)
    oauth = None if asked is None else _oauth(arguments, environ, Url.parse(given), asked)
    notes: list[str] = []
    if note is not None and command not in SIGN_IN_COMMANDS:
        notes.append(note)
    if command not in ("logout", "status"):  # they only look at what is kept
        notes += _notes(arguments, oauth, environ)
    return Access(
        sent,
        tuple(_sources(arguments)),
        oauth,
        tuple(notes),
        tuple(_secrets(arguments, environ, given, sent, oauth)),
        None if credential is None else credential.source,
    )


def _explicit(
    arguments: Arguments, given: str, custom: Headers, asked: str | None
) -> Iterator[Credential]:
    """The credentials that were given explicitly, with the option's name."""
    if arguments.bearer_token is not None:
        option = "--bearer-token"
        yield Credential(option, rules.bearer(arguments.bearer_token, where=option))
    if arguments.bearer_token_file is not None:
        yield Credential("--bearer-token-file")
    if arguments.bearer_token_command is not None:
        yield Credential("--bearer-token-command")
    if asked is not None:
        yield Credential(asked)
    for name, value in custom:
        if is_credential(name):
            yield Credential(f"-H {AUTHORIZATION}", value)
    if user := user_information(given):
        yield Credential("user information in the URL", rules.basic(*user))


def _sources(arguments: Arguments) -> Iterator[Source]:
    """The files and commands, once they have been looked for."""
    found: tuple[tuple[Gives, str, str | None, tuple[str, ...] | None], ...] = (
        ("token", "bearer-token", arguments.bearer_token_file, arguments.bearer_token_command),
        ("headers", "header", arguments.header_file, arguments.header_command),
    )
    for gives, kind, path, command in found:
        if path is not None:
            option = f"--{kind}-file"
            if os.path.isdir(path) or not os.access(path, os.R_OK):
                raise UsageFailure(
                    f"`{option}`: `{quote(path)}` cannot be read",
                    hint="name a file that exists and that you may read",
                )
            yield Source(option=option, gives=gives, path=path)
        if command is not None:
            import shutil  # with what it loads, too much for every start

            option = f"--{kind}-command"
            # On Windows also for the sake of `.cmd` and the like, which only a search finds.
            program = shutil.which(command[0])
            if program is None:
                raise UsageFailure(
                    f"`{option}`: there is no program `{quote(command[0])}`",
                    hint="give its full path, or check PATH",
                )
            if not os.path.isabs(program) and not os.path.dirname(command[0]):
                # Windows looks there first, and a client's is that of the project it has open.
                raise UsageFailure(
                    f"`{option}`: `{quote(command[0])}` would be one of the current directory",
                    hint="give its full path",
                )
            yield Source(option=option, gives=gives, command=(program, *command[1:]))


def _oauth(arguments: Arguments, environ: Mapping[str, str], url: Url, asked: str) -> OAuth:
    if url.scheme == "http" and not url.is_loopback:
        raise UsageFailure(
            f"`{asked}`: a token is never sent unencrypted to another machine, `{url.host}`",
            hint="use the `https://` URL of the server",
        )
    default = OAuth()
    resource = arguments.oauth_resource
    oauth = OAuth(
        grant=arguments.oauth_grant or default.grant,
        client_id=arguments.client_id or environ.get(CLIENT_VARIABLE) or None,
        client_secret=environ.get(SECRET_VARIABLE) or None,
        client_metadata_url=arguments.client_metadata_url,
        scope=arguments.oauth_scope or None,
        resource=None if resource == NO_RESOURCE else resource,
        sends_resource=resource != NO_RESOURCE,
        parameters=tuple(dict(arguments.oauth_param).items()),
        uses_id_token=arguments.oauth_use_id_token,
        assumes_pkce=arguments.oauth_assume_pkce,
        allows_private=arguments.oauth_allow_private,
        callback_port=arguments.oauth_callback_port,
        opens_browser=not arguments.oauth_no_browser,
        profile=arguments.oauth_profile or default.profile,
        timeout=_given(arguments.oauth_timeout, default.timeout),
        start_wait=_given(arguments.oauth_start_wait, default.start_wait),
    )
    is_signing_in = asked in ("--oauth", "login")
    if is_signing_in and oauth.grant == "client-credentials":
        for value, name in (
            (oauth.client_id, f"`--client-id` or `{CLIENT_VARIABLE}`"),
            (oauth.client_secret, f"`{SECRET_VARIABLE}`"),
        ):
            if value is None:
                raise UsageFailure(
                    "`--oauth-grant client-credentials` needs a client that is registered already",
                    hint=f"set {name}",
                )
    return oauth


def _given(value: float | None, default: float) -> float:
    return default if value is None else value


def _notes(arguments: Arguments, oauth: OAuth | None, environ: Mapping[str, str]) -> Iterator[str]:
    """What was given and has no effect."""
    if oauth is None:
        for option in _of(arguments, _OPTIONS):
            yield f"`{option}` has no effect without `--oauth`"
        return
    if oauth.grant != "authorization-code":
        is_the_clients = oauth.grant == "client-credentials"
        without = (*_WITH_A_BROWSER_HERE, *(_OF_A_USER if is_the_clients else ()))
        for option in _of(arguments, without):
            yield f"`{option}` has no effect on `--oauth-grant {oauth.grant}`"
    if oauth.client_id is None:
        if environ.get(SECRET_VARIABLE):
            yield f"`{SECRET_VARIABLE}` has no effect without `--client-id`"
    elif oauth.client_metadata_url is not None and oauth.grant != "client-credentials":
        yield "`--client-metadata-url` has no effect, because the client's id is given"


def _of(arguments: Arguments, options: Iterable[str]) -> Iterator[str]:
    """Those of the options that were given."""
    for option in options:
        value = getattr(arguments, option.removeprefix("--").replace("-", "_"))
        if value not in (None, []) and value is not False:
            yield option


def _secrets(
    arguments: Arguments,
    environ: Mapping[str, str],
    given: str,
    sent: Headers,
    oauth: OAuth | None,
) -> Iterator[str]:
    for name, value in sent:
        yield from secrets_of(name, value)
    yield from secrets_in(given)
    yield from headers.expanded(arguments.header, environ)
    if oauth is not None and oauth.client_secret is not None:
        yield oauth.client_secret
