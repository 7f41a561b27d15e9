"""What the options mean together: the order that arguments and environment make."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from mcp_stdio.cli.arguments import parse
from mcp_stdio.cli.settings import Check, Demo, Login, Logout, Order, Relay, Status, order
from mcp_stdio.config import Config, OAuth, Source
from mcp_stdio.errors import UsageFailure

URL = "https://example.com/mcp"


def understood(*argv: str, environ: Mapping[str, str] | None = None) -> Order:
    return order(parse(argv), environ or {})


def config_of(*argv: str, environ: Mapping[str, str] | None = None) -> Config:
    task = understood(*argv, environ=environ).task
    assert isinstance(task, Relay)
    return task.config


def refusal(*argv: str, environ: Mapping[str, str] | None = None) -> UsageFailure:
    with pytest.raises(UsageFailure) as caught:
        understood(*argv, environ=environ)
    return caught.value


def test_a_url_alone_means_the_defaults() -> None:
    assert understood(URL) == Order(Relay(Config(url=URL)))


def test_zero_means_no_limit() -> None:
    config = config_of(URL, "--timeout-read", "0", "--timeout-call", "0")
    assert config.timeout_read is None
    assert config.timeout_call is None


def test_options_arrive_in_the_config() -> None:
    assert config_of(
        *("--timeout-connect", "1", "--timeout-read", "2", "--timeout-call", "3"),
        *("--drain-timeout", "4", "--max-message-size", "5", "--no-merge-pages", "--insecure"),
        *("--allow-tool", "a*", "--deny-tool", "b", "--deny-tool", "c"),
        *("--transport", "streamable-http", "--protocol-era", "modern", "--bridge", "never", URL),
    ) == Config(
        url=URL,
        tls=config_of("--insecure", URL).tls,
        timeout_connect=1,
        timeout_read=2,
        timeout_call=3,
        transport="streamable-http",
        protocol_era="modern",
        bridge="never",
        drain_timeout=4,
        max_message_size=5,
        merge_pages=False,
        allow_tools=("a*",),
        deny_tools=("b", "c"),
    )


@pytest.mark.parametrize(
    "argv, task",
    [
        ([URL], Relay(Config(url=URL))),
        (["--test", URL], Check(Config(url=URL))),
        ([URL, "--check"], Check(Config(url=URL))),
        (["test", URL], Check(Config(url=URL))),
        (["test", URL, "--test"], Check(Config(url=URL))),
        (["test", URL, "--json"], Check(Config(url=URL), as_json=True)),
        (["--test", "--json", URL], Check(Config(url=URL), as_json=True)),
        (["demo"], Demo()),
        (["--serve", "demo"], Demo(is_serving=True)),
        (["status"], Status()),
        (["status", "--json"], Status(as_json=True)),
    ],
)
def test_the_task(argv: list[str], task: object) -> None:
    found = understood(*argv).task
    assert (type(found), found) == (type(task), task)


@pytest.mark.parametrize("option, verbosity", [("-q", -1), ("-v", 1), ("-vv", 2)])
def test_verbosity(option: str, verbosity: int) -> None:
    assert understood(option, URL).verbosity == verbosity


@pytest.mark.parametrize(
    "argv, cause",
    [
        (["-v"], "URL of the server is missing"),
        (["test"], "URL of the server is missing"),
        (["login"], "URL of the server is missing"),
        (["logout"], "URL of the server is missing"),
        (["login", URL, URL], "one URL is expected"),
        (["status", URL, URL], "one URL is expected"),
        (["status", "--oauth-profile", "work"], "needs the URL of a server"),
        (["login", URL, "--test"], "`--test` does not go with `login`"),
        (["config", URL, "--test"], "`--test` does not go with `config`"),
        (["config", URL, "--json"], "`--json` goes with `--test` and with `status`"),
        (["config"], "URL of the server is missing"),
        ([URL, "--client", "cursor"], "`--client` goes with `config`"),
        (["test", URL, "--name", "x"], "`--name` goes with `config`"),
        ([URL, "--json"], "`--json` goes with `--test` and with `status`"),
        (["login", URL, "--json"], "`--json` goes with `--test` and with `status`"),
        ([URL, "--serve"], "`--serve` goes with `demo`"),
        (["demo", URL], "`demo` takes no URL"),
        (["ftp://example.com"], "must begin with http"),
        (["https://"], "names no host"),
        (["https://[::1/mcp"], "the URL cannot be used"),
        (["https://example.com:99999"], "port"),
        ([URL, "--key", __file__], "`--key` goes with `--cert`"),
        ([URL, "--cacert", "/no/such/file"], "`--cacert`: `/no/such/file` cannot be read"),
        ([URL, "--bearer-token", ""], "`--bearer-token` gives no token"),
        ([URL, "--bearer-token-file", "/no/file"], "`--bearer-token-file`: `/no/file` cannot be"),
        ([URL, "--header-file", "/"], "`--header-file`: `/` cannot be read"),
        ([URL, "--bearer-token-command", "no-such-program x"], "no program `no-such-program`"),
        ([URL, "--header-command", "no-such-program x"], "no program `no-such-program`"),
    ],
)
def test_what_makes_no_sense_is_refused_with_a_hint(argv: list[str], cause: str) -> None:
    failure = refusal(*argv)
    assert cause in str(failure)
    assert failure.hint


@pytest.mark.parametrize(
    "word, url",
    [
        ("example.com/mcp", "https://example.com/mcp"),
        ("localhost:8000/mcp", "http://localhost:8000/mcp"),
        ("tset", "https://tset"),
        ("http:/x", "http://x"),
        ("HTTPS:example.com/mcp", "https://example.com/mcp"),
        ("https", "https://https"),
    ],
)
def test_a_bare_word_gets_a_proposal(word: str, url: str) -> None:
    failure = refusal(word)
    assert f"`{word}` is neither a URL nor a command" in str(failure)
    assert failure.hint == f"did you mean `{url}`?"


@pytest.mark.parametrize("command", ["", "test", "login", "logout", "config"])
def test_a_missing_url_is_shown_where_it_belongs(command: str) -> None:
    failure = refusal(*command.split()) if command else refusal("-v")
    assert (
        failure.hint
        == f"as in `{' '.join(['mcp-stdio', *command.split()])} https://example.com/mcp`"
    )


def test_a_password_without_a_scheme_is_not_repeated() -> None:
    failure = refusal("ann:s3cr3t@example.com/mcp")
    assert failure.hint == "did you mean `https://example.com/mcp`?"
    assert "s3cr3t" not in str(failure)


def test_words_of_an_unquoted_header_are_not_repeated() -> None:
    failure = refusal("-H", "Authorization:", "Bearer", "s3cr3t", URL)
    assert "s3cr3t" not in f"{failure} {failure.hint}"
    assert "quotes" in (failure.hint or "")


def test_tls_files(tmp_path: Path) -> None:
    file = tmp_path / "file.pem"
    file.write_text("")
    tls = config_of(URL, *(f"--{name}={file}" for name in ("cacert", "cert", "key"))).tls
    assert (tls.cacert, tls.cert, tls.key) == (str(file),) * 3


@pytest.mark.parametrize(
    "argv, environ, value",
    [
        (["--bearer-token", "t", URL], {}, "Bearer t"),
        ([URL], {"MCP_BEARER_TOKEN": "e"}, "Bearer e"),
        (["-H", "authorization: Token h", URL], {}, "Token h"),
        (["https://u:p@example.com/mcp"], {}, "Basic dTpw"),
        (["https://u@example.com/mcp"], {}, "Basic dTo="),
        (["https://a%40b:%2F@example.com/mcp"], {}, "Basic YUBiOi8="),
    ],
)
def test_each_source_of_a_credential(argv: list[str], environ: dict[str, str], value: str) -> None:
    config = config_of(*argv, environ=environ)
    assert config.headers == (("Authorization", value),)
    assert config.url == URL


@pytest.mark.parametrize("value", ["", " ", "\n"])
def test_an_empty_variable_is_no_credential(value: str) -> None:
    assert config_of(URL, environ={"MCP_BEARER_TOKEN": value}).headers == ()


def test_an_explicit_credential_beats_the_variable_with_a_note() -> None:
    todo = understood("--bearer-token", "t", URL, environ={"MCP_BEARER_TOKEN": "e"})
    assert isinstance(todo.task, Relay)
    assert todo.task.config.headers == (("Authorization", "Bearer t"),)
    assert todo.notes == ("`MCP_BEARER_TOKEN` is not used, because of `--bearer-token`",)


@pytest.mark.parametrize(
    "argv, names",
    [
        (["--bearer-token", "t", "-H", "Authorization: x"], ("--bearer-token", "-H Authorization")),
        (["--bearer-token", "t", "https://u:p@h/"], ("--bearer-token", "in the URL")),
        (["-H", "Authorization: x", "https://u:p@h/"], ("-H Authorization", "in the URL")),
        (["--oauth", "--bearer-token", "t"], ("--bearer-token", "--oauth")),
        (["--oauth", "-H", "Authorization: x"], ("--oauth", "-H Authorization")),
        (["--oauth", "https://u:p@h/"], ("--oauth", "in the URL")),
        (["login", "https://u:p@h/"], ("login", "in the URL")),
        (
            ["--bearer-token-file", __file__, "--bearer-token-command", "sh"],
            ("--bearer-token-file", "--bearer-token-command"),
        ),
        (["--bearer-token-file", __file__, "--oauth"], ("--bearer-token-file", "--oauth")),
        (["--bearer-token-command", "sh", "--oauth"], ("--bearer-token-command", "--oauth")),
    ],
)
def test_two_explicit_credentials_are_refused_by_name(
    argv: list[str], names: tuple[str, str]
) -> None:
    text = str(refusal(*argv, *([] if "://" in argv[-1] else [URL])))
    assert all(name in text for name in names)


# Signing in


def oauth_of(*argv: str, environ: Mapping[str, str] | None = None) -> OAuth:
    oauth = config_of("--oauth", *argv, URL, environ=environ).oauth
    assert oauth is not None
    return oauth


def test_nobody_is_signed_in_unasked() -> None:
    assert config_of(URL).oauth is None
    assert config_of("--oauth", URL).oauth == OAuth()


SECRET = {"MCP_OAUTH_CLIENT_SECRET": "s3cr3t"}


@pytest.mark.parametrize(
    "argv, environ, oauth",
    [
        (["--client-id", "c"], {}, OAuth(client_id="c")),
        ([], {"MCP_OAUTH_CLIENT_ID": "c"}, OAuth(client_id="c")),
        ([], {"MCP_OAUTH_CLIENT_ID": ""}, OAuth()),
        (["--client-id", "c"], {"MCP_OAUTH_CLIENT_ID": "d"}, OAuth(client_id="c")),
        (["--client-id", "c"], SECRET, OAuth(client_id="c", client_secret="s3cr3t")),
        (["--oauth-scope", "a b"], {}, OAuth(scope="a b")),
        (["--oauth-scope", " "], {}, OAuth()),
        (["--oauth-device"], {}, OAuth(grant="device-code")),
        (
            ["--oauth-grant", "client-credentials", "--client-id", "c"],
            SECRET,
            OAuth(grant="client-credentials", client_id="c", client_secret="s3cr3t"),
        ),
        (["--client-metadata-url", "https://h/c"], {}, OAuth(client_metadata_url="https://h/c")),
        (["--oauth-resource", "https://H/"], {}, OAuth(resource="https://H/")),
        (["--oauth-resource", "none"], {}, OAuth(sends_resource=False)),
        (["--no-resource-indicator"], {}, OAuth(sends_resource=False)),
        (["--oauth-param", "a=1", "--oauth-param", "a=2"], {}, OAuth(parameters=(("a", "2"),))),
        (["--oauth-use-id-token"], {}, OAuth(uses_id_token=True)),
        (["--oauth-assume-pkce"], {}, OAuth(assumes_pkce=True)),
        (["--oauth-allow-private"], {}, OAuth(allows_private=True)),
        (["--oauth-callback-port", "8080"], {}, OAuth(callback_port=8080)),
        (["--oauth-no-browser"], {}, OAuth(opens_browser=False)),
        (["--oauth-profile", "work"], {}, OAuth(profile="work")),
        (["--oauth-timeout", "5", "--oauth-start-wait", "0"], {}, OAuth(timeout=5, start_wait=0)),
    ],
)
def test_each_setting_of_signing_in(argv: list[str], environ: dict[str, str], oauth: OAuth) -> None:
    assert oauth_of(*argv, environ=environ) == oauth
    assert understood("--oauth", *argv, URL, environ=environ).notes == ()


OAUTH_OPTIONS = (
    *("--client-id=x", "--oauth-scope=x", "--oauth-device", "--client-metadata-url=https://h/c"),
    *("--oauth-grant=authorization-code", "--no-resource-indicator", "--oauth-resource=x:y"),
    *("--oauth-param=a=b", "--oauth-use-id-token", "--oauth-assume-pkce"),
    *("--oauth-allow-private", "--oauth-callback-port=1", "--oauth-no-browser"),
    *("--oauth-profile=x", "--oauth-timeout=1", "--oauth-start-wait=0"),
)


@pytest.mark.parametrize("option", OAUTH_OPTIONS)
def test_oauth_settings_without_oauth_are_noted(option: str) -> None:
    (note,) = understood(option, URL).notes
    assert note.endswith(" has no effect without `--oauth`")


def test_oauth_variables_without_oauth_are_nobodys_business() -> None:
    todo = understood(URL, environ={**SECRET, "MCP_OAUTH_CLIENT_ID": "c"})
    assert todo == Order(Relay(Config(url=URL)))


@pytest.mark.parametrize(
    "argv, note",
    [
        (["--oauth-device", "--oauth-callback-port=1"], "on `--oauth-grant device-code`"),
        (["--oauth-device", "--oauth-param=a=b"], "on `--oauth-grant device-code`"),
        (["--oauth-device", "--oauth-no-browser"], "on `--oauth-grant device-code`"),
        (["--client-id=c", "--client-metadata-url=https://h/c"], "the client's id is given"),
        ([], "`MCP_OAUTH_CLIENT_SECRET` has no effect without `--client-id`"),
    ],
)
def test_oauth_settings_that_do_not_go_together_are_noted(argv: list[str], note: str) -> None:
    environ = SECRET if not argv else {}
    (said,) = understood("--oauth", *argv, URL, environ=environ).notes
    assert note in said


@pytest.mark.parametrize("argv, environ", [(["--client-id", "c"], {}), ([], SECRET)])
def test_a_client_that_signs_in_itself_needs_id_and_secret(
    argv: list[str], environ: dict[str, str]
) -> None:
    """A-60: only a client that is registered already."""
    failure = refusal("--oauth", "--oauth-grant=client-credentials", *argv, URL, environ=environ)
    assert "needs a client that is registered already" in str(failure)


@pytest.mark.parametrize("command", ["--oauth", "login", "logout", "status"])
def test_no_token_travels_in_the_clear(command: str) -> None:
    """A-44."""
    assert "never sent unencrypted" in str(refusal(command, "http://example.com/mcp"))
    for url in "http://localhost:1/", "http://127.0.0.1/", "http://[::1]:8/", "https://h/":
        understood(command, url)


@pytest.mark.parametrize("command", ["login", "logout", "status"])
def test_commands_around_signing_in_mean_oauth(command: str) -> None:
    for argv in [command, URL], [command, "--oauth", URL]:
        task = understood(*argv).task
        assert isinstance(task, Login | Logout | Status)
        assert task.config == Config(url=URL, oauth=OAuth())


@pytest.mark.parametrize("command", ["login", "logout", "status"])
def test_a_token_for_the_relay_is_nobody_s_business_there(command: str) -> None:
    assert understood(command, URL, environ={"MCP_BEARER_TOKEN": "t0k3n"}).notes == ()


def test_who_only_looks_is_told_of_no_setting_without_effect() -> None:
    argv = ("--oauth-device", "--oauth-callback-port=1", URL)
    assert understood("login", *argv).notes != ()
    assert understood("logout", *argv).notes == understood("status", *argv).notes == ()


def test_the_secret_of_a_client_is_known_as_one() -> None:
    todo = understood("--oauth", "--client-id", "c", URL, environ=SECRET)
    assert todo.secrets == ("s3cr3t",)
    assert "s3cr3t" not in repr(todo)


# Files and commands


def test_sources_arrive_in_order(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    argv = ("--header-command", 'sh -c "x y"', "--header-file", str(file))
    headers = (
        Source(option="--header-file", gives="headers", path=str(file)),
        Source(
            option="--header-command",
            gives="headers",
            command=(shutil.which("sh") or "", "-c", "x y"),
        ),
    )
    assert config_of(*argv, URL).sources == headers
    token = Source(option="--bearer-token-file", gives="token", path=str(file))
    assert config_of(*argv, "--bearer-token-file", str(file), URL).sources == (token, *headers)


def test_an_explicit_source_beats_the_variable_with_a_note() -> None:
    environ = {"MCP_BEARER_TOKEN": "t0k3n"}
    for argv in ["--bearer-token-file", __file__], ["--bearer-token-command", "sh"], ["--oauth"]:
        todo = understood(*argv, URL, environ=environ)
        assert todo.notes == (f"`MCP_BEARER_TOKEN` is not used, because of `{argv[0]}`",)
        assert isinstance(todo.task, Relay)
        assert todo.task.config.headers == ()


def test_sources_in_the_clear_are_warned_of() -> None:
    (note,) = understood("--bearer-token-file", __file__, "http://example.com/").notes
    assert "`--bearer-token-file` will travel unencrypted to `example.com`" in note


def test_credentials_in_the_clear_are_warned_of() -> None:
    (note,) = understood("--bearer-token", "t", "-H", "X-Key: k", "http://example.com/").notes
    assert "unencrypted" in note
    assert "`Authorization`, `X-Key`" in note
    assert "`example.com`" in note


@pytest.mark.parametrize(
    "url", ["https://example.com/", "http://localhost:1/", "http://127.0.0.1:1/", "http://[::1]/"]
)
def test_no_warning_where_nobody_listens(url: str) -> None:
    assert understood("--bearer-token", "t", url).notes == ()


def test_no_warning_without_credentials() -> None:
    assert understood("http://example.com/").notes == ()


@pytest.mark.parametrize(
    "argv, environ, secrets",
    [
        (["--bearer-token", "t0k3n", URL], {}, {"t0k3n", "Bearer t0k3n"}),
        ([URL], {"MCP_BEARER_TOKEN": "t0k3n"}, {"t0k3n", "Bearer t0k3n"}),
        (["-H", "X-Key: ${K}", URL], {"K": "k3y"}, {"k3y"}),
        (["https://u:%70w@example.com/"], {}, {"pw", "%70w", "dTpwdw==", "Basic dTpwdw=="}),
        (["https://t0k3n@example.com/"], {}, {"t0k3n", "dDBrM246", "Basic dDBrM246"}),
    ],
)
def test_every_secret_is_known_as_one(
    argv: list[str], environ: dict[str, str], secrets: set[str]
) -> None:
    todo = understood(*argv, environ=environ)
    assert set(todo.secrets) == secrets
    for secret in secrets:
        assert secret not in repr(todo)


def test_a_key_in_the_path_is_known_as_a_secret() -> None:
    key = "k3yAbCdEfGhIjKlMnOpQ"
    assert set(understood(f"https://example.com/s/{key}/mcp").secrets) == {key}
