"""Where a model server is, and which addresses are never spoken to.

Loads no network library: an address can be checked while it is typed.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from core.domain.errors import InputError, SafetyError

SERVER = "server:"
"""Begins the identifier of a model that a server has: ``server:NAME/MODEL``."""
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
MAX_URL = 300
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9 ._-]{0,39}$"
_NAME = re.compile(NAME_PATTERN)
_TOKEN = re.compile(r"^[A-Za-z0-9._~+/=-]{16,512}$")
_PORTS = {"http": 80, "https": 443}
# Source: AWS IMDS over IPv6 and Alibaba Cloud's metadata address, which lie outside the link-local ranges.
_METADATA = frozenset(map(ipaddress.ip_address, ("fd00:ec2::254", "100.100.100.200")))


@dataclass(frozen=True)
class ServerAddress:
    """A server as it was entered and checked; see ``checked_address``.

    Attributes
    ----------
    name : str
        What the reader calls it.
    scheme, host, port
        Of the URL, ``host`` without brackets.
    ca_file : str or None
        PEM file of the authority that signed the server's certificate; None for those of this computer.
    allow_plain : bool
        Whether pictures may travel unencrypted to another computer.
    token : str
        The bearer token; never in a message or a log.
    """

    name: str
    scheme: str
    host: str
    port: int
    ca_file: str | None = None
    allow_plain: bool = False
    token: str = field(default="", repr=False)

    @property
    def url(self) -> str:
        """Scheme, host and port."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    @property
    def netloc(self) -> str:
        """What the ``Host`` header says."""
        return self.url.partition("://")[2]


def server_of(model_id: str) -> str:
    """Return the name of the server in a model's identifier, empty for a model of this computer."""
    return model_id.removeprefix(SERVER).partition("/")[0] if model_id.startswith(SERVER) else ""


def model_in_words(model_id: str) -> str:
    """Return an identifier as a job is called before its model is known."""
    name = server_of(model_id)
    return on_server(name, model_id.partition("/")[2]) if name else model_id


def on_server(name: str, title: str) -> str:
    """Return what a job of a server is called; where it runs stands first, since lists cut the end of a line."""
    return f"{name} · {title}"


def checked_address(
    name: str, url: str, token: str, *, ca_file: str | None = None, allow_plain: bool = False
) -> ServerAddress:
    """Return an address after everything that can be checked without the network.

    Raises
    ------
    InputError
        ``engine.name``, ``engine.url`` or ``engine.token``: what is wrong with the entry.
    SafetyError
        ``engine.plain`` for ``http://`` to a host that isn't this computer, ``engine.forbidden_address``.
    """
    if not _NAME.fullmatch(name):
        raise InputError(
            "engine.name",
            "A server's name has 1 to 40 letters, digits, spaces, dots, dashes or underscores.",
            "Choose another name, for example “reading-room”.",
        )
    scheme, host, port = _parts(url)
    if token and not _TOKEN.fullmatch(token):
        raise InputError(
            "engine.token",
            "A token has 16 to 512 letters, digits and the signs . _ ~ + / = -",
            "Copy the whole token that the server printed at its first start.",
        )
    address = ServerAddress(name, scheme, host, port, ca_file, allow_plain, token)
    literal = _literal(host)
    if literal is not None:
        check_reachable(address, [literal])
    elif scheme == "http" and not allow_plain and host != "localhost":
        raise plain_refusal(name)
    return address


def check_reachable(address: ServerAddress, found: Iterable[Address]) -> None:
    """Refuse what a name stands for: addresses of no server, and unencrypted traffic to other computers.

    Raises
    ------
    SafetyError
        ``engine.forbidden_address`` or ``engine.plain``. One bad address of several refuses all.
    """
    for one in found:
        real = _unmapped(one)
        if (
            real.is_link_local
            or real.is_multicast
            or real.is_unspecified
            or (real.is_reserved and not real.is_loopback)
            or real in _METADATA
        ):
            raise SafetyError(
                "engine.forbidden_address",
                f"{address.name} leads to {real}, an address at which no model server may be.",
                "Enter the address of the server itself.",
            )
        if address.scheme == "http" and not address.allow_plain and not real.is_loopback:
            raise plain_refusal(address.name)


def plain_refusal(name: str) -> SafetyError:
    """Return the refusal of ``http://`` to another computer."""
    return SafetyError(
        "engine.plain",
        f"{name} would be sent pictures and the token unencrypted.",
        "Use https:// (start the server with a certificate), or allow it where the network "
        "itself is protected (overread engine add --allow-http).",
    )


def _parts(url: str) -> tuple[str, str, int]:
    try:
        parts = urlsplit(url.strip())
        port = parts.port
    except ValueError:
        raise _bad_url("it can't be read") from None
    if len(url) > MAX_URL or any(ord(sign) <= 32 or ord(sign) > 126 for sign in url.strip()):
        raise _bad_url("it is too long or has other signs than an address has")
    if parts.scheme not in _PORTS:
        raise _bad_url("it begins with neither https:// nor http://")
    if not parts.hostname:
        raise _bad_url("it names no computer")
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise _bad_url("it holds a user, a question or a fragment")
    if parts.path not in ("", "/"):
        raise _bad_url("it holds a path")
    return parts.scheme, parts.hostname.rstrip("."), port or _PORTS[parts.scheme]


def _bad_url(why: str) -> InputError:
    return InputError(
        "engine.url",
        f"This address of a server isn't used: {why}.",
        "Enter it like https://reading-room.example:8000",
    )


def _literal(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None


def _unmapped(address: Address) -> Address:
    """Return the IPv4 address that an IPv6 one stands for, if it does."""
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped if mapped is not None else address
