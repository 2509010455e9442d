"""ProviderService: providers of models, which an organization sets up as data."""

from __future__ import annotations

from typing import Any, Protocol

import grpc.aio
from sqlalchemy import Row, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from frontdesk.ai_proxy.base_url import check_base_url, server_of
from frontdesk.ai_proxy.breaker import State
from frontdesk.ai_proxy.callers import api_key_id
from frontdesk.ai_proxy.catalog import Candidate
from frontdesk.ai_proxy.configuration import Configuration
from frontdesk.ai_proxy.errors import (
    UpstreamError,
    UpstreamLimited,
    UpstreamMisconfigured,
    UpstreamRefused,
    UpstreamUnavailable,
)
from frontdesk.ai_proxy.model import Caller, Outcome, Provider, new_id
from frontdesk.ai_proxy.router import Router
from frontdesk.ai_proxy.stored_providers import (
    LimitDefaults,
    UnreadableProvider,
    body_from_proto,
    check_key,
    check_provider_name,
    key_context,
    provider_from_row,
    row_to_proto,
)
from frontdesk.ai_proxy.tables import UNREADABLE, providers
from frontdesk.api.ai.v1 import provider_service_pb2 as pb
from frontdesk.api.ai.v1.provider_service_pb2_grpc import ProviderServiceServicer
from frontdesk.kit.access import allowed_organization, check_owner
from frontdesk.kit.clock import Clock
from frontdesk.kit.database import Database
from frontdesk.kit.errors import (
    AlreadyExists,
    DeadlineExceeded,
    FrontdeskError,
    InvalidArgument,
    NotFound,
)
from frontdesk.kit.secrets import SecretBox

MOST_PROVIDERS = 100
_ID_LENGTH = 128

_ADVICE: tuple[tuple[type[FrontdeskError], str], ...] = (
    (UpstreamMisconfigured, "Check its key, its address and the name of the model."),
    (UpstreamRefused, "Check that the model is one for this kind of question."),
    (UpstreamLimited, "Wait, or ask the provider for a higher limit."),
    (DeadlineExceeded, "Check its address, or give it more time."),
    (UpstreamUnavailable, "Check its address, or try again later."),
)
# What a test of a provider tells in its response, as it is the provider's: DeadlineExceeded too, as a probe's
# time ends it only while the provider is asked. What this service itself lacks rises to the caller.
_TELLS = (UnreadableProvider, UpstreamError, DeadlineExceeded)


class Probes(Protocol):
    """Asks one model of a provider."""

    async def probe(self, caller: Caller, candidate: Candidate, within_s: float) -> Outcome:
        """Raises UpstreamError and, when the provider takes longer, DeadlineExceeded; BudgetExceeded and
        Unavailable of this service's own."""
        ...


class ProviderServicer(ProviderServiceServicer):
    """Changes take effect at once here, and within a second on every replica."""

    def __init__(
        self,
        database: Database,
        configuration: Configuration[Any],
        secrets: SecretBox,
        defaults: LimitDefaults,
        router: Router,
        probes: Probes,
        clock: Clock,
        probe_s: float = 30.0,
    ) -> None:
        self._database = database
        self._configuration = configuration
        self._secrets = secrets
        self._defaults = defaults
        self._router = router
        self._probes = probes
        self._clock = clock
        self._probe_s = probe_s

    async def CreateProvider(
        self, request: pb.CreateProviderRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.CreateProviderResponse:
        organization_id = allowed_organization(request.provider.organization_id, need="admin")
        if request.request_id:
            _check_id(request.request_id, "request_id")
        if request.provider.provider_id:
            raise InvalidArgument(
                "provider.provider_id", "must be empty; UpdateProvider is for one that exists"
            )
        values = self._values(request.provider)
        provider_id = new_id(self._clock.now_ms())
        async with self._configuration.change(organization_id) as connection:
            before = await _of_request(connection, organization_id, request.request_id)
            if before is not None:
                return pb.CreateProviderResponse(provider=row_to_proto(before))
            await _check_room(connection, organization_id)
            await _check_free(connection, organization_id, request.provider.name, provider_id)
            await connection.execute(
                insert(providers).values(
                    provider_id=provider_id,
                    organization_id=organization_id,
                    request_id=request.request_id or None,
                    api_key=self._sealed(request.provider.api_key, provider_id),
                    **values,
                )
            )
            row = await _row(connection, provider_id)
        return pb.CreateProviderResponse(provider=row_to_proto(row))

    async def GetProvider(
        self, request: pb.GetProviderRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.GetProviderResponse:
        row = await self._find(request.provider_id, "provider_id", need="viewer")
        return pb.GetProviderResponse(provider=row_to_proto(row))

    async def ListProviders(
        self, request: pb.ListProvidersRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.ListProvidersResponse:
        organization_id = allowed_organization(request.organization_id, need="viewer")
        async with self._database.read() as connection:
            rows = await connection.execute(
                select(providers).where(providers.c.organization_id == organization_id)
            )
            found = sorted(map(row_to_proto, rows), key=lambda one: (one.priority, one.name))
        return pb.ListProvidersResponse(
            providers=found, states=self._states([one.provider_id for one in found])
        )

    async def UpdateProvider(
        self, request: pb.UpdateProviderRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.UpdateProviderResponse:
        provider_id = request.provider.provider_id
        before = await self._find(provider_id, "provider.provider_id", need="admin")
        organization_id = before.organization_id
        if request.provider.organization_id not in ("", organization_id):
            raise InvalidArgument("provider.organization_id", "must be as it is")
        if request.clear_api_key and request.provider.api_key:
            raise InvalidArgument("clear_api_key", "must not be set with a new key")
        values = self._values(request.provider)
        keeps = not request.provider.api_key and not request.clear_api_key
        if not keeps:
            values["api_key"] = self._sealed(request.provider.api_key, provider_id)
        async with self._configuration.change(organization_id) as connection:
            stored = await _row(connection, provider_id)
            if stored.api_key and keeps:
                _check_server(stored.body, request.provider.base_url)
            await _check_free(connection, organization_id, request.provider.name, provider_id)
            await connection.execute(
                update(providers).where(providers.c.provider_id == provider_id).values(**values)
            )
            row = await _row(connection, provider_id)
        return pb.UpdateProviderResponse(provider=row_to_proto(row))

    async def DeleteProvider(
        self, request: pb.DeleteProviderRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.DeleteProviderResponse:
        row = await self._find(request.provider_id, "provider_id", need="admin")
        async with self._configuration.change(row.organization_id) as connection:
            await connection.execute(delete(providers).where(providers.c.provider_id == request.provider_id))
        return pb.DeleteProviderResponse()

    async def TestProvider(
        self, request: pb.TestProviderRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.TestProviderResponse:
        row = await self._find(request.provider_id, "provider_id", need="admin")
        begun = self._clock.monotonic()
        error: FrontdeskError | None = None
        try:
            candidate = _candidate(provider_from_row(row, self._secrets, self._defaults), request.model)
            caller = Caller(
                row.organization_id,
                api_key_id=api_key_id(),
                operation="embed" if candidate.model.embeds else "complete",
            )
            await self._probes.probe(caller, candidate, self._probe_s)
        except _TELLS as failed:
            error = failed
        return pb.TestProviderResponse(
            ok=error is None,
            problem=_problem(error) if error else "",
            code=error.code if error else "OK",
            duration_ms=round((self._clock.monotonic() - begun) * 1000),
        )

    def _values(self, provider: pb.Provider) -> dict[str, Any]:
        """The columns that a caller writes, but for the key."""
        check_key(provider.api_key, "provider.api_key")
        return {
            "name": check_provider_name(provider.name, "provider.name"),
            "body": body_from_proto(provider, "provider."),
            "updated_at_ms": self._clock.now_ms(),
        }

    def _sealed(self, key: str, provider_id: str) -> bytes | None:
        return self._secrets.encrypt(key, key_context(provider_id)) if key else None

    def _states(self, provider_ids: list[str]) -> list[pb.ProviderState]:
        now = self._clock.now_ms()
        return [
            pb.ProviderState(
                provider_id=provider_id,
                breaker=view.state.value,
                open_until_ms=now + round(view.open_for_s * 1000) if view.state is State.OPEN else 0,
                in_flight=view.in_flight,
            )
            for provider_id, view in zip(provider_ids, self._router.health(provider_ids), strict=True)
        ]

    async def _find(self, provider_id: str, field: str, *, need: str) -> Row[tuple[Any, ...]]:
        _check_id(provider_id, field)
        query = select(providers).where(providers.c.provider_id == provider_id)
        async with self._database.read() as connection:
            row = (await connection.execute(query)).one_or_none()
        check_owner(row.organization_id if row else None, need=need, what="provider")
        assert row is not None
        return row


def _check_server(body: Any, after: str) -> None:
    """Raises InvalidArgument for an address at another server than the stored one's: a key that nobody can
    read must not be sent to whomever an update names."""
    try:
        check_base_url(body["base_url"], "base_url")
        before = server_of(body["base_url"])
    except (InvalidArgument, *UNREADABLE):
        raise InvalidArgument(
            "provider.api_key", "is needed again, as the address that it was for can't be read"
        ) from None
    if before != server_of(after):
        raise InvalidArgument("provider.api_key", "is needed again, as the address leads to another server")


def _candidate(provider: Provider, model: str) -> Candidate:
    for found in provider.models:
        if model in ("", found.name):
            return Candidate(provider, found)
    raise NotFound("the provider has no such model")


def _problem(error: FrontdeskError) -> str:
    advice = next((advice for kind, advice in _ADVICE if isinstance(error, kind)), "")
    return f"{error.message[:1].upper()}{error.message[1:]}. {advice}".strip()


def _check_id(value: str, field: str) -> None:
    if not 1 <= len(value) <= _ID_LENGTH or not value.isprintable():
        raise InvalidArgument(field, f"1 to {_ID_LENGTH} printable characters")


async def _row(connection: AsyncConnection, provider_id: str) -> Row[tuple[Any, ...]]:
    """Raises NotFound when it was deleted meanwhile."""
    query = select(providers).where(providers.c.provider_id == provider_id)
    row = (await connection.execute(query)).one_or_none()
    if row is None:
        raise NotFound("no such provider")
    return row


async def _of_request(
    connection: AsyncConnection, organization_id: str, request_id: str
) -> Row[tuple[Any, ...]] | None:
    if not request_id:
        return None
    query = select(providers).where(
        providers.c.organization_id == organization_id, providers.c.request_id == request_id
    )
    return (await connection.execute(query)).one_or_none()


async def _check_room(connection: AsyncConnection, organization_id: str) -> None:
    query = select(func.count()).where(providers.c.organization_id == organization_id)
    if (await connection.execute(query)).scalar_one() >= MOST_PROVIDERS:
        raise InvalidArgument("provider", f"an organization has at most {MOST_PROVIDERS} providers")


async def _check_free(connection: AsyncConnection, organization_id: str, name: str, provider_id: str) -> None:
    """Raises AlreadyExists when another provider has the name."""
    query = select(providers.c.provider_id).where(
        providers.c.organization_id == organization_id,
        providers.c.name == name,
        providers.c.provider_id != provider_id,
    )
    if (await connection.execute(query)).first() is not None:
        raise AlreadyExists("another provider has this name", name=name)
