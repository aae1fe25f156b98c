"""Which IP addresses the server may connect to when somebody else chose the host's name."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from deployments.errors import OutboundRefusedError

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
# From a host and a port to addresses as text.
Resolver = Callable[[str, int], Awaitable[Sequence[str]]]

_UNICAST = IPv6Network("2000::/3")
_SIX_TO_FOUR = IPv6Network("2002::/16")
_NAT64 = IPv6Network("64:ff9b::/96")
# A name server that never answers may hold these, and no thread that other requests need.
_LOOKUPS = ThreadPoolExecutor(4, thread_name_prefix="resolve")


async def resolve(host: str, port: int) -> list[str]:
    """Addresses of a host by the system's resolver, which reads decimal, octal and hex forms too.

    Raises:
        OSError: There is no such host.
    """
    loop = asyncio.get_running_loop()
    found = await loop.run_in_executor(
        _LOOKUPS, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    )
    return list(dict.fromkeys(str(where[0]) for *_, where in found))


def vetted(addresses: Sequence[str], allowed: Sequence[Network] = ()) -> list[str]:
    """The addresses of one host, where all of them may be connected to.

    Args:
        addresses: As the resolver gave them.
        allowed: Networks that are fine although they are not public.

    Raises:
        OutboundRefusedError: One is not public: who answers with both kinds means harm.
    """
    for address in addresses:
        if not is_allowed(ip_address(address), allowed):
            raise OutboundRefusedError("its host has an address that is not public")
    return list(addresses)


def is_allowed(address: Address, allowed: Sequence[Network] = ()) -> bool:
    """Whether an address is public unicast, or in one of the allowed networks."""
    target = _meant(address)
    if any(target in network for network in allowed):
        return True
    if not target.is_global or target.is_multicast:
        return False
    return isinstance(target, IPv4Address) or (target in _UNICAST and target not in _SIX_TO_FOUR)


def _meant(address: Address) -> Address:
    """The IPv4 address that packets reach where an IPv6 address only wraps one."""
    if isinstance(address, IPv4Address):
        return address
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address
