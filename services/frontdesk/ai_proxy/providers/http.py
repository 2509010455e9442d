"""Calls of providers: one pool of connections for all of them, limits on time and size, errors by kind.

What a provider does comes out as UpstreamError and nothing else. A connection whose answer was not read to
its end is closed and never used again; closing the stream or cancelling its reader closes it at once.
"""

from __future__ import annotations

import asyncio
import io
import math
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from functools import lru_cache
from typing import Protocol

import aiohttp
from yarl import URL

from frontdesk.ai_proxy.base_url import check_base_url
from frontdesk.ai_proxy.errors import (
    UpstreamError,
    UpstreamLimited,
    UpstreamMisconfigured,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnavailable,
    UpstreamUnreached,
)
from frontdesk.ai_proxy.model import Piece
from frontdesk.ai_proxy.providers import failures
from frontdesk.ai_proxy.providers.base import asked_now
from frontdesk.ai_proxy.providers.failures import Call
from frontdesk.ai_proxy.providers.slots import Slots
from frontdesk.kit.addresses import AddressRefused, NamesInThreads, public_only_connector
from frontdesk.kit.clock import Clock, SystemClock
from frontdesk.kit.errors import InvalidArgument
from frontdesk.kit.telemetry.propagation import inject

USER_AGENT = "frontdesk"
_ERROR_BYTES = 16 * 1024
# A body that is longer holds up the event loop when it is written at once.
_AT_ONCE = 256 * 1024
# How long the end of a body may come after the end of its answer, so that the connection can be used again.
_LINGER_S = 0.25
_LOOK_S = 10.0
_READ_ERRORS = (aiohttp.ClientError, OSError, RuntimeError)


class Decoder(Protocol):
    """Turns one stream's bytes into pieces."""

    @property
    def done(self) -> bool:
        """Whether Finish was among the pieces."""
        ...

    @property
    def failure(self) -> UpstreamError | None:
        """What ended the answer after the pieces that were returned."""
        ...

    def feed(self, data: bytes) -> list[Piece]:
        """The pieces that `data` completes; raises nothing."""
        ...

    def end(self) -> list[Piece]:
        """The pieces left when the stream ends; `failure` is set when it was not whole."""
        ...

    def whole(self, body: bytes) -> list[Piece]:
        """The pieces of an answer that came in one though a stream was asked for."""
        ...


class Question(Protocol):
    """What is asked of a provider, in the form that it understands."""

    def call(self) -> Call:
        """The call as it is made with what is known of the provider now."""
        ...

    def learn(self, error: UpstreamRefused) -> bool:
        """Whether the refusal taught something, so that the next `call` is another one."""
        ...


@lru_cache(maxsize=1024)
def _url(base: str, path: str) -> URL:
    url = check_base_url(base, "base_url")
    path, _, query = path.partition("?")
    joined = url.with_path("/".join(filter(None, (url.raw_path.rstrip("/"), path))), encoded=True)
    return joined.with_query(url.query).update_query(query)


class ProviderHttp:
    """The pool. At most `connections` calls at once, `share` of one organization (None: as many); bodies and
    single events have at most `body_bytes`, whole streams `stream_bytes`.

    With `private` it also calls addresses inside the network, as one's own models have.
    """

    name = "providers"

    def __init__(
        self,
        *,
        connections: int = 100,
        share: int | None = None,
        private: bool = False,
        body_bytes: int = 8 * 1024 * 1024,
        stream_bytes: int = 64 * 1024 * 1024,
        clock: Clock | None = None,
    ) -> None:
        self._connections = connections
        self._private = private
        self._clock = clock or SystemClock()
        self.body_bytes = body_bytes
        self._stream_bytes = stream_bytes
        self._slots = Slots(connections, connections if share is None else share)
        self._session: aiohttp.ClientSession | None = None
        # Responses whose answer is whole and whose body has not ended.
        self._lingering: set[aiohttp.ClientResponse] = set()

    async def start(self) -> None:
        """Open the pool."""
        connector = (
            aiohttp.TCPConnector(limit=self._connections, resolver=NamesInThreads())
            if self._private
            else public_only_connector(limit=self._connections)
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            # No compression: a small body can't become a large one.
            headers={"User-Agent": USER_AGENT, "Accept-Encoding": "identity"},
            timeout=aiohttp.ClientTimeout(total=None),
            auto_decompress=False,
        )

    async def stop(self, deadline_s: float = 0.0) -> None:
        """Close every connection; calls under way fail."""
        for response in tuple(self._lingering):
            self._let_go(response)
        if self._session is not None:
            await self._session.close()

    async def fetch(self, question: Question) -> tuple[Call, bytes]:
        """The body of a whole answer, which may take as long as a first piece and a pause together."""
        call = question.call()
        limits = call.provider.limits
        late = asyncio.get_running_loop().time() + limits.first_token_s + limits.idle_s
        await self._take_slot(call)
        try:
            call, response = await self._ask(question, call, late)
            try:
                return call, await self._body(call, response, late)
            finally:
                response.close()
        finally:
            self._slots.give_back(call.provider.organization_id)

    async def stream(
        self, question: Question, decoder_of: Callable[[Call], Decoder]
    ) -> AsyncGenerator[Sequence[Piece], None]:
        """The pieces of a streamed answer, a batch a read."""
        loop = asyncio.get_running_loop()
        call = question.call()
        limits = call.provider.limits
        late = loop.time() + limits.first_token_s
        await self._take_slot(call)
        try:
            call, response = await self._ask(question, call, late)
            decoder = decoder_of(call)
            watch = _Watch(response, late)
            try:
                if response.content_type == "application/json":
                    pieces = decoder.whole(await self._body(call, response, late))
                    if pieces:
                        yield pieces
                    _raise(decoder.failure)
                    return
                left = self._stream_bytes
                done, content = False, response.content
                while not done:
                    failure = None
                    try:
                        data = await content.readany()
                    except _READ_ERRORS as error:
                        data, failure = b"", _of_read(call, error)
                    left -= len(data)
                    if left < 0:
                        raise failures.garbled(call, "the stream is too long")
                    pieces = decoder.feed(data) if data else decoder.end()
                    done = decoder.done
                    if pieces:
                        if done and failure is None:
                            self._linger(response)
                        watch.pause()
                        yield pieces
                        watch.until(loop.time() + limits.idle_s)
                    if not done:
                        _raise(failure or decoder.failure)
            finally:
                watch.stop()
                if response not in self._lingering:
                    response.close()
        finally:
            self._slots.give_back(call.provider.organization_id)

    def _linger(self, response: aiohttp.ClientResponse) -> None:
        """Give the body's end a moment: with it aiohttp takes the connection back into the pool by itself."""
        if not response.content.is_eof():
            self._lingering.add(response)
            asyncio.get_running_loop().call_later(_LINGER_S, self._let_go, response)

    def _let_go(self, response: aiohttp.ClientResponse) -> None:
        self._lingering.discard(response)
        response.close()

    async def _ask(self, question: Question, call: Call, late: float) -> tuple[Call, aiohttp.ClientResponse]:
        """An answer that has begun; asked again as long as the question learns from refusals."""
        while True:
            try:
                return call, await self._send(call, late)
            except UpstreamRefused as error:
                if not question.learn(error):
                    raise
            call = question.call()

    async def _take_slot(self, call: Call) -> None:
        organization_id = call.provider.organization_id
        asked = asked_now.get()
        if asked is not None:
            asked.waits = True
        try:
            await self._slots.take(organization_id, call.provider.limits.connect_s)
        except TimeoutError:
            # Not the provider's fault, so nothing that counts against it.
            whose = "the organization's" if self._slots.has_share(organization_id) else "all"
            sentence = f"{whose} connections to providers are in use"
            raise call.error(UpstreamLimited, "no slot", sentence) from None
        if asked is not None:
            asked.waits = False

    async def _send(self, call: Call, late: float) -> aiohttp.ClientResponse:
        assert self._session is not None, "start it first"
        try:
            url = _url(call.provider.base_url, call.path)
            async with asyncio.timeout_at(late):
                response = await self._session.post(
                    url,
                    data=call.body if len(call.body) <= _AT_ONCE else io.BytesIO(call.body),
                    headers=_headers(call.headers),
                    allow_redirects=False,
                    timeout=_timeout(call.provider.limits.connect_s),
                )
        except TimeoutError as error:
            raise _timed_out(call, error) from None
        except (aiohttp.ClientError, OSError, ValueError, RuntimeError, InvalidArgument) as error:
            raise _of_connection(call, error) from None
        if response.status == 200 and response.content_type != "text/html":
            return response
        try:
            body = await _read_up_to(call, response, late, _ERROR_BYTES)
        finally:
            response.close()
        if response.status == 200:
            raise call.error(UpstreamMisconfigured, "a page", status=200)
        raise failures.of_status(call, response.status, response.headers, body, self._clock.now_ms())

    async def _body(self, call: Call, response: aiohttp.ClientResponse, late: float) -> bytes:
        body = await _read_up_to(call, response, late, self.body_bytes + 1)
        if len(body) > self.body_bytes:
            raise failures.garbled(call, "the answer is too long")
        if failures.looks_like_html(body):
            raise call.error(UpstreamMisconfigured, "a page", status=response.status)
        return body


def _raise(failure: UpstreamError | None) -> None:
    if failure is not None:
        raise failure


def _headers(headers: Mapping[str, str]) -> dict[str, str]:
    return inject({"Content-Type": "application/json", **headers})


@lru_cache(maxsize=256)
def _timeout(connect_s: float) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=None, connect=connect_s)


class _Watch:
    """Ends the read of a response when the loop's time is `late`.

    One timer a stream: when it rings it looks whether it is that late, so moving `late` on costs nothing.
    """

    __slots__ = ("_content", "_late", "_loop", "_timer")

    def __init__(self, response: aiohttp.ClientResponse, late: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._content = response.content
        self._late = late
        self._timer = self._loop.call_at(late, self._ring)

    def pause(self) -> None:
        """Nobody reads: nothing is late."""
        self._late = math.inf

    def until(self, late: float) -> None:
        """Somebody reads until `late`."""
        self._late = late
        if late < self._timer.when():
            self._timer.cancel()
            self._timer = self._loop.call_at(late, self._ring)

    def stop(self) -> None:
        """Watch no longer."""
        self._timer.cancel()

    def _ring(self) -> None:
        now = self._loop.time()
        if now >= self._late:
            self._content.set_exception(TimeoutError())
        else:
            self._timer = self._loop.call_at(min(self._late, now + _LOOK_S), self._ring)


async def _read(call: Call, response: aiohttp.ClientResponse, late: float) -> bytes:
    """What came next; empty at the end."""
    content = response.content
    try:
        # Most answers are here as soon as their head is, and what is here needs no timer.
        data = content.read_nowait()
        if data or content.at_eof():
            return data
        async with asyncio.timeout_at(late):
            return await content.readany()
    except _READ_ERRORS as error:
        raise _of_read(call, error) from None


async def _read_up_to(call: Call, response: aiohttp.ClientResponse, late: float, limit: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    while size < limit:
        part = await _read(call, response, late)
        if not part:
            break
        parts.append(part)
        size += len(part)
    return b"".join(parts)[:limit]


def _of_read(call: Call, error: Exception) -> UpstreamError:
    if isinstance(error, TimeoutError):
        return _timed_out(call, error)
    return failures.broken_off(call, type(error).__name__)


def _timed_out(call: Call, error: TimeoutError) -> UpstreamError:
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return call.error(UpstreamUnreached, "no connection", "there is no connection to the provider")
    return call.error(UpstreamTimeout, "silence")


def _of_connection(call: Call, error: Exception) -> UpstreamError:
    if isinstance(error, aiohttp.ClientConnectorError) and isinstance(error.os_error, AddressRefused):
        return call.error(UpstreamMisconfigured, str(error.os_error), str(error.os_error))
    if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientSSLError):
        return call.error(UpstreamMisconfigured, str(error), "the provider's certificate is not valid")
    if isinstance(error, InvalidArgument | aiohttp.InvalidURL | ValueError):
        # Of a header that can't be sent, aiohttp says what is in it: that may be the key.
        return call.error(UpstreamMisconfigured, type(error).__name__)
    return call.error(
        UpstreamUnavailable, f"{type(error).__name__}: {error}", "there is no connection to the provider"
    )
