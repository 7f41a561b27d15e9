"""The client that the conformance suite tests: it knows stdio only and starts the relay.

The suite runs this script with the server's URL as its argument and names the scenario, the
revision and what else the scenario needs in the environment. The script starts `mcp-stdio URL`,
plays the scenario, closes the relay's stdin and leaves with the relay's exit code. What it owns is
the client's share of the protocol, so nothing here is on the HTTP side: with `Legacy` the handshake
and the answers to a server's questions, with `Modern` the `_meta` of each request and the rounds
that a question takes; for authorization it is how the relay is configured. An answer other than the
scenario promises ends the script with a traceback.

    python client.py [--direct] URL      --direct: no `server/discover` before the first request
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import IO, Any

Json = dict[str, Any]

LIMIT = 25.0
"""Seconds for a whole scenario; the suite itself gives up after 30."""

CLIENT_INFO = {"name": "conformance client", "version": "1"}
PREFIX = "io.modelcontextprotocol/"
UNSUPPORTED_VERSION = -32022
AUTHORIZATION_FAILED = -33004

DOCUMENT = "https://conformance-test.local/client-metadata.json"
"""The client id that `auth/basic-cimd` waits for; nothing is there."""


class Refused(Exception):
    """The answer was an error."""

    def __init__(self, error: Json) -> None:
        super().__init__(json.dumps(error))
        self.code: int = error["code"]
        self.data: Any = error.get("data")


class Pipe:
    """JSON lines to and from the relay; one request at a time."""

    def __init__(self, stdin: IO[bytes], stdout: IO[bytes]) -> None:
        self._stdin = stdin
        self._stdout = stdout
        self._ids = itertools.count(1)

    def send(self, **members: Any) -> None:
        self._stdin.write(json.dumps({"jsonrpc": "2.0", **members}).encode() + b"\n")
        self._stdin.flush()

    def ask(self, method: str, params: Json, on_request: Callable[[Json], Json]) -> Json:
        """The result of a request; what the server asks meanwhile is answered by `on_request`."""
        id = next(self._ids)
        self.send(id=id, method=method, params=params)
        for line in self._stdout:
            message: Json = json.loads(line)
            if "method" not in message:
                assert message.get("id") == id, message
                if "error" in message:
                    raise Refused(message["error"])
                result: Json = message["result"]
                return result
            if "id" in message:
                self.send(id=message["id"], result=on_request(message))
        raise EOFError(f"no answer to {method}")


class Client:
    """What a scenario may do, whatever the era."""

    def request(self, method: str, **params: Any) -> Json:
        raise NotImplementedError

    def call(self, tool: str, arguments: Json) -> Json:
        return self.request("tools/call", name=tool, arguments=arguments)

    def list(self, kind: str) -> list[Json]:
        """All tools, resources or prompts, page by page."""
        page = self.request(f"{kind}/list")
        found: list[Json] = page[kind]
        while "nextCursor" in page:
            page = self.request(f"{kind}/list", cursor=page["nextCursor"])
            found += page[kind]
        return found


class Legacy(Client):
    """Opens with a handshake, and answers what the server asks in the middle of a request."""

    def __init__(self, pipe: Pipe, version: str) -> None:
        self._pipe = pipe
        capabilities: Json = {"roots": {}, "sampling": {}, "elicitation": {}}
        opened = self.request(
            "initialize",
            protocolVersion=version,
            capabilities=capabilities,
            clientInfo=CLIENT_INFO,
        )
        assert opened["protocolVersion"] == version, opened
        pipe.send(method="notifications/initialized")

    def request(self, method: str, **params: Any) -> Json:
        return self._pipe.ask(method, params, answer)


class Modern(Client):
    """Every request describes itself; a question ends the request and the answer begins it anew."""

    def __init__(self, pipe: Pipe, version: str, *, discovers: bool) -> None:
        self._pipe = pipe
        self._version = version
        if discovers:
            found = self.request("server/discover")
            assert version in found["supportedVersions"], found

    def ask(self, method: str, **params: Any) -> Json:
        """One round of a request, under an id of its own."""
        meta = {
            "protocolVersion": self._version,
            "clientInfo": CLIENT_INFO,
            "clientCapabilities": {"roots": {}, "sampling": {}, "elicitation": {"form": {}}},
        }
        described = params | {"_meta": {PREFIX + key: value for key, value in meta.items()}}
        try:
            return self._pipe.ask(method, described, refuse)
        except Refused as refused:
            # The suite refuses the very first request with the version that it did ask for.
            if (
                refused.code != UNSUPPORTED_VERSION
                or self._version not in refused.data["supported"]
            ):
                raise
            return self._pipe.ask(method, described, refuse)

    def request(self, method: str, **params: Any) -> Json:
        result = self.ask(method, **params)
        while result.get("resultType", "complete") == "input_required":
            result = self.ask(method, **params, **replies(result))
        return result


def answer(question: Json) -> Json:
    """What the user says: the defaults of a form, and little else."""
    match question["method"]:
        case "ping":
            return {}
        case "elicitation/create":
            fields = question["params"]["requestedSchema"]["properties"]
            content = {name: of["default"] for name, of in fields.items() if "default" in of}
            return {"action": "accept", "content": content}
        case "roots/list":
            return {"roots": []}
        case "sampling/createMessage":
            said = {"type": "text", "text": "a sampled word"}
            return {"role": "assistant", "content": said, "model": "none"}
        case method:
            raise AssertionError(f"unforeseen question: {method}")


def replies(result: Json) -> Json:
    """The members with which a request answers the questions of its last round."""
    questions = result.get("inputRequests", {})
    again: Json = {"inputResponses": {key: answer(asked) for key, asked in questions.items()}}
    if "requestState" in result:
        again["requestState"] = result["requestState"]
    return again


def refuse(question: Json) -> Json:
    raise AssertionError(f"a modern server sends no requests: {question}")


# The scenarios. One that is not here lists the tools and calls each of them.


def initialize(client: Client, context: Json) -> None:
    assert client.list("tools") == []


def tools_call(client: Client, context: Json) -> None:
    assert [tool["name"] for tool in client.list("tools")] == ["add_numbers"]
    assert said(client.call("add_numbers", {"a": 5, "b": 3})) == "The sum of 5 and 3 is 8"


def elicitation_defaults(client: Client, context: Json) -> None:
    client.list("tools")
    result = client.call("test_client_elicitation_defaults", {})
    assert said(result).startswith("Elicitation completed"), result


def sse_retry(client: Client, context: Json) -> None:
    client.list("tools")
    result = client.call("test_reconnection", {})
    assert said(result) == "Reconnection test completed successfully"


def request_metadata(client: Client, context: Json) -> None:
    assert client.list("tools") == []
    assert client.call("any", {})["content"] == []


def request_state(client: Client, context: Json) -> None:
    assert isinstance(client, Modern)
    client.list("tools")
    arguments: Json = {}
    first = client.ask("tools/call", name="test_mrtr_echo_state", arguments=arguments)
    # Another call between the rounds: what belongs to the one must not turn up in the other.
    assert said(client.call("test_mrtr_unrelated", {})) == "unrelated-ok"
    last = client.ask(
        "tools/call", name="test_mrtr_echo_state", arguments=arguments, **replies(first)
    )
    assert said(last) == "echo-state-ok"
    assert said(client.call("test_mrtr_no_state", {})) == "no-state-ok"
    assert said(client.call("test_mrtr_no_result_type", {})) == "no-result-type-test-ok"


def standard_headers(client: Client, context: Json) -> None:
    for tool in client.list("tools"):
        client.call(tool["name"], {})
    for resource in client.list("resources"):
        client.request("resources/read", uri=resource["uri"])
    for prompt in client.list("prompts"):
        client.request("prompts/get", name=prompt["name"])


def custom_headers(client: Client, context: Json) -> None:
    client.list("tools")
    for call in context["toolCalls"]:
        client.call(call["name"], call["arguments"])


def invalid_tool_headers(client: Client, context: Json) -> None:
    for tool in client.list("tools"):
        needed = tool["inputSchema"]["required"]
        client.call(tool["name"], dict.fromkeys(needed, "eu"))


def list_only(client: Client, context: Json) -> None:
    assert client.list("tools")


def schema_preservation(client: Client, context: Json) -> None:
    schemas = {tool["name"]: tool["inputSchema"] for tool in client.list("tools")}
    client.call("json_schema_echo", {"schema": schemas["json_schema_2020_12_tool"]})


def gives_up(client: Client, context: Json) -> None:
    """The relay stays signed out, and says so; a client that knows two eras has met it before."""
    client.list("tools")
    raise AssertionError("the server has let us in")


def every_tool(client: Client, context: Json) -> None:
    for tool in client.list("tools"):
        client.call(tool["name"], {})


SCENARIOS: dict[str, Callable[[Client, Json], None]] = {
    "initialize": initialize,
    "tools_call": tools_call,
    "elicitation-sep1034-client-defaults": elicitation_defaults,
    "sse-retry": sse_retry,
    "request-metadata": request_metadata,
    "sep-2322-client-request-state": request_state,
    "http-standard-headers": standard_headers,
    "http-custom-headers": custom_headers,
    "http-invalid-tool-headers": invalid_tool_headers,
    "json-schema-ref-no-deref": list_only,
    "json-schema-2020-12-preservation": schema_preservation,
    # Each of these authorization servers must not be trusted, or never gives what is wanted.
    "auth/scope-retry-limit": gives_up,
    "auth/resource-mismatch": gives_up,
    "auth/iss-supported-missing": gives_up,
    "auth/iss-wrong-issuer": gives_up,
    "auth/iss-unexpected": gives_up,
    "auth/iss-normalized": gives_up,
    "auth/metadata-issuer-mismatch": gives_up,
}


def configuration(scenario: str, context: Json) -> tuple[list[str], dict[str, str]]:
    """The options and variables that the relay is started with."""
    options = []
    if scenario.startswith("auth/"):
        options.append("--oauth")
    if scenario == "auth/basic-cimd":
        options += ["--client-metadata-url", DOCUMENT]
    if scenario.startswith("auth/client-credentials-"):
        options += ["--oauth-grant", "client-credentials"]
    names = {"client_id": "MCP_OAUTH_CLIENT_ID", "client_secret": "MCP_OAUTH_CLIENT_SECRET"}
    return options, {name: context[key] for key, name in names.items() if key in context}


def said(result: Json) -> str:
    text: str = result["content"][0]["text"]
    return text


def main(arguments: Iterator[str]) -> int:
    url = next(arguments)
    if is_direct := url == "--direct":
        url = next(arguments)
    version = os.environ["MCP_CONFORMANCE_PROTOCOL_VERSION"]
    scenario = os.environ["MCP_CONFORMANCE_SCENARIO"]
    context: Json = json.loads(os.environ.get("MCP_CONFORMANCE_CONTEXT", "{}"))
    play = SCENARIOS.get(scenario, every_tool)
    options, variables = configuration(scenario, context)
    relay = subprocess.Popen(
        [sys.executable, "-m", "mcp_stdio", *options, url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | variables,
    )
    assert relay.stdin is not None
    assert relay.stdout is not None
    watchdog = threading.Timer(LIMIT, relay.kill)
    watchdog.start()
    try:
        pipe = Pipe(relay.stdin, relay.stdout)
        try:
            client: Client
            if version < "2026":
                client = Legacy(pipe, version)
            else:
                client = Modern(pipe, version, discovers=not is_direct)
            play(client, context)
        except Refused as refused:
            if play is not gives_up or refused.code != AUTHORIZATION_FAILED:
                raise
        relay.stdin.close()
        rest = relay.stdout.read()
        assert rest == b"", rest
        return relay.wait()
    finally:
        watchdog.cancel()
        relay.kill()
        relay.wait()


if __name__ == "__main__":
    sys.exit(main(iter(sys.argv[1:])))
