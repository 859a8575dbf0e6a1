"""How much a body unfolds to in memory, before it is decoded.

An empty protobuf message takes 2 bytes on the wire and 70 once decoded, an empty JSON object 3 and 100:
60 MB of them became 2 to 3 GB and 30 s of work. Real requests stay far below these limits: a span of
Hermes' has 25 attributes in 5 KB.
"""

from __future__ import annotations

import re

from hermes_tui.otlp.encodings import JSON, TooLarge, media_type

MOST_MESSAGES = 2_000_000
"""Resources, scopes, spans, events, links, attributes and items of values in one protobuf request."""

MOST_TOKENS = 4_000_000
"""Objects, arrays their items and texts in one JSON request."""

_FIELDS = 5 * MOST_MESSAGES  # of any kind, also unknown ones: each takes time to walk over
_FIXED = {1: 8, 5: 4}  # bytes by wire type; groups (3 and 4) have none of their own
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)

# What a message holds: field number → (what is inside, whether it is repeated).
_Inside = dict[int, tuple["_Inside", bool]]
_LEAF: _Inside = {}
_VALUE: _Inside = {}
_PAIR: _Inside = {2: (_VALUE, False)}
_VALUE.update({5: ({1: (_VALUE, True)}, False), 6: ({1: (_PAIR, True)}, False)})
_EVENT: _Inside = {3: (_PAIR, True)}
_LINK: _Inside = {4: (_PAIR, True)}
_SPAN: _Inside = {9: (_PAIR, True), 11: (_EVENT, True), 13: (_LINK, True)}
_SCOPE: _Inside = {3: (_PAIR, True)}
_SCOPE_SPANS: _Inside = {1: (_SCOPE, False), 2: (_SPAN, True)}
_RESOURCE: _Inside = {1: (_PAIR, True), 3: (_LEAF, True)}
_RESOURCE_SPANS: _Inside = {1: (_RESOURCE, False), 2: (_SCOPE_SPANS, True)}
_REQUEST: _Inside = {1: (_RESOURCE_SPANS, True)}


def check(body: bytes, content_type: str) -> None:
    """Raise TooLarge when a body unfolds to far more than any sender needs. Broken bytes pass."""
    (check_json if media_type(content_type) == JSON else check_protobuf)(body)


def check_protobuf(body: bytes) -> None:
    """Raise TooLarge when a request holds more messages than any sender needs. Broken bytes pass."""
    if len(body) > 2 * MOST_MESSAGES:
        try:
            _count(body)
        except IndexError:
            return  # it ends in the middle of a field: the decoder says so


def _count(body: bytes) -> None:
    messages, fields = MOST_MESSAGES, _FIELDS
    stack = [(0, len(body), _REQUEST)]
    while stack:
        at, end, inside = stack.pop()
        while at < end:
            tag, at = _varint(body, at)
            wire = tag & 7
            if tag < 8:
                raise IndexError  # there is no field 0
            if wire == 2:
                length, at = _varint(body, at)
                if (known := inside.get(tag >> 3)) is not None:
                    messages -= known[1]
                    if length:
                        stack.append((at, min(at + length, end), known[0]))
                at += length
            elif wire == 0:
                _, at = _varint(body, at)
            else:
                at += _FIXED.get(wire, 0)
            fields -= 1
            if messages < 0 or fields < 0:
                raise TooLarge(f"request holds more than {MOST_MESSAGES} spans, attributes and values")


def _varint(body: bytes, at: int) -> tuple[int, int]:
    byte = body[at]
    if byte < 0x80:
        return byte, at + 1
    number = byte & 0x7F
    for shift in range(7, 70, 7):
        at += 1
        byte = body[at]
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at + 1
    raise IndexError  # longer than any number is


def check_json(body: bytes) -> None:
    """Raise TooLarge when a body holds more values than any sender needs. Broken JSON passes."""
    # What is in texts counts too at first: that is enough for nearly all, and takes no time.
    if len(body) <= MOST_TOKENS or _tokens(body, 0, len(body)) <= MOST_TOKENS:
        return
    count = at = 0
    for text in _STRING.finditer(body):
        count += 1 + _tokens(body, at, text.start())
        at = text.end()
        if count > MOST_TOKENS:
            break
    if count + _tokens(body, at, len(body)) > MOST_TOKENS:
        raise TooLarge(f"request holds more than {MOST_TOKENS} objects and values")


def _tokens(body: bytes, start: int, end: int) -> int:
    return body.count(b"{", start, end) + body.count(b"[", start, end) + body.count(b",", start, end)
