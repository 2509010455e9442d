"""A guard for addresses that strangers name: no call of theirs reaches the inside of a network.

A seller names the address of a provider or of a page, and the cluster's own services, the machine's loopback
and a cloud's metadata service are all an HTTP call away. What counts is where a name leads at the moment of
the call, so the guard sits where the socket is made: a name that leads elsewhere later is refused then.
"""

from __future__ import annotations

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any

from aiohttp import TCPConnector
from aiohttp.abc import AbstractResolver, ResolveResult

# RFC 6052: the last 32 bits are an IPv4 address, which a gateway of the network calls.
_NAT64 = IPv6Network("64:ff9b::/96")
# What Python 3.11 takes for public: IETF's own addresses, among them a cloud's metadata service, a relay of
# 6to4, and where Azure's machines find their host.
_INSIDE = tuple(map(IPv4Network, ("192.0.0.0/24", "192.88.99.0/24", "168.63.129.16/32")))
_INSIDE_6 = IPv6Network("3fff::/20")

# Names that are looked up at once: as many as a pool of connections has.
LOOKUPS = 100

AddrInfo = tuple[int | socket.AddressFamily, int | socket.SocketKind, int, str, tuple[Any, ...]]


class AddressRefused(OSError):
    """An address inside a network. aiohttp shows it as the `os_error` of its ClientConnectorError."""

    def __init__(self) -> None:
        # One sentence for all addresses: a caller learns nothing about the network.
        super().__init__("the address is not a public one")


def is_public(address: str | IPv4Address | IPv6Address) -> bool:
    """Whether an IP address belongs to the public internet; False for text that is no address.

    An IPv6 address that stands for an IPv4 one (mapped, NAT64, 6to4) is as public as that one.
    """
    try:
        ip = ip_address(address.partition("%")[0]) if isinstance(address, str) else address
    except ValueError:
        return False
    if isinstance(ip, IPv6Address):
        inner = _embedded(ip)
        if inner is not None:
            return is_public(inner)
        if ip.is_site_local or ip.teredo is not None or ip in _INSIDE_6:
            return False
    elif any(ip in network for network in _INSIDE):
        return False
    return ip.is_global and not (ip.is_multicast or ip.is_reserved or ip.is_unspecified)


def _embedded(ip: IPv6Address) -> IPv4Address | None:
    if ip in _NAT64:
        return IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.ipv4_mapped or ip.sixtofour


class NamesInThreads(AbstractResolver):
    """Looks names up with the system's resolver, in threads of its own: a name whose servers are silent holds
    one for many seconds, and must not keep other work of the process from the common ones."""

    def __init__(self, threads: int = LOOKUPS) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="names")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        look_up = partial(
            socket.getaddrinfo,
            host,
            port,
            family=family,
            type=socket.SOCK_STREAM,
            flags=socket.AI_ADDRCONFIG,
        )
        found = await asyncio.get_running_loop().run_in_executor(self._threads, look_up)
        return [
            ResolveResult(
                hostname=host,
                host=str(address[0]),
                port=int(address[1]),
                family=kind,
                proto=protocol,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for kind, _, protocol, _, address in found
        ]

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


class PublicOnlyResolver(AbstractResolver):
    """A resolver that leaves out what is not public; raises AddressRefused when nothing is left.

    aiohttp asks no resolver about an address that is written as a number: `public_only_connector` guards
    those too.
    """

    def __init__(self, inner: AbstractResolver | None = None) -> None:
        self._inner = inner or NamesInThreads()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._inner.resolve(host, port, family)
        public = [result for result in found if is_public(result["host"])]
        if found and not public:
            raise AddressRefused
        return public

    async def close(self) -> None:
        await self._inner.close()


def public_socket(info: AddrInfo) -> socket.socket:
    """aiohttp's `socket_factory`: a socket for a public address; raises AddressRefused for any other."""
    family, kind, protocol, _, address = info
    if not is_public(str(address[0])):
        raise AddressRefused
    return socket.socket(family=family, type=kind, proto=protocol)


def public_only_connector(*, limit: int, resolver: AbstractResolver | None = None) -> TCPConnector:
    """A pool of at most `limit` connections that all lead to public addresses, by name or by number."""
    return TCPConnector(limit=limit, resolver=PublicOnlyResolver(resolver), socket_factory=public_socket)
