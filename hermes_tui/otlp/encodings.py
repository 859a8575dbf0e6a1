"""What a request's headers say about its body: media type and compression, within a limit.

Sources: the OTLP specification, "OTLP/HTTP Request"; RFC 9110, section 8.4.1 (deflate is the zlib
format, which many senders take for raw deflate); RFC 1952 (gzip of several members).
"""

from __future__ import annotations

import zlib

PROTOBUF = "application/x-protobuf"
JSON = "application/json"
MAX_BYTES = 64 * 1024 * 1024
"""Largest request, before and after decompression, when nothing else is configured."""
NO_LIMIT = 2**62
"""For bodies in the journal: they were held against the limit of the day they came."""

_SLICE = 64 * 1024  # of a compressed body at a time: what follows a member is copied with it
_MEMBERS = 10_000  # of one gzip body; an empty one has 20 bytes and costs as much as a thousand
_ZLIB, _RAW, _GZIP = 15, -15, 31  # zlib's `wbits`


class BadRequest(ValueError):
    """The sender's fault; the message says what was wrong, and sending it again will not help."""


class TooLarge(BadRequest):
    """The request is larger than the limit, before or after decompression."""


def media_type(content_type: str) -> str:
    """The media type of a Content-Type header in lower case, without parameters such as charset."""
    return content_type.partition(";")[0].strip().lower()


def decompress(body: bytes, encoding: str, limit: int = NO_LIMIT) -> bytes:
    """The identity bytes of a body with the given Content-Encoding (identity, gzip or deflate).

    Raises BadRequest for an unknown encoding or broken data, TooLarge beyond `limit` bytes; never
    makes more than `limit` + 1 bytes of it.
    """
    encoding = encoding.strip().lower()
    if encoding in ("", "identity") or not body:  # some senders name an encoding for nothing at all
        plain = body
    elif encoding == "gzip":
        plain = _inflate(body, _GZIP, limit, "gzip", _MEMBERS)
    elif encoding == "deflate":
        plain = _undeflate(body, limit)
    else:
        raise BadRequest(f"Content-Encoding {encoding[:80]!r} is not supported; send gzip, deflate or none")
    if len(plain) > limit:
        raise TooLarge(f"request of {len(plain)} bytes; the limit is {limit}")
    return plain


def _undeflate(body: bytes, limit: int) -> bytes:
    try:
        return _inflate(body, _ZLIB, limit, "deflate")
    except TooLarge:
        raise
    except BadRequest as error:
        try:
            return _inflate(body, _RAW, limit, "deflate")
        except TooLarge:
            raise
        except BadRequest:
            raise error from None


def _inflate(body: bytes, wbits: int, limit: int, name: str, members: int = 1) -> bytes:
    view, at, size = memoryview(body), 0, 0
    parts: list[bytes] = []
    try:
        for _ in range(members):
            member = zlib.decompressobj(wbits=wbits)
            while not member.eof:
                if at >= len(view):
                    raise BadRequest(f"{name} body ends too early")
                part = member.decompress(view[at : at + _SLICE], limit - size + 1)
                size += len(part)
                if size > limit:
                    raise TooLarge(f"request of more than {limit} bytes after decompression")
                parts.append(part)
                at = min(at + _SLICE, len(view)) - len(member.unused_data)
            if at == len(view):
                return b"".join(parts)
    except zlib.error as error:
        raise BadRequest(f"body is not valid {name}: {error}") from error
    raise BadRequest(f"{name} body has more behind its end")
