"""Who may open `/chat`, and what a refusal looks like.

A token comes as `Authorization: Bearer <token>`, or, as a browser can't set that, as a subprotocol
`bearer.<token>` beside the one that is meant. Never in the address, which ends in logs. A browser does not
tell its page the HTTP status of a refused upgrade. It says where the page is from (`Origin`), so those who
say that are accepted and closed with a code at once; all others get the status.
"""

from __future__ import annotations

from starlette.responses import JSONResponse
from starlette.websockets import WebSocket

from frontdesk.connection_gateway.clients.codes import code_for
from frontdesk.connection_gateway.clients.limits import AccessRules
from frontdesk.kit import sockets
from frontdesk.kit.errors import FrontdeskError, PermissionDenied, Unauthenticated
from frontdesk.kit.http import GENERIC_MESSAGE, Authenticator, status_of
from frontdesk.kit.principal import Principal
from frontdesk.kit.tokens import Role

TYPED = "frontdesk.v1"
PLAIN = "frontdesk.plain"
BEARER = "bearer."
ANONYMOUS = "anonymous"
NEED = Role.agent
_MOST_REASON = 123


async def admit(websocket: WebSocket, rules: AccessRules) -> Principal:
    """The person; raises Unauthenticated, PermissionDenied or Unavailable."""
    _check_origin(websocket, rules)
    credential = _credential(websocket)
    if not credential and rules.anonymous_organization is not None:
        return Principal(ANONYMOUS, rules.anonymous_organization, NEED, ANONYMOUS)
    if not credential:
        raise Unauthenticated(
            "send a token: `Authorization: Bearer <token>`, or the subprotocol `bearer.<token>`"
        )
    authenticator: Authenticator = websocket.app.state.authenticator
    principal = await authenticator.authenticate({"authorization": credential})
    if principal.role not in list(Role) or not Role(principal.role).at_least(NEED):
        raise PermissionDenied(f"this needs the role {NEED} or one above it", role=str(principal.role))
    return principal


def _check_origin(websocket: WebSocket, rules: AccessRules) -> None:
    origin = websocket.headers.get("origin", "").lower()
    if not origin or origin in rules.origins:
        return
    scheme, _, host = origin.partition("://")
    if scheme in ("http", "https") and host == websocket.headers.get("host", "").lower():
        return
    raise PermissionDenied("pages of this origin may not connect")


def _credential(websocket: WebSocket) -> str:
    """The authorization header, or what a subprotocol says in its place."""
    header: str = websocket.headers.get("authorization", "").strip()
    if header:
        return header
    offered: list[str] = websocket.scope["subprotocols"]
    return next((f"Bearer {name[len(BEARER) :]}" for name in offered if name.startswith(BEARER)), "")


def chosen(websocket: WebSocket) -> str | None:
    """The subprotocol to answer with: the typed one if it is offered, the plain one by its name, or none."""
    offered: list[str] = websocket.scope["subprotocols"]
    return next((name for name in (TYPED, PLAIN) if name in offered), None)


async def refuse(websocket: WebSocket, error: FrontdeskError) -> None:
    """Turn a client away, so that it can see why."""
    status = status_of(error)
    message = GENERIC_MESSAGE if status == 500 else error.message
    if "origin" not in websocket.headers:
        body = {"code": error.code, "message": message, "data": {}, "trace_id": ""}
        headers = {"www-authenticate": "Bearer"} if status == 401 else {}
        await websocket.send_denial_response(JSONResponse(body, status, headers))
        return
    await websocket.accept(chosen(websocket))
    reason = message.encode()[:_MOST_REASON].decode(errors="ignore")
    sockets.cut(websocket, code_for(error), reason)
