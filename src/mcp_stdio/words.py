"""A command as one text and as its words, the way each system has it.

POSIX's are those of a shell, Windows's those of its programs. Knows no command and starts none.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence


def join(words: Sequence[str], platform: str) -> str:
    """The command that `split` takes to these words."""
    if platform != "win32":
        return shlex.join(words)
    import subprocess  # too much for every start

    return subprocess.list2cmdline(words)


def split(text: str, platform: str) -> Iterator[str]:
    """The words of a command as a shell would see them, or Windows's programs.

    Raises ValueError when a quote is not closed.
    """
    if platform != "win32":
        yield from shlex.split(text)
        return
    # "Parsing C command-line arguments": backslashes count only before a quote.
    word: str | None = None
    is_quoted = False
    for match in re.finditer(r'(\\*)(")|([ \t\r\n]+)|\\+|[^\\" \t\r\n]+', text):
        slashes, mark, blank = match.groups()
        if mark:
            word = (word or "") + "\\" * (len(slashes) // 2)
            if len(slashes) % 2:
                word += mark
            else:
                is_quoted = not is_quoted
        elif blank and not is_quoted:
            if word is not None:
                yield word
            word = None
        else:
            word = (word or "") + match[0]
    if is_quoted:
        raise ValueError("No closing quotation")
    if word is not None:
        yield word
