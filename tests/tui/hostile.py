"""Texts that try to steer a terminal, a markup reader or a layout, and spans that hold them everywhere."""

from __future__ import annotations

import json
import re

from opentelemetry.proto.trace.v1 import trace_pb2

from tests.support import SECOND, wire_span
from tests.tui.stage import Stage

ESC = "\x1b"

SEQUENCES = (
    f"{ESC}[2J",
    f"{ESC}[31;5;66m",
    f"{ESC}[?47l",
    f"{ESC}[6n",
    f"{ESC}[3;3H",
    f"{ESC}[>4;2m",
    f"{ESC}]0;HOSTILE-TITLE\x07",
    f"{ESC}]8;;http://hostile.example{ESC}\\link{ESC}]8;;{ESC}\\",
    f"{ESC}]52;c;SE9TVElMRQ==\x07",
    f"{ESC}P+q544e{ESC}\\",
    f"{ESC}_Gf=24;AAAA{ESC}\\",
    f"{ESC}^pm{ESC}\\",
    f"{ESC}X sos {ESC}\\",
    f"{ESC}c",
    f"{ESC}(0",
    f"{ESC}#8",
    "\x9b31;5;66m",
    "\x9d0;HOSTILE-TITLE\x9c",
    "\x90q\x9c",
    "\x85",
    "\x00",
    "\x07",
    "\x08\x08\x08",
    "\x0b",
    "\x0c",
    "\x0e",
    "\x0f",
    "\x7f",
    "\r",
    "\r\n",
    "\n",
    "\t",
)
"""What a terminal would obey."""

INVISIBLE = (
    "\u202eevil\u202c",
    "\u2066a\u2069",
    "\u200f\u200e\u061c",
    "a\u200bb\u200cc\u200dd",
    "\ufeff",
    "\u00ad",
    "\u2028",
    "\u2029",
    "\u180e",
    "\u3164",
    "\U000e0041\U000e007f",
    "x\ufe0f\ufe0e",
)
"""What a reader would not see, or see elsewhere."""

WIDE = (
    "e" + "\u0301" * 300,
    "\u0e01\u0e33\u0e49\u0e49\u0e49",
    "\u1100\u1161\u11a8",
    "\u0928\u093f\u0902",
    "日本語の長いテキスト",
    "👩\u200d👩\u200d👧\u200d👦",
    "🇩🇪🇺",
    "👍🏽",
    "❤\ufe0f",
    "1\ufe0f\u20e3",
    "ｱﾞ",
    "﷽",
    "\u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627",
    "🏴\U000e0067\U000e0062\U000e007f",
    "\U0001fae8",
    "\u0600\u06dd",
    "\U00016fe0",
)
"""What a layout may take for wider or narrower than it is drawn."""

MARKUP = (
    "[red]x[/]",
    "[@click=app.quit]y[/]",
    "[/]",
    "[link=http://hostile.example]z[/link]",
    "[[",
    "\\[b]",
    "[#ff0000 on blue]",
    "$primary",
    '[@click="app.bell"]',
    "{0}%s%(x)s",
)
"""What Textual or Rich would read as markup."""

TEXTS = (*SEQUENCES, *INVISIBLE, *WIDE, *MARKUP)
ALL = "".join(f"<{text}>" for text in TEXTS)
SHORTS = [f"{text}{other}" for text, other in zip(TEXTS, TEXTS[7:] + TEXTS[:7], strict=True)]

SURROGATES = "\\ud83d and \\udc00"
"""Lone surrogates: protobuf refuses them, JSON inside an attribute can name them."""

OBEYED = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufe00-\ufe0f\ud800-\udfff]|[\U000e0000-\U000e0fff]"
)
"""Characters that never belong on a screen."""


def spans(session: str = f"s{ALL}") -> list[trace_pb2.Span]:
    """A session in which every text is hostile: names, prompts, commands, outputs, keys, messages, events."""
    found = [_span(number, text, session) for number, text in enumerate(SHORTS)]
    found.append(_command(500, ALL, session))
    found.append(_command(501, f"line one\n{ALL}\nline three", session, raw=True))
    found.append(_model_call(502, ALL, session))
    found.append(
        _named(
            503,
            f"approval.{ALL}",
            session,
            hermes__approval__command=ALL,
            hermes__approval__choice=ALL,
            hermes__approval__granted=True,
        )
    )
    found.append(_named(504, f"skill.{ALL}", session))
    found.append(_named(505, f"subagent.{ALL}", session, input__value=ALL))
    root = wire_span(
        1_000,
        name="agent",
        session__id=session,
        input__value=ALL,
        hermes__platform=ALL,
        hermes__turn__final_status=ALL,
        start_ns=SECOND * 1_000,
        end_ns=SECOND * 1_900,
    )
    return [*found, root]


def _span(number: int, text: str, session: str) -> trace_pb2.Span:
    make = (_command, _model_call, _tool, _failed)[number % 4]
    return make(number, text, session)


def _named(number: int, name: str, session: str, **said: object) -> trace_pb2.Span:
    start = SECOND * 1_001 + number * 1_000_000
    span = wire_span(
        number, parent=1_000, name=name, start_ns=start, end_ns=start + 2_000_000, session__id=session, **said
    )
    span.attributes.add(key=f"key {name}").value.string_value = f"value {name}"
    listed = span.attributes.add(key="list")
    listed.value.array_value.values.add().string_value = name
    pair = listed.value.array_value.values.add().kvlist_value.values.add(key=name)
    pair.value.string_value = name
    event = span.events.add(name=name, time_unix_nano=start)
    event.attributes.add(key=name).value.string_value = name
    return span


def _command(number: int, text: str, session: str, *, raw: bool = False) -> trace_pb2.Span:
    arguments = json.dumps({"command": text, "workdir": text}, ensure_ascii=not raw)
    result = json.dumps({"output": f"{text}\n{text}", "exit_code": 0}, ensure_ascii=not raw)
    result = result.replace('"exit_code"', f'"also": "{SURROGATES}", "exit_code"')
    arguments = arguments.replace("}", f', "timeout": "{SURROGATES}"}}')
    return _named(number, "tool.terminal", session, input__value=arguments, output__value=result, marker=text)


def _model_call(number: int, text: str, session: str) -> trace_pb2.Span:
    return _named(
        number,
        f"api.{text}",
        session,
        gen_ai__response__model=f"m{text}",
        gen_ai__system_instructions=text,
        llm__token_count__prompt=5,
        gen_ai__input__messages=json.dumps([{"role": "user", "content": text}]),
        llm__response__finish_reason=text,
    )


def _tool(number: int, text: str, session: str) -> trace_pb2.Span:
    return _named(
        number, f"tool.{text}", session, input__value=json.dumps({"path": text}), output__value=text
    )


def _failed(number: int, text: str, session: str) -> trace_pb2.Span:
    span = _named(number, f"chain{text}", session, error__type=text)
    span.status.code = 2  # type: ignore[assignment]
    span.status.message = text
    return span


def check(stage: Stage) -> str:
    """No character on the screen steers anything, and every line is as wide as the screen."""
    for strip in stage.strips():
        assert strip.cell_length == stage.app.size.width
        for segment in strip:
            assert segment.control is None
            assert OBEYED.search(segment.text) is None, ascii(segment.text)
    return stage.text
