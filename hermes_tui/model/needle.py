"""What is searched for: plain text, found whatever its case unless it holds capitals itself."""

from __future__ import annotations

import json
import re

_SAFE = re.compile(r"[a-zA-Z0-9 _.,:;=()\[\]{}*+$#@!?%^|~-]+")
"""Characters that stand as they are in every encoding of a text: protobuf, JSON, JSON within JSON."""

_NESTED = 2  # a tool's result is JSON, and an attribute of messages holds it within JSON


class Needle:
    """One text to find. Equal texts are equal needles."""

    __slots__ = ("_core", "_forms", "sensitive", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.sensitive = any(character.isupper() for character in text)
        self._forms = self._written()
        runs = _SAFE.findall(self.fold(text))
        self._core = max(runs, key=len, default="").encode()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Needle) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __bool__(self) -> bool:
        return bool(self.text)

    def fold(self, text: str) -> str:
        """`text` as it is compared."""
        return text if self.sensitive else text.casefold()

    def within(self, text: str) -> bool:
        """Whether a text holds it as it was typed."""
        return self._forms[0] in self.fold(text)

    def within_value(self, text: str) -> bool:
        """Whether a text holds it as it was typed, or as JSON in it would write it."""
        folded = self.fold(text)
        return any(form in folded for form in self._forms)

    def may_be_within(self, body: bytes) -> bool:
        """False when no text in an encoded message can hold it. Letters that only a full case folding makes
        ASCII (the Kelvin sign) do not count.
        """
        return self._core in (body if self.sensitive else body.lower())

    def places(self, text: str) -> list[tuple[int, int]]:
        """Where in `text` it stands: (begin, end) of each, not overlapping."""
        folded, wanted = self.fold(text), self._forms[0]
        if not wanted or wanted not in folded:
            return []
        at = range(len(text) + 1) if len(folded) == len(text) else _origins(text)
        found: list[tuple[int, int]] = []
        begin = folded.find(wanted)
        while begin >= 0:
            end = begin + len(wanted)
            found.append((at[begin], max(at[begin], at[end - 1]) + 1))
            begin = folded.find(wanted, end)
        return found

    def _written(self) -> tuple[str, ...]:
        """The text, and the ways in which JSON writes it."""
        forms = [self.text] if self.sensitive else [self.text, self.text.upper()]
        for plain in tuple(forms):
            for ascii_only in (True, False):
                written = plain
                for _ in range(_NESTED):
                    written = json.dumps(written, ensure_ascii=ascii_only)[1:-1]
                    forms.append(written)
        return tuple(dict.fromkeys(self.fold(form) for form in forms))


def _origins(text: str) -> list[int]:
    """For each character of the folded text the place of the one that it comes from."""
    return [at for at, character in enumerate(text) for _ in character.casefold()] + [len(text)]
