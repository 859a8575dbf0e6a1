"""Pure: turns + folds → visible rows. Work follows the turns that changed, not what is stored.

Rows are kept in blocks, one a turn; an unchanged turn's block is reused as it is. The newest turn
comes first, its rows below it in the order of time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hermes_tui.model.joined import Item, JoinedTurn
from hermes_tui.model.span import Outcome, Span
from hermes_tui.model.tree import Node
from hermes_tui.tui.below import Below, Spot
from hermes_tui.tui.blocks import MANY, Block, Blocks
from hermes_tui.tui.drawn import NOTHING_DRAWN, Drawn, Mark
from hermes_tui.tui.folds import Folds
from hermes_tui.tui.glyphs import UNICODE, Glyphs
from hermes_tui.tui.moment import Moment, lead_of
from hermes_tui.tui.nature import ERROR, FILTERS, Contents, Filter, contents, errors_now, nature_of, sift
from hermes_tui.tui.ordering import NEWEST, arranged, tokens_of
from hermes_tui.tui.review import flagged, folders
from hermes_tui.tui.rows import Row, RowKey, node_row, turn_keys, turn_row
from hermes_tui.tui.standin_rows import WAITING, stand_in_row
from hermes_tui.tui.standins import StandIn, standing


class TreeOutline(Blocks[Mark]):
    """The tree: turns, newest first, and below the open ones their spans.

    Without a word from the user only the newest turn is open, and a background review that runs after it.
    `raw` also shows wrappers and the places of spans that have not come. `filter` leaves out what is of
    another nature; then every turn that has any is open, and folds are others, until it is lifted. `order` is
    that of the turns.
    """

    def __init__(self, glyphs: Glyphs = UNICODE) -> None:
        super().__init__(glyphs)
        self.raw = False
        self.filter = FILTERS[0]
        self.order = NEWEST
        self.arranged: list[JoinedTurn] = []
        """All turns in their order, also those of which the filter leaves nothing."""
        self.arrangement = 0
        """Changes when `order` puts the turns another way."""
        self._unfiltered = self._folds = Folds()
        self._lead: JoinedTurn | None = None
        self._ahead: tuple[RowKey, ...] = ()  # the user's newest turn, and the newest of all
        self._generation = 0
        self._moment = Moment(0)
        self._drawn: dict[RowKey, dict[RowKey, Drawn]] = {}  # of turns that move
        self._folders: object = ()
        self._contents: dict[object, tuple[JoinedTurn, Contents]] = {}

    def update(self, turns: Sequence[JoinedTurn], moment: Moment) -> None:
        """`turns` in order of time."""
        count, lead = len(turns), lead_of(turns)
        newest = turns[-1] if turns else None
        self._moment, self._lead = moment, lead
        before = self._ahead
        self._ahead = tuple(dict.fromkeys(turn_keys(turn)[0] for turn in (lead, newest) if turn is not None))
        self._touched.update(before, self._ahead)
        if self._folders != (there := folders(moment)):
            self._folders = there
            self._drawn.clear()
        shown = self._in_order(turns)
        self._numbers: Sequence[int] = range(count, 0, -1)
        if self.order != NEWEST:
            places = {id(turn): number for number, turn in enumerate(turns, 1)}
            self._numbers = [places[id(turn)] for turn in shown]
        if self.filter.wants:
            kept = [at for at, turn in enumerate(shown) if turn is lead or self._matches(turn)]
            self._numbers = [self._numbers[at] for at in kept]
            shown = [shown[at] for at in kept]

        def mark(_: int, turn: JoinedTurn) -> Mark:
            known = self._at_rest(turn) if turn is not lead and turn is not newest else None
            if known is not None:
                return known._replace(folded=self.folded(turn), generation=self._generation)
            if turn is not lead:
                self.contents(turn)  # while it is new: who looks for something later asks for that of all
            status = moment.status(turn, lead)
            running = status == "running"
            self._watch(turn, moves=running or not moment.settled(turn))
            folded = self.folded(turn, newest=turn is lead or (turn is newest and running))
            return Mark(folded, status, self._generation, moment.pulse(turn, running=running))

        def build(_: int, turn: JoinedTurn, __: object) -> Block:
            later = self._later(turn) if turn is not lead and self._making > MANY else 0
            if later:
                first, *before = turn_keys(turn)
                return Block([], dict.fromkeys(before, first), later)
            return self._finish(turn)

        self._arrange(shown, mark, build)
        for gone in self._drawn.keys() - self._watched:
            del self._drawn[gone]

    def _in_order(self, turns: Sequence[JoinedTurn]) -> list[JoinedTurn]:
        """All turns as they stand one below another; noted for who goes by that."""
        before, lead, moment = self.arranged, self._lead, self._moment
        running = lead if lead is not None and moment.status(lead, lead) == "running" else None
        self.arranged = arranged(turns[::-1], self.order, moment, running, self.errors)
        if self.order != NEWEST and list(map(id, before)) != list(map(id, self.arranged)):
            self.arrangement += 1
        return self.arranged

    def _first(self, block: int, row: Row) -> Row:
        return row._replace(glyph=str(self._numbers[block]))

    def contents(self, turn: JoinedTurn) -> Contents:
        """What a turn's rows are; counted once, until the turn changes."""
        known = self._contents.get(turn.key)
        if known is None or known[0] is not turn:
            if len(self._contents) > 2 * len(self._made) + MANY:
                self._contents.clear()  # of turns that are gone
            known = self._contents[turn.key] = turn, contents(turn)
        return known[1]

    def errors(self, turn: JoinedTurn) -> int:
        """How many of a turn's rows are errors, whether they are shown or not."""
        return errors_now(turn, self.contents(turn), self._moment)

    def _count(self, turn: JoinedTurn, wants: int) -> int:
        return self.errors(turn) if wants == ERROR else self.contents(turn).count(wants)

    def folded(self, turn: JoinedTurn, *, newest: bool = False) -> bool:
        return self._folds.folded(turn_keys(turn), newest=newest)

    def hold(self, key: RowKey | None) -> None:
        """A user reads at this row: its turn stays open when a newer one comes. None: nobody reads."""
        if key is None:
            self._touched |= self._folds.held
            self._folds.held.clear()
            return
        home = self._places.get(key)
        if home is None or home in self._touched:
            return  # what the user has just said of it comes first
        if not self._made[home][1].folded:
            self._folds.held.add(home)

    def set_fold(self, key: RowKey, folded: bool) -> None:
        """Remember what the user wants of a row; seen at the next `update`."""
        home = self._places.get(key)
        if home is not None:
            key = self._blocks[home].names.get(key, key)
            if key != home:
                self._folds.bent.add(home)
        if self._folds.said.get(key) == folded:
            return
        self._folds.said[key] = folded
        self._remake(home)

    def unfold(self, key: RowKey) -> None:
        """Undo a fold, if there is one."""
        if self._folds.said.get(key):
            self.set_fold(key, False)

    def fold_all(self, folded: bool) -> None:
        """Fold or unfold every turn, whatever was said of them before. Turns to come begin as ever."""
        if self._folds.level is not None:
            self._remake_all()
        self._folds.set_all(folded, self._ahead)
        self._touched.update(self._order)

    def level_all(self, by: int) -> tuple[int, int]:
        """Show one level more (`by` 1) or less (-1) of every turn: how many then, and how many there are."""
        deepest = max((self.contents(turn).deep for turn in self.arranged), default=0)
        known = self._folds.level
        before = known if known is not None else deepest if self._folds.all_open else 0
        level = min(deepest, max(0, before + by))
        self._folds.set_level(level, self._ahead)
        self._remake_all()
        return level, deepest

    def level(self, key: RowKey, by: int) -> None:
        """Show one level more (`by` 1) or less (-1) of the turn that a row is in."""
        home = self._places.get(key)
        if home is None:
            return
        turn = self._made[home][0]
        shown = max(row.depth for row in self._whole(home).rows)  # 0: it is folded
        level = max(0, by + shown)
        for row in self._rows(turn, running=False, unfolded=True)[1]:
            self._folds.said.pop(row.key, None)
        self._folds.said[home] = level == 0
        if level:
            self._folds.levels[home] = level
        self._remake(home)

    def set_raw(self, raw: bool) -> None:
        if self.raw != raw:
            self.raw = raw
            self._remake_all()

    def set_filter(self, wanted: Filter) -> None:
        """Show only what is of a nature, and all of that; without a filter folds are those of before."""
        if self.filter != wanted:
            self.filter = wanted
            self._folds = Folds(all_open=True) if wanted.wants else self._unfiltered
            self._remake_all()

    def lift(self) -> bool:
        """Show all rows again; where nothing is filtered, in their usual order. False: that is so."""
        if self.filter.wants:
            self.set_filter(FILTERS[0])
            return True
        changed, self.order = self.order != NEWEST, NEWEST
        return changed

    def passes(self) -> bool:
        """Whether the filter leaves anything of any turn, beside what runs."""
        return any(self._passes(turn) for turn in self.arranged)

    def newest(self) -> RowKey | None:
        """The last row of the user's newest turn that has something to tell: what a follower looks at."""
        if not self._order:
            return None
        head, *below = self._whole(self._ahead[0]).rows
        return next((row.key for row in reversed(below) if row.style != WAITING), head.key)

    def parent(self, number: int) -> int | None:
        """The row that the row with this number hangs below."""
        depth = self.row(number).depth
        return next((at for at in range(number - 1, -1, -1) if self.row(at).depth < depth), None)

    def head_of(self, key: RowKey | None) -> RowKey | None:
        """The key of the head of the turn that a row is in."""
        return self._places.get(key) if key is not None else None

    # --- for jumps

    def turn_at(self, key: RowKey | None) -> int:
        """The place of the turn that a row is in, among those that are shown."""
        home = self._places.get(key) if key is not None else None
        return self._order.index(home) if home is not None else 0

    @property
    def turns_shown(self) -> int:
        return len(self._order)

    def look(self, at: int, wants: int) -> list[Row]:
        """The turn at this place with all its rows that the filter lets pass, also those that are folded.

        None if none of them is of the nature wanted; 0: its head alone.
        """
        home = self._order[at]
        turn = self._made[home][0]
        status = self._made[home][1].status
        erring = wants == ERROR and status == "failed"
        if wants and not (self._count(turn, wants) or erring or status == "running"):
            return []
        head = self._whole(home).rows[0]
        if not wants:
            return [head]
        below = self._rows(turn, running=status == "running", unfolded=True)[1]
        return [head, *(sift(below, self.filter.wants) if self.filter.wants else below)]

    def open_to(self, at: int, rows: Sequence[Row], number: int) -> None:
        """Unfold what hides one of the rows of a turn, as `look` gave them."""
        wanted = rows[number]
        if wanted.depth:
            self.set_fold(self._order[at], False)
        depth = wanted.depth
        for row in reversed(rows[1:number]):
            if row.depth < depth:
                depth = row.depth
                self._folds.bent.add(self._order[at])
                self.set_fold(row.key, False)

    # ---

    def _matches(self, turn: JoinedTurn) -> bool:
        """Whether the filter leaves anything of a turn."""
        return self._passes(turn) or self._status(turn) == "running"

    def _passes(self, turn: JoinedTurn) -> bool:
        """Whether anything of a turn is what the filter wants."""
        wants = self.filter.wants
        return bool(self._count(turn, wants)) or (wants == ERROR and self._status(turn) == "failed")

    def _status(self, turn: JoinedTurn) -> str:
        over = turn.turn is not None and turn.turn.verdict in ("completed", "interrupted")
        return "over" if over else self._moment.status(turn, self._lead)

    def _at_rest(self, turn: JoinedTurn) -> Mark | None:
        """What a turn was marked with before, if nothing but the user's wishes can have changed since."""
        key = turn_keys(turn)[0]
        made = self._made.get(key)
        if made is None or made[0] is not turn or key in self._watched:
            return None
        return made[1]

    def _later(self, turn: JoinedTurn) -> int:
        """How many rows a turn will have; 0: that is not known before they are made, or they move."""
        keys = turn_keys(turn)
        folds = self._folds
        if keys[0] in self._watched or not folds.held.isdisjoint(keys):
            return 0
        if self._made[keys[0]][1].folded:
            return 1
        known = self.contents(turn)
        own = keys[0] not in folds.levels and folds.bent.isdisjoint(keys)
        whole = folds.level is None or known.deep <= folds.level
        if known.simple and own and whole and not self.raw and (known.deep < 2 or not self.filter.wants):
            return 1 + known.count(self.filter.wants)
        return 0

    def _finish(self, turn: JoinedTurn) -> Block:
        first, *before = turn_keys(turn)
        folded, status, *_ = self._made[first][1]
        errors, retries = (self.errors(turn), self.contents(turn).retries) if folded else (0, 0)
        tokens = tokens_of(turn, self._moment)
        head = turn_row(turn, folded, status, tokens, self.glyphs, errors=errors, retries=retries)
        head = head._replace(nature=ERROR if status == "failed" else 0)
        if folded:
            return Block([head], dict.fromkeys(before, first))
        known = self._drawn.pop(first, {})
        if first in self._watched:
            self._drawn[first] = {}
        names, below = self._rows(turn, running=status == "running", known=known)
        return Block([head, *(sift(below, self.filter.wants) if self.filter.wants else below)], names)

    def _rows(
        self,
        turn: JoinedTurn,
        *,
        running: bool,
        unfolded: bool = False,
        known: Mapping[RowKey, Drawn] = NOTHING_DRAWN,
    ) -> tuple[dict[RowKey, RowKey], list[Row]]:
        """What the rows below a turn were called before, and the rows; `known` are rows of before."""
        first, *before = turn_keys(turn)
        stand = standing(turn, self._moment, running=running)
        names = dict.fromkeys(before, first) | {old: new for new, old in stand.names.items()}
        level = self._folds.levels.get(first, self._folds.level)

        def folded(key: RowKey, depth: int) -> bool:
            known = key if key in self._folds.said else stand.names.get(key, key)
            return not unfolded and self._folds.said.get(known, level is not None and depth >= level)

        drawn = None if unfolded else self._drawn.get(first)
        rows: list[Row] = []
        for spot in Below(turn, stand, raw=self.raw).walk(folded):
            span = spot.place.span if isinstance(spot.place, Node) else None
            item = stand.items.get(spot.key[:2]) if span is not None else None
            if span is None or not span.end_ns or (item is not None and item.outcome is Outcome.BACKGROUND):
                rows.append(self._row(spot, turn, item, running=running))
                continue
            was = known.get(spot.key)
            if was is None or not self._holds(was, spot, span, item):
                was = Drawn(self._row(spot, turn, item, running=running), span, item, spot.retried)
            if drawn is not None:
                drawn[spot.key] = was
            rows.append(was.row)
        return names, rows

    def _holds(self, was: Drawn, spot: Spot, span: Span, item: Item | None) -> bool:
        """Whether a row would be the same again."""
        same = was.span is span and was.item is item and was.retried == spot.retried
        return same and was.row.depth == spot.depth and was.row.marker == self._marker(spot)

    def _marker(self, spot: Spot) -> str:
        return "" if not spot.parent else self.glyphs.folded if spot.folded else self.glyphs.open

    def _row(self, spot: Spot, turn: JoinedTurn, item: Item | None, *, running: bool) -> Row:
        moment, glyphs, place, key = self._moment, self.glyphs, spot.place, spot.key
        if isinstance(place, StandIn):
            row = stand_in_row(place, turn, spot.depth, self._marker(spot), moment, glyphs)
            item = place.part if isinstance(place.part, Item) else None
        else:
            row = node_row(
                place, key[0], spot.depth, self._marker(spot), running, glyphs,
                item=item, job=moment.job(item), now_ns=moment.now_ns, retried=spot.retried,
            )  # fmt: skip
        row = row._replace(nature=nature_of(row, place, moment.now_ns, glyphs))
        return flagged(row, moment.whys(item), glyphs)

    def _remake(self, home: RowKey | None) -> None:
        if home is not None and home in self._made:
            turn, mark = self._made[home]
            self._made[home] = turn, mark._replace(generation=-1)
            self._touched.add(home)

    def _remake_all(self) -> None:
        self._generation += 1
        self._touched.update(self._order)
