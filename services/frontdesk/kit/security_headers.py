"""Headers by which browsers handle an answer with care."""

from __future__ import annotations

from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

HSTS: Final = (b"strict-transport-security", b"max-age=31536000")


class SecurityHeaders:
    """Headers that keep browsers from guessing, framing, leaking and caching; a route's own value wins."""

    def __init__(self, app: ASGIApp, content_policy: str) -> None:
        self._app = app
        self._headers = (
            (b"x-content-type-options", b"nosniff"),
            (b"x-frame-options", b"DENY"),
            (b"referrer-policy", b"no-referrer"),
            (b"content-security-policy", content_policy.encode("latin-1")),
            (b"cache-control", b"no-store"),
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def add(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = (*self._headers, HSTS) if scope["scheme"] == "https" else self._headers
                said = {name.lower() for name, _ in message["headers"]}
                more = [header for header in own if header[0] not in said]
                message = {**message, "headers": [*message["headers"], *more]}
            await send(message)

        await self._app(scope, receive, add if scope["type"] == "http" else send)
