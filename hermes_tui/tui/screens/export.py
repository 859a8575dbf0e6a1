"""Choose how commands are to be written down."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

FORMS = (
    ("sh", "s", "shell script to read"),
    ("md", "m", "Markdown with outputs"),
    ("json", "j", "as `commands --json`"),
)


class ExportScreen(ModalScreen[str | None]):
    """Its result is the form chosen (sh, md, json), or None."""

    BINDINGS: ClassVar[list[BindingType]] = [
        *(Binding(key, f"dismiss('{form}')", words, show=False) for form, key, words in FORMS),
        Binding("escape,q,X", "dismiss(None)", "Close"),
    ]

    def __init__(self, title: str) -> None:
        super().__init__()
        self._title = title

    def compose(self) -> ComposeResult:
        with Vertical(id="export"):
            yield Static(Text(self._title, "bold"))
            yield OptionList(*(Option(Text(f"{key}  {form:<4}  {words}")) for form, key, words in FORMS))

    def on_mount(self) -> None:
        self.query_one(OptionList).focus()

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(FORMS[event.option_index][0])
