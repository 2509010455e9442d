"""Whatever comes through the reply-engine's doors gets a clear answer, and the next buyer theirs.

One engine lives for all the tests of this file, so that what an earlier call stored meets a later one.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Coroutine, Iterator, Mapping
from typing import Any

import grpc
import grpc.aio
import httpx
import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from frontdesk.api.chats.v1 import chat_service_pb2, order_service_pb2
from frontdesk.api.events.v1 import inbound_pb2
from frontdesk.api.events.v1.inbound_pb2 import Inbound
from frontdesk.api.replies.v1 import reply_service_pb2, rule_pb2, rule_service_pb2
from frontdesk.kit import pages, subjects
from frontdesk.kit.bus.connection import Outgoing
from frontdesk.kit.http import create_app
from frontdesk.kit.lifecycle import Readiness
from frontdesk.kit.nats_server import NatsServer
from frontdesk.kit.principal import Principal
from support.engine import ACCOUNT, ORGANIZATION, Calls, EngineBench
from support.waiting import until

CLEAR = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
}
NEIGHBOUR = "acc-neighbour"
SERVICES = (
    ("replies", reply_service_pb2.DESCRIPTOR.services_by_name["ReplyService"]),
    ("rules", rule_service_pb2.DESCRIPTOR.services_by_name["RuleService"]),
    ("chats", chat_service_pb2.DESCRIPTOR.services_by_name["ChatService"]),
    ("orders", order_service_pb2.DESCRIPTOR.services_by_name["OrderService"]),
)
METHODS = [(door, method) for door, service in SERVICES for method in service.methods]
FUZZ = settings(
    max_examples=60,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)

TOKENS = [pages.encode(n, *rest) for n in ("²", "9" * 30, "-1") for rest in ([], ["x"], ["x", "y\x00"])]
WORDS = ("", ACCOUNT, "acc2", ORGANIZATION, "chat1", "i1", "价", "(a+)+$", "{item_title}", "²", "9" * 30)

texts = st.one_of(
    st.sampled_from([*WORDS, *TOKENS]),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=30),
    st.builds(
        lambda unit, count: unit * count,
        st.sampled_from(["x", "\x00", "😀", "\u202e", "###\n"]),
        st.integers(0, 5000),
    ),
)
numbers: Mapping[int, st.SearchStrategy[Any]] = {
    FieldDescriptor.CPPTYPE_INT32: st.sampled_from([0, 1, -1, 100, 2**31 - 1, -(2**31)]),
    FieldDescriptor.CPPTYPE_INT64: st.sampled_from([0, 1, -1, 1_700_000_000_000, 2**63 - 1, -(2**63)]),
    FieldDescriptor.CPPTYPE_UINT32: st.sampled_from([0, 1, 2**32 - 1]),
    FieldDescriptor.CPPTYPE_UINT64: st.sampled_from([0, 1, 2**64 - 1]),
    FieldDescriptor.CPPTYPE_DOUBLE: st.floats(),
    FieldDescriptor.CPPTYPE_FLOAT: st.floats(width=32),
    FieldDescriptor.CPPTYPE_BOOL: st.booleans(),
    FieldDescriptor.CPPTYPE_ENUM: st.sampled_from([0, 1, 2, 3, 4, 99, -1, 2**31 - 1]),
}
# What gets a request past its first checks, most of the time.
LIKELY: Mapping[str, list[str]] = {
    "organization_id": [ORGANIZATION, ""],
    "account_id": [ACCOUNT],
    "chat_id": ["chat1"],
    "order_id": ["i1"],
    "item_id": ["i1"],
    "page_token": TOKENS,
    "time_zone": ["UTC", "Asia", "../etc/passwd", "Europe/Berlin", "²"],
    "active_hours": ["09:00-18:00", "9:00-²:00"],
    "url": ["https://example.com/a.jpg", "https://[", "http://a:99999999"],
}


def values(field: FieldDescriptor, depth: int) -> st.SearchStrategy[Any]:
    """Values of a field, good and bad."""
    if field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE:
        assert field.message_type is not None
        return messages(field.message_type, depth + 1)
    if field.name in LIKELY:
        return st.one_of(*[st.sampled_from(LIKELY[field.name])] * 3, texts)
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        return st.binary(max_size=200) if field.type == FieldDescriptor.TYPE_BYTES else texts
    return numbers[field.cpp_type]


@st.composite
def messages(draw: st.DrawFn, descriptor: Descriptor, depth: int = 0) -> Message:
    """A message of a type with some of its fields set to something."""
    message: Message = GetMessageClass(descriptor)()
    for field in descriptor.fields:
        likely = field.name in LIKELY or field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE
        if depth > 3 or not draw(st.sampled_from([True, likely, False]) if likely else st.booleans()):
            continue
        if field.is_repeated:
            given_values = draw(st.lists(values(field, depth), max_size=3))
            getattr(message, field.name).extend(given_values)
        elif field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE:
            getattr(message, field.name).CopyFrom(draw(values(field, depth)))
        else:
            setattr(message, field.name, draw(values(field, depth)))
    return message


class Owner:
    """Takes every caller for the owner."""

    async def authenticate(self, metadata: Mapping[str, str]) -> Principal:
        return Principal("owner", ORGANIZATION, "owner")


class World:
    """The engine of this file with its own event loop, which Hypothesis's synchronous tests drive."""

    def __init__(self, runner: asyncio.Runner, server: NatsServer, database_url: str) -> None:
        self._runner = runner
        self._server = server
        self._numbers = itertools.count()
        self._database_url = database_url

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self._runner.run(work)

    async def start(self) -> None:
        await self._server.start()
        self.bench = EngineBench(self._server, self._database_url, FRONTDESK_AI_SECONDS="0.1")
        await self.bench.start()
        self.calls = Calls(self.bench)
        app = create_app("fuzz", Owner(), readiness=Readiness())
        app.include_router(self.bench.engines[0].router)
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        self.http = httpx.AsyncClient(transport=transport, base_url="http://test")
        at_once = reply_service_pb2.ReplySettings(account_id=NEIGHBOUR, replies_per_minute=60)
        await self.calls.replies.UpdateReplySettings(
            reply_service_pb2.UpdateReplySettingsRequest(settings=at_once)
        )
        await self.reset()
        await self.bench.hear("在吗", chat="chat1", item="i1")
        order = Inbound(organization_id=ORGANIZATION, account_id=ACCOUNT, chat_id="chat1")
        order.order.order_id, order.order.item_id = "i1", "i1"
        order.order.status = inbound_pb2.ORDER_STATUS_PAID
        await self.publish(order.SerializeToString())

    async def stop(self) -> None:
        await self.http.aclose()
        await self.bench.stop()
        await self._server.stop()

    async def publish(self, payload: bytes) -> None:
        subject = subjects.inbound(ACCOUNT, "chat1")
        await self.bench.bus.publish_all([Outgoing(subject, payload, f"fuzz{next(self._numbers)}")])

    async def reset(self) -> None:
        """Undo what calls did to the whole organization, and give the neighbour a rule."""
        rules = self.calls.rules
        for rule in (await rules.ListRules(rule_service_pb2.ListRulesRequest(page_size=1000))).rules:
            await rules.DeleteRule(rule_service_pb2.DeleteRuleRequest(rule_id=rule.rule_id))
        on = reply_service_pb2.SetSwitchRequest(switch=reply_service_pb2.SWITCH_ON, answer_backlog=True)
        await self.calls.replies.SetSwitch(on)
        await self.calls.rule("邻居", says="在的", match=rule_pb2.MATCH_EXACT)

    async def neighbour_is_answered(self) -> None:
        """A good message of another account is answered, after everything that was published before."""
        await self.reset()
        before = sum(o.account_id == NEIGHBOUR for o in self.bench.said)
        chat = f"chat{next(self._numbers)}"
        await self.bench.hear("邻居", account=NEIGHBOUR, chat=chat)
        await until(lambda: sum(o.account_id == NEIGHBOUR for o in self.bench.said) > before, 15)

    async def call(self, door: str, method: str, request: Message) -> None:
        """Call a method; fails for an answer that is not clear."""
        call = getattr(getattr(self.calls, door), method)(request, timeout=10)
        try:
            if method == "WatchChats":
                async with asyncio.timeout(0.02):
                    await call.read()
            else:
                await call
        except TimeoutError:
            call.cancel()
        except grpc.aio.AioRpcError as error:
            assert error.code() in CLEAR, (method, error.code(), error.details())


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("fuzz")
    with asyncio.Runner() as runner:
        world = World(runner, NatsServer(store=folder / "nats"), f"sqlite:///{folder}/engine.db")
        runner.run(world.start())
        yield world
        runner.run(world.stop())


@pytest.mark.parametrize(("door", "method"), METHODS, ids=[m.name for _, m in METHODS])
def test_every_method_answers_clearly(world: World, door: str, method: Any) -> None:
    """Random requests get an answer or an error that says what is wrong with them."""

    @settings(FUZZ, max_examples=50)
    @given(request=messages(method.input_type))
    def fuzz(request: Message) -> None:
        world.run(world.call(door, method.name, request))

    fuzz()
    world.run(world.neighbour_is_answered())


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), texts),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
REPLY_FIELDS = (
    "cookie_id",
    "msg_time",
    "user_url",
    "send_user_id",
    "send_user_name",
    "item_id",
    "send_message",
    "chat_id",
)
bodies = st.one_of(
    st.binary(max_size=200),
    json_values.map(lambda v: json.dumps(v).encode()),
    st.fixed_dictionaries({}, optional=dict.fromkeys(REPLY_FIELDS, texts | json_values)).map(
        lambda v: json.dumps(v).encode()
    ),
    st.fixed_dictionaries(
        dict.fromkeys(REPLY_FIELDS, texts.filter(bool))
        | {"cookie_id": st.just(ACCOUNT), "msg_time": st.sampled_from(["²", "9" * 30, "1", "now"])}
    ).map(lambda v: json.dumps(v).encode()),
)


@pytest.mark.parametrize("number", ["²", "9" * 30, "-"])
def test_a_forged_page_token_is_refused(world: World, number: str) -> None:
    """A token that decodes but has no number of ours in it is INVALID_ARGUMENT."""
    two, three = pages.encode(number, "x"), pages.encode(number, "x", "y")
    chats, orders = chat_service_pb2, order_service_pb2
    world.run(world.call("chats", "ListChats", chats.ListChatsRequest(page_token=two)))
    listing = chats.ListMessagesRequest(account_id=ACCOUNT, chat_id="chat1", page_token=two)
    world.run(world.call("chats", "ListMessages", listing))
    world.run(world.call("orders", "ListOrders", orders.ListOrdersRequest(page_token=three)))


def test_an_endless_id_does_not_cost_the_connection(world: World) -> None:
    """Ids that make subjects over the broker's limit are refused, on every way in."""
    endless = "9" * 5000
    watching = chat_service_pb2.WatchChatsRequest(account_id=endless)
    world.run(world.call("chats", "WatchChats", watching))
    inbound = Inbound(organization_id=ORGANIZATION, account_id=ACCOUNT, chat_id=endless)
    inbound.message.message_id, inbound.message.author = "endless", inbound_pb2.AUTHOR_BUYER
    world.run(world.publish(inbound.SerializeToString()))
    world.run(world.neighbour_is_answered())


def test_the_http_door_answers_clearly(world: World) -> None:
    """Random bodies of `POST /xianyu/reply` get 200 or a 4xx, never a 500."""

    async def post(body: bytes) -> int:
        headers = {"authorization": "Bearer x", "content-type": "application/json"}
        return (await world.http.post("/xianyu/reply", content=body, headers=headers)).status_code

    @settings(FUZZ, max_examples=150)
    @given(body=bodies)
    def fuzz(body: bytes) -> None:
        status = world.run(post(body))
        assert status == 200 or 400 <= status < 500, (status, body)

    fuzz()
    world.run(world.neighbour_is_answered())


CELLS = st.one_of(
    texts, st.sampled_from(["any", "regex", "exact", "item", "a|b", '"', "=1+1", "[image 1x1] https://a/b"])
)
BOTH = ("id", "name", "scope", "account_id", "item_ids", "match", "keywords", "priority", "max_per_chat")
RULE_KEYS = (*BOTH, "parts")
COLUMNS = (*BOTH, "reply")
files = st.one_of(
    st.binary(max_size=300).map(lambda data: (99, data)),
    json_values.map(lambda v: (2, json.dumps(v).encode())),
    st.lists(st.fixed_dictionaries({}, optional=dict.fromkeys(RULE_KEYS, json_values)), max_size=4).map(
        lambda v: (2, json.dumps(v).encode())
    ),
    st.lists(st.lists(CELLS, max_size=11), max_size=5).map(
        lambda rows: (1, "\n".join([",".join(COLUMNS), *(",".join(row) for row in rows)]).encode())
    ),
)


def test_imports_answer_clearly(world: World) -> None:
    """Random files are refused by row and field, or taken; what was taken can be exported and listed."""

    @settings(FUZZ, max_examples=120)
    @given(file=files, dry_run=st.booleans())
    def fuzz(file: tuple[int, bytes], dry_run: bool) -> None:
        kind: Any = file[0] if file[0] < 99 else 1
        request = rule_service_pb2.ImportRulesRequest(format=kind, data=file[1], dry_run=dry_run)
        world.run(world.call("rules", "ImportRules", request))

    fuzz()
    world.run(world.call("rules", "ListRules", rule_service_pb2.ListRulesRequest()))
    world.run(world.call("rules", "ExportRules", rule_service_pb2.ExportRulesRequest()))
    world.run(world.neighbour_is_answered())


def test_inbound_payloads_are_taken_or_dead(world: World) -> None:
    """Random payloads on the bus are stored or go to DEAD; no message is handled for ever."""
    payloads = st.one_of(
        st.binary(max_size=200), messages(Inbound.DESCRIPTOR).map(lambda m: m.SerializeToString())
    )

    @settings(FUZZ, max_examples=150)
    @given(payload=payloads)
    def fuzz(payload: bytes) -> None:
        world.run(world.publish(payload))

    fuzz()
    world.run(world.neighbour_is_answered())

    async def all_handled() -> None:
        async with asyncio.timeout(15):
            while (await world.bench.bus.js.consumer_info(subjects.INBOUND, "reply-engine")).num_ack_pending:
                await asyncio.sleep(0.05)
        dead = await world.bench.bus.js.stream_info(subjects.DEAD)
        assert dead.state.messages > 0

    world.run(all_handled())
