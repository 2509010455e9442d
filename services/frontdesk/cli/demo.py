"""`frontdesk up --demo`: a simulated marketplace, three shops with all they need, and a live view."""

from __future__ import annotations

import asyncio
import time

import grpc.aio
from rich.console import Console
from rich.markup import escape

from frontdesk.api.accounts.v1 import account_service_pb2 as accounts_pb
from frontdesk.api.accounts.v1.account_service_pb2_grpc import AccountServiceStub
from frontdesk.api.ai.v1 import knowledge_service_pb2 as knowledge_pb
from frontdesk.api.ai.v1 import policy_service_pb2 as policies_pb
from frontdesk.api.ai.v1.knowledge_service_pb2_grpc import KnowledgeServiceStub
from frontdesk.api.ai.v1.policy_service_pb2_grpc import PolicyServiceStub
from frontdesk.api.chats.v1 import chat_service_pb2 as chats_pb
from frontdesk.api.chats.v1 import order_service_pb2 as orders_pb
from frontdesk.api.chats.v1.chat_service_pb2_grpc import ChatServiceStub
from frontdesk.api.chats.v1.order_service_pb2_grpc import OrderServiceStub
from frontdesk.api.events.v1.event_pb2 import AiState, Event
from frontdesk.api.replies.v1 import rule_service_pb2 as rules_pb
from frontdesk.api.replies.v1.reply_service_pb2_grpc import ReplyServiceStub
from frontdesk.api.replies.v1.rule_pb2 import MATCH_CONTAINS, SCOPE_GLOBAL, DefaultReply, Rule
from frontdesk.api.replies.v1.rule_pb2 import Part as Say
from frontdesk.api.replies.v1.rule_service_pb2_grpc import RuleServiceStub
from frontdesk.cli.ai import switch_ai
from frontdesk.cli.local import ORGANIZATION, free_port
from frontdesk.fleet import Part
from frontdesk.kit import tasks
from frontdesk.simulators.goofish.server import GoofishSimulator, SimulatorSettings
from frontdesk.simulators.goofish.state import Chat, Message, Seller

RULES = (
    ("在不在", ("还在", "available"), "在的，直接拍就可以 / Yes, it is yours."),
    ("包邮", ("包邮", "shipping"), "亲，全国包邮（偏远地区除外）。"),
    ("价格", ("最低", "便宜", "价"), "已经是最低价啦，{send_user_name}，喜欢就拍下吧。"),
    ("发货", ("发货",), "付款后 24 小时内发货。"),
)
DEFAULT = "稍等，店主马上回复您。"
STATEMENTS = ("可以开发票，电子的，拍下时备注抬头。", "不接受线下交易。")
KNOWLEDGE = """# 售后

支持七天无理由退货，退货运费由买家承担。

# 快递

默认用中通快递，也可以补差价用顺丰。
"""
CARDS_AN_ITEM = 20
TIMEOUT_S = 30
# Who answered is told beside the answer, and may be heard of a moment after it.
HOLD_S = 0.2


def marketplace() -> tuple[GoofishSimulator, dict[str, str]]:
    """The simulated platform, not yet started, and the settings by which the gateway finds it."""
    settings = SimulatorSettings(ws_port=free_port(), http_port=free_port(), demo=True)
    web = f"http://{settings.host}:{settings.http_port}"
    return GoofishSimulator(settings), {
        "FRONTDESK_GOOFISH_WS_URL": f"ws://{settings.host}:{settings.ws_port}/",
        "FRONTDESK_GOOFISH_API_URL": web,
        "FRONTDESK_GOOFISH_PASSPORT_URL": web,
        "FRONTDESK_GOOFISH_UPLOAD_URL": f"{web}/api/upload.api",
    }


class Demo:
    """A component that starts after the services, which it calls over the channel of one of them."""

    name = "demo"

    def __init__(self, console: Console, platform: GoofishSimulator, part: Part) -> None:
        self._console = console
        self._platform = platform
        self._part = part
        self._asked: dict[str, float] = {}
        self._by: dict[str, str] = {}
        self._watching: list[asyncio.Task[None]] = []
        self.answered = 0

    async def start(self) -> None:
        """Connect the shops, give them rules, knowledge and cards, and show what is said from now on."""
        self._watching = [tasks.background(self._watch())]
        self._platform.world.heard.append(self._show)
        await self._add_rules()
        await self._add_knowledge()
        for seller in list(self._platform.world.sellers.values()):
            await self._add_account(seller)

    async def stop(self, deadline_s: float) -> None:
        """Say what was done."""
        await tasks.end(self._watching)
        self._console.print(f"[dim]{self.answered} answers were sent in this demo.[/]")

    async def _add_rules(self) -> None:
        stub = RuleServiceStub(self._part.channel)
        for name, keywords, text in RULES:
            rule = Rule(
                organization_id=ORGANIZATION,
                name=name,
                scope=SCOPE_GLOBAL,
                match=MATCH_CONTAINS,
                keywords=keywords,
                parts=[Say(text=text)],
                enabled=True,
            )
            request = rules_pb.CreateRuleRequest(request_id=f"demo-{name}", rule=rule)
            await stub.CreateRule(request, timeout=TIMEOUT_S)
        default = DefaultReply(
            organization_id=ORGANIZATION, scope=SCOPE_GLOBAL, parts=[Say(text=DEFAULT)], enabled=True
        )
        await stub.SetDefaultReply(rules_pb.SetDefaultReplyRequest(default_reply=default), timeout=TIMEOUT_S)

    async def _add_knowledge(self) -> None:
        """What the AI step may quote; it is `offline` that does while there is no provider."""
        policy = policies_pb.Policy(
            organization_id=ORGANIZATION, statements=policies_pb.Words(words=STATEMENTS)
        )
        await PolicyServiceStub(self._part.channel).SetPolicy(
            policies_pb.SetPolicyRequest(policy=policy), timeout=TIMEOUT_S
        )
        document = knowledge_pb.Document(
            organization_id=ORGANIZATION,
            title="店铺须知",
            format=knowledge_pb.DOCUMENT_FORMAT_MARKDOWN,
            content=KNOWLEDGE,
        )
        await KnowledgeServiceStub(self._part.channel).CreateDocument(
            knowledge_pb.CreateDocumentRequest(request_id="demo-knowledge", document=document),
            timeout=TIMEOUT_S,
        )

    async def _add_account(self, seller: Seller) -> None:
        """The shop's account, new or with the cookies that the marketplace knows now."""
        stub = AccountServiceStub(self._part.channel)
        listed = await stub.ListAccounts(
            accounts_pb.ListAccountsRequest(organization_id=ORGANIZATION, page_size=500), timeout=TIMEOUT_S
        )
        known = next((a for a in listed.accounts if a.platform_user_id == seller.user_id), None)
        if known is not None:
            update = accounts_pb.UpdateAccountRequest(account_id=known.account_id, cookies=seller.cookies)
            await stub.UpdateAccount(update, timeout=TIMEOUT_S)
            account_id = known.account_id
        else:
            create = accounts_pb.CreateAccountRequest(
                organization_id=ORGANIZATION, name=seller.nickname, cookies=seller.cookies, wait=True
            )
            account_id = (await stub.CreateAccount(create, timeout=TIMEOUT_S)).account.account_id
        replies = ReplyServiceStub(self._part.channel)
        await switch_ai(replies, account_id, enabled=True, timeout=TIMEOUT_S)
        await self._add_cards(account_id, seller)

    async def _add_cards(self, account_id: str, seller: Seller) -> None:
        stub = OrderServiceStub(self._part.channel)
        for item in seller.items.values():
            delivery = orders_pb.Delivery(
                account_id=account_id,
                item_id=item.item_id,
                enabled=True,
                confirm_shipping=True,
                template="感谢购买！您的兑换码：{card}",
            )
            await stub.SetDelivery(orders_pb.SetDeliveryRequest(delivery=delivery), timeout=TIMEOUT_S)
            cards = [f"{item.item_id}-{n:04d}-{time.time_ns() % 10**9:09d}" for n in range(CARDS_AN_ITEM)]
            add = orders_pb.AddCardsRequest(account_id=account_id, item_id=item.item_id, cards=cards)
            await stub.AddCards(add, timeout=TIMEOUT_S)

    async def _watch(self) -> None:
        """Hear who answers with the AI, and when a person is called."""
        stub = ChatServiceStub(self._part.channel)
        try:
            async for response in stub.WatchChats(chats_pb.WatchChatsRequest(organization_id=ORGANIZATION)):
                self._hear(response.event)
        except grpc.aio.AioRpcError as error:
            self._console.print(f"[dim]Who answers is shown no longer: {escape(error.details() or '')}[/]")

    def _hear(self, event: Event) -> None:
        if event.WhichOneof("kind") == "ai" and event.ai.state == AiState.AI_STATE_DONE:
            ai = event.ai
            self._by[ai.chat_id] = ai.provider if ai.model == ai.provider else f"{ai.provider}/{ai.model}"
        elif event.WhichOneof("kind") == "alert":
            self._console.print(
                f"[dim]{_clock(event.occurred_at_ms)}[/]  [red]! {escape(event.alert.text)}[/]"
            )

    def _show(self, seller: Seller, chat: Chat, message: Message) -> None:
        begun = self._asked.setdefault(chat.chat_id, time.monotonic())
        if message.order is None and message.sender_id == seller.user_id:
            self.answered += 1
            del self._asked[chat.chat_id]
        waited = time.monotonic() - begun
        asyncio.get_running_loop().call_later(HOLD_S, self._print, seller, chat, message, waited)

    def _print(self, seller: Seller, chat: Chat, message: Message, waited: float) -> None:
        shop, buyer, text = escape(seller.nickname), escape(chat.buyer_name), escape(message.text)
        line = f"[dim]{_clock(message.created_at_ms)}[/]  [magenta]{shop}[/]  "
        if message.order is not None:
            self._console.print(f"{line}{buyer}  [yellow]{text}[/]")
        elif message.sender_id == seller.user_id:
            by = self._by.pop(chat.chat_id, "")
            who = f" · [blue]{escape(by)}[/]" if by else ""
            self._console.print(f"{line}[green]→ {buyer}: {text}[/] [dim]{waited:.1f} s[/]{who}")
        else:
            self._console.print(f"{line}[cyan]{buyer}[/]: {text}")


def _clock(at_ms: int) -> str:
    return time.strftime("%H:%M:%S", time.localtime(at_ms / 1000))
