"""Programs' text with what its words are told apart. Pure; the text must be harmless already."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from rich.text import Text

if TYPE_CHECKING:
    from pygments.lexer import Lexer

_MOST = 4_000  # characters; what is longer stays plain

_STYLES = {
    "Comment": "dim italic", "Keyword": "bold", "Name.Builtin": "bold", "Literal.String": "green",
    "Name.Variable": "magenta", "Literal.Number": "", "Operator.Word": "bold",
}  # fmt: skip
"""By the beginning of a token's name. Few colours, that read on light and dark."""


def highlighted(text: str, language: str) -> Text:
    """The same text in styles; `language` is bash or python."""
    if not text or len(text) > _MOST:
        return Text(text)
    found = Text()
    for kind, part in _lexer(language).get_tokens(f"{text}\n"):  # else a comment in the last line is none
        found.append(part, _style(str(kind).removeprefix("Token.")))
    if found.plain != f"{text}\n":
        return Text(text)  # a lexer that changes what it reads is not to be trusted
    return found[: len(text)]


@lru_cache(maxsize=256)
def _style(kind: str) -> str:
    return next((style for name, style in _STYLES.items() if kind.startswith(name)), "")


@lru_cache(maxsize=2)
def _lexer(language: str) -> Lexer:
    from pygments.lexers.python import PythonLexer  # only here: nobody may ever look at a command
    from pygments.lexers.shell import BashLexer

    lexer = PythonLexer if language == "python" else BashLexer
    return lexer(stripnl=False, ensurenl=False)
