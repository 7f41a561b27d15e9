"""How fast the relay is, beside the direct call and beside other relays.

    python -m tests.benchmarks                                  this checkout, some minutes
    python -m tests.benchmarks --quick                          coarser, a minute
    python -m tests.benchmarks --only latency,throughput
    python -m tests.benchmarks --against 'other=/path/to/relay {url}'
    python -m tests.benchmarks --ours '/path/to/venv/bin/mcp-stdio {url}'

Prints a Markdown table, then one line of JSON with every sample. Each relay is started as a
process and spoken to through pipes; the server is a small C program on loopback (in Python where
there is no compiler, and for TLS). Contestants take turns in every phase of every round, in
alternating order, and each phase starts its own process. Absolute figures drift with the machine:
compare within one run. The lines above the table say what server and driver cost by themselves.

What remains, measured on CPython 3.11 with two cores (a call takes 113 µs of CPU with 64 in flight,
700 Python and C calls):

- trio 26 %: a task, two cancel scopes and one wait for each call. A bare task that sends, waits and
  receives takes 9 µs; the scopes are what lets one call be cancelled and the end be a deadline.
- System calls 13 %: one write to the server, one read, one look whether the connection still
  lives, one write to the client, two thirds of an epoll. Only the look could be left out, and it is
  what tells a call that did not run from one that may have.
- HTTP 17 %: reading the response 4 to 5 µs; request, headers and lending a connection the rest.
- JSON 5 %: each message is checked whole, both ways. 0.4 µs is the least for a notification.
- The rest is evenly spread over the layers that a message crosses, 1 to 3 µs each. A relay without
  any of them takes 60 to 80 µs; a third of this one's time is what it promises.
- A start is 8 ms of interpreter, 65 of trio and what it needs of the standard library, 12 for the
  76 modules of the relay, 3 until the answer. Only answering before trio is there would be quicker,
  by another relay within the relay. `https` takes 15 ms more where a bundle of 140 certificates is
  read, which happens while the server's name is resolved.
- Memory: 26.7 MB are Python and trio.
- A large message is copied once between two reads and one write: 1.75 ms/MB, of which the check
  that it is JSON is 0.4 and the fresh copy as much.

For figures of what users get, let `--ours` name an installation that holds nothing else: some
dependencies import more when they find test tools beside them. The message of a relay that fails a
phase goes to stderr, and its cells stay empty.
"""

from __future__ import annotations

import argparse
import platform
import shlex
import ssl
import sys
import tempfile
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from mcp_stdio.serving import raise_descriptor_limit
from tests.benchmarks import backend, phases, report
from tests.benchmarks.peers import Direct, Relay, Stuck, capacity
from tests.process import environment

DIRECT = "direct"
OURS = "mcp-stdio"

SIZES = {"full": phases.FULL, "quick": phases.QUICK, "tiny": phases.TINY}


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    options = _parser().parse_args(arguments)
    sizes = SIZES[options.sizes]
    names = options.only.split(",") if options.only else list(phases.PHASES)
    rounds = options.rounds or sizes.rounds
    raise_descriptor_limit()
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as running:
        directory = Path(scratch)
        own, bundle = backend.certificates(directory)
        command = [] if options.no_compiler else backend.compiled(directory)
        port = running.enter_context(backend.serving(command or backend.in_python()))
        tls_port = running.enter_context(backend.serving(backend.in_python(str(own))))
        say(_conditions(port, bool(command), sizes) + "\n")

        env = environment({"SSL_CERT_FILE": str(bundle), "NODE_EXTRA_CA_CERTS": str(bundle)})
        installed = {name: value for name, value in env.items() if name != "PYTHONPATH"}
        context = ssl.create_default_context(cafile=str(bundle))

        plain: dict[str, phases.Start] = {DIRECT: partial(Direct, port)}
        secure: dict[str, phases.Start] = {DIRECT: partial(Direct, tls_port, context)}
        url, tls_url = f"http://127.0.0.1:{port}/mcp", f"https://127.0.0.1:{tls_port}/mcp"
        for name, words in _relays(options):
            its = env if words is None else installed
            words = words or [sys.executable, "-m", "mcp_stdio", "{url}"]
            plain[name] = partial(Relay, [word.replace("{url}", url) for word in words], its)
            secure[name] = partial(Relay, [word.replace("{url}", tls_url) for word in words], its)

        samples: report.Samples = {}
        for phase in names:
            starts = secure if phase == "tls" else plain
            for round in range(rounds):
                order = list(starts) if round % 2 == 0 else list(reversed(starts))
                for name in order:
                    try:
                        figures = phases.PHASES[phase](starts[name], sizes)
                    except (Stuck, OSError, ValueError, LookupError) as exc:
                        sys.stderr.write(f"{name} failed in `{phase}`: {exc}\n")
                    else:
                        report.collect(samples, name, figures)
    samples = report.with_differences(samples, DIRECT)
    say(report.markdown(samples, list(plain), OURS))
    about = {"python": platform.python_version(), "rounds": rounds, "sizes": options.sizes}
    line = report.as_json(samples, about)
    if options.json is None:
        say(f"\n{line}\n")
    else:
        options.json.write_text(line + "\n")


def _relays(options: argparse.Namespace) -> list[tuple[str, list[str] | None]]:
    relays = [(OURS, shlex.split(options.ours) if options.ours else None)]
    for text in options.against:
        name, _, command = text.partition("=")
        relays.append((name, shlex.split(command)))
    return relays


def _conditions(port: int, is_compiled: bool, sizes: phases.Sizes) -> str:
    """What server and driver can do by themselves."""
    line, calls = phases.call("text", 100), 50 * sizes.calls
    of_server = [
        f"{capacity(port, connections, calls, line):,.0f}/s on {connections} connections"
        for connections in (sizes.windows[1], sizes.windows[-1])
    ]
    echo = Relay(["cat"], environment())
    try:
        p50, _ = phases.sequential(echo, phases.small_calls(sizes.calls))
        lines = phases.small_calls(10 * sizes.calls)
        in_flight = len(lines) / phases.exchange(echo, lines, 64)[0]
    finally:
        echo.close()
    return (
        f"Server ({'C' if is_compiled else 'Python'}), requests pipelined: {'; '.join(of_server)}. "
        f"Driver with `cat` for a relay: {p50:.0f} µs a line, {in_flight:,.0f} lines/s.\n"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--against",
        metavar="NAME=COMMAND",
        action="append",
        default=[],
        help="another relay; `{url}` in its command is replaced",
    )
    parser.add_argument(
        "--ours", metavar="COMMAND", help="measure this one instead of the checkout"
    )
    parser.add_argument("--only", metavar="PHASES", help=f"of {','.join(phases.PHASES)}")
    parser.add_argument("--rounds", type=int, metavar="N", help="how often each phase is repeated")
    parser.add_argument(
        "--quick",
        action="store_const",
        const="quick",
        dest="sizes",
        default="full",
        help="fewer of everything",
    )
    parser.add_argument("--sizes", choices=SIZES, help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the JSON goes")
    parser.add_argument("--no-compiler", action="store_true", help="use the server in Python")
    return parser


def say(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


if __name__ == "__main__":
    main()
