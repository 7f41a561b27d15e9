"""Shapes and text as SVG: the few that the pictures of the README are made of.

Owns the look (colours, fonts, the card everything stands on). Refuses to know what is drawn. Kept
here: the same input gives the same bytes, and a picture is readable on a light and a dark page, so
it brings its own background.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from xml.sax.saxutils import escape, quoteattr

SANS = "-apple-system, 'Segoe UI', 'Noto Sans', Helvetica, Arial, sans-serif"
MONO = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'Liberation Mono', monospace"

PAPER, INK, FAINT, LINE = "#ffffff", "#1f2328", "#59636e", "#d1d9e0"
BLUE, ORANGE, GREEN, VIOLET = "#0969da", "#bc4c00", "#1a7f37", "#8250df"
PALE_BLUE, PALE_ORANGE, PALE_GREEN, PALE_VIOLET = "#ddf4ff", "#fff1e5", "#dafbe1", "#fbefff"

Run = tuple[int, str, str, bool]
"""Text that looks the same all along: column, text, colour, whether it is bold."""


class Picture:
    """A card of the given size; shapes are added in the order they are painted."""

    def __init__(self, width: float, height: float, title: str, paper: str = PAPER) -> None:
        self._width, self._height, self._title = width, height, title
        self._parts: list[str] = []
        self._heads: dict[str, str] = {}
        self.rect(0.5, 0.5, width - 1, height - 1, fill=paper, stroke=LINE, radius=8)

    def rect(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        *,
        fill: str = "none",
        stroke: str = "none",
        radius: float = 6,
        dashed: bool = False,
    ) -> None:
        """A box with round corners."""
        self._add(
            "rect",
            x=x,
            y=y,
            width=width,
            height=height,
            rx=radius,
            fill=fill,
            stroke=stroke,
            stroke_dasharray="5 4" if dashed else None,
        )

    def text(
        self,
        x: float,
        y: float,
        text: str,
        *,
        size: float = 13,
        fill: str = INK,
        anchor: str = "start",
        bold: bool = False,
        mono: bool = False,
    ) -> None:
        """One line; `y` is its base line."""
        self._add(
            "text",
            text,
            x=x,
            y=y,
            font_family=MONO if mono else SANS,
            font_size=size,
            font_weight=600 if bold else None,
            fill=fill,
            text_anchor=None if anchor == "start" else anchor,
        )

    def cells(
        self,
        x: float,
        y: float,
        runs: Sequence[tuple[int, str, str, bool]],
        cell: float,
        size: float,
    ) -> None:
        """Text on a grid, whatever the font's own width is."""
        for column, text, fill, bold in runs:
            self._add(
                "text",
                text,
                x=round(x + column * cell, 2),
                y=y,
                font_family=MONO,
                font_size=size,
                font_weight=600 if bold else None,
                fill=fill,
                textLength=round(len(text) * cell, 2),
                lengthAdjust="spacingAndGlyphs",
                xml_space="preserve",
            )

    def line(
        self, points: Sequence[tuple[float, float]], *, stroke: str = FAINT, width: float = 1.5
    ) -> None:
        """A line through the points."""
        self._polyline(points, stroke, width, None)

    def arrow(
        self, points: Sequence[tuple[float, float]], *, stroke: str = FAINT, both: bool = False
    ) -> None:
        """A line through the points with a head at its end, or at both ends."""
        head = self._heads.setdefault(stroke, f"head{len(self._heads)}")
        self._polyline(points, stroke, 1.5, f"url(#{head})", both=both)

    def svg(self) -> str:
        """The whole picture."""
        return "\n".join(self._lines()) + "\n"

    def _lines(self) -> Iterator[str]:
        size = f'width="{self._width:g}" height="{self._height:g}"'
        box = f'viewBox="0 0 {self._width:g} {self._height:g}"'
        yield f'<svg xmlns="http://www.w3.org/2000/svg" {size} {box} role="img">'
        yield f"<title>{escape(self._title)}</title>"
        for stroke, name in self._heads.items():
            yield (
                f'<marker id="{name}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" '
                'markerHeight="8" markerUnits="userSpaceOnUse" orient="auto-start-reverse">'
                f'<path d="M0 0 8 4 0 8z" fill="{stroke}"/></marker>'
            )
        yield from self._parts
        yield "</svg>"

    def _polyline(
        self,
        points: Sequence[tuple[float, float]],
        stroke: str,
        width: float,
        head: str | None,
        both: bool = False,
    ) -> None:
        self._add(
            "polyline",
            points=" ".join(f"{x:g},{y:g}" for x, y in points),
            fill="none",
            stroke=stroke,
            stroke_width=width,
            marker_end=head,
            marker_start=head if both else None,
        )

    def _add(self, tag: str, text: str | None = None, /, **attributes: object) -> None:
        given = "".join(
            f" {_spelled(name)}={quoteattr(str(value))}"
            for name, value in attributes.items()
            if value is not None
        )
        end = "/>" if text is None else f">{escape(text)}</{tag}>"
        self._parts.append(f"<{tag}{given}{end}")


def _spelled(name: str) -> str:
    return name.replace("xml_", "xml:").replace("_", "-")
