"""`frontdesk rule …`"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import grpc.aio
import typer
from rich.table import Table

from frontdesk.api.replies.v1 import rule_service_pb2 as pb
from frontdesk.api.replies.v1.rule_pb2 import (
    MATCH_CONTAINS,
    MATCH_EXACT,
    MATCH_REGEX,
    SCOPE_ACCOUNT,
    SCOPE_GLOBAL,
    SCOPE_ITEM,
    Match,
    Part,
    Rule,
    Scope,
)
from frontdesk.api.replies.v1.rule_service_pb2_grpc import RuleServiceStub
from frontdesk.cli.client import DATA, Address, Data, Target, Token, call, console, errors

app = typer.Typer(no_args_is_help=True, help="Keyword rules.")

MATCHES = {"contains": MATCH_CONTAINS, "exact": MATCH_EXACT, "regex": MATCH_REGEX}


@app.command("add")
def add(
    keywords: Annotated[list[str], typer.Argument(help="Any of them hits.")],
    reply: Annotated[list[str], typer.Option("--reply", help="What to say; again for a second message.")],
    name: Annotated[str, typer.Option("--name", help="A name for people.")] = "",
    account: Annotated[str, typer.Option("--account", help="Only for this account.")] = "",
    item: Annotated[list[str] | None, typer.Option("--item", help="Only for this item; may repeat.")] = None,
    match: Annotated[str, typer.Option("--match", help="contains, exact or regex.")] = "contains",
    priority: Annotated[int, typer.Option("--priority", help="Higher first.")] = 0,
    data: Data = DATA,
    address: Address = "",
    token: Token = "",
) -> None:
    """Add a rule; it counts from the next message on."""
    if match not in MATCHES:
        raise typer.BadParameter("must be contains, exact or regex", param_hint="--match")
    rule = Rule(
        name=name or keywords[0],
        scope=SCOPE_ITEM if item else SCOPE_ACCOUNT if account else SCOPE_GLOBAL,
        account_id=account,
        item_ids=item or [],
        keywords=keywords,
        match=MATCHES[match],
        parts=[Part(text=text) for text in reply],
        priority=priority,
        enabled=True,
    )

    async def work(channel: grpc.aio.Channel) -> Rule:
        request = pb.CreateRuleRequest(rule=rule)
        response: pb.CreateRuleResponse = await RuleServiceStub(channel).CreateRule(request, timeout=10)
        return response.rule

    console.print(f"added {call(Target(data, address, token), work).rule_id}")


@app.command("list")
def list_rules(data: Data = DATA, address: Address = "", token: Token = "") -> None:
    """List rules."""

    async def work(channel: grpc.aio.Channel) -> list[Rule]:
        found: list[Rule] = []
        page = ""
        while True:
            request = pb.ListRulesRequest(page_size=1000, page_token=page)
            response = await RuleServiceStub(channel).ListRules(request, timeout=10)
            found.extend(response.rules)
            page = response.next_page_token
            if not page:
                return found

    table = Table("rule", "name", "scope", "match", "keywords", "reply", "priority")
    for rule in call(Target(data, address, token), work):
        scope = Scope.Name(rule.scope).removeprefix("SCOPE_").lower()
        if not rule.enabled:
            scope += " (off)"
        reply = " / ".join(p.text or p.image.url for p in rule.parts) or "(silence)"
        match = Match.Name(rule.match).removeprefix("MATCH_").lower()
        table.add_row(
            rule.rule_id, rule.name, scope, match, ", ".join(rule.keywords), reply[:60], str(rule.priority)
        )
    console.print(table)


@app.command("delete")
def delete(rule_id: str, data: Data = DATA, address: Address = "", token: Token = "") -> None:
    """Remove a rule."""

    async def work(channel: grpc.aio.Channel) -> None:
        await RuleServiceStub(channel).DeleteRule(pb.DeleteRuleRequest(rule_id=rule_id), timeout=10)

    call(Target(data, address, token), work)
    console.print("removed")


@app.command("explain")
def explain(
    account_id: str,
    text: str,
    item: Annotated[str, typer.Option("--item", help="The item the chat is about.")] = "",
    chat: Annotated[str, typer.Option("--chat", help="A chat whose limits count.")] = "",
    data: Data = DATA,
    address: Address = "",
    token: Token = "",
) -> None:
    """Which rule would answer this text, and why the others would not."""

    async def work(channel: grpc.aio.Channel) -> pb.ExplainResponse:
        request = pb.ExplainRequest(account_id=account_id, text=text, item_id=item, chat_id=chat)
        response: pb.ExplainResponse = await RuleServiceStub(channel).Explain(request, timeout=10)
        return response

    answer = call(Target(data, address, token), work)
    console.print(f"answered by: {answer.step or 'nobody; a person is called'}")
    for part in answer.parts:
        console.print(f"  {part.text or part.image.url}", highlight=False)
    table = Table("rule", "name", "", "why")
    for verdict in answer.verdicts:
        table.add_row(verdict.rule_id, verdict.name, "[green]✓[/]" if verdict.wins else "", verdict.reason)
    console.print(table)


@app.command("import")
def import_rules(
    file: Path,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    data: Data = DATA,
    address: Address = "",
    token: Token = "",
) -> None:
    """Import rules from CSV or JSON; with any problem nothing is stored."""
    content = file.read_bytes()

    async def work(channel: grpc.aio.Channel) -> pb.ImportRulesResponse:
        request = pb.ImportRulesRequest(format=_format(file), data=content, dry_run=dry_run)
        response: pb.ImportRulesResponse = await RuleServiceStub(channel).ImportRules(request, timeout=60)
        return response

    result = call(Target(data, address, token), work)
    for problem in result.problems:
        errors.print(f"row {problem.row}: {problem.field}: {problem.problem}", highlight=False)
    would = "would be " if dry_run else ""
    console.print(
        f"{would}created {result.created}, {would}updated {result.updated}, unchanged {result.unchanged}"
    )
    if result.problems:
        raise typer.Exit(1)


@app.command("export")
def export_rules(
    file: Annotated[Path | None, typer.Argument(help="*.csv or *.json; without it CSV on stdout.")] = None,
    data: Data = DATA,
    address: Address = "",
    token: Token = "",
) -> None:
    """Export rules as CSV or JSON."""

    async def work(channel: grpc.aio.Channel) -> bytes:
        request = pb.ExportRulesRequest(format=_format(file))
        response: pb.ExportRulesResponse = await RuleServiceStub(channel).ExportRules(request, timeout=60)
        return response.data

    content = call(Target(data, address, token), work)
    if file is None:
        sys.stdout.buffer.write(content)
    else:
        file.write_bytes(content)
        console.print(f"wrote {file}")


def _format(file: Path | None) -> pb.Format.ValueType:
    return pb.FORMAT_JSON if file is not None and file.suffix == ".json" else pb.FORMAT_CSV
