"""YAML together with where each value stands, so that one value can be exchanged and nothing else.

The marks are PyYAML's. Positions are characters of the text from 0; lines and columns for people count
from 1.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

_MERGE = "tag:yaml.org,2002:merge"


class YamlError(Exception):
    """The text is no YAML that could be understood. The message repeats none of its values."""

    def __init__(self, problem: str, line: int | None = None, column: int | None = None) -> None:
        super().__init__(problem)
        self.line = line
        self.column = column


@dataclass(frozen=True, slots=True)
class Spot:
    """A value in a text: `node` is what it means, `start` and `end` where it is written.

    An alias is written where its asterisk stands; anchors and tags before a value are left out.
    """

    node: yaml.Node
    start: int
    end: int
    alias: bool = False
    merged: bool = False
    """It comes out of another mapping by `<<`, which is where it is written."""

    @property
    def line(self) -> int:
        return int(self.node.start_mark.line) + 1

    @property
    def column(self) -> int:
        return int(self.node.start_mark.column) + 1


class _Loader(yaml.SafeLoader):
    """Keeps where aliases are written; a node knows only where its anchor is."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.aliases: dict[tuple[int, int], tuple[int, int]] = {}

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if not self.check_event(yaml.AliasEvent):
            return super().compose_node(parent, index)
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]  # the stubs leave it out
        place = index if isinstance(index, int) else id(index)
        self.aliases[id(parent), place] = (event.start_mark.index, event.end_mark.index)
        return super().compose_node(parent, index)


@dataclass(slots=True)
class Marked:
    """A parsed text. `document` is what `yaml.safe_load` makes of it."""

    text: str
    document: Any
    root: yaml.Node | None
    tokens: list[yaml.Token]
    _aliases: dict[tuple[int, int], tuple[int, int]]
    _scalars: dict[int, int] = field(default_factory=dict)

    def entry(self, mapping: yaml.Node | None, name: str) -> Spot | None:
        """The value of `name` in a mapping: of the last one so named, else one merged in by `<<`."""
        if not isinstance(mapping, yaml.MappingNode):
            return None
        merges: list[yaml.Node] = []
        found: Spot | None = None
        for key, value in mapping.value:
            if key.tag == _MERGE:
                merges += reversed(value.value) if isinstance(value, yaml.SequenceNode) else [value]
            elif isinstance(key, yaml.ScalarNode) and key.value == name:
                found = self.written(mapping, key, value)
        if found is not None:
            return found
        for each in reversed(merges):
            spot = self.entry(each, name)
            if spot is not None:
                return Spot(spot.node, spot.start, spot.end, spot.alias, merged=True)
        return None

    def written(self, mapping: yaml.MappingNode, key: yaml.Node, value: yaml.Node) -> Spot:
        """Where the value of one of a mapping's keys is written."""
        return self._spot(value, self._aliases.get((id(mapping), id(key))))

    def items(self, sequence: yaml.Node | None) -> list[Spot]:
        if not isinstance(sequence, yaml.SequenceNode):
            return []
        return [
            self._spot(node, self._aliases.get((id(sequence), index)))
            for index, node in enumerate(sequence.value)
        ]

    def named_scalars(self) -> Iterator[tuple[str, bool, int, int]]:
        """Scalars: the name each belongs to, whether it is among `headers`, and where it is written.

        One that several aliases lead to comes once for each of these.
        """
        seen: set[tuple[int, str, bool]] = set()
        waiting: list[tuple[yaml.Node, str, bool]] = [(self.root, "", False)] if self.root else []
        while waiting:
            node, name, headers = waiting.pop()
            if (id(node), name, headers) in seen:
                continue
            seen.add((id(node), name, headers))
            if isinstance(node, yaml.MappingNode):
                below = headers or name == "headers"
                waiting += [(value, str(key.value).lower(), below) for key, value in node.value]
            elif isinstance(node, yaml.SequenceNode):
                waiting += [(value, name, headers) for value in node.value]
            else:
                spot = self._spot(node, None)
                yield name, headers, spot.start, spot.end

    def _spot(self, node: yaml.Node, alias: tuple[int, int] | None) -> Spot:
        if alias is not None:
            return Spot(node, *alias, alias=True)
        start, end = node.start_mark.index, node.end_mark.index
        if isinstance(node, yaml.ScalarNode):
            start = self._scalars.get(end, end)  # an anchor or a tag stands before the value itself
        return Spot(node, start, end)


def parse(text: str) -> Marked:
    """Raises YamlError. Empty text and comments alone are the document None."""
    try:
        tokens = list(yaml.scan(text, Loader=yaml.SafeLoader))
        document = yaml.safe_load(text)
        loader = _Loader(text)
        try:
            root = loader.get_single_node()
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = (mark.line + 1, mark.column + 1) if mark is not None else (None, None)
        raise YamlError(_problem(error), *where) from error
    except yaml.YAMLError as error:
        raise YamlError("it has a character that YAML does not allow") from error
    except (ValueError, TypeError, RecursionError, OverflowError) as error:
        raise YamlError(f"it has a value that cannot be read ({type(error).__name__})") from error
    scalars = {
        token.end_mark.index: token.start_mark.index
        for token in tokens
        if isinstance(token, yaml.ScalarToken)
    }
    return Marked(text, document, root, tokens, loader.aliases, scalars)


def _problem(error: yaml.MarkedYAMLError) -> str:
    """PyYAML's own words, without those it quotes from the text: one of them may be a password."""
    problem = " ".join(str(error.problem or error.context or "not valid YAML").split())
    return re.sub(r" ?'(?!<)[^']{2,}'", "", problem)
