"""Running a servicer's method, whichever transport the call came by."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import grpc

from frontdesk.kit.rpc.routing import Method, describe


@dataclass(frozen=True, slots=True)
class Served:
    """One method with the servicer's function for it."""

    method: Method
    behaviour: Callable[[Any, Any], Any]
    deserialize: Callable[[bytes], Any]
    serialize: Callable[[Any], bytes]
    request_streaming: bool
    response_streaming: bool


def served(service: str, handlers: dict[str, grpc.RpcMethodHandler[Any, Any]]) -> dict[str, Served]:
    """What generated code registers for `service`, by the name of the method."""
    found = {}
    for name, handler in handlers.items():
        functions = (handler.unary_unary, handler.unary_stream, handler.stream_unary, handler.stream_stream)
        found[name] = Served(
            method=describe(f"/{service}/{name}"),
            behaviour=next(function for function in functions if function is not None),
            deserialize=handler.request_deserializer or _same,
            serialize=handler.response_serializer or _same,
            request_streaming=handler.request_streaming,
            response_streaming=handler.response_streaming,
        )
    return found


def _same(data: bytes) -> bytes:
    return data


async def run_single(behaviour: Callable[[Any, Any], Any], argument: Any, context: Any) -> Any:
    """The one response. Generated base methods are plain functions that raise."""
    result = behaviour(argument, context)
    return await result if inspect.isawaitable(result) else result


async def run_many(behaviour: Callable[[Any, Any], Any], argument: Any, context: Any) -> None:
    """Writes each response to `context`: of an async generator, or of a coroutine that writes them itself."""
    result = behaviour(argument, context)
    if inspect.isasyncgen(result):
        async with aclosing(result) as responses:
            async for response in responses:
                await context.write(response)
    elif hasattr(result, "__aiter__"):
        async for response in result:
            await context.write(response)
    elif inspect.isawaitable(result):
        await result
    else:
        raise TypeError("a servicer of the kit is asyncio: an async generator or a coroutine was expected")
