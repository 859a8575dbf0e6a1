"""Pure: the details page of what has no span, and what is added to a span's from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rich.text import Text

from hermes_tui.figures import count_of, short_number, short_time
from hermes_tui.model.doing import State
from hermes_tui.model.jobs import Job
from hermes_tui.model.joined import Agent, Item, JoinedTurn, Source, Step
from hermes_tui.model.live import LiveSession
from hermes_tui.model.results import COMMAND_TOOLS, decision, read_call
from hermes_tui.tui.commands_outline import clock_time
from hermes_tui.tui.glyphs import Glyphs
from hermes_tui.tui.moment import Moment
from hermes_tui.tui.page import DIM, HEADING, Page, clock, lay_out
from hermes_tui.tui.shown import Subject

_FROM = {Source.STATE: "Hermes' own records", Source.MODEL: "the next model call's span"}


class Record(NamedTuple):
    """What a call was given and gave, whole, and who told; `source` None: nobody but its span."""

    arguments: str | None = None
    result: str | None = None
    source: Source | None = None


NOTHING = Record()


def completed_lines(page: Page, item: Item, record: Record) -> None:
    """Where what the span cut or lost was taken from."""
    if item.completed is not None:
        said = f"exit {item.exit_code}" if item.exit_code is not None else f"that it {item.outcome}"
        page.line(f"{said} is from {_FROM[item.completed]}; the span does not say so", DIM)
    if record.source is not None and item.truncated:
        page.line(f"the whole text is from {_FROM[record.source]}; the span's was cut", DIM)


def command_lines(
    page: Page, tool: str | None, command: str | None, cwd: str | None, whys: Sequence[str]
) -> None:
    """A command, where it ran, and why it deserves a look."""
    page.heading("Command")
    if command:
        page.code(command, "python" if tool == "execute_code" else "bash")
    else:
        page.line("(not known)")
    if cwd:
        page.field("in", cwd)
    for why in whys:
        page.line(f"{page.glyphs.flag} {why}", "bold yellow")


def job_lines(page: Page, job: Job | None) -> None:
    """What Hermes told later of a background job."""
    if job is None:
        return
    page.heading("Background job")
    code = "exit not known" if job.exit_code is None else f"exit {job.exit_code}"
    if job.ended:
        heard = f" when last asked at {clock_time(job.ended_ns)}" if job.ended_ns else ""
        said = f"over{heard}, {code}"
    elif job.alive:
        said = "running: its process is there"
    elif job.alive is False:
        said = f"its process is gone, {code}"
    elif job.heard_ns > job.started_ns:
        said = f"running when last asked at {clock_time(job.heard_ns)}"
    else:
        said = "started; nobody asked for it since"
    page.line(f"{said} ({job.id})")
    if job.pid:
        page.field("process id", str(job.pid))
    if job.cwd:
        page.field("in", job.cwd)


def output_lines(page: Page, output: str | None, error: str | None, unknown: str) -> None:
    """What a command printed, and what its result says went wrong beside that."""
    if output:
        page.output(output)
    elif not error:
        page.line("(empty)" if output is not None else unknown, DIM)
    if error:
        page.value(error, style="red")


def outcome_words(outcome: str, error: str | None) -> str:
    """How a command ended, in a word; of a blocked one what a person said to it."""
    said = decision(outcome, error)
    return "blocked, nobody answered" if said == "timed out" else said or outcome


def describe_record(
    subject: Subject, record: Record, moment: Moment, *, glyphs: Glyphs, full: bool = False,
    head: bool = False,
) -> Text:  # fmt: skip
    """The details page of a row without a span; `head`: it is the turn's own."""
    page = Page(glyphs, full=full)
    if subject.item is not None:
        _item(page, subject.item, subject.turn, record, moment)
    elif subject.step is not None:
        _step(page, subject.step, moment)
    elif subject.agent is not None:
        _agent(page, subject.agent, moment)
    elif subject.turn is not None and head:
        _turn(page, subject.turn, moment)
    else:
        _doing(page, moment)
    return page.text


def _item(page: Page, item: Item, turn: JoinedTurn | None, record: Record, moment: Moment) -> None:
    command = item.tool in COMMAND_TOOLS
    call = read_call(item.tool, record.arguments or item.arguments, record.result) if command else None
    state = _state(item, moment, call.error if call is not None else None)
    page.line(f"{'Command' if command else f'Tool {item.tool}'}, {state}", HEADING)
    if call is not None:
        whys = moment.whys(item)
        command_lines(page, item.tool, call.command or item.command, item.cwd, whys)
    elif text := record.arguments or item.arguments:
        page.heading("Input")
        page.value(lay_out(text, full=page.full))
    if not item.open:
        page.heading("Output")
        if call is not None:
            output_lines(page, call.output, call.error, "(none known)")
        elif record.result:
            page.value(lay_out(record.result, full=page.full))
        else:
            page.line("(none known)", DIM)
    job_lines(page, moment.job(item))
    page.heading("Time")
    page.field("asked for", clock(item.asked_ns or item.start_ns))
    page.field("ended", clock(item.end_ns) if item.end_ns else "not yet" if item.open else "never seen")
    page.heading("Known from")
    for source in sorted(item.sources):
        page.line(_FROM.get(source, "its span") if source is Source.STATE else "The model call that asked")
    if turn is not None and moment.lost(item, turn):
        page.line("Its span did not come: it was lost, or is one with another call's.", DIM)
    elif item.span is None:
        page.line("hermes-otel sends its span once it has ended.", DIM)


def _state(item: Item, moment: Moment, error: str | None) -> str:
    since = moment.since(item)
    if moment.asks(item):
        doing = moment.doing(item.session)
        why = f" ({doing.reason})" if doing.reason else ""
        return f"{'waits' if doing.certain else 'perhaps waits'} for you to allow it{why}"
    if since:
        return f"running since {clock(since)}"
    if moment.waits(item):
        return "waits for those before it"
    if not item.end_ns:
        return "stopped without a result" if item.dropped else "not known to have ended"
    code = "" if item.exit_code is None else f", exit {item.exit_code}"
    took = short_time(max(0, item.end_ns - item.start_ns) / 1e9)
    return f"{outcome_words(item.outcome, error) if item.outcome else 'done'}{code} after {took}"


def _step(page: Page, step: Step, moment: Moment) -> None:
    took = short_time((step.live.at_ns - step.live.since_ns) / 1e9)
    led = f"asked for {count_of(step.live.calls, 'tool call')}" if step.live.calls else "answered"
    page.line(f"Model call, {led} after {took}", HEADING)
    page.field("began", clock(step.live.since_ns))
    page.field("answered", clock(step.live.at_ns))
    part = moment.live.session(step.session)
    spent = part.spent(step.live) if part is not None else None
    if spent is not None:
        page.heading("Tokens")
        for name in ("input_tokens", "output_tokens", "cache_read_tokens", "reasoning_tokens"):
            count = getattr(spent, name)
            page.field(name.removesuffix("_tokens").replace("_", " "), f"{count:,}  ({short_number(count)})")
        if spent.cost is not None:
            page.field("cost", f"${spent.cost:.4f}")
    page.heading("Known from")
    page.line("Hermes' own records; its span has not come.", DIM)


def _agent(page: Page, agent: Agent, moment: Moment) -> None:
    doing = moment.doing(agent.session)
    page.line(f"Subagent, {'idle' if doing.state is State.IDLE else 'at work'}", HEADING)
    page.heading("Asked")
    page.value(agent.prompt or "(not known)")
    page.field("session", agent.session)
    page.field("began", clock(agent.start_ns))
    page.heading("Known from")
    page.line("Hermes' own records; its span has not come.", DIM)


def _turn(page: Page, turn: JoinedTurn, moment: Moment) -> None:
    status = moment.status(turn, turn)
    page.line(f"Turn, {status}", HEADING)
    page.heading("Asked")
    page.value(turn.prompt or "(not known)")
    page.heading("Time")
    page.field("asked", clock(turn.start_ns))
    ended = turn.live.ended_ns if turn.live is not None else 0
    page.field("ended", clock(ended) if ended else "not yet" if status == "running" else "never seen")
    noted_lines(page, moment.live.session(moment.session))
    page.heading("Known from")
    page.line("Hermes' own records; hermes-otel sends a turn's span once it has ended.", DIM)


def noted_lines(page: Page, part: LiveSession | None) -> None:
    """What Hermes noted of a session and spans do not say."""
    row = part.row if part is not None else None
    if part is None or row is None:
        return
    page.heading("Session")
    page.field("id", row.id)
    said = ("title", row.title), ("in", row.cwd), ("profile", row.profile or part.home), ("from", row.source)
    for name, value in (*said, ("below", row.parent), ("model", row.model)):
        if value:
            page.field(name, value)
    page.field("tokens", f"{row.input_tokens:,} in, {row.output_tokens:,} out, by Hermes' records")
    if row.cost is not None:
        page.field("cost", f"${row.cost:.4f}, by Hermes' records")


def _doing(page: Page, moment: Moment) -> None:
    doing = moment.doing(moment.session)
    if doing.state is State.MODEL:
        page.line(f"Waiting for the model since {clock(doing.since_ns)}", HEADING)
        page.line("A model call is sent as a span once it was answered.", DIM)
    elif doing.state is State.TOOL:
        page.line(f"A tool runs since {clock(doing.since_ns)}", HEADING)
        page.line("Its model call asked for it; hermes-otel tells which one when it ends.", DIM)
    else:
        page.line("This is over.", HEADING)
