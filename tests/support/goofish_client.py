"""A small client as the public ones are written: raw websockets, forged ackDiff, acknowledgements by mid."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgpack
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from frontdesk.simulators.goofish.server import GoofishSimulator, SimulatorSettings
from frontdesk.simulators.goofish.state import Seller
from support.waiting import until

KEY = "444e9908a51d1cb236a27862abc769c9"
TOKEN_API = "mtop.taobao.idlemessage.pc.login.token"
Frame = dict[str, Any]


def sign(token: str, t: str, data: str) -> str:
    """The signature of an mtop call (A3)."""
    return hashlib.md5(f"{token}&{t}&34839810&{data}".encode(), usedforsecurity=False).hexdigest()


class Market:
    """A running simulator and its control API."""

    def __init__(self, simulator: GoofishSimulator, http: aiohttp.ClientSession) -> None:
        self.simulator = simulator
        self.http = http

    @property
    def world(self) -> Any:
        """What exists at the marketplace."""
        return self.simulator.world

    async def control(self, path: str, body: object = None, *, method: str = "", status: int = 200) -> Any:
        """One call of the control API; GET without a body."""
        method = method or ("GET" if body is None else "POST")
        url = f"{self.simulator.http_url}/control{path}"
        async with self.http.request(method, url, json=body) as response:
            assert response.status == status, await response.text()
            return await response.json()

    async def faults(self, account: str | None = None, **options: Any) -> None:
        """Let something go wrong."""
        await self.control("/faults", {**({"account": account} if account else {}), **options})

    async def mtop(self, cookies: str, api: str, data: object, *, token: str | None = None) -> Any:
        """One signed call; the answer's JSON and the cookies that it set."""
        text, t = json.dumps(data), "1700000000000"
        pairs = dict(pair.split("=", 1) for pair in cookies.split("; "))
        signing = pairs.get("_m_h5_tk", "").partition("_")[0] if token is None else token
        async with self.http.post(
            f"{self.simulator.http_url}/h5/{api}/1.0/",
            params={"t": t, "sign": sign(signing, t, text), "api": api, "v": "1.0"},
            data={"data": text},
            headers={"Cookie": cookies},
        ) as response:
            return await response.json(), dict(response.cookies.items())

    async def token(self, seller: Seller, device: str = "DID") -> str:
        """A new access token."""
        answer, _ = await self.mtop(seller.cookies, TOKEN_API, {"appKey": KEY, "deviceId": device})
        assert answer["ret"] == ["SUCCESS::调用成功"]
        return str(answer["data"]["accessToken"])

    @asynccontextmanager
    async def login(self, seller: Seller, device: str = "DID") -> AsyncIterator[Client]:
        """A client that is logged in and ready."""
        token = await self.token(seller, device)
        async with self.socket() as client:
            assert (await client.register(token, device))["code"] == 200
            await until(lambda: any(f.get("lwp") == "/s/vulcan" for f in client.pushed))
            yield client

    @asynccontextmanager
    async def socket(self) -> AsyncIterator[Client]:
        """A socket that is not logged in; Host is sent twice, as some public clients do (A5)."""
        async with connect(
            self.simulator.ws_url,
            additional_headers={"Host": "wss-goofish.dingtalk.com", "Origin": "https://www.goofish.com"},
            proxy=None,
            ping_interval=None,
            close_timeout=0.3,
        ) as ws:
            client = Client(ws)
            reading = asyncio.create_task(client.read())
            try:
                yield client
            finally:
                reading.cancel()
                await asyncio.wait({reading})


class Client:
    """Collects what is pushed; with `acks` off it acknowledges nothing."""

    def __init__(self, ws: ClientConnection) -> None:
        self.ws = ws
        self.acks = True
        self.pushed: list[Frame] = []
        self.broken: list[str] = []
        self.code: int | None = None
        self._mids = itertools.count(1)
        self._answers: dict[str, asyncio.Future[Frame]] = {}

    async def read(self) -> None:
        """Take frames until the socket ends."""
        try:
            async for text in self.ws:
                await self._take(str(text))
        except ConnectionClosed:
            pass
        finally:
            self.code = self.ws.close_code or 1006

    async def _take(self, text: str) -> None:
        try:
            frame = json.loads(text)
            mid = frame["headers"]["mid"]
        except (ValueError, KeyError):
            self.broken.append(text)
            return
        if "lwp" not in frame:
            answer = self._answers.pop(mid, None)
            if answer is not None:
                answer.set_result(frame)
            return
        self.pushed.append(frame)
        if self.acks:
            await self.ws.send(json.dumps({"code": 200, "headers": {"mid": mid, "sid": ""}}))

    async def ask(self, lwp: str, body: object = None, **headers: object) -> Frame:
        """A request and its answer."""
        mid = f"{next(self._mids)}1700000000000 0"
        self._answers[mid] = answer = asyncio.get_running_loop().create_future()
        frame: Frame = {"lwp": lwp, "headers": {"mid": mid, **headers}}
        await self.ws.send(json.dumps(frame | ({"body": body} if body is not None else {})))
        return await asyncio.wait_for(answer, 5)

    async def register(self, token: str, device: str = "DID") -> Frame:
        """`/reg`."""
        return await self.ask("/reg", None, token=token, did=device, **{"app-key": KEY})

    async def send(self, seller: Seller, buyer_id: str, chat_id: str, text: str) -> Frame:
        """Say something to a buyer (A16)."""
        content = {"contentType": 1, "text": {"text": text}}
        data = base64.b64encode(json.dumps(content).encode()).decode()
        message = {
            "uuid": "-1",
            "cid": f"{chat_id}@goofish",
            "content": {"contentType": 101, "custom": {"type": 1, "data": data}},
        }
        receivers = {"actualReceivers": [f"{buyer_id}@goofish", f"{seller.user_id}@goofish"]}
        return await self.ask("/r/MessageSend/sendByReceiverScope", [message, receivers])

    def payloads(self) -> list[Any]:
        """Decoded data items of all pushes so far, keys as text."""
        return [decode(item["data"]) for frame in self.pushed for item in items(frame)]

    def messages(self) -> list[Any]:
        """The chat messages among them: `1` of each (A13)."""
        return [p["1"] for p in self.payloads() if isinstance(p.get("1"), dict)]

    def texts(self) -> list[str]:
        """What they say."""
        return [m["10"]["reminderContent"] for m in self.messages()]


def items(frame: Frame) -> list[Any]:
    """The data items of a push, none for a frame that is shaped otherwise."""
    body = frame.get("body")
    found = body.get("syncPushPackage", {}).get("data", []) if isinstance(body, dict) else []
    return [i for i in found if isinstance(i, dict) and isinstance(i.get("data"), str) and i["data"] != "!!!"]


def decode(data: str) -> Any:
    """A payload as the public decoders read it: base64 of JSON, else of MessagePack (A12)."""
    raw = base64.b64decode(data)
    try:
        return json.loads(raw)
    except ValueError:
        return json.loads(json.dumps(msgpack.unpackb(raw, strict_map_key=False)))


@asynccontextmanager
async def market(**settings: Any) -> AsyncIterator[Market]:
    """A simulator that runs."""
    simulator = GoofishSimulator(SimulatorSettings(**settings))
    await simulator.start()
    try:
        async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as http:
            yield Market(simulator, http)
    finally:
        await simulator.stop(1)
