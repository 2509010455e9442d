"""The simulator's own HTTP API: say what the models say, read what was asked.

| call | body | answer |
|---|---|---|
| GET /control | | this table |
| GET /control/script | | how often each behaviour was chosen |
| PUT /control/script | `{"behaviours": […]}`, fields of script.Behaviour | replaces them; the same |
| POST /control/script | the same | appends them |
| DELETE /control/script | | only plain answers again |
| GET /control/log | `?model=` | counts, and the last calls as log.Call |
| DELETE /control/log | | forgets them |

Bad input is 400 with `{"error"}` naming the field. On another address than loopback every call needs
`Authorization: Bearer <control token>`.
"""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable

import orjson
from aiohttp import web

from frontdesk.kit.errors import InvalidArgument
from frontdesk.simulators.models.log import Log
from frontdesk.simulators.models.script import Script, behaviours_of

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Control:
    """Handlers of the control API."""

    def __init__(self, script: Script, log: Log, token: str = "") -> None:
        self._script = script
        self._log = log
        self._token = token

    def routes(self) -> list[web.RouteDef]:
        """Where they are."""
        return [
            web.get("/control", self._door(self._help)),
            web.get("/control/script", self._door(self._show_script)),
            web.put("/control/script", self._door(self._set_script)),
            web.post("/control/script", self._door(self._add_to_script)),
            web.delete("/control/script", self._door(self._clear_script)),
            web.get("/control/log", self._door(self._show_log)),
            web.delete("/control/log", self._door(self._clear_log)),
        ]

    def _door(self, handler: Handler) -> Handler:
        async def guarded(request: web.Request) -> web.StreamResponse:
            given = request.headers.get("Authorization", "")
            if self._token and not hmac.compare_digest(given.encode(), f"Bearer {self._token}".encode()):
                return _json({"error": "the control token is needed"}, 401)
            try:
                return await handler(request)
            except InvalidArgument as error:
                return _json({"error": error.message}, 400)

        return guarded

    async def _help(self, request: web.Request) -> web.StreamResponse:
        return web.Response(text=__doc__ or "")

    async def _show_script(self, request: web.Request) -> web.StreamResponse:
        return _json({"used": self._script.used()})

    async def _set_script(self, request: web.Request) -> web.StreamResponse:
        self._script.set(*behaviours_of(await _body(request)))
        return await self._show_script(request)

    async def _add_to_script(self, request: web.Request) -> web.StreamResponse:
        self._script.add(*behaviours_of(await _body(request)))
        return await self._show_script(request)

    async def _clear_script(self, request: web.Request) -> web.StreamResponse:
        self._script.clear()
        return await self._show_script(request)

    async def _show_log(self, request: web.Request) -> web.StreamResponse:
        shown = self._log.as_json()
        model = request.query.get("model")
        if model is not None:
            shown["calls"] = [call for call in shown["calls"] if call["model"] == model]
        return _json(shown)

    async def _clear_log(self, request: web.Request) -> web.StreamResponse:
        self._log.clear()
        return _json({})


async def _body(request: web.Request) -> object:
    try:
        return orjson.loads(await request.read())
    except orjson.JSONDecodeError as error:
        raise InvalidArgument("body", "is no JSON") from error


def _json(body: object, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(body), status=status, content_type="application/json")
