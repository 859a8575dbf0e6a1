"""Which commands deserve a look: a table of patterns and why. A hint to a reviewer, never a verdict.

Patterns look at a shell command's text as it stands. Most ask for a word in the place of a command's name,
so that a word in an argument says nothing; what a variable or a script hides is not found.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence
from functools import cache, lru_cache
from typing import NamedTuple

MOST = 2_000
"""Characters of a command that are looked at, so that no pattern takes long."""

PATTERN_MOST = 300  # characters of a pattern
_NAMED = 200  # of a target that is named in the reason

_BEFORE = (
    r"(?:^|[;&|(){}\n`!]|-c\s?['\"]|\b(?:os\.system|run|call|check_call|check_output|Popen)\(\[?\s?['\"]"
    r"|\b(?:then|do|else|sudo|doas|env|exec|xargs|nohup|time|command)\b[^;&|\n]{0,40}?)"
    r"[ \t]*(?:\w+=\S*[ \t]+){0,4}(?:/[\w./-]*/)?"
)
"""What stands before a command's name: nothing, a separator, another shell, a word that takes a command."""
_REST = r"[^;&|\n]*?"

_TABLE: tuple[tuple[str, str, str], ...] = (
    (r"rm", rf"rm\s{_REST}(?<=\s)(?:-[a-zA-Z]*[rR]|--recursive\b)", "deletes folders (rm -r)"),
    (r"find", rf"find\s{_REST}\s-delete\b", "deletes what it finds (find -delete)"),
    (r"find", rf"find\s{_REST}-exec(?:dir)?\s+(?:\S*/)?rm\b", "deletes what it finds (find -exec rm)"),
    (r"xargs", rf"xargs\s{_REST}\brm\b", "deletes what it is given (xargs rm)"),
    (
        r"git",
        rf"git\s{_REST}\bclean\b{_REST}\s(?:-[a-zA-Z]*f|--force\b)",
        "deletes untracked files (git clean)",
    ),
    (r"git", rf"git\s{_REST}\breset\s{_REST}--hard\b", "throws changes away (git reset --hard)"),
    (r"shred", r"shred\b", "destroys files (shred)"),
    (r"dd", rf"dd\s{_REST}\bof=(?!/dev/(?:null|stdout)\b)", "writes to a file or device as it is (dd)"),
    (r"mkfs", r"mkfs(?:\.\w+)?\b", "makes a file system (mkfs)"),
    (r"sudo", r"sudo\b", "runs as another user (sudo)"),
    (r"doas", r"doas\b", "runs as another user (doas)"),
    (r"su", r"su(?=\s|$)", "runs as another user (su)"),
    (r"chmod", rf"chmod\s{_REST}(?:\b0?[0-7]?777\b|\b(?:a|o|ugo)?\+[rx]*w)", "lets everybody write (chmod)"),
    (
        r"chown",
        rf"chown\s{_REST}(?<=\s)(?:-[a-zA-Z]*R|--recursive\b)",
        "changes the owner of folders (chown -R)",
    ),
    (
        r"git",
        rf"git\s{_REST}\bpush\b{_REST}\s(?:-[a-zA-Z]*f\b|--force(?:-with-lease)?\b|--mirror\b|\+\S)",
        "overwrites a remote's history (force push)",
    ),
)
"""A word without which there is nothing to look for, what follows in the place of a command, and why."""

_ANYWHERE: tuple[tuple[str, str, str], ...] = (
    (
        r"curl|wget",
        r"\b(?:curl|wget)\s[^;&\n]*\|\s*(?:(?:sudo|env|exec)\s+(?:-\S+\s+|\w+=\S*\s+){0,4})?(?:\S*/)?"
        r"(?:ba|z|da|k|a|fi)?sh\b",
        "runs what it fetches (a pipe to a shell)",
    ),
    (
        r"curl|wget",
        r"\b(?:ba|z|da|k|a)?sh\b\s[^;&|\n]{0,40}(?:<\(|\$\(|`)\s?(?:curl|wget)\s",
        "runs what it fetches (a shell on it)",
    ),
    (
        r"curl|wget",
        r"\b(?:eval|source)\b[^;\n]{0,20}(?:<\(|\$\(|`)\s?(?:curl|wget)\s",
        "runs what it fetches",
    ),
    (r"rmtree", r"\brmtree\s?\(", "deletes folders (rmtree)"),
)

_TARGET = r"(?:'([^'\n]+)'|\"([^\"\n]+)\"|([^\s;&|<>()'\"`]+))"
_REDIRECT = rf"(?<![<>=-])(?:[0-9]|&)?>{{1,2}}\|?\s?{_TARGET}"
_TEE = rf"\btee\s+(?:-\S+\s+){{0,4}}{_TARGET}"
_COPY = rf"{_BEFORE}(?:cp|mv|install|ln|rsync)\s([^;&|\n<>()]+)"
_WRITES = re.compile(r">|\b(?:tee|cp|mv|install|ln|rsync)\b")
_HARMLESS = (
    "/dev/null",
    "/dev/stdout",
    "/dev/stderr",
    "/dev/tty",
    "/dev/fd",
    "/tmp",
    "/var/tmp",
    "/private/tmp",
)
_SYSTEM = (
    "/etc",
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib64",
    "/boot",
    "/opt",
    "/root",
    "/sys",
    "/proc",
    "/dev",
    "/var",
)
_HOMES = ("~", "$HOME", "${HOME}")
_PRIVATE = r"(?:^|/)\.(?:ssh|gnupg|aws|kube|bashrc|bash_profile|profile|zshrc|netrc|gitconfig)(?:/|$)"

_REPEATS = re.compile(r"[*+?]|\{\d*,?\d*\}")


class Rule(NamedTuple):
    """A pattern of the user's, and why a command that has it deserves a look."""

    pattern: re.Pattern[str]
    why: str


def mistake(pattern: str) -> str | None:
    """Why a pattern cannot be used; None when it can.

    A repeated group that holds a repeat or a choice can take for ever on a text that nearly fits.
    """
    if not pattern.strip():
        return "an empty pattern fits everything"
    if len(pattern) > PATTERN_MOST:
        return f"the pattern is longer than {PATTERN_MOST} characters"
    try:
        compiled = re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        return f"the pattern {pattern!r} is not a regular expression: {error}"
    if compiled.fullmatch(""):
        return f"the pattern {pattern!r} fits everything"
    if _explodes(pattern):
        return f"the pattern {pattern!r} repeats a group with a repeat or a choice in it: too slow"
    return None


def _explodes(pattern: str) -> bool:
    """Whether a group that is repeated without a bound holds a repeat or a choice."""
    inside: list[bool] = [False]
    at = 0
    while at < len(pattern):
        character = pattern[at]
        if character == "\\":
            at += 2
            continue
        if character == "[":
            at = _end_of_set(pattern, at)
        elif character == "(":
            inside.append(False)
            at += 1 if pattern.startswith("?", at + 1) else 0
        elif character == ")" and len(inside) > 1:
            risky = inside.pop()
            repeated = re.match(r"[*+]|\{\d*,\}|\{(?:\d{3,}|\d*,\d{3,})\}", pattern[at + 1 :])
            if risky and repeated:
                return True
            inside[-1] = inside[-1] or risky or bool(repeated)
        elif character == "|" or _REPEATS.match(pattern, at):
            inside[-1] = True
        at += 1
    return False


def _end_of_set(pattern: str, at: int) -> int:
    """Where the `[...]` that begins here ends."""
    begin = at + 1 + pattern.startswith("^", at + 1)
    while True:
        end = pattern.find("]", begin + 1)
        if end < 0:
            return len(pattern)
        if (len(pattern[:end]) - len(pattern[:end].rstrip("\\"))) % 2 == 0:
            return end
        begin = end


class Flags:
    """The table with the user's own rules. Answers are kept, so asking again is cheap."""

    def __init__(self, rules: Sequence[tuple[str, str]] = ()) -> None:
        self._rules = tuple(Rule(re.compile(pattern), why) for pattern, why in rules if not mistake(pattern))
        self.whys = lru_cache(maxsize=8_192)(self._whys)
        """Why a command deserves a look; none when it does not. (command, where it ran or None)"""

    def _whys(self, command: str | None, cwd: str | None) -> tuple[str, ...]:
        text = (command or "")[:MOST]
        if not text:
            return ()
        found = [why for pattern, why in _candidates(text) if _regex(pattern).search(text)]
        if _WRITES.search(text) and (target := _outside(text, cwd)) is not None:
            found.append(f"writes outside its working directory ({target[:_NAMED]})")
        found += [rule.why for rule in self._rules if rule.pattern.search(text)]
        return tuple(dict.fromkeys(found))


_regex = cache(re.compile)
"""Compiled when a command first asks for it: all of them at once would be felt when the pane starts."""

_BY_WORD: dict[str, list[tuple[str, str]]] = {}
for _word, _pattern, _why in _TABLE:
    _BY_WORD.setdefault(_word, []).append((_BEFORE + _pattern, _why))
for _words, _pattern, _why in _ANYWHERE:
    for _word in _words.split("|"):
        _BY_WORD.setdefault(_word, []).append((_pattern, _why))
_WORDS = re.compile(rf"\b(?:{'|'.join(_BY_WORD)})\b")


def _candidates(text: str) -> list[tuple[str, str]]:
    """The patterns of the table whose word is in the text at all: mostly none."""
    words = dict.fromkeys(_WORDS.findall(text))
    return [each for word in words for each in _BY_WORD[word]]


def _outside(text: str, cwd: str | None) -> str | None:
    """The first place outside of the working directory that a command writes to."""
    for pattern in (_REDIRECT, _TEE):
        for match in _regex(pattern).finditer(text):
            target = _named(match)
            if _is_outside(target, cwd):
                return target
    for match in _regex(_COPY).finditer(text):
        words = [_named(each) for each in _regex(_TARGET).finditer(match[1])]
        words = [word for word in words if not word.startswith("-")]
        if len(words) > 1 and _is_outside(words[-1], cwd):
            return words[-1]
    return None


def _named(match: re.Match[str]) -> str:
    """What `_TARGET` found, without its quotes."""
    return next((str(group) for group in match.groups() if group), "")


def _is_outside(target: str, cwd: str | None) -> bool:
    """Without a known working directory only what cannot well be inside of one counts."""
    if _regex(_PRIVATE).search(target):
        return True
    home = target.partition("/")[0] in _HOMES
    if not home and not target.startswith("/"):
        if "$" in target or ".." not in target.split("/"):
            return False
        above = posixpath.normpath(posixpath.join("/a/b/c/d/e" if cwd is None else cwd, target))
        return not _below(above, ("/a/b/c/d/e" if cwd is None else posixpath.normpath(cwd),))
    if home:
        return True
    place = posixpath.normpath(target)
    if _below(place, _HARMLESS):
        return False
    if cwd is None or not cwd.startswith("/"):
        return _below(place, _SYSTEM)
    return not _below(place, (posixpath.normpath(cwd),))


def _below(place: str, folders: Sequence[str]) -> bool:
    return any(place == folder or place.startswith(folder.rstrip("/") + "/") for folder in folders)
