"""Rules and default replies as their JSON column keeps them, and as the protos write them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, TypeVar

from frontdesk.api.replies.v1 import rule_pb2 as pb
from frontdesk.kit.errors import InvalidArgument
from frontdesk.reply_engine.rules.model import DefaultReply, ImagePart, Match, Part, Rule, Scope
from frontdesk.reply_engine.rules.validate import validate_default, validate_rule

log = logging.getLogger(__name__)

_N = TypeVar("_N")
_E = TypeVar("_E")

SCOPES = {
    pb.SCOPE_UNSPECIFIED: Scope.GLOBAL,
    pb.SCOPE_GLOBAL: Scope.GLOBAL,
    pb.SCOPE_ACCOUNT: Scope.ACCOUNT,
    pb.SCOPE_ITEM: Scope.ITEM,
}
MATCHES = {
    pb.MATCH_UNSPECIFIED: Match.CONTAINS,
    pb.MATCH_CONTAINS: Match.CONTAINS,
    pb.MATCH_EXACT: Match.EXACT,
    pb.MATCH_REGEX: Match.REGEX,
    pb.MATCH_ANY: Match.ANY,
}
SCOPE_NUMBERS = {scope: number for number, scope in SCOPES.items() if number}
MATCH_NUMBERS = {match: number for number, match in MATCHES.items() if number}


def rule_from_row(row: Any) -> Rule:
    """A stored rule. One that is not valid (any more) comes back switched off, with its `problem`: it must
    not keep the others from answering."""
    of_the_store = {
        "id": row.rule_id,
        "organization_id": row.organization_id,
        "updated_at_ms": row.updated_at_ms,
    }
    try:
        return validate_rule({**_object(row.body), **of_the_store})
    except InvalidArgument as error:
        name = row.body.get("name") if isinstance(row.body, dict) else None
        return Rule(
            row.rule_id,
            row.organization_id,
            match=Match.ANY,
            name=name if isinstance(name, str) else "",
            enabled=False,
            updated_at_ms=row.updated_at_ms,
            problem=f"{error.field}: {error.problem}",
        )


def default_from_row(row: Any) -> DefaultReply | None:
    """A stored default reply; None, which is logged, when it is not valid (any more)."""
    of_the_store = {"id": row.default_reply_id, "organization_id": row.organization_id}
    try:
        return validate_default({**_object(row.body), **of_the_store})
    except InvalidArgument as error:
        log.error("default reply %s is left out: %s: %s", row.default_reply_id, error.field, error.problem)
        return None


def _object(body: object) -> dict[str, object]:
    if not isinstance(body, dict):
        raise InvalidArgument("body", "is not an object")
    return body


def scope_key(default: DefaultReply) -> str:
    """One default reply a scope: the key that says so. The same item id may be sold by several accounts."""
    if default.scope is Scope.ITEM:
        account_id = default.account_id or ""
        # The length keeps apart what ids with slashes would run together.
        return f"item/{len(account_id)}/{account_id}/{default.item_id}"
    return f"account/{default.account_id}" if default.scope is Scope.ACCOUNT else "global"


def rule_from_proto(rule: pb.Rule, organization_id: str, prefix: str) -> Rule:
    """A rule as a caller wrote it; InvalidArgument names the field behind `prefix`."""
    raw: dict[str, object] = {
        "id": rule.rule_id,
        "organization_id": organization_id,
        "name": rule.name,
        "scope": _known(SCOPES, rule.scope, f"{prefix}scope").value,
        "account_id": rule.account_id or None,
        "item_ids": list(rule.item_ids),
        "keywords": list(rule.keywords),
        "match": _known(MATCHES, rule.match, f"{prefix}match").value,
        "parts": [part_to_raw(p) for p in rule.parts],
        "priority": rule.priority,
        "enabled": rule.enabled,
        "cooldown_seconds": rule.cooldown_seconds,
        "max_per_chat": rule.max_per_chat if rule.HasField("max_per_chat") else None,
        "active_hours": list(rule.active_hours),
    }
    return validate_rule(raw, prefix=prefix)


def _known(names: Mapping[_N, _E], number: _N, field: str) -> _E:
    """What an enum's number means; InvalidArgument for one that this version does not know."""
    if number not in names:
        raise InvalidArgument(field, f"{number} is not a value that this version knows")
    return names[number]


def part_to_raw(part: pb.Part) -> dict[str, object]:
    """A part as `rules.validate` reads it."""
    if part.HasField("image"):
        image = part.image
        return {"image": {"url": image.url, "width": image.width, "height": image.height}}
    return {"text": part.text}


def rule_to_proto(rule: Rule) -> pb.Rule:
    return pb.Rule(
        rule_id=rule.id,
        organization_id=rule.organization_id,
        name=f"(not valid: {rule.problem}) {rule.name}".strip() if rule.problem else rule.name,
        scope=SCOPE_NUMBERS[rule.scope],
        account_id=rule.account_id or "",
        item_ids=rule.item_ids,
        keywords=rule.keywords,
        match=MATCH_NUMBERS[rule.match],
        parts=[part_to_proto(p) for p in rule.reply.parts],
        priority=rule.priority,
        enabled=rule.enabled,
        cooldown_seconds=rule.cooldown_seconds,
        max_per_chat=rule.max_per_chat,
        active_hours=rule.active_hours,
        updated_at_ms=rule.updated_at_ms,
    )


def part_to_proto(part: Part) -> pb.Part:
    if isinstance(part, ImagePart):
        result = pb.Part()
        result.image.url, result.image.width, result.image.height = part.url, part.width, part.height
        return result
    return pb.Part(text=part.text)


def default_from_proto(default: pb.DefaultReply, organization_id: str, prefix: str) -> DefaultReply:
    """A default reply as a caller wrote it; InvalidArgument names the field behind `prefix`."""
    raw: dict[str, object] = {
        "id": default.default_reply_id,
        "organization_id": organization_id,
        "scope": _known(SCOPES, default.scope, f"{prefix}scope").value,
        "account_id": default.account_id or None,
        "item_id": default.item_id or None,
        "parts": [part_to_raw(p) for p in default.parts],
        "enabled": default.enabled,
        "max_per_chat": default.max_per_chat if default.HasField("max_per_chat") else None,
    }
    return validate_default(raw, prefix=prefix)


def default_to_proto(default: DefaultReply) -> pb.DefaultReply:
    return pb.DefaultReply(
        default_reply_id=default.id,
        organization_id=default.organization_id,
        scope=SCOPE_NUMBERS[default.scope],
        account_id=default.account_id or "",
        item_id=default.item_id or "",
        parts=[part_to_proto(p) for p in default.reply.parts],
        enabled=default.enabled,
        max_per_chat=default.max_per_chat,
    )
