"""Every message of the pane, in one place."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from textual.message import Message

from hermes_tui.tui.trust import RelaySays

if TYPE_CHECKING:
    from hermes_tui.hermes.state_db import Watched
    from hermes_tui.journal.delivery import Snapshot
    from hermes_tui.journal.reader import SessionRow
    from hermes_tui.journal.searching import Found
    from hermes_tui.model.compare import Told
    from hermes_tui.model.days import Day
    from hermes_tui.model.joined import AnyTurnKey
    from hermes_tui.model.span import Span
    from hermes_tui.model.state_rows import StateRow
    from hermes_tui.tui.every_command import Group
    from hermes_tui.tui.rows import RowKey


class RelayInfo(Protocol):
    """What the pane knows of a running relay."""

    @property
    def pid(self) -> int: ...
    @property
    def http(self) -> str | None: ...
    @property
    def destination(self) -> str | None: ...
    @property
    def experiment(self) -> str | None: ...
    @property
    def workspace(self) -> str | None: ...
    @property
    def started_by(self) -> str: ...


class Supervisor(Protocol):
    """Finds the relay of this pane's state folder, and starts one. Both may block for a while."""

    def find(self) -> RelayInfo | None: ...
    def ensure(self) -> RelayInfo: ...


@dataclass(eq=False, repr=False)
class SpansArrived(Message):
    """Spans of the shown session were read; `fresh`: forget what was shown before."""

    session: str
    spans: list[Span]
    fresh: bool = False
    complete: bool = True


@dataclass(eq=False, repr=False)
class RecordsArrived(Message):
    """Hermes' own records changed; `watched` are the homes that are looked at."""

    rows: list[StateRow]
    watched: list[Watched]


@dataclass(eq=False, repr=False)
class JournalMoved(Message):
    """Something in the journal changed that is not a span of the shown session."""

    newest: str | None
    sessions: list[SessionRow] = field(default_factory=list)
    says: RelaySays = field(default_factory=RelaySays)


@dataclass(eq=False, repr=False)
class DeliveryMoved(Message):
    """How delivery stands now, with MLflow's record of a session's traces."""

    session: str | None
    snapshot: Snapshot


@dataclass(eq=False, repr=False)
class UsageMoved(Message):
    """What was used on the last days by all sessions, and MLflow's record of a session's traces."""

    session: str | None
    days: tuple[Day, ...]
    told: dict[bytes, Told]


@dataclass(eq=False, repr=False)
class RelayMoved(Message):
    """The relay came, went, or cannot be started (`trouble` says why)."""

    relay: RelayInfo | None
    trouble: str = ""


@dataclass(eq=False, repr=False)
class RowPicked(Message):
    """The user pressed Enter on a row, or clicked the one under the cursor; `place`: asked where it is."""

    key: RowKey
    place: bool = False


@dataclass(eq=False, repr=False)
class DetailsShown(Message):
    """The details came on the screen, such as beside the tree when the terminal grew wide."""


@dataclass(eq=False, repr=False)
class WishWanted(Message):
    """The user wants the relay to do something; `kind` as on the desk."""

    kind: str


@dataclass(eq=False, repr=False)
class ReviewAsked(Message):
    """The user wants something of the commands: mark, next, filter, scope or export."""

    what: str


@dataclass(eq=False, repr=False)
class CommandsRead(Message):
    """The commands of one more session were read, for the list with this `id`; the last when `complete`."""

    list_id: int
    group: Group | None = None
    complete: bool = False
    trouble: str = ""


@dataclass(eq=False, repr=False)
class HitsFound(Message):
    """What a search found since its last message, and all that it found in Hermes' records.

    `rows`: everything that rows show was looked at; `bounded`: it ended before it had seen all.
    """

    serial: int
    spans: list[Found]
    records: dict[AnyTurnKey, dict[RowKey, str]]
    rows: bool
    done: bool
    bounded: bool


@dataclass(eq=False, repr=False)
class CursorMoved(Message):
    """Another row is under the cursor; `by_user` when a hand moved it."""

    key: RowKey | None
    by_user: bool


@dataclass(eq=False, repr=False)
class FoldToggled(Message):
    """The user folds or unfolds a row."""

    key: RowKey
    folded: bool


@dataclass(eq=False, repr=False)
class TreeKey(Message):
    """A key of the tree's own; `what` and `by` as `navigating.navigate` takes them."""

    what: str
    by: int


@dataclass(eq=False, repr=False)
class SplitDragged(Message):
    """The border of the details was dragged to this column of the screen."""

    x: int


@dataclass(eq=False, repr=False)
class ViewChanged(Message):
    """Another view of the session is shown."""

    view: str


@dataclass(eq=False, repr=False)
class Refreshed(Message):
    """The rows of the shown session are up to date, or a second has passed."""


@dataclass(eq=False, repr=False)
class FactsArrived(Message):
    """More is known of the sessions in the list."""
