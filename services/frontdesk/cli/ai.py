"""`frontdesk ai …`: ask a model, try an answer to a buyer, see what was used, set budgets."""

from __future__ import annotations

import time
from typing import Annotated

import grpc.aio
import typer
from rich.table import Table

from frontdesk.api.ai.v1 import ai_service_pb2 as pb
from frontdesk.api.ai.v1 import budget_service_pb2 as budgets
from frontdesk.api.ai.v1 import chat_pb2 as chat
from frontdesk.api.ai.v1.ai_service_pb2_grpc import AiServiceStub
from frontdesk.api.ai.v1.budget_service_pb2_grpc import BudgetServiceStub
from frontdesk.api.replies.v1 import reply_service_pb2 as replies
from frontdesk.api.replies.v1.reply_service_pb2_grpc import ReplyServiceStub
from frontdesk.cli.client import DATA, Address, Data, Target, Token, call, console, errors

app = typer.Typer(no_args_is_help=True, help="Models: ask them, see what they cost.")

ANSWER_S = 120
DAY_MS = 86_400_000
GROUPS = {
    "none": pb.USAGE_GROUP_UNSPECIFIED,
    "account": pb.USAGE_GROUP_ACCOUNT,
    "key": pb.USAGE_GROUP_API_KEY,
    "model": pb.USAGE_GROUP_MODEL,
    "provider": pb.USAGE_GROUP_PROVIDER,
    "day": pb.USAGE_GROUP_DAY,
}
SCOPES = {
    "organization": budgets.BUDGET_SCOPE_ORGANIZATION,
    "account": budgets.BUDGET_SCOPE_ACCOUNT,
    "key": budgets.BUDGET_SCOPE_API_KEY,
    "model": budgets.BUDGET_SCOPE_MODEL,
}
PERIODS = {
    "day": budgets.BUDGET_PERIOD_DAY,
    "month": budgets.BUDGET_PERIOD_MONTH,
    "total": budgets.BUDGET_PERIOD_TOTAL,
}


@app.command("ask")
def ask(
    question: str,
    model: Annotated[str, typer.Option("--model", help="Its name; `default` when not given.")] = "",
    data: Data = DATA,
    address: Address = "",
    token: Token = "",
) -> None:
    """Ask a model; the answer is shown as it comes."""
    request = pb.StreamCompleteRequest(
        model=model,
        prompt=chat.Prompt(messages=[chat.ModelMessage(role=chat.ROLE_USER, text=question)]),
    )

    async def work(channel: grpc.aio.Channel) -> None:
        async for event in AiServiceStub(channel).StreamComplete(request, timeout=ANSWER_S):
            if event.HasField("delta"):
                console.print(event.delta.text, end="", highlight=False, markup=False, soft_wrap=True)
            elif event.HasField("done"):
                console.print()
                console.print(f"[dim]{_outcome(event.done)}[/]", highlight=False)
            elif event.HasField("error"):
                console.print()
                errors.print(f"[red]{event.error.code}[/]: {event.error.message}", highlight=False)
                raise typer.Exit(1)

    call(Target(data, address, token), work)


@app.command("answer")
def answer(
    account_id: str,
    text: Annotated[str, typer.Argument(help="What a buyer would write.")],
    item: Annotated[str, typer.Option("--item", help="The item's id.")] = "",
    title: Annotated[str, typer.Option("--title", help="The item's title.")] = "",
    price: Annotated[str, typer.Option("--price", help="The item's price, yuan.")] = "",
    description: Annotated[str, typer.Option("--description", help="What is written about it.")] = "",
    data: Data = DATA,
    address: Address = "",
    token: Token = "",
) -> None:
    """What the AI would tell a buyer, by the account's policy; nothing is sent."""
    request = pb.AnswerRequest(
        account_id=account_id,
        item=pb.Item(item_id=item, title=title, price=price, description=description),
        turns=[pb.Turn(author=pb.AUTHOR_BUYER, text=text)],
    )

    async def work(channel: grpc.aio.Channel) -> pb.AnswerResponse:
        response: pb.AnswerResponse = await AiServiceStub(channel).Answer(request, timeout=ANSWER_S)
        return response

    found = call(Target(data, address, token), work)
    if found.needs_person:
        console.print(f"A person is needed ({found.reason}): {found.reason_text}", highlight=False)
    else:
        console.print(found.text, highlight=False, markup=False)
    intent = pb.Intent.Name(found.intent).removeprefix("INTENT_").lower()
    sources = f" · from {', '.join(found.sources)}" if found.sources else ""
    console.print(
        f"[dim]{intent} · confidence {found.confidence:.2f} · {_outcome(found.outcome)}{sources}[/]",
        highlight=False,
    )


@app.command("on")
def on(account_id: str, data: Data = DATA, address: Address = "", token: Token = "") -> None:
    """Let the AI answer an account's buyers where no rule does."""
    _switch(account_id, Target(data, address, token), enabled=True)


@app.command("off")
def off(account_id: str, data: Data = DATA, address: Address = "", token: Token = "") -> None:
    """Leave an account's buyers to rules, the default reply and people."""
    _switch(account_id, Target(data, address, token), enabled=False)


async def switch_ai(stub: ReplyServiceStub, account_id: str, *, enabled: bool, timeout: float = 10) -> None:
    """Whether the AI answers an account's buyers; every other setting stays. `timeout`: seconds a call."""
    asked = replies.GetReplySettingsRequest(account_id=account_id)
    settings = (await stub.GetReplySettings(asked, timeout=timeout)).settings
    settings.ai_enabled = enabled
    await stub.UpdateReplySettings(replies.UpdateReplySettingsRequest(settings=settings), timeout=timeout)


def _switch(account_id: str, target: Target, *, enabled: bool) -> None:
    async def work(channel: grpc.aio.Channel) -> None:
        await switch_ai(ReplyServiceStub(channel), account_id, enabled=enabled)

    call(target, work)
    console.print(f"the AI is {'on' if enabled else 'off'}")


@app.command("models")
def models(data: Data = DATA, address: Address = "", token: Token = "") -> None:
    """List the models that may be asked for."""

    async def work(channel: grpc.aio.Channel) -> pb.ListModelsResponse:
        response: pb.ListModelsResponse = await AiServiceStub(channel).ListModels(
            pb.ListModelsRequest(), timeout=10
        )
        return response

    table = Table("model", "providers", "")
    for model in call(Target(data, address, token), work).models:
        table.add_row(model.name, ", ".join(model.providers), "vectors" if model.embeds else "")
    console.print(table)


@app.command("usage")
def usage(
    days: Annotated[int, typer.Option("--days", min=1, max=400, help="The last so many days.")] = 30,
    by: Annotated[str, typer.Option("--by", help=f"{', '.join(GROUPS)}.")] = "model",
    data: Data = DATA,
    address: Address = "",
    token: Token = "",
) -> None:
    """What was used, and what it cost."""
    if by not in GROUPS:
        raise typer.BadParameter(f"must be {', '.join(GROUPS)}", param_hint="--by")
    request = pb.GetUsageRequest(from_ms=int(time.time() * 1000) - days * DAY_MS, group=GROUPS[by])

    async def work(channel: grpc.aio.Channel) -> pb.GetUsageResponse:
        response: pb.GetUsageResponse = await AiServiceStub(channel).GetUsage(request, timeout=30)
        return response

    table = Table(by, "calls", "failed", "cached", "question tokens", "answer tokens", "cost")
    for row in call(Target(data, address, token), work).sums:
        counts = (row.calls, row.failed, row.cached, row.prompt_tokens, row.completion_tokens)
        table.add_row(row.key, *map(str, counts), f"{row.cost} {row.currency}".strip())
    console.print(table)


@app.command("budget")
def budget(
    limit: Annotated[str, typer.Argument(help="The most that may be used in a period.")],
    currency: Annotated[str, typer.Argument(help="CNY, USD, … or tokens.")],
    scope: Annotated[str, typer.Option("--of", help=f"{', '.join(SCOPES)}.")] = "organization",
    subject: Annotated[str, typer.Option("--subject", help="Which account, key or model.")] = "",
    period: Annotated[str, typer.Option("--every", help=f"{', '.join(PERIODS)}.")] = "month",
    fallback: Annotated[str, typer.Option("--then", help="The model to ask when it is used up.")] = "",
    time_zone: Annotated[str, typer.Option("--time-zone", help="Of days and months.")] = "Asia/Shanghai",
    data: Data = DATA,
    address: Address = "",
    token: Token = "",
) -> None:
    """Set a budget: warnings at 80, 95 and 100 percent, and no call goes over it."""
    if scope not in SCOPES:
        raise typer.BadParameter(f"must be {', '.join(SCOPES)}", param_hint="--of")
    if period not in PERIODS:
        raise typer.BadParameter(f"must be {', '.join(PERIODS)}", param_hint="--every")
    wanted = budgets.Budget(
        scope=SCOPES[scope],
        subject=subject,
        period=PERIODS[period],
        time_zone=time_zone,
        limit=limit,
        currency=currency,
        fallback_model=fallback,
    )

    async def work(channel: grpc.aio.Channel) -> budgets.Budget:
        request = budgets.CreateBudgetRequest(budget=wanted)
        response = await BudgetServiceStub(channel).CreateBudget(request, timeout=10)
        made: budgets.Budget = response.budget
        return made

    console.print(f"set {call(Target(data, address, token), work).budget_id}")


@app.command("budgets")
def list_budgets(data: Data = DATA, address: Address = "", token: Token = "") -> None:
    """List budgets and what is used of them."""

    async def work(channel: grpc.aio.Channel) -> budgets.ListBudgetsResponse:
        response: budgets.ListBudgetsResponse = await BudgetServiceStub(channel).ListBudgets(
            budgets.ListBudgetsRequest(), timeout=10
        )
        return response

    table = Table("budget", "of", "every", "limit", "used", "set aside", "then")
    for found in call(Target(data, address, token), work).budgets:
        scope = budgets.BudgetScope.Name(found.scope).removeprefix("BUDGET_SCOPE_").lower()
        table.add_row(
            found.budget_id,
            f"{scope} {found.subject}".strip() + (" (off)" if found.disabled else ""),
            budgets.BudgetPeriod.Name(found.period).removeprefix("BUDGET_PERIOD_").lower(),
            f"{found.limit} {found.currency}",
            found.spent,
            found.reserved,
            found.fallback_model or "refuse",
        )
    console.print(table)


@app.command("unset-budget")
def unset_budget(budget_id: str, data: Data = DATA, address: Address = "", token: Token = "") -> None:
    """Remove a budget."""

    async def work(channel: grpc.aio.Channel) -> None:
        request = budgets.DeleteBudgetRequest(budget_id=budget_id)
        await BudgetServiceStub(channel).DeleteBudget(request, timeout=10)

    call(Target(data, address, token), work)
    console.print("removed")


def _outcome(outcome: chat.Outcome) -> str:
    used = outcome.usage
    who = outcome.provider
    if outcome.model and outcome.model != who:
        who = f"{who}/{outcome.model}"
    cost = f" · {used.cost} {used.currency}" if used.cost else ""
    return f"{who} · {used.prompt_tokens} + {used.completion_tokens} tokens{cost}"
