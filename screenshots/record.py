"""Record the demo as an animated picture for the README: real bytes of the real program in a terminal.

python screenshots/record.py [--out screenshots/demo-60.svg]     (takes about 25 s)

Each line of the screen is drawn once for every stretch of time in which it stays the same, and shown and
hidden by CSS; a viewer without animations sees the last moment.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from xml.sax.saxutils import escape

sys.path.insert(0, str(Path(__file__).parent.parent))

from pyte.screens import Char

from tests.tui.terminal import Terminal

SIZE = (60, 20)
FRAME_S = 0.5
CELL, LINE, FONT, MARGIN = 8.4, 18, 14, 12  # pixels
KEYS = ((16.0, "2"), (19.0, "1"), (19.5, "\x1b[A"), (20.5, "\r"))
"""After so many seconds: the commands, the tree again, a row up, its details."""
END_S = 23.0
_WORDS = re.compile(r"\S+(?: \S+)*")  # an SVG takes several blanks for one
PLAIN, BACKGROUND = "#e0e0e0", "#121212"

Style = tuple[str, str, bool, bool]
"""Colour, background, bold, italic."""
Line = tuple[tuple[str, Style], ...]


@dataclass
class Stretch:
    """A line of the screen from one moment to another, in frames."""

    row: int
    line: Line
    first: int
    end: int = field(default=0)


def color(name: str, default: str) -> str:
    named = {
        "default": default, "black": "#000000", "red": "#c34043", "green": "#76946a", "blue": "#7e9cd8",
        "cyan": "#6a9589", "magenta": "#957fb8", "brown": "#c0a36e", "white": "#dddddd",
    }  # fmt: skip
    return named.get(name, name if name.startswith("#") else f"#{name}" if len(name) == 6 else default)


def style_of(cell: Char) -> Style:
    fore, back = color(cell.fg, PLAIN), color(cell.bg, BACKGROUND)
    return (back, fore, cell.bold, cell.italics) if cell.reverse else (fore, back, cell.bold, cell.italics)


def line_of(cells: list[Char]) -> Line:
    """Runs of cells with one style."""
    runs: list[tuple[str, Style]] = []
    for cell in cells:
        style = style_of(cell)
        if runs and runs[-1][1] == style:
            runs[-1] = (runs[-1][0] + cell.data, style)
        else:
            runs.append((cell.data, style))
    return tuple(runs)


def record(folder: Path) -> tuple[list[Stretch], int]:
    """The demo's screen, frame by frame; how many frames there are."""
    environment = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor", "TMPDIR": str(folder)}
    stretches: list[Stretch] = []
    current: dict[int, Stretch] = {}
    command = [sys.executable, "-m", "hermes_tui", "demo"]
    with Terminal(command, size=SIZE, environment=environment) as terminal:
        terminal.shows("● running")
        begin, keys = time.monotonic(), list(KEYS)
        frames = int(END_S / FRAME_S)
        for frame in range(frames):
            time.sleep(max(0.0, begin + frame * FRAME_S - time.monotonic()))  # the picture's own pace
            while keys and keys[0][0] <= frame * FRAME_S:
                terminal.send(keys.pop(0)[1])
            for row, line in enumerate(map(line_of, terminal.cells())):
                known = current.get(row)
                if known is None or known.line != line:
                    if known is not None:
                        known.end = frame
                    current[row] = Stretch(row, line, frame)
                    stretches.append(current[row])
        terminal.send("\x1b")
        terminal.hides("esc back")
        terminal.send("q")
        terminal.wait()
    for stretch in current.values():
        stretch.end = frames
    return stretches, frames


def svg(stretches: list[Stretch], frames: int) -> str:
    columns, rows = SIZE
    width, height = columns * CELL + 2 * MARGIN, rows * LINE + 2 * MARGIN
    total = frames * FRAME_S + 2
    whole = [each for each in stretches if each.first == 0 and each.end == frames]
    parts = [draw(each) for each in whole]
    css = []
    for number, each in enumerate(each for each in stretches if each not in whole):
        last = each.end == frames
        begin, end = each.first * FRAME_S / total * 100, 100 if last else each.end * FRAME_S / total * 100
        css.append(
            f"@keyframes k{number}{{0%{{visibility:{'visible' if not each.first else 'hidden'}}}"
            f"{begin:.3f}%{{visibility:visible}}{end:.3f}%{{visibility:{'visible' if last else 'hidden'}}}}}"
            f".k{number}{{visibility:{'visible' if last else 'hidden'};"
            f"animation:k{number} {total:g}s step-end infinite}}"
        )
        parts.append(f'<g class="k{number}">{draw(each)}</g>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}">'
        f"<style>text{{font:{FONT}px monospace;white-space:pre}}.b{{font-weight:bold}}"
        f".i{{font-style:italic}}{''.join(css)}</style>"
        f'<rect width="100%" height="100%" rx="8" fill="{BACKGROUND}"/>{"".join(parts)}</svg>\n'
    )


def draw(stretch: Stretch) -> str:
    """Its runs; each has its own place and length, so that no font can put a column out of line."""
    found, column = [], 0
    y = MARGIN + stretch.row * LINE
    for text, (fore, back, bold, italic) in stretch.line:
        x, wide = MARGIN + column * CELL, len(text) * CELL
        if back != BACKGROUND:
            found.append(f'<rect x="{x:g}" y="{y}" width="{wide:g}" height="{LINE}" fill="{back}"/>')
        for words in _WORDS.finditer(text):
            names = " ".join(name for name, on in (("b", bold), ("i", italic)) if on)
            style = f' class="{names}"' if names else ""
            found.append(
                f'<text x="{x + words.start() * CELL:g}" y="{y + FONT}" '
                f'textLength="{len(words[0]) * CELL:g}" fill="{fore}"{style}>{escape(words[0])}</text>'
            )
        column += len(text)
    return "".join(found)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "demo-60.svg")
    out: Path = parser.parse_args().out
    with tempfile.TemporaryDirectory() as folder:
        out.write_text(svg(*record(Path(folder))), encoding="utf-8")
    print(f"{out.name}: {out.stat().st_size // 1024} KiB")


if __name__ == "__main__":
    main()
