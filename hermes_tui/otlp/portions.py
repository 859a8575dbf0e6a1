"""Several requests as one, and parts of one: what a forwarder does to requests without reading them.

Everything works on uncompressed bodies and keeps fields that nobody here knows.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from hermes_tui.otlp import json_format
from hermes_tui.otlp.codec import Request
from hermes_tui.otlp.encodings import JSON, PROTOBUF, BadRequest, media_type

Identity = tuple[bytes, bytes, int]
"""(trace id, span id, end in ns), as `Request.ids` gives them."""


def merge(bodies: Sequence[bytes], content_type: str) -> bytes:
    """Several bodies of one media type as one with the spans of all, in their order.

    Concatenated protobuf messages are one message with all their fields (Protocol Buffers encoding,
    "Last One Wins"). Of JSON, fields beside the spans are those of the first body. Raises BadRequest
    for another media type and for JSON that is none.
    """
    kind = media_type(content_type)
    if kind == PROTOBUF:
        return b"".join(bodies)
    if kind != JSON:
        raise BadRequest(f"bodies of type {kind[:80]!r} cannot be merged")
    if len(bodies) == 1:
        return bodies[0]
    documents = [json_format.load(body) for body in bodies]
    merged = documents[0] if documents else {}
    resources = [each for document in documents for each in _children(document, "resourceSpans")]
    _replace(merged, "resourceSpans", resources)
    return _encoded(merged)


def pick(body: bytes, content_type: str, wanted: Collection[Identity]) -> bytes:
    """The same request with the wanted spans only; scopes and resources without any are left out.

    Raises BadRequest when the body is not a request of this type.
    """
    request = Request(body, content_type)
    chosen = [identity in wanted for identity in request.ids()]
    if all(chosen):
        return body
    flags = iter(chosen)
    if media_type(content_type) == JSON:
        document = json_format.load(body)
        _pick_json(document, flags)
        return _encoded(document)
    _pick_message(request.message, flags)
    return bytes(request.message.SerializeToString())


def _pick_message(message: Any, chosen: Iterator[bool]) -> None:
    for resource_spans in message.resource_spans:
        for scope_spans in resource_spans.scope_spans:
            _keep(scope_spans.spans, [span for span in scope_spans.spans if next(chosen)])
        _keep(resource_spans.scope_spans, [scope for scope in resource_spans.scope_spans if scope.spans])
    _keep(message.resource_spans, [each for each in message.resource_spans if each.scope_spans])


def _keep(items: Any, kept: list[Any]) -> None:
    if len(kept) < len(items):
        del items[:]
        items.extend(kept)


def _pick_json(document: dict[str, Any], chosen: Iterator[bool]) -> None:
    resources = []
    for resource in _children(document, "resourceSpans"):
        scopes = []
        for scope in _children(resource, "scopeSpans"):
            spans = [span for span in _children(scope, "spans") if next(chosen)]
            if spans:
                _replace(scope, "spans", spans)
                scopes.append(scope)
        if scopes:
            _replace(resource, "scopeSpans", scopes)
            resources.append(resource)
    _replace(document, "resourceSpans", resources)


_SNAKE = {"resourceSpans": "resource_spans", "scopeSpans": "scope_spans", "spans": "spans"}


def _children(parent: dict[str, Any], name: str) -> list[Any]:
    """The items of a list in the order in which they are read, whichever way its name is written."""
    names = (name, _SNAKE[name])
    return [item for key, value in parent.items() if key in names and value for item in value]


def _replace(parent: dict[str, Any], name: str, items: list[Any]) -> None:
    parent.pop(_SNAKE[name], None)
    parent[name] = items


def _encoded(document: dict[str, Any]) -> bytes:
    try:
        return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:  # half of a character, where a sender has cut a text
        return json.dumps(document, separators=(",", ":")).encode()
