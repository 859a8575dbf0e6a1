"""Change one value of a YAML text and not one character more.

Where a value stands is known from PyYAML's marks, so comments, order, quotes, anchors, flow style and
line endings stay. Every result is parsed again and must mean what was meant: whatever this module does
not understand is refused, not guessed at.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from hermes_tui.hermes import marked_yaml
from hermes_tui.hermes.marked_yaml import Marked, Spot

_BREAKS = "\r\n\x85\u2028\u2029"
_PLAIN = re.compile(r"[\w./$][\w./:@+~${}-]*(?<!:)")  # what nobody would put in quotes
_WHERE_FLOW_ENDS = frozenset(",[]{}")

Path = Sequence[str | int]
Scalar = str | bool | int


class CannotEdit(Exception):
    """The text is left alone. The message says why, and repeats nothing of the text."""


def assign(text: str, path: Path, value: Scalar, *, after: str | None = None) -> str:
    """`text` with the scalar at `path` (names and positions) being `value`; missing names are added.

    A new name comes behind the name `after`, or at the end of its mapping. Raises CannotEdit.
    """
    marked = _parse(text)
    expected = copy.deepcopy(marked.document)
    expected = _put(expected, path, value)
    edited = _assign(marked, list(path), value, after)
    _check(edited, expected)
    return edited


def append(text: str, path: Path, entry: Mapping[str, Any]) -> str:
    """`text` with `entry` as the last one of the list at `path`, which is begun if need be.

    Values are text, yes or no, and mappings of these. Raises CannotEdit.
    """
    marked = _parse(text)
    listed = _get(marked.document, path)
    if listed is not None and not isinstance(listed, list):
        raise CannotEdit(f"{_name(path)} is not a list")
    expected = _put(copy.deepcopy(marked.document), path, [*(copy.deepcopy(listed) or []), dict(entry)])
    edited = _append(marked, list(path), entry)
    _check(edited, expected)
    return edited


def lines(entry: Mapping[str, Any], indentation: str = "", dash: str = "") -> list[str]:
    """A mapping in block style, without line breaks; `dash` begins the first line of a list's entry."""
    found: list[str] = []
    for name, value in entry.items():
        before = indentation + (dash if not found else " " * len(dash))
        if isinstance(value, Mapping):
            found += [f"{before}{literal(name)}:", *lines(value, indentation + " " * len(dash) + "  ")]
        else:
            found.append(f"{before}{literal(name)}: {literal(value)}")
    return found


def flow(entry: Mapping[str, Any]) -> str:
    """A mapping in flow style, on one line."""
    parts = []
    for name, value in entry.items():
        text = flow(value) if isinstance(value, Mapping) else literal(value, flow=True)
        parts.append(f"{literal(name, flow=True)}: {text}")
    return "{" + ", ".join(parts) + "}"


def literal(value: Scalar, style: str | None = None, *, flow: bool = False) -> str:
    """A scalar as YAML, in quotes of this `style`, without any if none are needed."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if style == "'" and value.isprintable():
        return "'" + value.replace("'", "''") + "'"
    try:
        plain = style is None and _PLAIN.fullmatch(value) and yaml.safe_load(value) == value
    except (yaml.YAMLError, ValueError):
        plain = False
    if plain and not (flow and set(value) & _WHERE_FLOW_ENDS):
        return value
    return json.dumps(value, ensure_ascii=False)


def _parse(text: str) -> Marked:
    try:
        return marked_yaml.parse(text)
    except marked_yaml.YamlError as error:
        raise CannotEdit(f"it is not valid YAML: {error}") from error


def _assign(marked: Marked, path: list[str | int], value: Scalar, after: str | None) -> str:
    *above, last = path
    parent, missing = _deepest(marked, above)
    if missing or not isinstance(last, str):
        return _add(marked, parent, _nested([*missing, last], value), None)
    spot = marked.entry(parent.node, last) if parent is not None else None
    if spot is None or spot.merged:
        return _add(marked, parent, {last: value}, after)
    if spot.alias:
        return _cut(marked, spot.start, spot.end, _literal_there(marked, parent, value, None))
    return _exchange(marked, parent, spot, value)


def _exchange(marked: Marked, parent: Spot | None, spot: Spot, value: Scalar) -> str:
    if not isinstance(spot.node, yaml.ScalarNode):
        raise CannotEdit("there is more than a single value")
    text, style, start, end = marked.text, spot.node.style, spot.start, spot.end
    if start == end:  # nothing is written: it begins right behind the colon
        return _cut(marked, start, end, " " + _literal_there(marked, parent, value, None))
    if style in ("|", ">"):
        if "#" in text[start : _line_end(text, start)]:
            raise CannotEdit("the value is a block of text with a comment")
        while text[end - 1] in _BREAKS:
            end -= 1
        style = None
    return _cut(marked, start, end, _literal_there(marked, parent, value, style))


def _literal_there(marked: Marked, parent: Spot | None, value: Scalar, style: str | None) -> str:
    return literal(value, style, flow=parent is not None and _is_flow(marked, parent.node))


def _append(marked: Marked, path: list[str | int], entry: Mapping[str, Any]) -> str:
    parent, missing = _deepest(marked, path[:-1])
    spot = marked.entry(parent.node, str(path[-1])) if parent is not None and not missing else None
    if spot is None or missing:
        return _add(marked, parent, _nested([*missing, path[-1]], [dict(entry)]), None)
    if spot.alias or spot.merged:
        raise CannotEdit(f"{_name(path)} is a reference to another place")
    items = marked.items(spot.node)
    if isinstance(spot.node, yaml.SequenceNode) and _is_flow(marked, spot.node):
        at = _value_end(marked, items[-1]) if items else _opening(marked, spot.node) + 1
        return _cut(marked, at, at, (", " if items else "") + flow(entry))
    if not items:
        return _begin_list(marked, parent, spot, entry)
    dashes = [
        token.start_mark
        for token in marked.tokens
        if isinstance(token, yaml.BlockEntryToken) and token.start_mark.index >= spot.node.start_mark.index
    ]
    column = dashes[0].column
    first = items[0].node.start_mark
    wide = first.column - column if first.line == dashes[0].line and not items[0].alias else 2
    return _insert_lines(marked, _value_end(marked, items[-1]), lines(entry, " " * column, "-".ljust(wide)))


def _begin_list(marked: Marked, parent: Spot | None, spot: Spot, entry: Mapping[str, Any]) -> str:
    if parent is not None and _is_flow(marked, parent.node):
        return _cut(marked, spot.start, spot.end, f" [{flow(entry)}]")
    if spot.start != spot.end:
        raise CannotEdit("the list is written as an explicit nothing")
    indentation = " " * _column(parent.node if parent is not None else None)
    return _insert_lines(marked, spot.end, lines(entry, indentation + "  ", "- "))


def _add(marked: Marked, parent: Spot | None, names: Mapping[str, Any], after: str | None) -> str:
    """Names that a mapping lacks, behind the name `after` or its last one; at the end of an empty text."""
    if parent is None:
        if marked.document is not None:
            raise CannotEdit("expected names and values")
        return _insert_lines(marked, len(marked.text), _all_lines(names))
    node = parent.node
    if not isinstance(node, yaml.MappingNode):
        if isinstance(node, yaml.ScalarNode) and parent.start == parent.end:
            raise CannotEdit("it has a name without a value where names and values belong")
        raise CannotEdit("expected names and values")
    behind = marked.entry(node, after) if after is not None else None
    if behind is None or behind.merged:
        behind = _last(marked, node)
    if _is_flow(marked, node):
        at = _value_end(marked, behind) if behind is not None else _opening(marked, node) + 1
        inner = _all_flow(names)
        return _cut(marked, at, at, (", " if behind is not None else "") + inner)
    if behind is None:
        raise CannotEdit("expected names and values")
    return _insert_lines(marked, _value_end(marked, behind), _all_lines(names, " " * _column(node)))


def _all_lines(names: Mapping[str, Any], indentation: str = "") -> list[str]:
    found: list[str] = []
    for name, value in names.items():
        if isinstance(value, list):
            found.append(f"{indentation}{name}:")
            for entry in value:
                found += lines(entry, indentation + "  ", "- ")
        else:
            found += lines({name: value}, indentation)
    return found


def _all_flow(names: Mapping[str, Any]) -> str:
    parts = []
    for name, value in names.items():
        listed = isinstance(value, list)
        parts.append(f"{name}: [{', '.join(map(flow, value))}]" if listed else flow({name: value})[1:-1])
    return ", ".join(parts)


def _deepest(marked: Marked, path: Path) -> tuple[Spot | None, list[str]]:
    """The last value on the way along `path` that exists, and the names from there on that do not."""
    if marked.root is None:
        return None, [str(each) for each in path]
    spot = Spot(marked.root, marked.root.start_mark.index, marked.root.end_mark.index)
    for depth, each in enumerate(path):
        if isinstance(each, int):
            spot = marked.items(spot.node)[each]
            continue
        found = marked.entry(spot.node, each)
        if found is None:
            return spot, [str(name) for name in path[depth:]]
        spot = found
    return spot, []


def _last(marked: Marked, node: yaml.MappingNode) -> Spot | None:
    """The value that is written last in a mapping."""
    if not node.value:
        return None
    key, value = node.value[-1]
    return marked.written(node, key, value)


def _value_end(marked: Marked, spot: Spot) -> int:
    """Where the last character of a value is, behind it."""
    if spot.alias or isinstance(spot.node, yaml.ScalarNode) or _is_flow(marked, spot.node):
        return spot.end
    if isinstance(spot.node, yaml.MappingNode):
        last = _last(marked, spot.node)
    else:
        items = marked.items(spot.node)
        last = items[-1] if items else None
    return spot.end if last is None else _value_end(marked, last)


def _is_flow(marked: Marked, node: yaml.Node) -> bool:
    return bool(getattr(node, "flow_style", False))


def _opening(marked: Marked, node: yaml.Node) -> int:
    """Where the bracket of a collection in flow style stands, behind its anchor and tag."""
    kinds = (yaml.FlowMappingStartToken, yaml.FlowSequenceStartToken)
    starts = (token.start_mark.index for token in marked.tokens if isinstance(token, kinds))
    return next(int(start) for start in starts if start >= node.start_mark.index)


def _column(node: yaml.Node | None) -> int:
    """The column of a block mapping's names."""
    if not isinstance(node, yaml.MappingNode) or not node.value:
        return 0
    return int(node.value[0][0].start_mark.column)


def _insert_lines(marked: Marked, at: int, new: Sequence[str]) -> str:
    """Whole lines behind the line that `at` is in; before it, when `at` is where a line begins."""
    text, newline = marked.text, _newline(marked.text, at)
    if at == 0 or text[at - 1] in _BREAKS:
        return _cut(marked, at, at, "".join(line + newline for line in new))
    end = _line_end(text, at)
    return _cut(marked, end, end, "".join(newline + line for line in new))


def _newline(text: str, at: int) -> str:
    """The line ending in use around a place."""
    end = _line_end(text, at)
    if end == len(text):
        before = [index for index, each in enumerate(text[:at]) if each in _BREAKS]
        if not before:
            return "\n"
        end = before[-1]
        if text[end] == "\n" and end and text[end - 1] == "\r":
            end -= 1
    return "\r\n" if text[end : end + 2] == "\r\n" else text[end]


def _line_end(text: str, at: int) -> int:
    return next((index for index in range(at, len(text)) if text[index] in _BREAKS), len(text))


def _cut(marked: Marked, start: int, end: int, new: str) -> str:
    return marked.text[:start] + new + marked.text[end:]


def _check(edited: str, expected: Any) -> None:
    try:
        found = marked_yaml.parse(edited).document
        alike = _alike(found, expected)
    except (marked_yaml.YamlError, RecursionError):
        alike = False
    if not alike:
        raise CannotEdit("changing it would change more than this value")


def _alike(one: Any, other: Any) -> bool:
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_alike(one[name], other[name]) for name in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(_alike, one, other))
    return bool(one == other or (one != one and other != other))


def _get(document: Any, path: Path) -> Any:
    for each in path:
        document = document.get(each) if isinstance(document, dict) else None
    return document


def _put(document: Any, path: Path, value: Any) -> Any:
    """`document` with `value` at `path`, changed in place: what an anchor shares changes everywhere."""
    if not path:
        return value
    first, *rest = path
    if isinstance(first, int):
        if not isinstance(document, list) or not 0 <= first < len(document):
            raise CannotEdit(f"there is no entry {first + 1}")
        document[first] = _put(document[first], rest, value)
        return document
    if document is None:
        document = {}
    if not isinstance(document, dict):
        raise CannotEdit("expected names and values")
    document[first] = _put(document.get(first), rest, value)
    return document


def _nested(names: Sequence[str | int], value: Any) -> dict[str, Any]:
    for name in reversed(names):
        value = {str(name): value}
    return dict(value)


def _name(path: Path) -> str:
    return "`" + ".".join(map(str, path)) + "`"
