"""The options of signing in, in the order of the help text.

Kept here: each is None, false or empty unless it was given (`arguments`), so that those without
effect can be named; the defaults are those of `config`.
"""

from __future__ import annotations

import argparse
from typing import get_args

from mcp_stdio.cli import values
from mcp_stdio.cli.arguments import NO_RESOURCE
from mcp_stdio.config import Grant, OAuth

_DEFAULT = OAuth()


def add_oauth(group: argparse._ArgumentGroup) -> None:
    """Add the options to a group of the help text."""
    group.add_argument(
        "--oauth", action="store_true", help="sign in where the server asks for it, and remember it"
    )
    group.add_argument(
        "--client-id",
        metavar="ID",
        help="a client registered beforehand (or MCP_OAUTH_CLIENT_ID); its secret is taken from "
        "MCP_OAUTH_CLIENT_SECRET",
    )
    group.add_argument(
        "--oauth-scope",
        metavar="SCOPE",
        type=values.scope,
        help="ask for these scopes, instead of those that the server names",
    )
    grant = group.add_mutually_exclusive_group()
    grant.add_argument(
        "--oauth-grant",
        metavar="|".join(get_args(Grant)),
        type=values.one_of(get_args(Grant)),
        help="how to sign in: in a browser here, with a code in a browser anywhere, or as the "
        f"client itself (default: {_DEFAULT.grant})",
    )
    grant.add_argument(
        "--oauth-device",
        dest="oauth_grant",
        action="store_const",
        const="device-code",
        help="the same as --oauth-grant device-code",
    )
    group.add_argument(
        "--client-metadata-url",
        metavar="URL",
        type=values.metadata_url,
        help="the document that describes the client, where the server takes one",
    )
    resource = group.add_mutually_exclusive_group()
    resource.add_argument(
        "--oauth-resource",
        metavar="URI|none",
        type=values.resource,
        help="ask for a token for this resource, or for none by name, instead of what the server "
        "calls itself",
    )
    resource.add_argument(
        "--no-resource-indicator",
        dest="oauth_resource",
        action="store_const",
        const=NO_RESOURCE,
        help="the same as --oauth-resource none",
    )
    group.add_argument(
        "--oauth-param",
        metavar="KEY=VALUE",
        type=values.parameter,
        action="append",
        help="send this with the authorize request as well; may be repeated",
    )
    group.add_argument(
        "--oauth-use-id-token",
        action="store_true",
        help="send the ID token instead of the access token",
    )
    group.add_argument(
        "--oauth-assume-pkce",
        action="store_true",
        help="sign in also where PKCE (S256) is not announced",
    )
    group.add_argument(
        "--oauth-allow-private",
        action="store_true",
        help="sign in also at private addresses that a server elsewhere names",
    )
    group.add_argument(
        "--oauth-callback-port",
        metavar="PORT",
        type=values.port,
        help="where the browser comes back to (default: a free port)",
    )
    group.add_argument(
        "--oauth-no-browser", action="store_true", help="open no window; show the address only"
    )
    group.add_argument(
        "--oauth-profile",
        metavar="NAME",
        type=values.profile,
        help="one of several accounts at the same server",
    )
    group.add_argument(
        "--oauth-timeout",
        metavar="SEC",
        type=values.positive_duration,
        help=f"how long a sign-in may take (default: {_DEFAULT.timeout:g})",
    )
    group.add_argument(
        "--oauth-start-wait",
        metavar="SEC",
        type=values.duration,
        help=f"how long the client's message is held for one (default: {_DEFAULT.start_wait:g})",
    )
