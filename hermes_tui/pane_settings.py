"""How the pane behaves: the part of the settings that the relay never looks at."""

from __future__ import annotations

from typing import Literal

import msgspec


class Pane(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """`theme` auto: the one chosen last in the pane. `copy` file: into a file, for terminals that have no
    clipboard. `beside` auto: of sessions at once the one in the pane's own working folder is shown.
    """

    theme: Literal["auto", "dark", "light", "contrast", "plain"] = "auto"
    copy: Literal["terminal", "file"] = "terminal"
    beside: Literal["auto", "newest"] = "auto"
