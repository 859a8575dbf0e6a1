"""Compressed bodies: every encoding that is offered, within limits, refusals with a reason."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermes_tui.otlp.encodings import MAX_BYTES, BadRequest, TooLarge, decompress, media_type
from tests.support import body_of, wire_span

BODY = body_of(wire_span(1, session__id="S"), wire_span(2, parent=1))


def raw_deflate(body: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(body) + packer.flush()


PACKERS: list[tuple[str, Callable[[bytes], bytes]]] = [
    ("gzip", gzip.compress),
    ("deflate", zlib.compress),
    ("deflate", raw_deflate),
]
PACKED = [(encoding, pack(BODY)) for encoding, pack in PACKERS]
NAMES = ["gzip", "zlib", "raw deflate"]


@pytest.mark.parametrize("encoding", ["", "identity", " Identity "])
def test_plain_bodies_pass(encoding: str) -> None:
    assert decompress(BODY, encoding) == BODY


@pytest.mark.parametrize(("encoding", "packed"), PACKED, ids=NAMES)
def test_packed_bodies_are_unpacked(encoding: str, packed: bytes) -> None:
    for name in (encoding, encoding.upper(), f" {encoding} "):
        assert decompress(packed, name) == BODY


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_nothing_at_all_needs_no_packing(encoding: str) -> None:
    assert decompress(b"", encoding) == b""


@given(st.binary(max_size=2_000))
def test_any_body_survives_every_encoding(body: bytes) -> None:
    for encoding, pack in PACKERS:
        assert decompress(pack(body), encoding) == body


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=5))
def test_gzip_of_several_members_is_their_concatenation(parts: list[bytes]) -> None:
    assert decompress(b"".join(map(gzip.compress, parts)), "gzip") == b"".join(parts)


def test_members_longer_than_what_is_read_at_a_time() -> None:
    noise = bytes(range(256)) * 2_000
    parts = [noise[at:] + noise[:at] for at in range(3)]
    stored = b"".join(gzip.compress(part, compresslevel=0) for part in parts)
    assert decompress(stored, "gzip") == b"".join(parts)
    assert decompress(zlib.compress(noise, 0), "deflate") == noise


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "x-gzip2"])
def test_an_unknown_encoding_is_refused_by_name(encoding: str) -> None:
    with pytest.raises(BadRequest, match=f"'{encoding}' is not supported; send gzip, deflate or none"):
        decompress(BODY, encoding)


@pytest.mark.parametrize(("encoding", "packed"), PACKED, ids=NAMES)
def test_what_ends_too_early_is_refused(encoding: str, packed: bytes) -> None:
    for at in range(1, len(packed), 7):
        with pytest.raises(BadRequest):
            decompress(packed[:at], encoding)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
@pytest.mark.parametrize(
    "body",
    [
        b"\xff not packed at all",
        gzip.compress(BODY)[:-8] + bytes(8),
        zlib.compress(BODY)[:-4] + bytes(4),
    ],
    ids=["text", "gzip checksum", "zlib checksum"],
)
def test_what_is_not_packed_so_is_refused(encoding: str, body: bytes) -> None:
    with pytest.raises(BadRequest) as caught:
        decompress(body, encoding)
    assert not isinstance(caught.value, TooLarge)


@pytest.mark.parametrize(("encoding", "packed"), PACKED, ids=NAMES)
def test_what_follows_is_refused(encoding: str, packed: bytes) -> None:
    with pytest.raises(BadRequest):
        decompress(packed + b"trailing garbage", encoding)


@pytest.mark.parametrize(("encoding", "packed"), PACKED, ids=NAMES)
def test_one_format_is_not_taken_for_another(encoding: str, packed: bytes) -> None:
    with pytest.raises(BadRequest, match="not valid"):
        decompress(packed, "deflate" if encoding == "gzip" else "gzip")


@pytest.mark.parametrize("members", [1, 40])
@pytest.mark.parametrize(("encoding", "pack"), PACKERS, ids=NAMES)
def test_a_bomb_is_refused_before_it_takes_memory(
    encoding: str, pack: Callable[[bytes], bytes], members: int
) -> None:
    bomb = pack(bytes(200_000_000 // members)) * members
    tracemalloc.start()
    try:
        # Only gzip has members: of the others the first is as large as it is allowed to be.
        with pytest.raises(TooLarge if encoding == "gzip" or members == 1 else BadRequest):
            decompress(bomb, encoding, limit=10_000_000)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 45_000_000


def test_gzip_of_endless_empty_members_is_refused() -> None:
    with pytest.raises(BadRequest, match="more behind its end"):
        decompress(gzip.compress(b"") * 100_000, "gzip")


@pytest.mark.parametrize(("encoding", "pack"), [("", bytes), *PACKERS], ids=["plain", *NAMES])
def test_the_limit_is_allowed_and_one_byte_more_is_not(encoding: str, pack: Callable[[bytes], bytes]) -> None:
    for size in (999, 1_000):
        assert decompress(pack(bytes(size)), encoding, limit=1_000) == bytes(size)
    with pytest.raises(TooLarge, match="1000"):
        decompress(pack(bytes(1_001)), encoding, limit=1_000)


def test_what_is_stored_is_unpacked_whatever_the_limit_is_now() -> None:
    assert MAX_BYTES == 64 * 1024 * 1024
    packed = gzip.compress(bytes(MAX_BYTES + 1), 1)
    assert len(decompress(packed, "gzip")) == MAX_BYTES + 1
    with pytest.raises(TooLarge):
        decompress(packed, "gzip", MAX_BYTES)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("application/json", "application/json"),
        ("Application/JSON; charset=utf-8", "application/json"),
        (" application/x-protobuf ;v=1", "application/x-protobuf"),
        ("", ""),
    ],
)
def test_a_media_type_is_read_without_its_parameters(header: str, expected: str) -> None:
    assert media_type(header) == expected
