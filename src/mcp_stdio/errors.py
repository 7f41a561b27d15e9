"""What can go wrong, said once: the tree of our exceptions, each with its hint.

The form, in which stderr, `error.data.hint` and `--test` say the same: a cause without a full stop,
in lower case, its literals in backticks; then a hint in the same form, that one can act on.

A type says whose fault it is and what the client is told; the seams (`http`, `relay`, `cli`)
translate into and out of this tree and nothing else does. Codes and kinds are E-1 to E-7, chosen
outside the range JSON-RPC reserves so that a local failure is never mistaken for the server's; only
what is the client's own fault has JSON-RPC's code for that.

    RelayError
    ├── UsageFailure      E-1   the user's settings; nothing can be sent with them
    │   └── PortTaken           the port that a browser is to come back to
    ├── Unreachable       E-1   the network; no byte of the request left
    │   ├── TlsFailure          the certificate or the handshake
    │   │   └── Distrusted          the certificate, which is not accepted
    │   └── ProxyFailure        the proxy in between
    ├── ConnectionLost    E-2   the network; the server may have acted
    ├── TimedOut          E-3   the server stayed silent, or the call took too long
    ├── AuthorizationFailed E-4 the credential
    │   ├── SignInPending       a person has to sign in first
    │   ├── NobodySignedIn      a person has not signed in while there was time
    │   ├── AskedInVain         a person was asked a moment ago, and is not asked again yet
    │   ├── Declined            an authorization server said no, and why
    │   ├── Unusable            an authorization server's answer cannot be understood
    │   ├── InvalidGrant        a refresh token that is dead; only a new sign-in helps
    │   └── StoreFailure        what is kept of sign-ins cannot be read or written
    ├── BadAnswer         E-5   the server's answer cannot be understood
    │   ├── Refused             an HTTP error status without a JSON-RPC answer
    │   └── TooLarge            a message over the size limit
    ├── Unsendable              the client's message; none of it left
    ├── UnknownTool             a tool that the user's settings leave out
    ├── TooDeep                 a message that cannot be changed on its way
    ├── CannotBridge      E-6   no counterpart in the other protocol era
    ├── SessionLost       E-7   the session ended under a running request
    ├── OutputFailed            our standard output, which takes nothing more
    ├── Exhausted               the machine: it gives this process no more of something
    └── Defect                  a fault of ours, whose traceback is in the log

    OutputClosed                nobody reads our standard output any more: a normal end
"""

from __future__ import annotations

import errno
from typing import ClassVar

from mcp_stdio.redaction import longest_secret, redact, redact_known

MAX_QUOTE = 200
"""Characters of server text that may appear in an error of ours (design: enough for a cause)."""

REPORT = "please report it, with what the log says"
"""The hint for a defect of ours."""

MAX_READ = 16 * 1024
"""Characters of it that are looked at; the rest cannot be part of what is quoted."""


def quote(text: str, limit: int = MAX_QUOTE) -> str:
    """Server text made fit for a message: one line, no control characters, at most `limit`.

    Secrets go first (P7): one that is cut in two would not be known as such afterwards.
    """
    margin = longest_secret()
    is_cut = len(text) > MAX_READ + margin
    redacted = redact(text[: MAX_READ + margin])
    if is_cut:
        redacted = redacted[: max(0, len(redacted) - margin)]
    flat = " ".join(redacted.split())
    clean = "".join(ch for ch in flat if ch.isprintable())
    if clean != flat:
        clean = redact_known(clean)  # what stood between the halves of a secret is gone
    return clean if len(clean) <= limit else clean[: limit - 1] + "…"


class RelayError(Exception):
    """Base of all failures that have an explanation; `str()` is the cause, without a full stop."""

    code = -33005
    kind = "bad_answer"
    exit_code = 1
    retryable = False
    usual_hint: ClassVar[str | None] = None
    """The next step where it is the same for nearly all failures of the type."""

    def __init__(self, cause: str, *, hint: str | None = None, status: int | None = None) -> None:
        super().__init__(cause)
        self.hint = self.usual_hint if hint is None else hint
        self.status = status

    @property
    def explanation(self) -> str:
        """Cause and hint in one line, for the log."""
        cause = str(self)
        if self.hint is None or self.hint in cause:
            return cause
        return f"{cause}; hint: {self.hint}"


class UsageFailure(RelayError):
    """A setting that cannot be used; names the option, the value and what is accepted (E-1)."""

    code = -33001
    kind = "settings"
    exit_code = 2


class PortTaken(UsageFailure):
    """The loopback listener cannot have the port it needs, because another process has it."""


class Unreachable(RelayError):
    """No byte of the request left: trying again is always safe (E-1)."""

    code = -33001
    kind = "unreachable"
    exit_code = 3
    retryable = True


class TlsFailure(Unreachable):
    """The TLS handshake failed, so nothing was sent (E-1).

    Trying again is safe and mostly in vain: `is_passing` where it may help all the same.
    """

    exit_code = 4
    retryable = False

    def __init__(
        self,
        cause: str,
        *,
        hint: str | None = None,
        status: int | None = None,
        is_passing: bool = False,
    ) -> None:
        super().__init__(cause, hint=hint, status=status)
        self.retryable = is_passing


class Distrusted(TlsFailure):
    """The server has shown a certificate that is not accepted (E-1)."""


class ProxyFailure(Unreachable):
    """The proxy could not be reached or refused to pass the request on (E-1)."""


class ConnectionLost(RelayError):
    """The connection ended after bytes of the request left: the outcome is unknown (E-2).

    `answer_begun` tells whether a byte of the response had arrived; `advice` is a cause to look
    for, whatever was asked.
    """

    code = -33002
    kind = "outcome_unknown"
    usual_hint = "whether the call ran is unknown: check its effect before you call again"

    def __init__(
        self,
        cause: str,
        *,
        hint: str | None = None,
        status: int | None = None,
        answer_begun: bool = False,
        advice: str | None = None,
    ) -> None:
        if hint is None and advice is not None:
            hint = f"{self.usual_hint}; {advice}"
        super().__init__(cause, hint=hint, status=status)
        self.answer_begun = answer_begun
        self.advice = advice

    def of_harmless_request(self) -> None:
        """Say what to do where the request has no effect that anybody would have to check."""
        self.retryable = True
        self.hint = self.advice or "try again; the log of the server may tell why"


class TimedOut(RelayError):
    """The server stayed silent for too long, or the call took too long in all (E-3)."""

    code = -33003
    kind = "timeout"
    exit_code = 3


class AuthorizationFailed(RelayError):
    """The server wants a credential, or another one (E-4)."""

    code = -33004
    kind = "authorization"
    exit_code = 5
    usual_hint = "sign in anew with `mcp-stdio login URL`"


class SignInPending(AuthorizationFailed):
    """A person has to sign in, at `url`, and has not done so yet (E-4).

    `url` is empty where that is not known: another process may have begun the sign-in.
    """

    retryable = True

    def __init__(self, url: str) -> None:
        # The URL comes last: what makes links of URLs often takes the comma behind one along.
        text = f"sign in, then try again: {url}"
        if not url:
            text = "a sign-in is under way, perhaps in another window; try again when it is done"
        super().__init__(f"nobody has signed in yet; {text}", hint=text)
        self.url = url


class NobodySignedIn(AuthorizationFailed):
    """A person was waited for, and the time for signing in is over."""


class AskedInVain(AuthorizationFailed):
    """A person was asked in vain to sign in, and is not asked again before a while has passed."""

    retryable = True

    def __init__(self, failure: RelayError) -> None:
        more = f"; {failure.hint}" if failure.hint else ""
        super().__init__(
            f"the last sign-in failed, and the next one is not tried yet: {failure}",
            hint=f"try again in a minute{more}",
            status=401,
        )
        self.failure = failure


class Declined(AuthorizationFailed):
    """An authorization server said no; `error` is its code (RFC 6749 sections 4.1.2.1 and 5.2)."""

    def __init__(
        self, cause: str, *, error: str, hint: str | None = None, status: int | None = None
    ) -> None:
        super().__init__(cause, hint=hint, status=status)
        self.error = error


class Unusable(AuthorizationFailed):
    """An authorization server granted something that cannot be used."""

    usual_hint = "tell who runs the authorization server"


class InvalidGrant(AuthorizationFailed):
    """The authorization server takes the refresh token no longer: sign in again (A-32)."""


class StoreFailure(AuthorizationFailed):
    """What is kept of sign-ins cannot be read or written safely (A-43)."""

    exit_code = 1


class BadAnswer(RelayError):
    """The server answered something that is not MCP (E-5)."""

    exit_code = 6
    usual_hint = "the server breaks the protocol here: tell who runs it, with what `-vv` shows"


class Refused(BadAnswer):
    """An HTTP error status; `text` is the start of the body."""

    exit_code = 7
    usual_hint = "the log of the server may tell why; `-vv` shows what it was sent"

    def __init__(self, cause: str, *, status: int, text: str = "", hint: str | None = None) -> None:
        super().__init__(cause, hint=hint, status=status)
        self.text = text


class TooLarge(BadAnswer):
    """A message exceeds `--max-message-size`."""

    usual_hint = "raise `--max-message-size` if such messages are wanted"


class Unsendable(RelayError):
    """The client's message has something that cannot be written in HTTP (1.4)."""

    code = -32602
    kind = "invalid_params"


class UnknownTool(RelayError):
    """A tool that is not offered; the client hears what a server without it says."""

    code = -32602
    kind = "invalid_params"


class TooDeep(RelayError):
    """A message that has to be changed on its way is nested too deeply for that."""

    usual_hint = "nest it less deeply"

    def __init__(self) -> None:
        super().__init__("the message is nested too deeply to be changed")


class CannotBridge(RelayError):
    """What was asked has no counterpart in the protocol era of the other side (E-6)."""

    code = -33006
    kind = "cannot_bridge"


class SessionLost(RelayError):
    """The server ended the session while the request was running (E-7)."""

    code = -33007
    kind = "session_lost"
    usual_hint = "check its effect, then call again: the next message opens a new session"


class Defect(RelayError):
    """Something in here went wrong that nobody foresaw; the log has the traceback (P1)."""

    code = -32603
    kind = "internal"
    usual_hint = REPORT


class Exhausted(RelayError):
    """The system gives this process no more memory or open files; the server may have acted."""

    code = -32603
    kind = "exhausted"
    usual_hint = "end other programs, or raise the limits that `ulimit -a` shows"


_SCARCE = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})
"""What the system says when it has no more to give."""


def shortage(exc: BaseException) -> Exhausted | None:
    """The failure that tells of it, if nothing but a want of memory or open files is behind `exc`.

    It may strike anywhere, also where a module is only being loaded.
    """
    match exc:
        case BaseExceptionGroup():
            found = [shortage(each) for each in exc.exceptions]
            return found[0] if all(found) else None
        case MemoryError():
            return Exhausted("there is not enough memory for this")
        case OSError(errno=number) if number in _SCARCE:
            return Exhausted(f"the system gives mcp-stdio no more: {exc.strerror}")
    return None


class OutputFailed(RelayError):
    """Standard output takes nothing more although its reader is there."""

    usual_hint = "make room where it goes; what was not written is lost"

    def __init__(self, failure: OSError) -> None:
        super().__init__(f"standard output cannot be written: {failure.strerror}")


class OutputClosed(Exception):
    """Standard output has no reader any more, or a line on it had to be abandoned half-way."""
