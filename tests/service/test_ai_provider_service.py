"""Providers as data: what callers may write and read, on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, text

from frontdesk.ai_proxy.catalog import Candidate
from frontdesk.ai_proxy.completions import Completions, CompletionSettings
from frontdesk.ai_proxy.configuration import Configuration
from frontdesk.ai_proxy.errors import (
    BudgetExceeded,
    UpstreamMisconfigured,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from frontdesk.ai_proxy.model import ModelMessage, Prompt, Provider, Role, Usage
from frontdesk.ai_proxy.router import Course, Router, RouterSettings
from frontdesk.ai_proxy.rpc import providers as rpc
from frontdesk.ai_proxy.stored_providers import LimitDefaults, key_context, load_providers
from frontdesk.ai_proxy.tables import providers
from frontdesk.api.ai.v1 import provider_service_pb2 as pb
from frontdesk.kit.clock import ManualClock
from frontdesk.kit.database import Database, DatabaseOptions
from frontdesk.kit.errors import (
    AlreadyExists,
    DeadlineExceeded,
    FrontdeskError,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    Unavailable,
)
from frontdesk.kit.migrations import migrate
from frontdesk.kit.principal import Principal, current_principal
from frontdesk.kit.secrets import SecretBox, SecretError, generate_key
from support.completions import Ledger, Quotes, Scripted, ScriptedShop

VERSIONS = Path(rpc.__file__).parent.parent / "migrations" / "versions"
KEY = "sk-not-a-real-key-4711"
PROMPT = Prompt((ModelMessage(Role.USER, "hi"),))
CONTEXT: Any = None


class Bench:
    """The servicer on a real database, as an admin of `org` uses it."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.clock = ManualClock()
        self.secrets = SecretBox([generate_key()])
        self.adapter = Scripted()
        self.ledger = Ledger()
        self.budgets: tuple[object, ...] = ()
        defaults = LimitDefaults()
        self.router = Router({"openai": self.adapter}, self.clock, RouterSettings())
        self.configuration: Configuration[tuple[Provider, ...]] = Configuration(
            database,
            lambda connection, name: load_providers(connection, name, self.secrets, defaults),
            self.clock,
        )
        completions = Completions(
            shops=self._shop,
            latest=self._shop,
            router=self.router,
            offline=Quotes(),
            budgets=self.ledger,
            spending=self.ledger,
            clock=self.clock,
            settings=CompletionSettings(),
        )
        self.rpc = rpc.ProviderServicer(
            database, self.configuration, self.secrets, defaults, self.router, completions, self.clock
        )
        self.log_in("admin")

    async def _shop(self, organization_id: str) -> ScriptedShop:
        return ScriptedShop(await self.configuration.get(organization_id), self.budgets)

    def log_in(self, role: str, organization: str = "org") -> None:
        current_principal.set(Principal("someone", organization, role))

    async def create(self, provider: pb.Provider, request_id: str = "") -> pb.Provider:
        request = pb.CreateProviderRequest(request_id=request_id, provider=provider)
        return (await self.rpc.CreateProvider(request, CONTEXT)).provider

    async def update(self, provider: pb.Provider, *, clear_api_key: bool = False) -> pb.Provider:
        request = pb.UpdateProviderRequest(provider=provider, clear_api_key=clear_api_key)
        return (await self.rpc.UpdateProvider(request, CONTEXT)).provider

    async def listed(self) -> pb.ListProvidersResponse:
        return await self.rpc.ListProviders(pb.ListProvidersRequest(), CONTEXT)

    async def loaded(self) -> tuple[Provider, ...]:
        return await self.configuration.get("org")

    async def test(self, provider_id: str, model: str = "") -> pb.TestProviderResponse:
        request = pb.TestProviderRequest(provider_id=provider_id, model=model)
        return await self.rpc.TestProvider(request, CONTEXT)


@pytest.fixture(params=["sqlite", "postgres"])
async def bench(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bench]:
    url = f"sqlite:///{tmp_path}/ai.db"
    if request.param == "postgres":
        url = request.getfixturevalue("postgres")
    database = Database(DatabaseOptions(url, "ai_proxy"))
    await migrate(database, VERSIONS)
    bench = Bench(database)
    yield bench
    await bench.configuration.close()
    await database.close()


def wanted(name: str = "deep", **fields: Any) -> pb.Provider:
    """A provider as a caller writes it."""
    model = pb.Model(
        name="default",
        upstream_name="deepseek-chat",
        prompt_price="2",
        cached_price="0.5",
        completion_price="8.000001",
        currency="CNY",
        max_tokens=4096,
    )
    return pb.Provider(
        **{
            "name": name,
            "kind": pb.PROVIDER_KIND_OPENAI,
            "base_url": "https://models.example/v1",
            "api_key": KEY,
            "models": [model, pb.Model(name="vectors", embeds=True)],
            "priority": 3,
            "limits": pb.ProviderLimits(concurrency=7),
            **fields,
        }
    )


async def test_a_provider_comes_back_as_it_was_written_without_its_key(bench: Bench) -> None:
    """And the router's configuration has it, with its key and the installation's limits, from then on."""
    assert await bench.loaded() == ()
    stored = await bench.create(wanted())
    assert (stored.api_key, stored.has_api_key, stored.organization_id, stored.weight) == ("", True, "org", 1)
    expected = wanted(api_key="", has_api_key=True, organization_id="org", weight=1)
    expected.provider_id = stored.provider_id
    assert stored == expected
    request = pb.GetProviderRequest(provider_id=stored.provider_id)
    assert (await bench.rpc.GetProvider(request, CONTEXT)).provider == stored
    (loaded,) = await bench.loaded()
    assert (loaded.api_key, loaded.kind, loaded.priority, loaded.weight) == (KEY, "openai", 3, 1)
    assert (loaded.limits.concurrency, loaded.limits.attempts, loaded.limits.first_token_s) == (7, 2, 20)
    default, vectors = loaded.models
    assert (default.upstream_name, str(default.price.completion)) == ("deepseek-chat", "8.000001")
    assert (vectors.upstream_name, vectors.embeds, vectors.price.currency) == ("vectors", True, "")


async def test_the_database_holds_no_key_in_clear(bench: Bench) -> None:
    """It is bound to its row: moved to another it can't be read, which takes no other provider along."""
    first = await bench.create(wanted("one"))
    second = await bench.create(wanted("two", api_key=""))
    async with bench.database.read() as connection:
        everything = repr((await connection.execute(text("SELECT * FROM providers"))).all())
        row = (await connection.execute(select(providers).where(providers.c.name == "one"))).one()
    assert KEY not in everything
    assert KEY.encode() not in row.api_key
    assert bench.secrets.decrypt_text(row.api_key, key_context(first.provider_id)) == KEY
    with pytest.raises(SecretError):
        bench.secrets.decrypt(row.api_key, key_context(second.provider_id))
    assert len(await bench.loaded()) == 2
    async with bench.database.write() as connection:
        moved = providers.update().where(providers.c.name == "two").values(api_key=row.api_key)
        await connection.execute(moved)
    await bench.update(wanted("one", provider_id=first.provider_id))
    assert [one.name for one in await bench.loaded()] == ["one"]


async def test_an_update_replaces_all_but_the_key(bench: Bench) -> None:
    """A key that is given replaces it; what was changed counts from the next call on."""
    stored = await bench.create(wanted())
    assert (await bench.loaded())[0].name == "deep"
    changed = await bench.update(
        wanted("other", provider_id=stored.provider_id, api_key="", disabled=True, priority=0)
    )
    assert (changed.name, changed.disabled, changed.has_api_key, changed.priority) == ("other", True, True, 0)
    (loaded,) = await bench.loaded()
    assert (loaded.name, loaded.disabled, loaded.api_key) == ("other", True, KEY)
    await bench.update(wanted(provider_id=stored.provider_id, api_key="sk-new"))
    assert (await bench.loaded())[0].api_key == "sk-new"


@pytest.mark.parametrize(
    "base_url",
    ["https://elsewhere.example/v1", "http://models.example/v1", "https://models.example:8443/v1"],
)
async def test_a_stored_key_goes_to_no_other_server(bench: Bench, base_url: str) -> None:
    """Who may change a provider but not read its key must not have it sent to a server of theirs."""
    stored = await bench.create(wanted())
    moved = wanted(provider_id=stored.provider_id, api_key="", base_url=base_url)
    with pytest.raises(InvalidArgument) as refused:
        await bench.update(moved)
    assert refused.value.field == "provider.api_key"
    assert (await bench.loaded())[0].base_url == "https://models.example/v1"
    moved.api_key = "sk-new"
    await bench.update(moved)
    (loaded,) = await bench.loaded()
    assert (loaded.base_url, loaded.api_key) == (base_url, "sk-new")


@pytest.mark.parametrize("bench", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    "body", [{}, [], {"base_url": ["x"]}, {"base_url": "x"}, {"base_url": "https://[::"}]
)
async def test_a_provider_that_cant_be_read_can_be_written_anew(bench: Bench, body: object) -> None:
    """Nobody knows which server its key was for, so the key is needed with it, or has to go."""
    stored = await bench.create(wanted())
    async with bench.database.write() as connection:
        await connection.execute(providers.update().values(body=body))
    whole = wanted(provider_id=stored.provider_id, api_key="")
    with pytest.raises(InvalidArgument) as refused:
        await bench.update(whole)
    assert refused.value.field == "provider.api_key"
    assert await bench.loaded() == ()
    assert not (await bench.update(whole, clear_api_key=True)).has_api_key
    assert [(one.api_key, one.base_url) for one in await bench.loaded()] == [("", whole.base_url)]


async def test_another_path_of_the_same_server_keeps_the_key(bench: Bench) -> None:
    """And a provider without a key may go anywhere."""
    stored = await bench.create(wanted())
    same = "https://MODELS.example:443/v2"
    await bench.update(wanted(provider_id=stored.provider_id, api_key="", base_url=same))
    assert [(one.base_url, one.api_key) for one in await bench.loaded()] == [(same, KEY)]
    keyless = await bench.create(wanted("local", api_key=""))
    other = "http://localhost:11434/v1"
    await bench.update(wanted("local", provider_id=keyless.provider_id, api_key="", base_url=other))
    assert [one.base_url for one in await bench.loaded() if one.name == "local"] == [other]


async def test_a_key_can_be_removed(bench: Bench) -> None:
    """Also on the way to another server, where it must not go; not together with a new one."""
    stored = await bench.create(wanted())
    moved = wanted(provider_id=stored.provider_id, api_key="", base_url="http://localhost:11434/v1")
    assert not (await bench.update(moved, clear_api_key=True)).has_api_key
    assert [(one.api_key, one.base_url) for one in await bench.loaded()] == [("", moved.base_url)]
    with pytest.raises(InvalidArgument) as refused:
        await bench.update(wanted(provider_id=stored.provider_id), clear_api_key=True)
    assert refused.value.field == "clear_api_key"
    assert not (await bench.loaded())[0].api_key


async def test_a_repeated_request_makes_one_provider(bench: Bench) -> None:
    """Also when both come at once; another organization's request id is its own."""
    made = await asyncio.gather(*(bench.create(wanted(), "request-1") for _ in range(4)))
    assert len({one.provider_id for one in made}) == 1
    assert len((await bench.listed()).providers) == 1
    bench.log_in("admin", "other")
    assert (await bench.create(wanted(), "request-1")).provider_id != made[0].provider_id


async def test_names_are_unique_in_an_organization(bench: Bench) -> None:
    first, second = await bench.create(wanted("one")), await bench.create(wanted("two"))
    with pytest.raises(AlreadyExists):
        await bench.create(wanted("one"))
    with pytest.raises(AlreadyExists):
        await bench.update(wanted("one", provider_id=second.provider_id))
    results = await asyncio.gather(*(bench.create(wanted("three")) for _ in range(4)), return_exceptions=True)
    assert sum(isinstance(one, AlreadyExists) for one in results) == 3
    await bench.update(wanted("one", provider_id=first.provider_id, priority=9))
    bench.log_in("admin", "other")
    await bench.create(wanted("one"))


async def test_an_organization_has_at_most_a_hundred(bench: Bench) -> None:
    await bench.create(wanted())
    async with bench.database.write() as connection:
        row = (await connection.execute(select(providers))).one()._asdict()
        more = [{**row, "provider_id": f"p{number}", "name": f"n{number}"} for number in range(99)]
        await connection.execute(providers.insert(), more)
    with pytest.raises(InvalidArgument, match="at most 100"):
        await bench.create(wanted("one too many"))
    assert len((await bench.listed()).providers) == 100


async def test_roles(bench: Bench) -> None:
    """Viewers read, admins write, and nobody sees another organization's."""
    stored = await bench.create(wanted())
    get = pb.GetProviderRequest(provider_id=stored.provider_id)
    update = pb.UpdateProviderRequest(provider=wanted(provider_id=stored.provider_id))
    remove = pb.DeleteProviderRequest(provider_id=stored.provider_id)
    bench.log_in("viewer")
    assert (await bench.rpc.GetProvider(get, CONTEXT)).provider == stored
    assert len((await bench.listed()).providers) == 1
    for role in ("viewer", "agent", "manager"):
        bench.log_in(role)
        for refused in (
            bench.create(wanted("x")),
            bench.rpc.UpdateProvider(update, CONTEXT),
            bench.rpc.DeleteProvider(remove, CONTEXT),
            bench.test(stored.provider_id),
        ):
            with pytest.raises(PermissionDenied):
                await refused
    bench.log_in("owner", "other")
    for missing in (
        bench.rpc.GetProvider(get, CONTEXT),
        bench.rpc.UpdateProvider(update, CONTEXT),
        bench.rpc.DeleteProvider(remove, CONTEXT),
        bench.test(stored.provider_id),
    ):
        with pytest.raises(NotFound):
            await missing
    assert not (await bench.listed()).providers
    bench.log_in("owner")
    await bench.rpc.DeleteProvider(remove, CONTEXT)
    assert await bench.loaded() == ()


async def test_the_list_is_in_the_routers_order_with_how_they_do(bench: Bench) -> None:
    await bench.create(wanted("late", priority=9))
    await bench.create(wanted("first", priority=0))
    first, late = await bench.loaded()
    course = Course([Candidate(first, first.models[0])], 100)
    bench.adapter.plays("first", [UpstreamMisconfigured("no", status=401)])
    with pytest.raises(UpstreamMisconfigured):
        await bench.router.stream(course, PROMPT)
    held = await bench.router.stream(Course([Candidate(late, late.models[0])], 100), PROMPT)
    listed = await bench.listed()
    assert [one.name for one in listed.providers] == ["first", "late"]
    now = bench.clock.now_ms()
    states = [(state.breaker, state.open_until_ms, state.in_flight) for state in listed.states]
    assert states == [("open", now + 30_000, 0), ("closed", 0, 1)]
    await held.value.source.aclose()
    held.end()
    await bench.clock.advance(30)
    assert [(s.breaker, s.open_until_ms, s.in_flight) for s in (await bench.listed()).states] == [
        ("half_open", 0, 0),
        ("closed", 0, 0),
    ]


async def test_a_test_is_paid_from_the_budgets(bench: Bench) -> None:
    """Set aside before; where there is no room nobody is asked, no cheaper model either, and its caller hears
    of the budget and not of the provider."""
    stored = await bench.create(wanted())
    bench.budgets = (object(),)
    assert (await bench.test(stored.provider_id)).ok
    (spend,) = bench.ledger.spent
    assert [entry[:2] for entry in bench.ledger.reserved] == [(spend.call_id, "deepseek-chat")]
    assert (bench.ledger.reserved[0][3], bench.ledger.released) == (16, [])
    bench.adapter.plays("deep", [UpstreamMisconfigured("key", status=401)])
    assert not (await bench.test(stored.provider_id)).ok
    assert bench.ledger.released == [bench.ledger.spent[1].call_id]
    bench.ledger.refused = {"default": "vectors"}
    with pytest.raises(BudgetExceeded, match="used up"):
        await bench.test(stored.provider_id)
    assert bench.adapter.asked == ["deep", "deep"]
    refused = bench.ledger.spent[2]
    assert (refused.code, refused.usage, refused.provider) == ("RESOURCE_EXHAUSTED", Usage(), "")


async def test_a_test_asks_one_model_and_says_what_came(bench: Bench) -> None:
    """Past the router, also of a disabled provider; what it used is recorded, for who asked."""
    stored = await bench.create(wanted(disabled=True))
    good = await bench.test(stored.provider_id)
    assert (good.ok, good.problem, good.code) == (True, "", "OK")
    assert (await bench.test(stored.provider_id, "vectors")).ok
    bench.adapter.plays("deep", [UpstreamMisconfigured("the provider does not accept its key", status=401)])
    bad = await bench.test(stored.provider_id, "default")
    assert (bad.ok, bad.code) == (False, "FAILED_PRECONDITION")
    assert bad.problem == (
        "The provider does not accept its key. Check its key, its address and the name of the model."
    )
    bench.adapter.plays("deep", [lambda: bench.clock.sleep(3), UpstreamTimeout("the provider was silent")])
    task = asyncio.create_task(bench.test(stored.provider_id))
    while not bench.clock.sleepers:
        await asyncio.sleep(0.001)
    await bench.clock.advance(3)
    late = await task
    assert (late.code, late.duration_ms) == ("DEADLINE_EXCEEDED", 3000)
    assert bench.adapter.prompts[0].max_tokens == 16
    recorded = [(s.code, s.model, s.caller.operation, s.caller.api_key_id) for s in bench.ledger.spent]
    assert recorded == [
        ("OK", "deepseek-chat", "complete", "someone"),
        ("OK", "vectors", "embed", "someone"),
        ("FAILED_PRECONDITION", "deepseek-chat", "complete", "someone"),
        ("DEADLINE_EXCEEDED", "deepseek-chat", "complete", "someone"),
    ]
    with pytest.raises(NotFound):
        await bench.test(stored.provider_id, "unknown")


@pytest.mark.parametrize("bench", ["sqlite"], indirect=True)
async def test_a_test_blames_no_provider_for_what_is_away_here(bench: Bench) -> None:
    """Its caller hears that this service's own database or NATS is away; nobody should change an address for
    that. What the provider itself fails at is its problem, and so is taking longer than a test lasts."""
    stored = await bench.create(wanted())
    bench.adapter.plays("deep", [UpstreamUnavailable("the provider is overloaded", status=503)])
    away = await bench.test(stored.provider_id)
    assert (away.code, away.problem) == (
        "UNAVAILABLE",
        "The provider is overloaded. Check its address, or try again later.",
    )
    bench.adapter.plays("deep", [DeadlineExceeded("no whole answer within 30 s")])
    late = await bench.test(stored.provider_id)
    assert late.code == "DEADLINE_EXCEEDED"
    assert late.problem.endswith("Check its address, or give it more time.")
    bench.ledger.full = True
    with pytest.raises(Unavailable, match="no room"):
        await bench.test(stored.provider_id)


@pytest.mark.parametrize("bench", ["sqlite"], indirect=True)
async def test_bad_input_names_its_field_and_changes_nothing(bench: Bench) -> None:
    stored = await bench.create(wanted())
    before = await bench.listed()
    cases = [
        ("provider.name", wanted("")),
        ("provider.name", wanted("Offline")),
        ("provider.name", wanted("x" * 65)),
        ("provider.kind", wanted(kind=pb.PROVIDER_KIND_UNSPECIFIED)),
        ("provider.api_key", wanted(api_key="line\nbreak")),
        ("provider.api_key", wanted(api_key="钥匙")),
        ("provider.weight", wanted(weight=1001)),
    ]
    for field, provider in cases:
        provider.provider_id = stored.provider_id
        with pytest.raises(InvalidArgument) as caught:
            await bench.update(provider)
        assert caught.value.field == field
    with pytest.raises(InvalidArgument, match=r"provider\.name"):
        await bench.create(wanted(""))
    with pytest.raises(InvalidArgument, match=r"provider\.provider_id"):
        await bench.create(wanted(provider_id=stored.provider_id))
    with pytest.raises(InvalidArgument, match=r"provider\.organization_id"):
        await bench.update(wanted(provider_id=stored.provider_id, organization_id="other"))
    for request_id in ("x" * 129, "a\x00b"):
        with pytest.raises(FrontdeskError, match="request_id"):
            await bench.create(wanted("new"), request_id)
    assert await bench.listed() == before
