"""What a command asks before it changes something, on a terminal and without one."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass

import click

from hermes_tui import neutral
from hermes_tui.commands.common import fail


@dataclass(frozen=True, slots=True)
class Asking:
    """What may be asked and done without."""

    dry_run: bool
    yes: bool

    @property
    def possible(self) -> bool:
        return sys.stdin.isatty() and sys.stderr.isatty()

    def text(self, question: str, default: str | None, option: str) -> str:
        if not self.possible:
            fail(f"{question}? Say so with {option}.")
        answer: str = click.prompt(question, default=default, err=True)
        return answer.strip()

    def go_on(self, question: str) -> None:
        """Returns when it is to be done."""
        if self.dry_run:
            say(["Nothing was changed: --dry-run."])
            sys.exit(0)
        if self.yes:
            return
        if not self.possible:
            fail("nothing was changed; to go on, say the same with --yes")
        if not click.confirm(question, default=True, err=True):
            fail("nothing was changed", 1)


def say(lines: Iterable[str]) -> None:
    """Lines on standard output, made harmless."""
    for line in lines:
        click.echo(neutral.line(line))
