"""`frontdesk policy …`"""

from __future__ import annotations

from typing import Annotated

import grpc.aio
import typer
from google.protobuf.json_format import MessageToDict, ParseDict, ParseError
from rich.table import Table

from frontdesk.api.ai.v1 import policy_service_pb2 as pb
from frontdesk.api.ai.v1.policy_service_pb2_grpc import PolicyServiceStub
from frontdesk.cli.client import DATA, Address, Data, Target, Token, call, console

app = typer.Typer(no_args_is_help=True, help="How the AI answers buyers: prompts, bargaining, limits.")

Account = Annotated[str, typer.Option("--account", help="Of this account; without it of all.")]
Item = Annotated[str, typer.Option("--item", help="Of this item of the account.")]

_SCOPE = ("organization_id", "account_id", "item_id")
_FIELDS = tuple(f.name for f in pb.Policy.DESCRIPTOR.fields if f.name not in _SCOPE)
_YES = {"yes": True, "no": False, "true": True, "false": False}
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
    values: Annotated[
        list[str],
        typer.Argument(
            metavar="FIELD=VALUE…", help=f"Fields: {', '.join(name.replace('_', '-') for name in _FIELDS)}."
        ),
    ],
    account: Account = "",
    item: Item = "",
    data: Data = DATA,
    address: Address = "",
    token: Token = "",
) -> None:
    """Set fields; the others stay as they are.

    `floor-price=80`, `contacts-allowed=no`, `persona=…`. A list is repeated: `statements=A statements=B`;
    `statements=` is a list that is empty on purpose. Zero is something said; `-floor-price` says nothing any
    more, so that the wider policy holds.
    """
    changes = [_change(value) for value in values]

    async def work(channel: grpc.aio.Channel) -> None:
        stub = PolicyServiceStub(channel)
        request = pb.GetPolicyRequest(account_id=account, item_id=item)
        policy = (await stub.GetPolicy(request, timeout=10)).policy
        policy.account_id, policy.item_id = account, item
        for field, _ in changes:
            policy.ClearField(field)  # type: ignore[arg-type]  # a name of the list above
        for field, value in changes:
            _apply(policy, field, value)
        await stub.SetPolicy(pb.SetPolicyRequest(policy=policy), timeout=10)

    call(Target(data, address, token), work)
    console.print("set")


def _change(text: str) -> tuple[str, str | None]:
    """A field and its value; None to say nothing any more."""
    name, given, value = text.partition("=")
    field = name.removeprefix("-").replace("-", "_")
    if field not in _FIELDS or (name.startswith("-") == bool(given)):
        raise typer.BadParameter(f"{text!r} is neither FIELD=VALUE nor -FIELD", param_hint="values")
    return field, value if given else None


def _apply(policy: pb.Policy, field: str, value: str | None) -> None:
    if value is None:
        return
    if field in _LISTS:
        words = getattr(policy, field)
        words.SetInParent()
        if value:
            words.words.append(value)
        return
    try:
        ParseDict({field: _YES.get(value, value)}, policy)
    except ParseError as error:
        raise typer.BadParameter(f"{value!r}: {error}", param_hint=field.replace("_", "-")) from error


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
