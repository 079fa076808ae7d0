"""Which addresses a request on a user's behalf may go to.

A user names a URL, and the service, which stands inside a network, asks it: so the address must
be one that the user could reach as well (server-side request forgery, OWASP API7:2023).
"""

import ipaddress
from collections.abc import Sequence

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
"""How an IPv6-only host reaches IPv4 [RFC 6052]; the last 32 bits are the IPv4 address."""
NOT_PUBLIC: tuple[Network, ...] = tuple(
    ipaddress.ip_network(network)
    for network in (
        "168.63.129.16/32",  # Azure's host, from every virtual machine
        "192.0.0.0/24",  # protocol assignments, Oracle's metadata among them
        "192.88.99.0/24",  # relays of 6to4
        "2001::/23",  # protocol assignments, Teredo among them: IPv4 in disguise
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4: IPv4 in disguise
        "3fff::/20",  # documentation
    )
)
"""What `ipaddress` calls global, in some or all versions of Python, and is not."""
WELL_KNOWN_PORTS = frozenset({80, 443})
FIRST_FREE_PORT = 1024


def networks(text: str) -> tuple[Network, ...]:
    """Addresses and networks, separated by commas or spaces. Raises ValueError."""
    return tuple(ipaddress.ip_network(each) for each in text.replace(",", " ").split())


def may_be_asked(text: str, allowed: Sequence[Network] = ()) -> bool:
    """Whether a request may go to an address: it is public, or in one of the allowed networks.

    Args:
        text: as the resolver says it, with a zone or without.
        allowed: networks that the service's operator has opened.
    """
    address = _plain(ipaddress.ip_address(text.partition("%")[0]))
    return any(address in network for network in allowed) or _is_public(address)


def is_web_port(port: int) -> bool:
    """Whether a web server is to be expected: not on the ports of mail, DNS, SSH and the like."""
    return port in WELL_KNOWN_PORTS or FIRST_FREE_PORT <= port <= 65535


def _plain(address: Address) -> Address:
    """An IPv4 address that is written as an IPv6 address, as itself."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in NAT64:
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def _is_public(address: Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address) and address not in GLOBAL_UNICAST:
        return False
    if any(address in network for network in NOT_PUBLIC):
        return False
    return address.is_global and not address.is_multicast
