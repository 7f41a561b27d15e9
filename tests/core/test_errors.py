"""The tree of our failures: codes E-1 to E-7, and server text made fit to quote."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_stdio import errors
from mcp_stdio.redaction import Redactor, longest_secret, protect

TREE: list[tuple[type[errors.RelayError], int, str, int, bool]] = [
    (errors.Unreachable, -33001, "unreachable", 3, True),
    (errors.TlsFailure, -33001, "unreachable", 4, False),
    (errors.ProxyFailure, -33001, "unreachable", 3, True),
    (errors.ConnectionLost, -33002, "outcome_unknown", 1, False),
    (errors.TimedOut, -33003, "timeout", 3, False),
    (errors.AuthorizationFailed, -33004, "authorization", 5, False),
    (errors.BadAnswer, -33005, "bad_answer", 6, False),
    (errors.TooLarge, -33005, "bad_answer", 6, False),
    (errors.CannotBridge, -33006, "cannot_bridge", 1, False),
    (errors.SessionLost, -33007, "session_lost", 1, False),
]


@pytest.mark.parametrize("failure, code, kind, exit_code, retryable", TREE)
def test_each_failure_has_its_code(
    failure: type[errors.RelayError], code: int, kind: str, exit_code: int, retryable: bool
) -> None:
    raised = failure("cause", hint="hint", status=1)
    assert (raised.code, raised.kind, raised.exit_code, raised.retryable) == (
        code,
        kind,
        exit_code,
        retryable,
    )
    assert (str(raised), raised.hint, raised.status) == ("cause", "hint", 1)


def test_a_sign_in_that_is_due_names_the_place() -> None:
    pending = errors.SignInPending("http://host/authorize?state=s")
    assert isinstance(pending, errors.AuthorizationFailed)
    assert (pending.code, pending.kind, pending.retryable) == (-33004, "authorization", True)
    for text in (str(pending), pending.hint):
        assert text is not None
        assert text.endswith("sign in, then try again: http://host/authorize?state=s")


def test_codes_cannot_be_mistaken_for_the_servers() -> None:
    # JSON-RPC 2.0, section 5.1, reserves -32768 to -32000.
    assert not any(-32768 <= code <= -32000 for _, code, *_ in TREE)


def test_what_is_the_clients_fault_has_the_code_for_that() -> None:
    unsendable = errors.Unsendable("half a character")
    assert (unsendable.code, unsendable.kind, unsendable.retryable) == (
        -32602,
        "invalid_params",
        False,
    )


def test_a_fault_of_ours_has_the_code_for_that_and_asks_for_a_report() -> None:
    defect = errors.Defect("internal error")
    assert (defect.code, defect.kind, defect.hint) == (-32603, "internal", errors.REPORT)


def test_a_usage_failure_exits_with_2() -> None:
    assert errors.UsageFailure("x").exit_code == 2


def test_a_refusal_carries_status_and_text() -> None:
    refused = errors.Refused("no", status=503, text="busy", hint="later")
    assert (refused.status, refused.text, refused.hint, refused.exit_code) == (
        503,
        "busy",
        "later",
        7,
    )


def test_a_lost_connection_knows_whether_the_answer_had_begun() -> None:
    assert not errors.ConnectionLost("cut").answer_begun
    assert errors.ConnectionLost("cut", answer_begun=True).answer_begun


def test_a_closed_output_is_no_failure_of_a_call() -> None:
    assert not issubclass(errors.OutputClosed, errors.RelayError)


@pytest.mark.parametrize(
    "text, quoted",
    [
        ("plain", "plain"),
        ("  two\r\n\t lines ", "two lines"),
        ("\x1b[31mred\x07\x00", "[31mred"),
        ("right\u202eleft\u200b\ud800", "rightleft"),
        ("", ""),
        ("x" * 200, "x" * 200),
        ("x" * 201, "x" * 199 + "…"),
    ],
)
def test_server_text_is_quoted_on_one_line(text: str, quoted: str) -> None:
    assert errors.quote(text) == quoted


@given(st.text())
def test_quoted_text_is_printable_and_short(text: str) -> None:
    quoted = errors.quote(text, 20)
    assert quoted.isprintable()
    assert len(quoted) <= 20


def test_a_secret_is_hidden_before_the_text_is_cut() -> None:
    protect("quoted-s3cret-value")
    around = "x" * (errors.MAX_QUOTE - 10)
    assert "quoted-s" not in errors.quote(f"{around} quoted-s3cret-value")


@pytest.mark.parametrize("between", ["\x00", "\u200b", "\u202e", "\ud800"])
def test_what_is_left_out_of_a_quotation_does_not_join_the_halves_of_a_secret(
    between: str,
) -> None:
    protect("halves-of-a-s3cret")
    assert errors.quote(f"a halves-of{between}-a-s3cret") == "a ***"


@pytest.mark.parametrize("cut", range(1, 24))
def test_where_reading_ends_no_part_of_a_secret_is_quoted(cut: int) -> None:
    """White space is left out, so what is quoted may come from the end of what was read."""
    protect("cut-0ff-in-the-middle")
    text = " " * (errors.MAX_READ + longest_secret() - cut) + "cut-0ff-in-the-middle" + " " * 10_000
    assert set(errors.quote(text)) <= {"*"}


def test_no_part_of_a_secret_is_quoted_where_most_of_what_was_read_is_hidden(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    secret, own = "Ab9" * 500 + "-" * 90, Redactor()
    own.protect(secret)
    for name, stand_in in (
        ("redact", own.redact),
        ("redact_known", own.redact_known),
        ("longest_secret", lambda: own.longest),
    ):
        monkeypatch.setattr(errors, name, stand_in)
    text = f"{secret} " * 11 + " " * 2000 + secret  # which is cut where reading ends
    assert len(text) > errors.MAX_READ + own.longest
    assert "Ab9" not in errors.quote(text + "x" * own.longest)
