"""Whatever is written can be read in every theme: contrasts as WCAG 2 counts them."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from rich.color import Color as RichColor
from rich.segment import Segment
from rich.style import Style
from textual.color import Color
from textual.constants import DIM_FACTOR
from textual.pilot import Pilot
from textual.strip import Strip
from textual.widget import Widget

from hermes_tui.journal.files import StateDir
from hermes_tui.pane_settings import Pane
from hermes_tui.tui import memory, themes
from hermes_tui.tui.app import TraceApp
from hermes_tui.tui.views import VIEWS
from tests.support import wait_for

COLOURED = [name for name in themes.LOOKS if name != themes.PLAIN]
LEAST = {"contrast": 7.0}
NAMES = ("red", "green", "yellow", "blue", "magenta", "cyan")


def contrast(one: Color, other: Color) -> float:
    """The contrast ratio of two opaque colours, from 1 to 21 (WCAG 2.2, relative luminance)."""

    def luminance(colour: Color) -> float:
        parts = (each / 255 for each in colour.rgb)
        red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_contrast_is_counted_as_the_standard_says() -> None:
    assert contrast(Color.parse("#000"), Color.parse("#fff")) == pytest.approx(21)
    assert contrast(Color.parse("#777"), Color.parse("#fff")) == pytest.approx(4.48, abs=0.01)


async def show(app: TraceApp, pilot: Pilot[None], name: str) -> None:
    app.use_theme(name)
    await pilot.pause()


def pairs(widget: Widget, *names: str) -> tuple[Color, Color]:
    style = widget.get_visual_style(*names).rich_style
    assert style.color is not None
    assert style.bgcolor is not None
    return Color.from_rich_color(style.color), Color.from_rich_color(style.bgcolor)


@pytest.mark.parametrize("name", COLOURED)
async def test_every_style_of_a_row_is_legible(state: StateDir, name: str) -> None:
    least = LEAST.get(name, 4.5)
    app = TraceApp(state)
    async with app.run_test(size=(60, 20)) as pilot:
        await show(app, pilot, name)
        faint = {}
        for widget in [app.board._views.turn_to(view.name) for view in VIEWS]:
            for style in sorted(widget.COMPONENT_CLASSES):
                for names in ((style,), ("row--cursor", style)):
                    ratio = contrast(*pairs(widget, *names))
                    if ratio < least:
                        faint[(widget.id, *names)] = round(ratio, 2)
        assert not faint
        plain = pairs(app.board.trace_tree, "row--command")[1]
        assert pairs(app.board.trace_tree, "row--cursor", "row--command")[1] != plain, "no cursor is seen"


def texts(app: TraceApp) -> Iterator[tuple[str, Color, Color]]:
    """What is not a row: text, text made dim, and colours by name, on each background there is."""
    variables = app.theme_variables
    ink = Color.parse(variables["foreground"])
    for ground in ("background", "surface", "row-cursor"):
        paper = Color.parse(variables[ground])
        yield f"text on {ground}", ink, paper
        yield f"dim on {ground}", paper.blend(ink, DIM_FACTOR), paper
        for name in NAMES:
            triplet = RichColor.parse(name).get_truecolor(app.ansi_theme)
            yield f"{name} on {ground}", Color(*triplet), paper


@pytest.mark.parametrize("name", COLOURED)
async def test_everything_else_is_legible(state: StateDir, name: str) -> None:
    app = TraceApp(state)
    async with app.run_test(size=(60, 20)) as pilot:
        await show(app, pilot, name)
        found = {what: contrast(ink, paper) for what, ink, paper in texts(app)}
        assert not {what: round(ratio, 2) for what, ratio in found.items() if ratio < LEAST.get(name, 4.5)}
        variables = app.theme_variables
        chosen = Color.parse(variables["block-cursor-background"])
        said = variables["block-cursor-foreground"]
        ink = chosen + chosen.get_contrast_text(0.87) if "auto" in said else Color.parse(said)
        assert contrast(ink, chosen) >= 4.5


async def test_plain_has_no_colour_and_goes_again(state: StateDir) -> None:
    app = TraceApp(state)
    async with app.run_test(size=(60, 20)) as pilot:
        for name, coloured in (("plain", False), ("light", True)):
            await show(app, pilot, name)
            styles = [s.style for strip in app.screen._compositor.render_strips(app.size) for s in strip]
            seen = [
                c for s in styles if s for c in (s.color, s.bgcolor) if c is not None and not c.is_default
            ]
            assert bool(seen) is coloured, name
            assert app.no_color is not coloured


@pytest.mark.parametrize(
    ("wanted", "remembered", "environment", "first"),
    [
        ("auto", None, {}, "dark"),
        ("auto", "light", {}, "light"),
        ("auto", "mauve", {}, "dark"),
        ("auto", ["light"], {}, "dark"),
        ("auto", "light", {"NO_COLOR": "1"}, "plain"),
        ("auto", "light", {"NO_COLOR": ""}, "light"),
        ("contrast", "light", {"NO_COLOR": "1"}, "contrast"),
    ],
)
def test_the_first_theme(wanted: str, remembered: object, environment: dict[str, str], first: str) -> None:
    assert themes.first(wanted, remembered, environment) == first


async def test_a_theme_is_remembered(state: StateDir) -> None:
    app = TraceApp(state)
    async with app.run_test(size=(60, 20)) as pilot:
        assert app.theme == "dark"
        await show(app, pilot, "light")
        wait_for(lambda: memory.recall(state).get("theme") == "light")
    again = TraceApp(state)
    async with again.run_test(size=(60, 20)) as pilot:
        await pilot.pause()
        assert again.theme == "light"
        paper = Color.parse(again.theme_variables["background"])
        drawn = [each.style for strip in again.screen._compositor.render_strips(again.size) for each in strip]
        assert any(style and style.bgcolor == paper.rich_color for style in drawn)
        (named,) = Strip([Segment("x", Style(color="green"))]).apply_filter(
            again.get_line_filters()[0], paper
        )
        assert named.style is not None
        assert named.style.color is not None
        assert contrast(Color.from_rich_color(named.style.color), paper) >= 4.5
    assert TraceApp(state, wanted_pane=Pane(theme="contrast")).theme == "contrast"
    assert state.pane.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 60_000, b'{"theme": 7}', b"x" * 10**6]
)
def test_a_broken_memory_is_left_out_and_mended(
    state: StateDir, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    state.create()
    state.pane.write_bytes(content)
    assert TraceApp(state).theme == "dark"
    assert content == b'{"theme": 7}' or str(state.pane) in caplog.text
    memory.remember(state, theme="light")
    assert json.loads(state.pane.read_text())["theme"] == "light"


def test_what_cannot_be_remembered_is_said_in_the_log(
    state: StateDir, caplog: pytest.LogCaptureFixture
) -> None:
    state.create()
    state.pane.mkdir()
    memory.remember(state, theme="light")
    assert "cannot be written" in caplog.text
