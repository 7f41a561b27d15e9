"""The picture of the nursery: which tasks there are, and the way of a message through them.

Owns where the boxes stand. What they are called is what the code calls them.
"""

from __future__ import annotations

from drawing import (
    BLUE,
    FAINT,
    GREEN,
    ORANGE,
    PALE_BLUE,
    PALE_GREEN,
    PALE_ORANGE,
    PALE_VIOLET,
    VIOLET,
    Picture,
)


def draw() -> Picture:
    """The client on the left, the server on the right, the nursery between them."""
    picture = Picture(860, 434, "The nursery of mcp-stdio and the way of a message through it")
    picture.rect(18, 70, 104, 300, fill=PALE_VIOLET, stroke=VIOLET)
    _lines(picture, 70, 212, ["MCP client", "starts the", "process"])
    picture.rect(738, 70, 104, 300, fill=PALE_VIOLET, stroke=VIOLET)
    _lines(picture, 790, 220, ["MCP server", "at URL"])

    picture.rect(176, 34, 508, 372, stroke=BLUE, dashed=True, radius=12)
    picture.text(192, 56, "the nursery: a failure outside a request ends the program", fill=BLUE)

    _box(picture, 196, 74, 150, "read stdin", "its end: shutdown", PALE_BLUE, BLUE)
    _box(picture, 196, 348, 150, "stdout", "a writer behind a lock", PALE_GREEN, GREEN)
    _box(picture, 514, 74, 150, "watch signals", "a signal: shutdown", PALE_BLUE, BLUE)
    _box(picture, 514, 348, 150, "listening stream", "what is said unasked", PALE_BLUE, BLUE)

    picture.rect(196, 142, 468, 184, stroke=ORANGE, radius=10)
    picture.text(210, 162, "in flight: a task and a cancel scope per request,", fill=ORANGE)
    picture.text(210, 179, "all stopped by one deadline", fill=ORANGE)
    for index, call in enumerate(("tools/call 7", "tools/call 8", "resources/read 9")):
        y = 194 + index * 42
        picture.rect(210, y, 440, 34, fill=PALE_ORANGE, stroke=ORANGE)
        picture.text(222, y + 22, call, mono=True, size=12)
        picture.text(638, y + 22, "era → (bridge) → session → http", anchor="end", size=12)
        picture.arrow([(650, y + 17), (737, y + 17)], stroke=ORANGE, both=True)

    picture.arrow([(123, 98), (195, 98)])
    picture.text(158, 90, "stdin", size=12, fill=FAINT, anchor="middle")
    picture.arrow([(271, 122), (271, 141)])
    picture.arrow([(271, 327), (271, 347)])
    picture.arrow([(195, 372), (150, 372), (150, 340), (123, 340)])
    picture.text(160, 390, "stdout", size=12, fill=FAINT, anchor="middle")
    picture.arrow([(737, 360), (665, 360)])
    picture.arrow([(513, 372), (347, 372)])
    return picture


def _box(
    picture: Picture, x: float, y: float, width: float, name: str, note: str, fill: str, line: str
) -> None:
    picture.rect(x, y, width, 48, fill=fill, stroke=line)
    picture.text(x + width / 2, y + 21, name, bold=True, anchor="middle")
    picture.text(x + width / 2, y + 38, note, size=11, fill=FAINT, anchor="middle")


def _lines(picture: Picture, x: float, y: float, lines: list[str]) -> None:
    for index, line in enumerate(lines):
        picture.text(x, y + index * 18, line, anchor="middle", bold=index == 0)
