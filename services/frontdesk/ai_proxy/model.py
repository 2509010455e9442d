"""What is asked of a model, what it says, and who pays: plain values that every part of ai-proxy shares.

A provider's answer is a stream of batches: all pieces that one read from its socket held. Whoever passes them
on writes a batch at once, so that a fast model costs a write a read and not a write a word.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import Any

DEFAULT_MODEL = "default"
# Said wherever a model or provider is named, so that nobody takes the retrieval for a language model.
OFFLINE = "offline"


def new_id(now_ms: int = 0) -> str:
    """A unique id; those of later milliseconds sort after earlier ones."""
    return f"{now_ms:012x}{uuid.uuid4().hex[:20]}"


class Role(StrEnum):
    """Who said something; the names are those of OpenAI's API."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


class FinishReason(StrEnum):
    """Why an answer ended; the names are those of OpenAI's API."""

    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"
    CONTENT_FILTER = "content_filter"


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that a model asks for, or, in a stream, a piece of one: the pieces of an index belong together,
    the first has `id` and `name`, `arguments` are joined."""

    index: int
    id: str = ""
    name: str = ""
    arguments: str = ""


@dataclass(frozen=True, slots=True)
class ModelMessage:
    """One message of a conversation. `image_urls` are http(s) or data addresses."""

    role: Role
    text: str = ""
    image_urls: tuple[str, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool a model may ask for; `parameters` is a JSON Schema."""

    name: str
    description: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a model is asked; None means the model's own way.

    `tool_choice`: `auto`, `none`, `required` or a tool's name. `format`: `text`, `json_object` or
    `json_schema`, then with `schema`.
    """

    messages: tuple[ModelMessage, ...]
    tools: tuple[Tool, ...] = ()
    tool_choice: str = ""
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    format: str = "text"
    schema: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Delta:
    """More of an answer."""

    text: str = ""
    reasoning: str = ""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of a call; `counted` when the provider did not say and they were counted here."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    counted: bool = False


@dataclass(frozen=True, slots=True)
class Finish:
    """The answer is whole. The last of a provider's pieces; its usage, when it sent any."""

    reason: FinishReason = FinishReason.STOP
    usage: Usage | None = None


Piece = Delta | ToolCall | Finish


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer of a provider."""

    text: str = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    finish: Finish = Finish()


@dataclass(frozen=True, slots=True)
class Embeddings:
    """Vectors of texts, in order."""

    vectors: tuple[Sequence[float], ...]
    usage: Usage | None = None


@dataclass(frozen=True, slots=True)
class Caller:
    """Who a call is made for and who pays. `api_key_id` is the subject of the caller's token, empty for a
    service. `operation`: `complete`, `stream`, `answer`, `embed`."""

    organization_id: str
    account_id: str = ""
    api_key_id: str = ""
    operation: str = "complete"


@dataclass(frozen=True, slots=True)
class Price:
    """Prices of a million tokens. `currency` is empty, and the prices 0, for a model without a price."""

    prompt: Decimal = Decimal(0)
    completion: Decimal = Decimal(0)
    cached: Decimal | None = None
    currency: str = ""

    def cost(self, usage: Usage) -> Decimal:
        """What `usage` costs, exactly."""
        cached_price = self.prompt if self.cached is None else self.cached
        fresh = usage.prompt_tokens - usage.cached_tokens
        total = fresh * self.prompt + usage.cached_tokens * cached_price
        return (total + usage.completion_tokens * self.completion) / 1_000_000


@dataclass(frozen=True, slots=True)
class Model:
    """A model of a provider: `name` is what callers ask for, `upstream_name` what the provider calls it."""

    name: str
    upstream_name: str
    embeds: bool = False
    price: Price = Price()
    max_tokens: int = 0


@dataclass(frozen=True, slots=True)
class ProviderLimits:
    """Limits of a provider on one replica. Seconds; `attempts` counts the first try too."""

    concurrency: int
    connect_s: float
    first_token_s: float
    idle_s: float
    attempts: int


@dataclass(frozen=True, slots=True)
class Provider:
    """A provider as it is stored, its key decrypted. `kind`: `openai`, `dashscope`, `anthropic`, `gemini`."""

    provider_id: str
    organization_id: str
    name: str
    kind: str
    base_url: str
    api_key: str = field(repr=False)
    models: tuple[Model, ...]
    limits: ProviderLimits
    priority: int = 0
    weight: int = 1
    disabled: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an answer ended: who gave it and what it used. `cost` is None for a model without a price."""

    finish_reason: FinishReason
    usage: Usage
    provider: str
    model: str
    cost: Decimal | None = None
    currency: str = ""
    cached: bool = False


@dataclass(frozen=True, slots=True)
class Completion:
    """A whole answer and its outcome."""

    answer: Answer
    outcome: Outcome
