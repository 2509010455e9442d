"""Addresses that strangers name."""

from __future__ import annotations

import asyncio
import socket
import threading

import aiohttp
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from frontdesk.kit.addresses import (
    AddressRefused,
    AddrInfo,
    NamesInThreads,
    PublicOnlyResolver,
    is_public,
    public_only_connector,
)

INSIDE = [
    "127.0.0.1",
    "127.255.255.254",
    "0.0.0.0",  # noqa: S104 - refused, not bound
    "10.96.0.1",
    "172.16.3.4",
    "192.168.1.1",
    "169.254.169.254",
    "100.100.100.200",  # a cloud's metadata service
    "192.0.0.192",  # another's
    "168.63.129.16",  # the host of a cloud's machine
    "192.88.99.1",
    "192.0.2.7",
    "198.18.0.1",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::7f00:1",
    "fe80::1",
    "fe80::1%eth0",
    "fc00::1",
    "fd12:3456::1",
    "fec0::1",
    "ff02::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "64:ff9b::10.0.0.1",
    "64:ff9b:1::a00:1",
    "2002:7f00:1::",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "2001:db8::1",
    "3fff::1",
    "::ffff:168.63.129.16",
    "not an address",
    "",
]
OUTSIDE = [
    "8.8.8.8",
    "47.96.1.2",
    "2606:4700:4700::1111",
    "::ffff:8.8.8.8",
    "64:ff9b::8.8.8.8",
    "2002:808:808::",
]


class Names(AbstractResolver):
    """Resolves every name to the same addresses."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [
            ResolveResult(hostname=host, host=address, port=port, family=family, proto=0, flags=0)
            for address in self.addresses
        ]

    async def close(self) -> None:
        return


@pytest.mark.parametrize("address", INSIDE)
def test_an_address_of_the_inside_is_not_public(address: str) -> None:
    """Loopback, private, link-local and reserved addresses, also in IPv6's clothes."""
    assert not is_public(address)


@pytest.mark.parametrize("address", OUTSIDE)
def test_an_address_of_the_internet_is_public(address: str) -> None:
    """Public addresses of both families."""
    assert is_public(address)


async def test_what_is_not_public_is_left_out_of_a_name() -> None:
    """A name with addresses of both kinds leads to the public ones only."""
    found = await PublicOnlyResolver(Names("10.0.0.1", "8.8.8.8")).resolve("a.example")
    assert [result["host"] for result in found] == ["8.8.8.8"]


async def test_a_name_that_leads_inside_is_refused() -> None:
    """Nothing is left, and the caller is told why."""
    with pytest.raises(AddressRefused):
        await PublicOnlyResolver(Names("10.0.0.1", "::1")).resolve("a.example")


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "0x7f000001", "inside.example"])
async def test_no_connection_leads_inside(host: str) -> None:
    """By number or by name, the call fails before a socket is connected."""
    connector = public_only_connector(limit=1, resolver=Names("127.0.0.1"))
    async with aiohttp.ClientSession(connector=connector) as session:
        with pytest.raises(aiohttp.ClientConnectorError) as caught:
            await session.get(f"http://{host}:9/")
    assert isinstance(caught.value.os_error, AddressRefused)


async def test_a_name_that_changes_is_refused_when_it_leads_inside() -> None:
    """A name is asked anew for a new connection: one that was public once opens nothing later."""
    names = Names("8.8.8.8")
    resolver = PublicOnlyResolver(names)
    assert await resolver.resolve("a.example")
    names.addresses = ("127.0.0.1",)
    with pytest.raises(AddressRefused):
        await resolver.resolve("a.example")


async def test_names_that_nobody_answers_hold_up_no_other_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lookups that hang are in threads of their own, and not in those that everything else shares."""
    answered = threading.Event()

    def hangs(*_: object, **__: object) -> list[AddrInfo]:
        answered.wait(10)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 443))]

    monkeypatch.setattr(socket, "getaddrinfo", hangs)
    names = NamesInThreads()
    asked = [asyncio.ensure_future(names.resolve(f"name{n}.example", 443)) for n in range(40)]
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        assert await asyncio.to_thread(lambda: "done") == "done"
    answered.set()
    found = await asyncio.gather(*asked)
    assert {(one["hostname"], one["host"], one["port"]) for one in found[3]} == {
        ("name3.example", "192.0.2.1", 443)
    }
    await names.close()
