"""The doors from outside: HTTP and gRPC without TLS (h2c) through the Ingress of the cluster."""

from __future__ import annotations

import asyncio
import os
import time

import aiohttp
import grpc
import grpc.aio

from cluster.release import GATEWAY, Release
from frontdesk.api.accounts.v1 import account_service_pb2 as accounts_pb
from frontdesk.api.accounts.v1.account_service_pb2_grpc import AccountServiceStub
from support.marketplace import ORGANIZATION

# host:port at which the ingress controller takes HTTP; without it nothing is tried.
INGRESS = "FRONTDESK_INGRESS"
HTTP_HOST = "frontdesk.local"
GRPC_HOST = "grpc.frontdesk.local"
# A controller needs a moment to see a new Ingress.
PATIENCE_S = 30.0
# Some controllers turn a refusal without a body into UNKNOWN now and then: they end the stream too late.
TRIES = 5


async def ingress(release: Release) -> dict[str, object]:
    """A question over HTTP, models, people's chat and a list over gRPC, each with and without a token."""
    if INGRESS not in os.environ:
        return {"step": "ingress", "skipped": f"{INGRESS} names no host and port of an ingress controller"}
    address = os.environ[INGRESS]
    token = await release.token()
    async with release.doors(services=[GATEWAY]) as doors:
        request = accounts_pb.ListAccountsRequest(organization_id=ORGANIZATION, page_size=100)
        (account, *_) = (await AccountServiceStub(doors).ListAccounts(request, timeout=10)).accounts
    wrong = [
        *await _over_http(release, address, token, account.account_id),
        *await _models(release, address, token),
        *await _chat(release, address, token),
        *await _over_grpc(address, token, account.account_id),
    ]
    return {"step": "ingress", "wrong": wrong}


async def _over_http(release: Release, address: str, token: str, account_id: str) -> list[str]:
    """What did not go as it must on the HTTP host."""
    body = {
        "cookie_id": account_id,
        "msg_time": str(int(time.time() * 1000)),
        "user_url": "http://buyer.test/1",
        "send_user_id": "buyer",
        "send_user_name": "buyer",
        "item_id": "1",
        "send_message": "is #0 available",
        "chat_id": "through-the-ingress",
    }

    async def ask(host: str, words: str) -> tuple[int, str]:
        headers = {"Host": host} | ({"Authorization": f"Bearer {words}"} if words else {})
        url = f"http://{address}/xianyu/reply"
        async with release.http.post(url, json=body, headers=headers) as answer:
            return answer.status, await answer.text()

    end = time.monotonic() + PATIENCE_S
    while (found := await ask(HTTP_HOST, token))[0] in (404, 502, 503) and time.monotonic() < end:
        await asyncio.sleep(1)
    wrong = [] if found[0] == 200 and "yes: is #0 available" in found[1] else [f"HTTP with a token: {found}"]
    for host, words, expected in ((HTTP_HOST, "", 401), ("elsewhere.test", token, 404)):
        if (found := await ask(host, words))[0] != expected:
            wrong.append(f"HTTP at {host}, {'with' if words else 'without'} a token: {found}")
    return wrong


async def _models(release: Release, address: str, token: str) -> list[str]:
    """What did not go as it must with `/v1`: the list of models, and a streamed answer."""
    url, wrong = f"http://{address}/v1", []
    headers = {"Host": HTTP_HOST, "Authorization": f"Bearer {token}"}
    async with release.http.get(f"{url}/models", headers=headers) as answer:
        names = {one["id"] for one in (await answer.json()).get("data", [])}
    if not names >= {"default", "offline"}:
        wrong.append(f"/v1/models with a token: {answer.status}, {sorted(names)}")
    async with release.http.get(f"{url}/models", headers={"Host": HTTP_HOST}) as answer:
        if answer.status != 401:
            wrong.append(f"/v1/models without a token: {answer.status}")
    body = {"model": "default", "stream": True, "messages": [{"role": "user", "content": "and #7?"}]}
    async with release.http.post(f"{url}/chat/completions", json=body, headers=headers) as answer:
        said = await answer.text()
    if answer.status != 200 or not said.rstrip().endswith("data: [DONE]"):
        wrong.append(f"/v1/chat/completions: {answer.status}, {said[-200:]!r}")
    return wrong


async def _chat(release: Release, address: str, token: str) -> list[str]:
    """What did not go as it must with a WebSocket of `/chat`."""
    url = f"http://{address}/chat"
    headers = {"Host": HTTP_HOST, "Authorization": f"Bearer {token}"}
    frames: list[dict[str, object]] = []
    async with release.http.ws_connect(url, headers=headers, protocols=["frontdesk.v1"]) as socket:
        await socket.send_json({"type": "ask", "text": "and #8?"})
        while not frames or frames[-1]["type"] not in ("done", "error"):
            frames.append(await socket.receive_json(timeout=10))
    wrong = [] if frames[-1]["type"] == "done" else [f"/chat with a token: {frames}"]
    try:
        async with release.http.ws_connect(url, headers={"Host": HTTP_HOST}):
            wrong.append("/chat without a token is open")
    except aiohttp.WSServerHandshakeError as refused:
        if refused.status != 401:
            wrong.append(f"/chat without a token: {refused.status}")
    return wrong


async def _refusal(
    accounts: AccountServiceStub, request: accounts_pb.ListAccountsRequest
) -> grpc.StatusCode | None:
    """How a call without a token ends; None when it succeeds."""
    try:
        await accounts.ListAccounts(request, timeout=10)
    except grpc.aio.AioRpcError as refused:
        return refused.code()
    return None


async def _over_grpc(address: str, token: str, account_id: str) -> list[str]:
    """What did not go as it must on gRPC's host."""
    options = [("grpc.default_authority", GRPC_HOST)]
    request = accounts_pb.ListAccountsRequest(organization_id=ORGANIZATION, page_size=100)
    wrong = []
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        accounts = AccountServiceStub(channel)
        metadata = (("authorization", f"Bearer {token}"),)
        listed = await accounts.ListAccounts(request, timeout=10, metadata=metadata)
        if account_id not in [one.account_id for one in listed.accounts]:
            wrong.append("gRPC with a token lists other accounts")
        refusals = [await _refusal(accounts, request) for _ in range(TRIES)]
        if None in refusals:
            wrong.append("gRPC without a token lists accounts")
        if grpc.StatusCode.UNAUTHENTICATED not in refusals:
            wrong.append(f"gRPC without a token: {refusals}")
    return wrong
