"""The Goofish HTTP calls against a scripted gateway, plain and with TLS."""

from __future__ import annotations

import asyncio
import datetime
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from websockets.asyncio.server import ServerConnection, serve

from frontdesk.connection_gateway.platforms.base import Platform, PlatformHttp
from frontdesk.connection_gateway.platforms.errors import ErrorKind, PlatformError
from frontdesk.connection_gateway.platforms.goofish.adapter import Goofish
from frontdesk.connection_gateway.platforms.goofish.cookies import Cookies
from frontdesk.connection_gateway.platforms.goofish.settings import GoofishSettings
from frontdesk.connection_gateway.platforms.goofish.wire.sign import sign
from frontdesk.kit.clock import ManualClock
from frontdesk.kit.errors import InvalidArgument

OWN = "2200000000001"
TOKEN = "mtop.taobao.idlemessage.pc.login.token"
PNG = b"\x89PNG\r\n\x1a\n" + b"x" * 20
STALE = {"ret": ["FAIL_SYS_TOKEN_EXOIRED::令牌过期"]}
EMPTY = {"ret": ["FAIL_SYS_TOKEN_EMPTY::令牌为空"]}

Reply = Callable[[web.Request], Awaitable[web.StreamResponse]]


def ok(data: object) -> web.Response:
    """A successful mtop answer."""
    return web.json_response({"ret": ["SUCCESS::调用成功"], "data": data})


@dataclass
class Gateway:
    """Replies in order, the last for ever; and what was asked, with its form."""

    replies: list[Reply]
    asked: list[tuple[web.Request, dict[str, Any]]] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Record and reply."""
        form = await request.post()
        self.asked.append((request, {name: _read(value) for name, value in form.items()}))
        reply = self.replies[min(len(self.asked), len(self.replies)) - 1]
        return await reply(request)


def _read(value: object) -> object:
    """A form field; a file as name, type and bytes."""
    if isinstance(value, web.FileField):
        return value.filename, value.content_type, value.file.read()
    return value


def says(response: Callable[[], web.Response]) -> Reply:
    """A reply that does not look at the request."""

    async def reply(request: web.Request) -> web.StreamResponse:
        return response()

    return reply


def renews(body: object, value: str) -> Reply:
    """A failure that sets a new signing token."""

    async def reply(request: web.Request) -> web.StreamResponse:
        response = web.json_response(body)
        response.set_cookie("_m_h5_tk", value, domain=".goofish.com")
        response.set_cookie("_m_h5_tk_enc", "enc")
        return response

    return reply


@asynccontextmanager
async def account(
    *replies: Reply,
    cookies: str = f"unb={OWN}; _m_h5_tk=old_1; cookie2=c2; XSRF-TOKEN=x; cna=n",
    **changes: Any,
) -> AsyncIterator[tuple[PlatformHttp, Gateway, Cookies]]:
    """The HTTP calls of one account against a gateway."""
    gateway = Gateway(list(replies))
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", gateway.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    base = f"http://127.0.0.1:{runner.addresses[0][1]}"
    settings = GoofishSettings(
        api_url=base, passport_url=base, upload_url=f"{base}/upload?floderId=0", **changes
    )
    goofish = Goofish(settings, ManualClock())
    platform: Platform = goofish
    credentials = goofish.credentials(cookies)
    try:
        yield platform.http(credentials), gateway, credentials
    finally:
        await goofish.close()
        await runner.cleanup()


async def test_calls_are_signed_over_the_sent_text() -> None:
    """Signature, query, headers and cookies are the documented ones."""
    async with account(says(lambda: ok({"itemDO": {"title": "鞋"}}))) as (http, gateway, _):
        assert (await http.item("900000000001")).title == "鞋"
        request, form = gateway.asked[0]
        query = request.query
        assert request.path == "/h5/mtop.taobao.idle.pc.detail/1.0/"
        assert json.loads(form["data"]) == {"itemId": "900000000001"}
        assert query["sign"] == sign("old", "1700000000000", form["data"])
        assert (query["t"], query["type"], query["appKey"]) == ("1700000000000", "originaljson", "34839810")
        assert request.headers["Cookie"].startswith(f"unb={OWN}; _m_h5_tk=old_1")
        assert request.headers["Origin"] == "https://www.goofish.com"


async def test_stale_signing_token_is_renewed_and_the_call_repeated() -> None:
    """EXOIRED with Set-Cookie costs one repeat signed with the new token; the cookies are to be saved."""
    async with account(renews(STALE, "new_2"), says(lambda: ok({"accessToken": "a%2Bb"}))) as (
        http,
        gateway,
        cookies,
    ):
        token = await http.token("DID")
        assert token.token == "a+b"
        request, form = gateway.asked[1]
        assert request.query["sign"] == sign("new", "1700000000000", form["data"])
        assert cookies.changed
        assert "_m_h5_tk=new_2" in cookies.header()
        assert "_m_h5_tk_enc=enc" in cookies.header()


async def test_first_call_without_a_signing_token() -> None:
    """EMPTY gives the first token."""
    async with account(renews(EMPTY, "new_2"), says(lambda: ok({})), cookies=f"unb={OWN}") as (
        http,
        gateway,
        _,
    ):
        assert (await http.order("1234567890123")).order_id == "1234567890123"
        assert len(gateway.asked) == 2


async def test_repeats_are_bounded() -> None:
    """A gateway that never accepts its own tokens is asked three times; without a new token once."""
    count = iter(range(100))

    async def again(request: web.Request) -> web.StreamResponse:
        return await renews(STALE, f"new{next(count)}_2")(request)

    async with account(again) as (http, gateway, _):
        with pytest.raises(PlatformError) as caught:
            await http.token("DID")
        assert caught.value.kind is ErrorKind.AUTHENTICATION
        assert len(gateway.asked) == 3
    async with account(says(lambda: web.json_response(STALE))) as (http, gateway, _):
        with pytest.raises(PlatformError):
            await http.token("DID")
        assert len(gateway.asked) == 1


@pytest.mark.parametrize(
    ("response", "kind"),
    [
        (
            lambda: web.json_response({"ret": ["FAIL_SYS_SESSION_EXPIRED::Session过期"]}),
            ErrorKind.AUTHENTICATION,
        ),
        (lambda: web.json_response({"ret": ["FAIL_SYS_TRAFFIC_LIMIT::x"]}), ErrorKind.FLOW_CONTROL),
        (lambda: web.json_response({}), ErrorKind.BUSINESS),
        (lambda: web.Response(text="<html>验证码</html>", content_type="text/html"), ErrorKind.RISK_CONTROL),
        (
            lambda: web.Response(status=302, headers={"Location": "https://x/punish?s=1"}),
            ErrorKind.RISK_CONTROL,
        ),
        (lambda: web.Response(status=502, text="<html>"), ErrorKind.NETWORK),
        (lambda: web.Response(text='{"ret":['), ErrorKind.NETWORK),
        (lambda: web.Response(text='{"x":"' + "y" * 3_000_000 + '"}'), ErrorKind.NETWORK),
    ],
)
async def test_failures_are_classed_and_not_repeated(
    response: Callable[[], web.Response], kind: ErrorKind
) -> None:
    """Each failure is asked once and has its class."""
    async with account(says(response)) as (http, gateway, _):
        with pytest.raises(PlatformError) as caught:
            await http.token("DID")
        assert caught.value.kind is kind
        assert len(gateway.asked) == 1


async def test_risk_control_carries_the_page_for_a_person() -> None:
    """The whole address is kept for the person and hidden in the text."""
    url = "https://h5api.m.goofish.com:443//h5/x/punish?x5secdata=SECRET"
    body = {
        "ret": ["FAIL_SYS_USER_VALIDATE", "RGV587_ERROR::SM::哎哟喂,被挤爆啦,请稍后重试"],
        "data": {"url": url},
    }
    async with account(says(lambda: web.json_response(body))) as (http, gateway, _):
        with pytest.raises(PlatformError) as caught:
            await http.token("DID")
        assert (caught.value.kind, caught.value.url) == (ErrorKind.RISK_CONTROL, url)
        assert "SECRET" not in str(caught.value)
        assert len(gateway.asked) == 1


async def test_a_gateway_that_does_not_answer_is_network() -> None:
    """The time-out ends the call."""

    async def hang(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(5)
        return web.Response()

    async with account(hang, http_timeout=0.1) as (http, _, _):
        with pytest.raises(PlatformError) as caught:
            await http.item("1")
        assert caught.value.kind is ErrorKind.NETWORK


@pytest.mark.parametrize(
    ("life", "expires"),
    [("86400000", 1_700_086_400_000), (1_700_000_500_000, 1_700_000_500_000), (None, 1_700_003_600_000)],
)
async def test_token_expiry(life: object, expires: int) -> None:
    """A duration counts from now, a point in time is taken as it is, nothing said is an hour."""
    data = {"accessToken": "tok", "accessTokenExpiredTime": life}
    async with account(says(lambda: ok(data))) as (http, gateway, _):
        token = await http.token("DID")
        assert (token.token, token.expires_at_ms) == ("tok", expires)
        assert "tok'" not in repr(token)
        assert json.loads(gateway.asked[0][1]["data"])["deviceId"] == "DID"


@pytest.mark.parametrize("token", ["", "a%0Ab"])
async def test_a_token_that_is_none_is_refused(token: str) -> None:
    """An empty token or one that would break a header is an authentication failure."""
    async with account(says(lambda: ok({"accessToken": token}))) as (http, _, _):
        with pytest.raises(PlatformError) as caught:
            await http.token("DID")
        assert caught.value.kind is ErrorKind.AUTHENTICATION


@pytest.mark.parametrize(
    ("ret", "already"),
    [(["SUCCESS::调用成功"], False), (["ORDER_ALREADY_DELIVERY::x"], True), (["FAIL_BIZ::已发货成功"], True)],
)
async def test_confirm_shipping(ret: list[str], already: bool) -> None:
    """An order that is shipped already counts as done."""
    async with account(says(lambda: web.json_response({"ret": ret, "data": {}}))) as (http, gateway, _):
        assert await http.confirm_shipping("1234567890123") is already
        assert json.loads(gateway.asked[0][1]["data"])["orderId"] == "1234567890123"


async def test_confirm_shipping_of_an_unknown_order_fails() -> None:
    """Any other refusal is one."""
    async with account(says(lambda: web.json_response({"ret": ["ORDER_NOT_EXIST::x"]}))) as (http, _, _):
        with pytest.raises(PlatformError) as caught:
            await http.confirm_shipping("1")
        assert caught.value.kind is ErrorKind.BUSINESS


async def test_lists_and_names() -> None:
    """Items, sold orders and a buyer's name are asked as documented; seller pages have their own origin."""
    async with account(says(lambda: ok({"userInfo": {"fishNick": "nick"}, "items": [], "cardList": []}))) as (
        http,
        gateway,
        _,
    ):
        assert (await http.items(2, 10)).items == ()
        assert (await http.sold_orders(to_ship=True)).orders == ()
        assert await http.user_name("5@goofish") == "nick"
        items, sold, user = (json.loads(form["data"]) for _, form in gateway.asked)
        assert (items["pageNumber"], items["pageSize"], items["userId"]) == (2, 10, OWN)
        assert sold["queryCode"] == "NOT_SHIP"
        assert user["sessionId"] == "5"
        assert gateway.asked[1][0].headers["idle_site_biz_code"] == "COMMONPRO"
        assert gateway.asked[1][0].headers["Origin"] == "https://seller.goofish.com"
        assert gateway.asked[1][0].query["type"] == "json"
        assert gateway.asked[2][0].query["v"] == "4.0"


async def test_login_is_renewed() -> None:
    """hasLogin is followed by silentHasLogin, whose failure does not undo the first; Set-Cookie is kept."""
    done = {"content": {"success": True}}
    for second in (says(lambda: web.json_response(done)), says(lambda: web.Response(status=404, text="no"))):
        async with account(renews(done, "fresh_9"), second) as (http, gateway, cookies):
            assert await http.renew_login()
            assert [r.path for r, _ in gateway.asked] == [
                "/newlogin/hasLogin.do",
                "/newlogin/silentHasLogin.do",
            ]
            form = gateway.asked[0][1]
            assert (form["hid"], form["hsiz"], form["_csrf_token"], form["deviceId"]) == (OWN, "c2", "x", "n")
            assert "fresh_9" in cookies.header()


async def test_login_that_is_gone() -> None:
    """No success means that a person has to log in; nothing else is tried."""
    async with account(says(lambda: web.json_response({"content": {"success": False}}))) as (
        http,
        gateway,
        _,
    ):
        assert not await http.renew_login()
        assert len(gateway.asked) == 1


async def test_image_upload() -> None:
    """The file goes as multipart field `file` with its type; the answer names address and size."""
    answer = {"object": {"url": "https://img/1.png", "pix": "30x40"}}
    async with account(says(lambda: web.json_response(answer))) as (http, gateway, _):
        image = await http.upload_image(PNG, "a.png")
        assert (image.url, image.width, image.height) == ("https://img/1.png", 30, 40)
        assert gateway.asked[0][1]["file"] == ("a.png", "image/png", PNG)
        with pytest.raises(InvalidArgument):
            await http.upload_image(b"GIF89a", "a.gif")


async def test_image_that_is_not_stored() -> None:
    """An answer without an address is the platform's no."""
    async with account(says(lambda: web.json_response({"success": False, "message": "too big"}))) as (
        http,
        _,
        _,
    ):
        with pytest.raises(PlatformError) as caught:
            await http.upload_image(PNG, "a.png")
        assert caught.value.kind is ErrorKind.BUSINESS
        assert "too big" in caught.value.reason


def _certificate(folder: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    cert_file, key_file = folder / "cert.pem", folder / "key.pem"
    cert_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return cert_file, key_file


async def test_ca_file_is_what_tls_trusts(tmp_path: Path) -> None:
    """With its CA file the server is reached over TLS by HTTP and WebSocket; without, both are NETWORK."""
    cert_file, key_file = _certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert_file, key_file)

    async def register(ws: ServerConnection) -> None:
        frame = json.loads(await ws.recv())
        await ws.send(
            json.dumps({"headers": frame["headers"], "code": 401, "body": {"reason": "invalid token"}})
        )
        await ws.wait_closed()

    async def reply(request: web.Request) -> web.Response:
        return ok({"itemDO": {"title": "tls"}})

    async def nothing(push: object, said: object) -> None:
        return None

    app = web.Application()
    app.router.add_post("/{tail:.*}", reply)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    async with serve(register, "127.0.0.1", 0, ssl=context) as server:
        ws_port = next(iter(server.sockets)).getsockname()[1]
        for ca_file, kind in ((str(cert_file), ErrorKind.AUTHENTICATION), ("", ErrorKind.NETWORK)):
            settings = GoofishSettings(
                ws_url=f"wss://127.0.0.1:{ws_port}/",
                api_url=f"https://127.0.0.1:{runner.addresses[0][1]}",
                ca_file=ca_file,
            )
            goofish = Goofish(settings, ManualClock())
            cookies = goofish.credentials(f"unb={OWN}")
            with pytest.raises(PlatformError) as caught:
                await goofish.connection(OWN, nothing).connect(cookies, "tok", goofish.device_id(OWN))
            assert caught.value.kind is kind
            if ca_file:
                assert (await goofish.http(cookies).item("1")).title == "tls"
            else:
                with pytest.raises(PlatformError):
                    await goofish.http(cookies).item("1")
            await goofish.close()
    await runner.cleanup()
