"""What the options mean together: the order that arguments and environment make."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from mcp_stdio.cli.options import parse
from mcp_stdio.cli.settings import Check, Demo, Order, Relay, order
from mcp_stdio.config import Config
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
    ],
)
def test_the_task(argv: list[str], task: object) -> None:
    assert understood(*argv).task == task


@pytest.mark.parametrize("option, verbosity", [("-q", -1), ("-v", 1), ("-vv", 2)])
def test_verbosity(option: str, verbosity: int) -> None:
    assert understood(option, URL).verbosity == verbosity


@pytest.mark.parametrize(
    "argv, cause",
    [
        (["-v"], "URL of the server is missing"),
        (["test"], "URL of the server is missing"),
        (["login", URL], "`login` is not available yet"),
        (["logout", URL], "`logout` is not available yet"),
        (["status"], "`status` is not available yet"),
        (["config"], "`config` is not available yet"),
        ([URL, "--oauth"], "`--oauth`: signing in is not available yet"),
        ([URL, "--json"], "`--json` goes with `--test`"),
        ([URL, "--serve"], "`--serve` goes with `demo`"),
        (["demo", URL], "`demo` takes no URL"),
        (["ftp://example.com"], "must begin with http"),
        (["https://"], "names no host"),
        (["https://[::1/mcp"], "the URL cannot be used"),
        (["https://example.com:99999"], "port"),
        ([URL, "--key", __file__], "`--key` goes with `--cert`"),
        ([URL, "--cacert", "/no/such/file"], "`--cacert`: `/no/such/file` cannot be read"),
        ([URL, "--bearer-token", ""], "`--bearer-token` is not a token"),
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
    ],
)
def test_a_bare_word_gets_a_proposal(word: str, url: str) -> None:
    failure = refusal(word)
    assert f"`{word}` is neither a URL nor a command" in str(failure)
    assert failure.hint == f"did you mean `{url}`?"


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
    ],
)
def test_two_explicit_credentials_are_refused_by_name(
    argv: list[str], names: tuple[str, str]
) -> None:
    text = str(refusal(*argv, *([] if "://" in argv[-1] else [URL])))
    assert all(name in text for name in names)


@pytest.mark.parametrize("option", ["--client-id", "--oauth-scope"])
def test_oauth_settings_without_oauth_are_noted(option: str) -> None:
    assert understood(option, "x", URL).notes == (f"`{option}` has no effect without `--oauth`",)


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
