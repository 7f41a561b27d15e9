"""Starting the servers that the relays of the benchmark talk to."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import certifi
import trustme

HERE = Path(__file__).parent


def compiled(directory: Path) -> list[str]:
    """The command of the C server, built now; empty without a compiler or without epoll."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    program = directory / "backend"
    if compiler is None or not sys.platform.startswith("linux"):
        return []
    built = subprocess.run(
        [compiler, "-O2", "-o", str(program), str(HERE / "backend.c")], capture_output=True
    )
    return [str(program)] if built.returncode == 0 else []


def in_python(*arguments: str) -> list[str]:
    """The command of the Python server."""
    return [sys.executable, "-I", str(HERE / "python_backend.py"), *arguments]


@contextmanager
def serving(command: list[str]) -> Iterator[int]:
    """Run a server; its port."""
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.stdin.close()  # it ends with its input
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()


def certificates(directory: Path) -> tuple[Path, Path]:
    """The server's certificate with its key, and a bundle that trusts it.

    The bundle holds the usual authorities as well: loading them is part of what TLS costs.
    """
    authority = trustme.CA()
    own, bundle = directory / "server.pem", directory / "bundle.pem"
    authority.issue_cert("localhost", "127.0.0.1").private_key_and_cert_chain_pem.write_to_path(own)
    bundle.write_bytes(Path(certifi.where()).read_bytes() + authority.cert_pem.bytes())
    return own, bundle
