"""Single values of OTLP in JSON: what may stand for a text, a number, an id.

Sources: the OTLP specification, "JSON Protobuf Encoding"; the ProtoJSON format.
"""

from __future__ import annotations

import math
from base64 import b64decode
from binascii import unhexlify
from collections.abc import Callable, Iterable
from typing import Any

_LONGEST = 400  # characters of a number written as a text
_BASE64 = str.maketrans("-_", "+/", "=")


class Wrong(Exception):
    """A value that is not what its field wants; `path` leads to it, innermost first."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.path: list[str] = []

    def __str__(self) -> str:
        where = ".".join(reversed(self.path)).replace(".[", "[")
        return f"{where} {self.args[0]}" if where else f"the body {self.args[0]}"


def whole(text: str) -> str:
    """Text with U+FFFD for lone surrogates, which JSON can hold and UTF-8 cannot."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def to_array(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise Wrong("is not an array")
    return value


def to_text(value: Any) -> str:
    if not isinstance(value, str):
        raise Wrong("is not a string")
    return value


def to_integer(value: Any) -> int:
    if type(value) is int:  # not a bool
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and len(value) <= _LONGEST and _is_decimal(value):
        return int(value)
    raise Wrong("is not an integer")


def _is_decimal(text: str) -> bool:
    return text.isascii() and text.removeprefix("-").isdigit()


def to_real(value: Any) -> float:
    if isinstance(value, str) and len(value) <= _LONGEST and "_" not in value:
        try:
            return float(value)  # NaN and Infinity are written so
        except ValueError:
            raise Wrong("is not a number") from None
    if type(value) not in (int, float):
        raise Wrong("is not a number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if math.isinf(number):
        raise Wrong("is out of range")
    return number


def to_truth(value: Any) -> bool:
    if not isinstance(value, bool):
        raise Wrong("is neither true nor false")
    return value


def to_bytes(value: Any) -> bytes:
    """Base64, with or without padding, in either alphabet."""
    text = to_text(value).translate(_BASE64)
    try:
        return b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError:
        raise Wrong("is not base64") from None


def to_id(value: Any) -> bytes:
    """Hex of any case; that an id is as long as it should be is looked at elsewhere."""
    try:
        return unhexlify(to_text(value))
    except ValueError:
        raise Wrong("is not an id in hex") from None


def to_choice(names: Iterable[str]) -> Callable[[Any], int]:
    """A reader of an enum: its number or name; a name from the future counts as unspecified."""
    numbers = {name: number for number, name in enumerate(names)}

    def read(value: Any) -> int:
        return (
            numbers.get(value, 0) if isinstance(value, str) and not _is_decimal(value) else to_integer(value)
        )

    return read


def from_id(value: bytes) -> str | None:
    return value.hex() if value.strip(b"\0") else None


def from_real(value: float) -> float | str:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
