"""Who may talk to the receivers: no web page, nobody by a foreign name, and with a token only who has it.

A browser sends `Origin` with every cross-site POST and `Sec-Fetch-Site` with every request (Fetch
standard; Fetch Metadata Request Headers). A page that had its own name resolve to this machine (DNS
rebinding) still says that name in `Host`.
"""

from __future__ import annotations

import hmac
import ipaddress
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field

from hermes_tui.otlp.answers import Answer, Code
from hermes_tui.settings import Settings, SettingsError, read_token

TOKEN_HEADER = "x-hermes-trace-token"

_PORT = re.compile(r":[0-9]{1,5}")
_OWN_SITES = ("none", "same-origin")  # typed by the user, or from a page of ours: there is none
_FORBIDDEN = Answer(Code.PERMISSION_DENIED, "not allowed")  # a page learns nothing from it
_UNAUTHENTICATED = Answer(
    Code.UNAUTHENTICATED,
    f"this relay wants its token, as Authorization: Bearer TOKEN or {TOKEN_HEADER}: TOKEN",
)


@dataclass(frozen=True, slots=True)
class Access:
    """What a request must bring along. `hosts` are names in lower case; `origins` may read answers.

    `anywhere`: it listens on more than loopback, so that numeric addresses and this machine's own name
    are fine in Host too. With a token every Host is: no page knows the token.
    """

    token: str = field(default="", repr=False)
    hosts: frozenset[str] = frozenset()
    origins: frozenset[str] = frozenset()
    anywhere: bool = False

    def refuse(self, headers: Mapping[str, str]) -> Answer | None:
        """Why a request with these headers (names in lower case) is not heard; None when it is."""
        origin = headers.get("origin")
        if origin is None and headers.get("sec-fetch-site", "none") not in _OWN_SITES:
            return _FORBIDDEN
        if origin is not None and origin not in self.origins:
            return _FORBIDDEN
        if not self.token:
            return None if self._is_ours(headers.get("host", "")) else _FORBIDDEN
        return self.refuse_token(headers)

    def refuse_token(self, headers: Mapping[str, str]) -> Answer | None:
        """The part of `refuse` for transports that no web page can speak."""
        if not self.token:
            return None
        shown = (headers.get(TOKEN_HEADER, ""), _bearer(headers.get("authorization", "")))
        # All are compared, each in constant time.
        right = [hmac.compare_digest(_raw(each), _raw(self.token)) for each in shown]
        return None if any(right) else _UNAUTHENTICATED

    def without_token(self, headers: Mapping[str, str]) -> dict[str, str]:
        """The headers that may travel on: the sender's own Authorization does, our token never."""
        kept = {name: value for name, value in headers.items() if name != TOKEN_HEADER}
        if self.token and _bearer(kept.get("authorization", "")).strip() == self.token:
            del kept["authorization"]
        return kept

    def _is_ours(self, host: str) -> bool:
        name = _name(host)
        if not name:
            return False
        if name in self.hosts or name == "localhost" or is_loopback_address(name):
            return True
        return self.anywhere and (_address(name) is not None or name in _own_names())


def access_for(settings: Settings) -> Access:
    """What the settings allow. Raises SettingsError when strangers could send and nobody said they may."""
    token = read_token(settings)
    try:
        anywhere = not is_loopback(settings.host)
    except OSError:
        anywhere = False  # it does not resolve: who tries to listen there says so
    if anywhere and not (token or settings.allow_anyone):
        raise SettingsError(
            f"host {settings.host!r} is reached from outside this machine: whoever gets there could write "
            "into your journal and use your MLflow credentials. Set a token (HERMES_TRACE_TOKEN or "
            "--token-file) that senders must show, or accept the risk with --allow-anyone."
        )
    hosts = frozenset(map(_bare, (settings.host, *settings.allowed_hosts)))
    return Access(token, hosts, frozenset(settings.cors_origins), anywhere)


def _bearer(authorization: str) -> str:
    scheme, _, value = authorization.partition(" ")
    return value.strip() if scheme.lower() == "bearer" else ""


def _raw(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _name(host: str) -> str:
    """The name in a Host header: without port and brackets, in lower case; "" when it is none."""
    host = host.strip().lower()
    if host.startswith("["):
        name, closed, port = host[1:].partition("]")
    else:
        name, colon, port = host.partition(":")
        closed, port = "]", colon + port
    return name.removesuffix(".") if closed and (not port or _PORT.fullmatch(port)) else ""


def _bare(name: str) -> str:
    """A name as the settings have it, like `_name`: an IPv6 address may lack its brackets there."""
    return _name(f"[{name}]" if name.count(":") > 1 and not name.startswith("[") else name)


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        found = ipaddress.ip_address(name)
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found


def is_loopback_address(name: str) -> bool:
    """Whether a text is a numeric loopback address (127.0.0.0/8, ::1)."""
    found = _address(name)
    return found is not None and found.is_loopback


def _own_names() -> frozenset[str]:
    """This machine's name, in full and short; asked each time, for it may change."""
    name = socket.gethostname().lower()
    return frozenset({name, name.partition(".")[0]} - {""})


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens on `host`.

    A name must resolve to nothing else. Raises OSError when it does not resolve.
    """
    if not host:
        return False  # every address there is
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return all(is_loopback_address(str(address[0])) for *_, address in found)
