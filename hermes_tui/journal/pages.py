"""Rows straight from the pages of a SQLite file, whatever SQLite says of it.

Only leaves are looked at, so a lost root or inner page of a table costs nothing. Sources: "Database File
Format" (sqlite.org/fileformat2.html), sections 1.3 header, 1.6 b-tree pages, 2.1 records, 4 the
write-ahead log with its checksums.
"""

from __future__ import annotations

import os
import struct
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

PAGE_SIZE = 8192
"""Of every journal that this program made; what to go by when both headers are lost."""

_MAGIC = b"SQLite format 3\x00"
_WAL_MAGIC = 0x377F0682  # checksums of little-endian words; one more: of big-endian ones
_WAL_HEADER, _FRAME_HEADER = 32, 24
_TABLE_LEAF, _INDEX_LEAF, _INDEX_INNER = 0x0D, 0x0A, 0x02
_SIZES = (0, 1, 2, 3, 4, 6, 8, 8, 0, 0)  # bytes of a value by serial type; 12 and more: blobs and texts
_MASK = 0xFFFFFFFF
_GENERATIONS = 2**16  # how far apart the numbers of two generations of one log can be

Value = int | float | str | bytes | None
Salts = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Frame:
    """One page in the write-ahead log. `at` is where its content begins; `committed` ends a transaction."""

    page: int
    pages: int
    salts: Salts
    sums: tuple[int, int]
    at: int

    @property
    def committed(self) -> bool:
        return self.pages > 0

    @property
    def blank(self) -> bool:
        return not any((self.page, self.pages, *self.salts, *self.sums))

    @property
    def plausible(self) -> bool:
        return 0 < self.page < 2**24 and self.pages < 2**24


class Log:
    """A write-ahead log, read with tolerance: SQLite stops at the first broken frame, this goes on behind."""

    def __init__(self, path: Path) -> None:
        self._file = File(path)
        header = self._file.read(0, _WAL_HEADER)
        self.page_size, self._order, self._salts, self._sums = 0, "<", (0, 0), (0, 0)
        self.sound = False
        if len(header) == _WAL_HEADER:
            magic, _, size, _, *rest = struct.unpack(">8I", header)
            self._order = ">" if magic & 1 else "<"
            self.sound = magic & ~1 == _WAL_MAGIC and _sums(header[:24], self._order) == tuple(rest[2:])
            if self.sound:
                self.page_size, self._salts, self._sums = size, (rest[0], rest[1]), (rest[2], rest[3])

    def close(self) -> None:
        self._file.close()

    def survey(self, page_size: int = PAGE_SIZE) -> tuple[int, int]:
        """Judged by their headers alone: frames up to the last committed one, which is what SQLite should
        know, and frames that were never written by it.
        """
        frames, salts = self._generation(page_size)
        committed = max((n for n, f in enumerate(frames, 1) if f.salts == salts and f.committed), default=0)
        return committed, sum(not frame.blank and not _before(frame.salts, salts) for frame in frames)

    def latest(self, page_size: int) -> tuple[dict[int, int], int]:
        """Where in the log the newest sound version of each page begins, and how many pages there are."""
        frames, salts = self._generation(page_size)
        pages: dict[int, int] = {}
        fresh: dict[int, int] = {}
        count = 0
        before: Frame | None = None
        for frame in frames:
            if frame.salts == salts and self._sound(frame, before, salts, page_size):
                fresh[frame.page] = frame.at
                if frame.committed:
                    pages |= fresh
                    fresh, count = {}, frame.pages
            before = frame
        return pages, count

    def read(self, at: int, size: int) -> bytes:
        return self._file.read(at, size)

    def _generation(self, page_size: int) -> tuple[list[Frame], Salts]:
        """All frames, and what marks those of the newest generation: older ones lie behind it."""
        step = _FRAME_HEADER + (self.page_size or page_size)
        starts = range(_WAL_HEADER, self._file.size - step + 1, step)
        frames = [_frame(self._file.read(at, _FRAME_HEADER), at) for at in starts]
        if self.sound:
            return frames, self._salts
        seen = Counter(frame.salts for frame in frames if frame.plausible)
        if not seen:
            return frames, (0, 0)
        (common, _), *_ = seen.most_common(1)
        ahead = {(salts[0] - common[0]) & _MASK: salts for salts in seen}
        return frames, ahead[max(step for step in ahead if step < _GENERATIONS)]

    def _sound(self, frame: Frame, before: Frame | None, salts: Salts, page_size: int) -> bool:
        """Whether the checksum holds; yes where that of the frame before, which it goes on from, is lost."""
        if before is None:
            if not self.sound:
                return True
            seed = self._sums
        elif before.salts != salts:
            return True
        else:
            seed = before.sums
        start = self._file.read(frame.at - _FRAME_HEADER, 8)
        content = self._file.read(frame.at, self.page_size or page_size)
        return _sums(start + content, self._order, seed) == frame.sums


def _before(salts: Salts, newest: Salts) -> bool:
    """Whether a frame is of this generation or an older one; their first salt counts up."""
    return salts == newest or 0 < (newest[0] - salts[0]) & _MASK < _GENERATIONS


def _frame(header: bytes, at: int) -> Frame:
    if len(header) < _FRAME_HEADER:
        return Frame(0, 0, (0, 0), (0, 0), at + _FRAME_HEADER)
    page, pages, *rest = struct.unpack(">6I", header)
    return Frame(page, pages, (rest[0], rest[1]), (rest[2], rest[3]), at + _FRAME_HEADER)


def _sums(data: bytes, order: str, seed: tuple[int, int] = (0, 0)) -> tuple[int, int]:
    first, second = seed
    for one, two in struct.iter_unpack(f"{order}II", data[: len(data) // 8 * 8]):
        first = (first + one + second) & _MASK
        second = (second + two + first) & _MASK
    return first, second


class File:
    """Bytes by their place. What cannot be read is empty: a failing disk must not end the salvage."""

    def __init__(self, path: Path) -> None:
        self._descriptor = -1
        self.size = 0
        try:
            self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            self.size = os.fstat(self._descriptor).st_size
        except OSError:
            self.close()

    def read(self, at: int, size: int) -> bytes:
        if self._descriptor < 0:
            return b""
        try:
            return os.pread(self._descriptor, size, at)
        except OSError:
            return b""

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1


@dataclass(frozen=True, slots=True)
class Place:
    """Where a row lies: in the newest version of a page, or in what the file itself has of it."""

    page: int
    cell: int
    plain: bool


@dataclass(slots=True)
class Row:
    """A row before its values are read. `rowid` is None in a table without one (and in an index)."""

    place: Place
    rowid: int | None
    types: Sequence[int]
    _size: int = field(repr=False)
    _header: int = field(repr=False)
    _start: bytes = field(repr=False)
    _more: int = field(repr=False)

    def fits(self) -> bool:
        return self._header + sum(map(_length, self.types)) == self._size


class Pages:
    """A SQLite file with its write-ahead log laid over it."""

    def __init__(self, path: Path) -> None:
        self._file = File(path)
        self._log = Log(path.with_name(f"{path.name}-wal"))
        self._size = self._page_size()
        self._latest, count = self._log.latest(self._size)
        most = max(-(-self._file.size // self._size), max(self._latest, default=0))
        # Without its header nobody knows whether the log is newer than the file.
        self._count = count if count and self._log.sound else most

    def close(self) -> None:
        self._file.close()
        self._log.close()

    def rows(self) -> Iterator[Row]:
        """Every row in a leaf, the newest versions of all pages first.

        Behind them come the rows of older versions: they are all there is where the log is broken.
        """
        for number in range(1, self._count + 1):
            yield from self._rows(number, plain=False)
        for number in sorted(self._latest):
            yield from self._rows(number, plain=True)

    def row(self, place: Place) -> Row | None:
        """The row at a place."""
        data = self._page(place.page, plain=place.plain)
        return self._row(data, place) if data else None

    def values(self, row: Row) -> list[Value] | None:
        """A row's values; None when a part of it is lost."""
        data = self._whole(row)
        if data is None:
            return None
        values: list[Value] = []
        at = row._header
        for kind in row.types:
            end = at + _length(kind)
            try:
                values.append(_value(kind, data[at:end]))
            except UnicodeDecodeError:
                return None
            at = end
        return values

    def _page_size(self) -> int:
        header = self._file.read(0, 100)
        if header.startswith(_MAGIC) and len(header) == 100:
            size = int.from_bytes(header[16:18], "big")
            size = 65536 if size == 1 else size
            if 512 <= size <= 65536 and size & (size - 1) == 0:
                return size
        return self._log.page_size or PAGE_SIZE

    def _page(self, number: int, *, plain: bool) -> bytes:
        """A page, empty when it is not there whole."""
        if not plain and (at := self._latest.get(number)) is not None:
            data = self._log.read(at, self._size)
        else:
            data = self._file.read((number - 1) * self._size, self._size)
        return data if len(data) == self._size else b""

    def _rows(self, number: int, *, plain: bool) -> Iterator[Row]:
        data = self._page(number, plain=plain)
        begin = 100 if number == 1 else 0
        if not data or data[begin] not in (_TABLE_LEAF, _INDEX_LEAF, _INDEX_INNER):
            return
        cells = int.from_bytes(data[begin + 3 : begin + 5], "big")
        first = begin + (12 if data[begin] == _INDEX_INNER else 8)
        for at in range(first, min(first + 2 * cells, self._size - 1), 2):
            cell = int.from_bytes(data[at : at + 2], "big")
            if first <= cell < self._size and (row := self._row(data, Place(number, cell, plain))):
                yield row

    def _row(self, data: bytes, place: Place) -> Row | None:
        kind = data[100 if place.page == 1 else 0]
        at = place.cell + (4 if kind == _INDEX_INNER else 0)
        size, at = _varint(data, at)
        rowid: int | None = None
        if kind == _TABLE_LEAF:
            rowid, at = _varint(data, at)
        local = self._local(kind, size)
        start = data[at : at + local]
        if len(start) < local or local == 0:
            return None
        more = int.from_bytes(data[at + local : at + local + 4], "big") if local < size else 0
        header, at = _varint(start, 0)
        types = []
        while at < min(header, len(start)):
            one, at = _varint(start, at)
            types.append(one)
        row = Row(place, rowid, types, size, header, start, more)
        return row if at == header and row.fits() else None

    def _local(self, kind: int, size: int) -> int:
        """Bytes of a row of `size` bytes that lie in its leaf; the rest is in overflow pages."""
        usable = self._size
        most = usable - 35 if kind == _TABLE_LEAF else (usable - 12) * 64 // 255 - 23
        if size <= most:
            return size
        least = (usable - 12) * 32 // 255 - 23
        kept = least + (size - least) % (usable - 4)
        return kept if kept <= most else least

    def _whole(self, row: Row) -> bytes | None:
        parts, missing, number = [row._start], row._size - len(row._start), row._more
        while missing > 0:
            data = self._page(number, plain=row.place.plain) if 0 < number <= self._count else b""
            if not data:
                return None
            number = int.from_bytes(data[:4], "big")
            parts.append(data[4 : 4 + missing])
            missing -= len(parts[-1])
        return None if number and row._more else b"".join(parts)  # the last one names no other


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number of one to nine bytes and where it ends; bytes behind the end count as zero."""
    number = 0
    for count in range(9):
        byte = data[at] if at < len(data) else 0
        at += 1
        if count == 8:
            number = number << 8 | byte
            break
        number = number << 7 | byte & 0x7F
        if byte < 0x80:
            break
    return (number - 2**64 if number >= 2**63 else number), at


def _length(kind: int) -> int:
    if kind >= 12:
        return (kind - 12) // 2
    return _SIZES[kind] if 0 <= kind < len(_SIZES) else 2**40  # such a type does not exist: nothing fits


def _value(kind: int, data: bytes) -> Value:
    if kind == 0:
        return None
    if kind in (8, 9):
        return kind - 8
    if kind == 7:
        number: float = struct.unpack(">d", data)[0]
        return number
    if kind < 12:
        return int.from_bytes(data, "big", signed=True)
    return data.decode("utf-8") if kind % 2 else bytes(data)
