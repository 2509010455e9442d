"""`WS /chat`: who comes in, how many, and when all have to go. docs/chat.md describes it for clients."""

from __future__ import annotations

import contextlib
import logging
import math
from collections import Counter

from fastapi import APIRouter
from starlette.websockets import WebSocket, WebSocketDisconnect

from frontdesk.connection_gateway.clients import access
from frontdesk.connection_gateway.clients.access import ANONYMOUS
from frontdesk.connection_gateway.clients.codes import Close, TooManySockets
from frontdesk.connection_gateway.clients.conversation import Services
from frontdesk.connection_gateway.clients.history import DAY_MS, PRUNE_S, PRUNED_AT_ONCE
from frontdesk.connection_gateway.clients.limits import AccessRules
from frontdesk.connection_gateway.clients.line import Line
from frontdesk.connection_gateway.clients.plain import PlainProtocol
from frontdesk.connection_gateway.clients.protocol import ChatProtocol
from frontdesk.connection_gateway.clients.typed import TypedProtocol
from frontdesk.kit.clock import Clock
from frontdesk.kit.errors import FrontdeskError, ResourceExhausted, Unavailable
from frontdesk.kit.principal import Principal, current_principal

log = logging.getLogger(__name__)

PATH = "/chat"
LOOK_S = 1.0
STEP_S = 0.05
LEAST_STEP = 10

Person = tuple[str, str, str]


class ChatDoor:
    """All sockets of this replica; run `run` as a task."""

    def __init__(self, rules: AccessRules, services: Services, clock: Clock) -> None:
        self._rules = rules
        self._services = services
        self._clock = clock
        self._lines: set[Line] = set()
        self._people: Counter[Person] = Counter()
        self._draining = False

    @property
    def sockets(self) -> int:
        """How many are open."""
        return len(self._lines)

    async def serve(self, websocket: WebSocket) -> None:
        """One socket, from its upgrade to its end."""
        try:
            principal = await access.admit(websocket, self._rules)
            self._check_place(principal)
        except FrontdeskError as error:
            with contextlib.suppress(WebSocketDisconnect):
                await access.refuse(websocket, error)
            return
        current_principal.set(principal)
        # The place is taken before the first await, so that a hundred at once are counted too.
        person = (principal.organization_id, principal.kind, principal.subject)
        name = access.chosen(websocket)
        line = Line(websocket, principal, self._protocol(name), self._services, self._clock)
        self._lines.add(line)
        self._people[person] += 1
        try:
            await websocket.accept(name)
            await line.run()
        except WebSocketDisconnect:
            log.debug("a client left before it was let in")
        finally:
            self._lines.discard(line)
            self._people[person] -= 1
            if not self._people[person]:
                del self._people[person]

    async def run(self) -> None:
        """Look after the sockets, the answers and the stored conversations, for ever."""
        prune_at = 0.0
        while True:
            await self._clock.sleep(LOOK_S)
            for line in list(self._lines):
                line.look()
            self._services.answers.sweep()
            if self._clock.monotonic() >= prune_at:
                prune_at = self._clock.monotonic() + (LOOK_S if await self._prune() else PRUNE_S)

    async def close_sockets(self, deadline_s: float) -> None:
        """Take no more sockets and close all with 1012 within `deadline_s`: those that wait for nothing a few
        at a time, so that they do not all come back at once, the others when their answer ended."""
        self._draining = True
        end = self._clock.monotonic() + deadline_s
        step = max(LEAST_STEP, math.ceil(len(self._lines) * STEP_S / max(deadline_s * 0.5, STEP_S)))
        while self._lines and self._clock.monotonic() < end:
            for line in [line for line in self._lines if not line.busy][:step]:
                line.close(Close.RESTART, "the service restarts: connect again")
            await self._clock.sleep(STEP_S)
        for line in list(self._lines):
            line.close(Close.RESTART, "the service restarts: connect again and resume")

    def _check_place(self, principal: Principal) -> None:
        limits = self._services.limits
        if self._draining:
            raise Unavailable("the service restarts: connect again")
        if len(self._lines) >= limits.sockets:
            raise ResourceExhausted("no place for another socket here: try again in a moment")
        open_ = self._people[(principal.organization_id, principal.kind, principal.subject)]
        if principal.kind == ANONYMOUS and open_ >= limits.anonymous_sockets:
            raise ResourceExhausted("no place for another socket without a token: try again in a moment")
        if principal.kind != ANONYMOUS and open_ >= limits.sockets_per_user:
            raise TooManySockets(f"at most {limits.sockets_per_user} sockets a person: close another first")

    def _protocol(self, name: str | None) -> ChatProtocol:
        most = self._services.limits.question_chars
        return TypedProtocol(most) if name == access.TYPED else PlainProtocol(most)

    async def _prune(self) -> bool:
        """Whether there may be more to forget."""
        before = self._clock.now_ms() - self._services.limits.history_days * DAY_MS
        try:
            return await self._services.histories.prune(before) == PRUNED_AT_ONCE
        except FrontdeskError as error:
            log.warning("old conversations could not be forgotten: %s", error.message)
            return False


def chat_router(door: ChatDoor) -> APIRouter:
    """The route."""
    router = APIRouter()
    router.add_api_websocket_route(PATH, door.serve)
    return router
