"""Who is let in: tables of what senders, pages and strangers say."""

from __future__ import annotations

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermes_tui.otlp import access as access_module
from hermes_tui.otlp.access import TOKEN_HEADER, Access, access_for, is_loopback
from hermes_tui.otlp.answers import Code
from hermes_tui.settings import Settings, SettingsError

TOKEN = "a-token-that-nobody-guesses"
LOCAL = {"host": "127.0.0.1:4318"}
PAGE = "https://app.test"


def code(access: Access, **headers: str) -> Code | None:
    answer = access.refuse({**LOCAL, **{name.replace("_", "-"): value for name, value in headers.items()}})
    return None if answer is None else answer.code


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "localhost:4318",
        "LOCALHOST:4318",
        "localhost.:4318",
        "127.0.0.1",
        "127.0.0.1:65535",
        "127.8.9.10:1",
        "[::1]",
        "[::1]:4318",
        "[0:0:0:0:0:0:0:1]:4318",
        "[::ffff:127.0.0.1]:4318",
        "named.test:4318",
        "[fd00::5]",
    ],
)
def test_names_of_this_machine_are_fine(host: str) -> None:
    access = access_for(Settings(allowed_hosts=("Named.test", "fd00::5")))
    assert code(access, host=host) is None


@pytest.mark.parametrize(
    "host",
    [
        "",
        " ",
        "evil.test",
        "evil.test:4318",
        "localhost.evil.test",
        "127.0.0.1.evil.test",
        "localhost:4318@evil.test",
        "localhost:4318:4318",
        "localhost:",
        "localhost:port",
        "localhost:123456",
        "evil.test#localhost",
        "192.168.1.5:4318",
        "0.0.0.0:4318",
        "[::]:4318",
        "[::1",
        "::1",
        "[::1]evil",
        "[localhost",
        "2130706433",
        "127.1",
        "0x7f.0.0.1",
        "loc\u0430lhost",
    ],
)
def test_other_names_are_not(host: str) -> None:
    assert code(Access(), host=host) is Code.PERMISSION_DENIED


def test_who_names_no_host_is_not_heard() -> None:
    assert Access().refuse({}) is not None


@pytest.mark.parametrize(
    "host", ["192.168.1.5:4318", "[fe80::1]:4318", "8.8.8.8", "this.machine.test", "this"]
)
def test_listening_elsewhere_numbers_and_the_own_name_are_fine(
    monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "this.machine.test")
    assert code(Access(anywhere=True), host=host) is None
    assert code(Access(anywhere=True), host="evil.test") is Code.PERMISSION_DENIED


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"sec_fetch_site": "none"}, None),
        ({"sec_fetch_site": "same-origin"}, None),
        ({"sec_fetch_site": "cross-site"}, Code.PERMISSION_DENIED),
        ({"sec_fetch_site": "same-site"}, Code.PERMISSION_DENIED),
        ({"sec_fetch_site": ""}, Code.PERMISSION_DENIED),
        ({"origin": "https://evil.test"}, Code.PERMISSION_DENIED),
        ({"origin": "null"}, Code.PERMISSION_DENIED),
        ({"origin": ""}, Code.PERMISSION_DENIED),
        ({"origin": "http://127.0.0.1:4318"}, Code.PERMISSION_DENIED),  # we serve no pages
        ({"origin": "https://evil.test", "sec_fetch_site": "same-origin"}, Code.PERMISSION_DENIED),
        ({"origin": PAGE}, None),
        ({"origin": PAGE, "sec_fetch_site": "cross-site"}, None),
        ({"origin": f"{PAGE}.evil.test"}, Code.PERMISSION_DENIED),
        ({"origin": f"{PAGE}:8443"}, Code.PERMISSION_DENIED),
        ({"origin": f"{PAGE}/"}, Code.PERMISSION_DENIED),
    ],
)
def test_pages(headers: dict[str, str], expected: Code | None) -> None:
    for token in ("", TOKEN):
        shown = {TOKEN_HEADER: token} if token else {}
        assert code(Access(token=token, origins=frozenset({PAGE})), **headers, **shown) is expected


def test_a_refused_page_learns_nothing() -> None:
    answers = {
        Access().refuse({**LOCAL, "origin": "https://evil.test"}),
        Access().refuse({"host": "evil.test"}),
        Access(token=TOKEN).refuse({**LOCAL, "sec-fetch-site": "cross-site"}),
    }
    (only,) = answers
    assert only is not None
    assert only.message == "not allowed"


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({TOKEN_HEADER: TOKEN}, None),
        ({"authorization": f"Bearer {TOKEN}"}, None),
        ({"authorization": f"bearer  {TOKEN} "}, None),
        ({TOKEN_HEADER: TOKEN, "authorization": "Basic bWU6bWU="}, None),
        ({TOKEN_HEADER: "wrong", "authorization": f"Bearer {TOKEN}"}, None),
        ({TOKEN_HEADER: TOKEN, "host": "whatever.test"}, None),
        ({}, Code.UNAUTHENTICATED),
        ({TOKEN_HEADER: ""}, Code.UNAUTHENTICATED),
        ({TOKEN_HEADER: TOKEN[:-1]}, Code.UNAUTHENTICATED),
        ({TOKEN_HEADER: TOKEN + "x"}, Code.UNAUTHENTICATED),
        ({TOKEN_HEADER: TOKEN.upper()}, Code.UNAUTHENTICATED),
        ({TOKEN_HEADER: f"Bearer {TOKEN}"}, Code.UNAUTHENTICATED),
        ({TOKEN_HEADER: "\udcff\u20ac"}, Code.UNAUTHENTICATED),
        ({"authorization": TOKEN}, Code.UNAUTHENTICATED),
        ({"authorization": f"Basic {TOKEN}"}, Code.UNAUTHENTICATED),
        ({"authorization": "Bearer"}, Code.UNAUTHENTICATED),
    ],
)
def test_the_token(headers: dict[str, str], expected: Code | None) -> None:
    assert code(Access(token=TOKEN), **headers) is expected


@given(st.text(max_size=40))
def test_no_other_text_is_the_token(text: str) -> None:
    if text != TOKEN:
        assert (
            code(Access(token=TOKEN), **{TOKEN_HEADER: text, "authorization": f"Bearer {text}"}) is not None
        )


def test_the_token_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return False

    monkeypatch.setattr(access_module.hmac, "compare_digest", compare)
    assert code(Access(token=TOKEN), **{TOKEN_HEADER: TOKEN, "authorization": f"Bearer {TOKEN}"}) is not None
    assert compared == [(TOKEN.encode(), TOKEN.encode())] * 2


@pytest.mark.parametrize(
    ("headers", "kept"),
    [
        ({TOKEN_HEADER: TOKEN, "a": "b"}, {"a": "b"}),
        ({TOKEN_HEADER: "other"}, {}),
        ({"authorization": f"Bearer {TOKEN}"}, {}),
        ({"authorization": f"bearer {TOKEN}"}, {}),
        ({"authorization": "Bearer the-senders-own"}, {"authorization": "Bearer the-senders-own"}),
        ({"authorization": "Basic bWU6bWU=", TOKEN_HEADER: TOKEN}, {"authorization": "Basic bWU6bWU="}),
    ],
)
def test_the_token_never_travels_on(headers: dict[str, str], kept: dict[str, str]) -> None:
    assert Access(token=TOKEN).without_token(headers) == kept


def test_without_a_token_the_senders_credentials_travel_on() -> None:
    assert Access().without_token({"authorization": "Bearer x"}) == {"authorization": "Bearer x"}
    assert Access().without_token({"authorization": "Bearer "}) == {"authorization": "Bearer "}


def test_the_token_is_in_no_repr() -> None:
    assert TOKEN not in repr(Access(token=TOKEN))


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("127.1", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("0", False),
        ("::", False),
        ("", False),
        ("192.0.2.7", False),
        ("2001:db8::1", False),
    ],
)
def test_what_is_loopback(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


def test_a_name_is_loopback_when_all_its_addresses_are(monkeypatch: pytest.MonkeyPatch) -> None:
    def resolved(*addresses: str) -> None:
        found = [(2, 1, 6, "", (address, 0)) for address in addresses]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)

    resolved("127.0.0.1", "::1")
    assert is_loopback("name.test")
    resolved("127.0.0.1", "192.168.1.5")
    assert not is_loopback("name.test")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", ""])
def test_other_addresses_need_a_token_or_a_word_that_names_the_risk(host: str) -> None:
    with pytest.raises(SettingsError) as refused:
        access_for(Settings(host=host))
    for word in (repr(host), "HERMES_TRACE_TOKEN", "--token-file", "--allow-anyone", "journal"):
        assert word in str(refused.value)
    assert access_for(Settings(host=host, token=TOKEN)).token == TOKEN
    assert access_for(Settings(host=host, allow_anyone=True)).anywhere


def test_loopback_needs_nothing() -> None:
    for host in ("127.0.0.1", "::1", "localhost"):
        access = access_for(Settings(host=host))
        assert (access.token, access.anywhere) == ("", False)


def test_a_name_that_does_not_resolve_is_left_to_who_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert not access_for(Settings(host="nowhere.test")).anywhere
