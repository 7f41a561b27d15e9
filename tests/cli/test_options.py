"""The grammar of the command line: words, options, values."""

from __future__ import annotations

import argparse
import os

import hypothesis
import hypothesis.strategies as st
import pytest

from mcp_stdio.cli.arguments import Arguments, parse
from mcp_stdio.cli.options import _parser, read, written
from mcp_stdio.errors import UsageFailure
from mcp_stdio.words import join, split

URL = "https://example.com/mcp"
OPTIONS = Arguments.__annotations__.keys() | vars(Arguments()).keys()


@pytest.mark.parametrize(
    "argv, words",
    [
        ([URL], [URL]),
        ([URL, "--insecure"], [URL]),
        (["--insecure", URL], [URL]),
        (["--timeout-read", "5", URL, "-v"], [URL]),
        (["test", URL, "--json"], ["test", URL]),
        (["--json", "test", "-v", URL], ["test", URL]),
        (["demo", "--serve"], ["demo"]),
        (["-H", "A: 1", URL, "-H", "B: 2"], [URL]),
        (["--insecure"], []),
    ],
)
def test_options_stand_before_between_and_after_words(argv: list[str], words: list[str]) -> None:
    assert list(parse(argv).words) == words


@pytest.mark.parametrize("argv", [[URL], ["test", URL], ["demo"], ["", "a b"]])
def test_words_alone_mean_the_same_to_the_grammar(argv: list[str]) -> None:
    def said(arguments: Arguments) -> dict[str, object]:
        return {name: getattr(arguments, name) for name in OPTIONS}

    assert said(parse(argv)) == said(read(argv))


def test_the_grammar_has_an_option_for_every_default_and_no_default_of_its_own() -> None:
    parser = _parser()
    named = {action.dest for action in parser._actions if action.default is argparse.SUPPRESS}
    assert named - {"version", "help"} == OPTIONS
    assert {action.dest for action in parser._actions} == named


def test_defaults() -> None:
    arguments = parse([URL])
    assert arguments.timeout_connect == 10
    assert arguments.timeout_read == 120
    assert arguments.timeout_call == 0
    assert arguments.drain_timeout == 1.2
    assert arguments.max_message_size == 64 * 1024 * 1024
    assert arguments.merge_pages is True
    assert arguments.header == []
    assert arguments.verbose == 0


@pytest.mark.parametrize(
    "argv, name, value",
    [
        (["--bearer-token", "t"], "bearer_token", "t"),
        (["--bearer-token=-t"], "bearer_token", "-t"),
        (["--bearer-token-file", "p"], "bearer_token_file", "p"),
        (["--bearer-token-command", "a 'b c'"], "bearer_token_command", ("a", "b c")),
        (["--header-file", "p"], "header_file", "p"),
        (["--header-command", "a b"], "header_command", ("a", "b")),
        (["--oauth"], "oauth", True),
        (["--client-id", "c"], "client_id", "c"),
        (["--oauth-scope", " a  b "], "oauth_scope", "a b"),
        (["--oauth-grant", "client-credentials"], "oauth_grant", "client-credentials"),
        (["--oauth-grant", "device-code"], "oauth_grant", "device-code"),
        (["--oauth-device"], "oauth_grant", "device-code"),
        (["--client-metadata-url", "https://h/c"], "client_metadata_url", "https://h/c"),
        (["--client-metadata-url", "http://[::1]/c"], "client_metadata_url", "http://[::1]/c"),
        (["--oauth-resource", "https://H:443/"], "oauth_resource", "https://H:443/"),
        (["--oauth-resource", "urn:x:y"], "oauth_resource", "urn:x:y"),
        (["--oauth-resource", "none"], "oauth_resource", "none"),
        (["--no-resource-indicator"], "oauth_resource", "none"),
        (
            ["--oauth-param", "a=b=c", "--oauth-param=d="],
            "oauth_param",
            [("a", "b=c"), ("d", "")],
        ),
        (["--oauth-use-id-token"], "oauth_use_id_token", True),
        (["--oauth-assume-pkce"], "oauth_assume_pkce", True),
        (["--oauth-allow-private"], "oauth_allow_private", True),
        (["--oauth-callback-port", "65535"], "oauth_callback_port", 65535),
        (["--oauth-no-browser"], "oauth_no_browser", True),
        (["--oauth-profile", "ann@work"], "oauth_profile", "ann@work"),
        (["--oauth-timeout", "0.5"], "oauth_timeout", 0.5),
        (["--oauth-start-wait", "0"], "oauth_start_wait", 0),
        (["-H", "A: 1", "--header", "B:2", "-HC: 3"], "header", ["A: 1", "B:2", "C: 3"]),
        (["--timeout-connect", "0.5"], "timeout_connect", 0.5),
        (["--timeout-read", "0"], "timeout_read", 0),
        (["--timeout-read", "1.5"], "timeout_read", 1.5),
        (["--timeout-call", "1e3"], "timeout_call", 1000),
        (["--cacert", "p"], "cacert", "p"),
        (["--cert", "p"], "cert", "p"),
        (["--key", "p"], "key", "p"),
        (["--insecure"], "insecure", True),
        (["--max-message-size", "1000"], "max_message_size", 1000),
        (["--max-message-size", "8M"], "max_message_size", 8 * 1024**2),
        (["--max-message-size", "1k"], "max_message_size", 1024),
        (["--max-message-size", "2GiB"], "max_message_size", 2 * 1024**3),
        (["--transport", "sse"], "transport", "sse"),
        (["--transport", "streamable-http"], "transport", "streamable-http"),
        (["--protocol-era", "legacy"], "protocol_era", "legacy"),
        (["--protocol-era", "modern"], "protocol_era", "modern"),
        (["--bridge", "always"], "bridge", "always"),
        (["--bridge", "never"], "bridge", "never"),
        (["--no-merge-pages"], "merge_pages", False),
        (["--allow-tool", "a*", "--allow-tool=b"], "allow_tool", ["a*", "b"]),
        (["--deny-tool", "[!a]?"], "deny_tool", ["[!a]?"]),
        (["--drain-timeout", "0"], "drain_timeout", 0),
        (["--test"], "test", True),
        (["--check"], "test", True),
        (["--json"], "json", True),
        (["--client", "cursor"], "client", "cursor"),
        (["--name", "x"], "name", "x"),
        (["--serve"], "serve", True),
        (["-vv"], "verbose", 2),
        (["-v", "--verbose"], "verbose", 2),
        (["-q"], "quiet", True),
        (["--log-file", "p"], "log_file", "p"),
    ],
)
def test_every_option_has_its_place(argv: list[str], name: str, value: object) -> None:
    assert getattr(parse([*argv, URL]), name) == value


FILES = [action for action in _parser()._actions if action.metavar == "PATH"]


@pytest.mark.parametrize("action", FILES, ids=lambda action: action.dest)
def test_a_tilde_is_the_home_directory_though_no_shell_has_seen_it(
    action: argparse.Action, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = os.path.abspath("home")
    monkeypatch.setenv("HOME", home)
    monkeypatch.setenv("USERPROFILE", home)
    for argv in ([action.option_strings[-1], "~/p"], [f"{action.option_strings[-1]}=~/p"]):
        assert getattr(parse([*argv, URL]), action.dest) == f"{home}/p"
    assert getattr(parse([action.option_strings[-1], "./~", URL]), action.dest) == "./~"


DURATIONS = (
    *("--timeout-connect", "--timeout-read", "--timeout-call", "--drain-timeout"),
    *("--oauth-timeout", "--oauth-start-wait"),
)


@pytest.mark.parametrize("option", DURATIONS)
@pytest.mark.parametrize("value", ["-1", "nan", "inf", "-inf", "", "ten", "10s"])
def test_a_bad_duration_names_option_value_and_what_is_accepted(option: str, value: str) -> None:
    with pytest.raises(UsageFailure) as caught:
        parse([f"{option}={value}", URL])
    text = str(caught.value)
    assert f"`{option}`" in text
    assert f"`{value}`" in text
    assert "number of seconds" in text


@pytest.mark.parametrize("option", ["--timeout-connect", "--oauth-timeout"])
def test_connecting_and_signing_in_need_some_time(option: str) -> None:
    with pytest.raises(UsageFailure, match="above 0"):
        parse([option, "0", URL])


@pytest.mark.parametrize(
    "option, value, accepted",
    [
        ("--oauth-grant", "password", "`authorization-code`, `device-code`, `client-credentials`"),
        ("--oauth-callback-port", "0", "from 1 to 65535"),
        ("--oauth-callback-port", "65536", "from 1 to 65535"),
        ("--oauth-callback-port", "٣", "from 1 to 65535"),
        ("--oauth-profile", "", "letters, digits"),
        ("--oauth-profile", "../x", "letters, digits"),
        ("--oauth-scope", 'a"b', "separated by spaces"),
        ("--oauth-resource", "", "absolute URI"),
        ("--oauth-resource", "example.com", "absolute URI"),
        ("--oauth-resource", "urn:x#a", "without fragment"),
    ],
)
def test_a_bad_setting_names_option_value_and_what_is_accepted(
    option: str, value: str, accepted: str
) -> None:
    with pytest.raises(UsageFailure) as caught:
        parse([f"{option}={value}", URL])
    text = str(caught.value)
    assert f"`{option}`" in text
    assert f"`{value}`" in text
    assert accepted in text


@pytest.mark.parametrize(
    "option, value, accepted",
    [
        ("--oauth-param", "s3cr3t", "`KEY=VALUE`"),
        ("--oauth-param", "=s3cr3t", "`KEY=VALUE`"),
        ("--oauth-param", "a=s3cr3t\n", "`KEY=VALUE`"),
        ("--oauth-param", "state=s3cr3t", "`state` is set by mcp-stdio itself"),
        ("--oauth-param", "scope=s3cr3t", "`scope` is set by `--oauth-scope`"),
        ("--client-metadata-url", "https://s3cr3t@h/c", "neither user nor fragment"),
        ("--client-metadata-url", "https://h/", "has a path"),
        ("--client-metadata-url", "http://h/c", "begins with `https://`"),
        ("--client-metadata-url", "h/s3cr3t", "cannot be used"),
        ("--bearer-token-command", "echo 's3cr3t", "not closed"),
        ("--header-command", " ", "empty"),
        ("--allow-tool", "", "empty"),
        ("--deny-tool", "", "empty"),
    ],
)
def test_what_may_be_secret_is_not_repeated(option: str, value: str, accepted: str) -> None:
    with pytest.raises(UsageFailure) as caught:
        parse([f"{option}={value}", URL])
    assert f"`{option}`" in str(caught.value)
    assert accepted in str(caught.value)
    assert "s3cr3t" not in str(caught.value)


@pytest.mark.parametrize(
    "one, other",
    [
        ("--oauth-device", "--oauth-grant=authorization-code"),
        ("--no-resource-indicator", "--oauth-resource=urn:x"),
    ],
)
def test_two_ways_to_say_a_thing_exclude_each_other(one: str, other: str) -> None:
    names = f"`{one}` and `{other.partition('=')[0]}` exclude each other"
    with pytest.raises(UsageFailure, match=names):
        parse([one, other, URL])


@pytest.mark.parametrize(
    "platform, text, words",
    [
        ("linux", "a  'b c' d\\ e \"f'g\"", ["a", "b c", "d e", "f'g"]),
        ("linux", "", []),
        ("win32", r"C:\bin\a.exe b", [r"C:\bin\a.exe", "b"]),
        ("win32", r'"C:\Program Files\a.exe" --x="b c" ""', [
            r"C:\Program Files\a.exe", "--x=b c", ""]),
        ("win32", r'a "b\"c" d\\"e f\\"', ["a", 'b"c', "d\\e f\\"]),
        ("win32", "a 'b c'", ["a", "'b", "c'"]),
        ("win32", "", []),
    ],
)  # fmt: skip
def test_commands_are_split_as_the_system_does(platform: str, text: str, words: list[str]) -> None:
    assert list(split(text, platform)) == words


@pytest.mark.parametrize("platform", ["linux", "win32"])
@hypothesis.given(words=st.lists(st.text("ab '\"\\\t$", min_size=1), min_size=1))
def test_words_joined_to_a_command_are_split_again(platform: str, words: list[str]) -> None:
    assert list(split(join(words, platform), platform)) == words


@pytest.mark.parametrize("platform, text", [("linux", "a 'b"), ("win32", 'a "b')])
def test_an_open_quote_is_an_error(platform: str, text: str) -> None:
    with pytest.raises(ValueError, match="quot"):
        list(split(text, platform))


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "64 MB/s", "M", "", "1T", "9" * 30])
def test_a_bad_size_names_option_value_and_what_is_accepted(value: str) -> None:
    with pytest.raises(UsageFailure) as caught:
        parse([f"--max-message-size={value}", URL])
    text = str(caught.value)
    assert "`--max-message-size`" in text
    assert f"`{value}`" in text
    assert "`64M`" in text


@pytest.mark.parametrize("option", ["--transport", "--protocol-era", "--bridge"])
def test_a_bad_choice_names_option_value_and_what_is_accepted(option: str) -> None:
    assert getattr(parse([URL]), option[2:].replace("-", "_")) == "auto"
    with pytest.raises(UsageFailure) as caught:
        parse([option, "telepathy", URL])
    text = str(caught.value)
    assert f"`{option}`" in text
    assert "`telepathy`" in text
    assert "`auto`, `" in text


@pytest.mark.parametrize("option", ["--time", "--bearer", "--no-merge", "--unknown"])
def test_options_are_never_abbreviated(option: str) -> None:
    with pytest.raises(UsageFailure, match=f"unknown option `{option}`"):
        parse([option, URL])


def test_the_value_of_a_mistyped_option_is_not_repeated() -> None:
    with pytest.raises(UsageFailure) as caught:
        parse(["--bearer-tokn=s3cr3t", URL])
    assert "s3cr3t" not in str(caught.value)


def test_an_option_without_its_value_is_named() -> None:
    with pytest.raises(UsageFailure, match="`--timeout-read` needs a value"):
        parse([URL, "--timeout-read"])


@pytest.mark.parametrize("option", ["--deny-tool", "--bearer-token", "--header"])
def test_it_is_said_how_a_value_begins_with_a_hyphen(option: str) -> None:
    with pytest.raises(UsageFailure, match=f"`{option}` needs a value") as caught:
        parse([option, "-x*", URL])
    assert f"`{option}=-x`" in str(caught.value.hint)


@pytest.mark.parametrize("option", ["--oauth", "--insecure"])
def test_a_value_for_an_option_that_takes_none_is_not_repeated(option: str) -> None:
    with pytest.raises(UsageFailure) as caught:
        parse([f"{option}=s3cr3t", URL])
    assert str(caught.value) == f"`{option}` takes no value"


def everything() -> list[str]:
    """Every option of the relay with a value that is not the default, in the order of the help."""
    return [
        *("--bearer-token", "t", "--bearer-token-file", "p", "--bearer-token-command", "a 'b c'"),
        *("--header", "A: 1", "--header=-B: 2", "--header-file", "p", "--header-command", "a"),
        *("--oauth", "--client-id", "c", "--oauth-scope", "a b", "--oauth-grant", "device-code"),
        *("--client-metadata-url", "https://h/c", "--oauth-resource", "none"),
        *("--oauth-param", "a=b=c", "--oauth-use-id-token", "--oauth-assume-pkce"),
        *("--oauth-allow-private", "--oauth-callback-port", "1", "--oauth-no-browser"),
        *("--oauth-profile", "work", "--oauth-timeout", "0.1", "--oauth-start-wait", "0"),
        *("--timeout-connect", "0.5", "--timeout-read", "0", "--timeout-call", "100000000"),
        *("--cacert", "p", "--cert", "p", "--key", "p", "--insecure"),
        *("--max-message-size", "1024", "--transport", "sse", "--protocol-era", "legacy"),
        *("--bridge", "never", "--no-merge-pages", "--allow-tool", "a", "--allow-tool", "b"),
        *("--deny-tool=-*", "--drain-timeout", "3"),
        *("--verbose", "--verbose", "--log-file", "p"),
    ]


def test_what_was_read_is_written_as_it_was() -> None:
    assert list(written(read(everything()))) == everything()
    left_out = {"words", "help", "version", "quiet", "test", "json", "client", "name", "serve"}
    given = vars(read(everything())).keys()
    assert given == {action.dest for action in _parser()._actions} - left_out


@pytest.mark.parametrize(
    "argv, canonical",
    [
        (
            ["-qH", "A: 1", "--timeout-read=120", "--bridge", "auto"],
            ["--header", "A: 1", "--quiet"],
        ),
        (["--oauth-device"], ["--oauth-grant", "device-code"]),
        (["--no-resource-indicator"], ["--oauth-resource", "none"]),
        (["--test", "--json", "--serve", "--name", "x", "--client", "y", URL], []),
    ],
)
def test_what_is_written_says_what_is_not_the_default(
    argv: list[str], canonical: list[str]
) -> None:
    assert list(written(read(argv))) == canonical


def test_quiet_and_verbose_exclude_each_other() -> None:
    with pytest.raises(UsageFailure, match="`--quiet` and `--verbose` exclude each other"):
        parse(["-q", "-v", URL])
