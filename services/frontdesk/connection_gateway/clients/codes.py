"""Codes that `/chat` closes a socket with; docs/chat.md tells clients what to do about each."""

from __future__ import annotations

from enum import IntEnum

from frontdesk.kit.errors import FrontdeskError, PermissionDenied, ResourceExhausted, Unauthenticated


class Close(IntEnum):
    """Those below 4000 are RFC 6455's and IANA's, the others our own."""

    POLICY = 1008
    """Too many frames that can't be read."""
    FAULT = 1011
    RESTART = 1012
    """This replica stops: connect again."""
    TRY_LATER = 1013
    """No place for another socket, or the token can't be checked now."""
    TOO_MANY = 4008
    """The person has too many sockets open (X-21)."""
    UNAUTHENTICATED = 4401
    """No token, one that is not valid, or it ended meanwhile."""
    FORBIDDEN = 4403
    """The token's role may not chat, or the page is of another origin."""
    SLOW = 4408
    """The client does not read what it is sent."""
    IDLE = 4410
    """Nothing was asked for long."""


class TooManySockets(ResourceExhausted):
    """The person has too many sockets open."""


def code_for(error: FrontdeskError) -> Close:
    """What a refused socket is closed with."""
    if isinstance(error, TooManySockets):
        return Close.TOO_MANY
    if isinstance(error, Unauthenticated):
        return Close.UNAUTHENTICATED
    if isinstance(error, PermissionDenied):
        return Close.FORBIDDEN
    return Close.TRY_LATER if error.retryable else Close.FAULT
