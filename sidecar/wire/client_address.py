"""Which client a limit counts for: one IPv4 address, or one IPv6 network of 64 bits.

A host can use any address of its /64 network, so that single IPv6 addresses would be no limit. Owns
what a trusted proxy's X-Forwarded-For says about the client. Knows nothing of sockets or counts.
"""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    Network = ipaddress.IPv4Network | ipaddress.IPv6Network
    Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_HOST_BITS: Final = 64  # of an IPv6 address
_MAX_PROXIES: Final = 16  # that are looked at
_KNOWN_LISTS: Final = 4096  # values of X-Forwarded-For whose client is remembered
_LONGEST_KNOWN: Final = 256  # octets of such a value
# An address as proxies write it: some add the client's port, and then brackets to IPv6.
_BRACKETED: Final = re.compile(r"\[([0-9A-Fa-f:.]+)\](?::[0-9]{1,5})?")
_WITH_PORT: Final = re.compile(r"([0-9.]+):[0-9]{1,5}")


def parse_address(text: str) -> Address | None:
    """Parse an address; an IPv4 address in IPv6 form becomes IPv4. None if it is no address."""
    try:
        parsed = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(parsed, "ipv4_mapped", None) or parsed


def is_among(address: Address | None, networks: Sequence[Network]) -> bool:
    """Whether the address is in one of the networks; False without an address."""
    return address is not None and any(address in network for network in networks)


def client_of(address: Address | None) -> str:
    """The client that an address counts for; empty without an address."""
    if address is None:
        return ""
    if address.version == 4:
        return str(address)
    return f"{ipaddress.IPv6Address(int(address) >> _HOST_BITS << _HOST_BITS)}/{_HOST_BITS}"


class Named(NamedTuple):
    """The client that X-Forwarded-For names: whom limits apply to, and its address. Or nobody."""

    client: str = ""
    address: str = ""


NOBODY: Final = Named()


class NamedClients(dict[bytes, Named]):
    """Maps a value of X-Forwarded-For to the client that it names. `networks` are the proxies'.

    Each proxy appends its peer, and what comes before that may be the client's invention. So the
    list is read from its end, and the first address that is not a trusted proxy is the client. If
    all are, the client is the first address: it runs beside the proxies. Values are remembered,
    because parsing takes 2 to 4 µs for each address.
    """

    def __init__(self, networks: Sequence[Network] = ()) -> None:
        super().__init__()
        self.networks = networks

    def __missing__(self, forwarded_for: bytes) -> Named:
        *_, last = _from_the_end(forwarded_for.decode("latin-1"), self.networks)
        named = NOBODY if last is None else Named(client_of(last), str(last))
        if len(forwarded_for) <= _LONGEST_KNOWN:
            if len(self) >= _KNOWN_LISTS:
                self.clear()
            self[forwarded_for] = named
        return named

    def hops(self, forwarded_for: bytes) -> int:
        """How many entries at the end of the list lead to the client, its own included."""
        return sum(1 for _ in _from_the_end(forwarded_for.decode("latin-1"), self.networks))


def last_client(forwarded_for: str, trusted: Sequence[Network]) -> str:
    """The address of the client that X-Forwarded-For names, where the last entry is the peer's.

    As `NamedClients`, but an entry that is no address does not hide the client: that is then the
    proxy that wrote the entry. Empty if not even the peer has an address.
    """
    found = [each for each in _from_the_end(forwarded_for, trusted) if each is not None]
    return str(found[-1]) if found else ""


def _from_the_end(forwarded_for: str, trusted: Sequence[Network]) -> Iterator[Address | None]:
    """Yield the addresses from the end on, and last the first that is not a trusted proxy's.

    None stands for an entry that is no address, and is the last as well.
    """
    for entry in reversed(forwarded_for.rsplit(",", _MAX_PROXIES)):
        address = parse_address(_without_port(entry.strip()))
        yield address
        if not is_among(address, trusted):
            return


def _without_port(entry: str) -> str:
    found = _BRACKETED.fullmatch(entry) or _WITH_PORT.fullmatch(entry)
    return found[1] if found else entry
