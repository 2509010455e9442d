"""`frontdesk policy …`"""

from __future__ import annotations

from typing import Annotated

import grpc.aio
import typer
from google.protobuf.json_format import MessageToDict
from rich.table import Table

from frontdesk.api.ai.v1 import policy_service_pb2 as pb
from frontdesk.api.ai.v1.policy_service_pb2_grpc import PolicyServiceStub
from frontdesk.cli.client import DATA, Address, Data, Target, Token, call, console

app = typer.Typer(no_args_is_help=True, help="How the AI answers buyers: prompts, bargaining, limits.")

Account = Annotated[str, typer.Option("--account", help="Of this account; without it of all.")]
Item = Annotated[str, typer.Option("--item", help="Of this item of the account.")]

_SCOPE = ("organization_id", "account_id", "item_id")
_FIELDS = tuple(f.name for f in pb.Policy.DESCRIPTOR.fields if f.name not in _SCOPE)
_LISTS = ("statements", "blocked_words", "person_words")


@app.command("show")
def show(
    account: Account = "", item: Item = "", data: Data = DATA, address: Address = "", token: Token = ""
) -> None:
    """What is set here, and what holds with the wider policies and the defaults."""

    async def work(channel: grpc.aio.Channel) -> pb.GetPolicyResponse:
        request = pb.GetPolicyRequest(account_id=account, item_id=item)
        response: pb.GetPolicyResponse = await PolicyServiceStub(channel).GetPolicy(request, timeout=10)
        return response

    found = call(Target(data, address, token), work)
    here, effective = _shown(found.policy), _shown(found.effective)
    table = Table("", "set here", "holds")
    for field in _FIELDS:
        table.add_row(field.replace("_", "-"), here.get(field, ""), effective.get(field, ""))
    console.print(table)


@app.command("set")
def set_policy(
    account: Account = "",
    item: Item = "",
    model: Annotated[str | None, typer.Option("--model")] = None,
    temperature: Annotated[float | None, typer.Option("--temperature", help="0 to 2.")] = None,
    persona: Annotated[str | None, typer.Option("--persona", help="Who it is and how it talks.")] = None,
    price_prompt: Annotated[str | None, typer.Option("--price-prompt")] = None,
    technical_prompt: Annotated[str | None, typer.Option("--technical-prompt")] = None,
    after_sale_prompt: Annotated[str | None, typer.Option("--after-sale-prompt")] = None,
    other_prompt: Annotated[str | None, typer.Option("--other-prompt")] = None,
    statement: Annotated[
        list[str] | None, typer.Option("--statement", help="What holds in the shop; may repeat.")
    ] = None,
    min_confidence: Annotated[float | None, typer.Option("--min-confidence", help="0 to 1.")] = None,
    max_rounds: Annotated[int | None, typer.Option("--max-rounds", help="Offers in a chat.")] = None,
    max_discount_percent: Annotated[str | None, typer.Option("--max-discount-percent")] = None,
    max_discount_amount: Annotated[str | None, typer.Option("--max-discount-amount", help="Yuan.")] = None,
    floor_price: Annotated[str | None, typer.Option("--floor-price", help="Yuan.")] = None,
    blocked_word: Annotated[
        list[str] | None, typer.Option("--blocked-word", help="Stops an answer; may repeat.")
    ] = None,
    person_word: Annotated[
        list[str] | None, typer.Option("--person-word", help="Of a buyer, calls a person; may repeat.")
    ] = None,
    contacts_allowed: Annotated[bool | None, typer.Option("--contacts-allowed/--no-contacts")] = None,
    forget: Annotated[
        list[str] | None, typer.Option("--forget", help="A field that shall say nothing; may repeat.")
    ] = None,
    data: Data = DATA,
    address: Address = "",
    token: Token = "",
) -> None:
    """Set what is given; the rest stays as it is. Zero is something said."""
    given = {
        "model": model,
        "temperature": temperature,
        "persona": persona,
        "price_prompt": price_prompt,
        "technical_prompt": technical_prompt,
        "after_sale_prompt": after_sale_prompt,
        "other_prompt": other_prompt,
        "statements": statement,
        "min_confidence": min_confidence,
        "max_rounds": max_rounds,
        "max_discount_percent": max_discount_percent,
        "max_discount_amount": max_discount_amount,
        "floor_price": floor_price,
        "blocked_words": blocked_word,
        "person_words": person_word,
        "contacts_allowed": contacts_allowed,
    }
    forgotten = [field.replace("-", "_") for field in forget or []]
    if unknown := [field for field in forgotten if field not in _FIELDS]:
        raise typer.BadParameter(f"no such field: {', '.join(unknown)}", param_hint="--forget")

    async def work(channel: grpc.aio.Channel) -> None:
        stub = PolicyServiceStub(channel)
        request = pb.GetPolicyRequest(account_id=account, item_id=item)
        policy = (await stub.GetPolicy(request, timeout=10)).policy
        policy.account_id, policy.item_id = account, item
        for field in forgotten:
            policy.ClearField(field)  # type: ignore[arg-type]  # a name of the list above
        for field, value in given.items():
            if isinstance(value, list):
                getattr(policy, field).CopyFrom(pb.Words(words=value))
            elif value is not None:
                setattr(policy, field, value)
        await stub.SetPolicy(pb.SetPolicyRequest(policy=policy), timeout=10)

    call(Target(data, address, token), work)
    console.print("set")


@app.command("delete")
def delete(
    account: Account = "", item: Item = "", data: Data = DATA, address: Address = "", token: Token = ""
) -> None:
    """Remove the policy of this scope; the wider ones hold again."""

    async def work(channel: grpc.aio.Channel) -> None:
        request = pb.DeletePolicyRequest(account_id=account, item_id=item)
        await PolicyServiceStub(channel).DeletePolicy(request, timeout=10)

    call(Target(data, address, token), work)
    console.print("removed")


def _shown(policy: pb.Policy) -> dict[str, str]:
    """What a policy says, as text; a list that is empty on purpose is shown as such."""
    said = MessageToDict(policy, preserving_proto_field_name=True)
    shown = {field: str(said[field]) for field in _FIELDS if field in said}
    for field in _LISTS:
        if policy.HasField(field):  # type: ignore[arg-type]
            shown[field] = "\n".join(getattr(policy, field).words) or "(none)"
    return shown
