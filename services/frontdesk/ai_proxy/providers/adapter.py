"""What every adapter does alike: ask, learn what a server does not understand, gather what it streams."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any, ClassVar

import orjson

from frontdesk.ai_proxy.errors import UpstreamRefused
from frontdesk.ai_proxy.gathered import Gathered
from frontdesk.ai_proxy.model import (
    Answer,
    Embeddings,
    Finish,
    Model,
    ModelMessage,
    Piece,
    Prompt,
    Provider,
    Role,
)
from frontdesk.ai_proxy.providers.decoding import StreamDecoder
from frontdesk.ai_proxy.providers.failures import Call
from frontdesk.ai_proxy.providers.http import ProviderHttp

# What a server turned out to need. Only with these is a call made in another form than the usual one.
STREAM_ONLY = "stream_only"
NO_SCHEMA = "no_schema"
NO_FORMAT = "no_format"

Needs = frozenset[str]
_NONE: Needs = frozenset()
_KNOWN_MODELS = 4096
# What a server that understands a field says of a wrong question about it.
_WRONG = ("invalid schema", "must contain the word")


class Memory:
    """What is known about models of providers, of those that were refused last. Each provider has its own:
    what one organization's questions teach is not held against another's."""

    def __init__(self, limit: int = _KNOWN_MODELS) -> None:
        self._limit = limit
        self._needs: OrderedDict[tuple[str, str, str], Needs] = OrderedDict()

    def of(self, provider: Provider, model: Model) -> Needs:
        """What the model turned out to need."""
        return self._needs.get(_key(provider, model), _NONE)

    def add(self, provider: Provider, model: Model, need: str) -> None:
        """Remember a need."""
        key = _key(provider, model)
        self._needs[key] = self.of(provider, model) | {need}
        self._needs.move_to_end(key)
        while len(self._needs) > self._limit:
            self._needs.popitem(last=False)


def _key(provider: Provider, model: Model) -> tuple[str, str, str]:
    return provider.provider_id, provider.base_url, model.upstream_name


class HttpAdapter:
    """Base of the adapters. A kind of API says how a call looks (`_call`, `_embedding_call`), what reads its
    stream (`_decoder`), and which words of a refusal stand for which need (`teaches`, in that order).
    """

    # A word in a refusal, lower case, and the needs it teaches, one a refusal.
    teaches: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    # Texts of one call for embeddings.
    batch: ClassVar[int] = 100

    def __init__(self, http: ProviderHttp, *, event_bytes: int = 4 * 1024 * 1024) -> None:
        self._http = http
        self._event_bytes = event_bytes
        self._memory = Memory()

    async def complete(self, provider: Provider, model: Model, prompt: Prompt) -> Answer:
        """The whole answer."""
        if STREAM_ONLY not in self._memory.of(provider, model):
            question = Conversation(self, provider, model, prompt, streamed=False)
            try:
                call, body = await self._http.fetch(question)
            except UpstreamRefused:
                if STREAM_ONLY not in self._memory.of(provider, model):
                    raise
            else:
                return self._decoder(call).answer(body)
        return await collected(self.stream(provider, model, prompt), self._http.body_bytes)

    def stream(
        self, provider: Provider, model: Model, prompt: Prompt
    ) -> AsyncGenerator[Sequence[Piece], None]:
        """The answer as it comes."""
        question = Conversation(self, provider, model, prompt, streamed=True)
        return self._http.stream(question, self._decoder)

    async def embed(
        self, provider: Provider, model: Model, texts: Sequence[str], dimensions: int | None
    ) -> Embeddings:
        """A vector a text."""
        raise NotImplementedError

    def needs(self, provider: Provider, model: Model) -> Needs:
        """What the model turned out to need."""
        return self._memory.of(provider, model)

    def learn(self, provider: Provider, model: Model, error: UpstreamRefused) -> bool:
        """Whether a refusal taught a need that was not known."""
        said = error.detail.lower()
        if any(words in said for words in _WRONG):
            return False
        known = self._memory.of(provider, model)
        for word, needs in self.teaches.items():
            if word in said:
                for need in needs:
                    if need not in known:
                        self._memory.add(provider, model, need)
                        return need != STREAM_ONLY
        return False

    def call(self, provider: Provider, model: Model, prompt: Prompt, needs: Needs, *, streamed: bool) -> Call:
        """The call of a conversation."""
        raise NotImplementedError

    def _decoder(self, call: Call) -> StreamDecoder:
        raise NotImplementedError


class Conversation:
    """A question for an answer."""

    def __init__(
        self, adapter: HttpAdapter, provider: Provider, model: Model, prompt: Prompt, *, streamed: bool
    ) -> None:
        self._adapter = adapter
        self._provider = provider
        self._model = model
        self._prompt = prompt
        self._streamed = streamed

    def call(self) -> Call:
        needs = self._adapter.needs(self._provider, self._model)
        return self._adapter.call(self._provider, self._model, self._prompt, needs, streamed=self._streamed)

    def learn(self, error: UpstreamRefused) -> bool:
        return self._adapter.learn(self._provider, self._model, error)


class Fixed:
    """A question that is asked in one way."""

    def __init__(self, call: Call) -> None:
        self._call = call

    def call(self) -> Call:
        return self._call

    def learn(self, error: UpstreamRefused) -> bool:
        return False


async def collected(stream: AsyncGenerator[Sequence[Piece], None], most: int) -> Answer:
    """The whole of a streamed answer; raises UpstreamUnavailable for more than about `most` characters."""
    said = Gathered(most)
    finish = Finish()
    async with aclosing(stream):
        async for batch in stream:
            said.add(batch)
            if isinstance(batch[-1], Finish):
                finish = batch[-1]
    return said.joined(finish)


def with_schema(prompt: Prompt) -> Prompt:
    """The prompt with its format in words, for a model that takes it in no other way."""
    words = "Answer with one JSON object and nothing else, without a code fence."
    if prompt.schema is not None:
        schema = orjson.dumps(dict(prompt.schema)).decode()
        words = f"{words} It matches this JSON Schema: {schema}"
    said = next(
        (at for at, message in enumerate(prompt.messages) if message.role is not Role.SYSTEM),
        len(prompt.messages),
    )
    sentence = ModelMessage(Role.SYSTEM, words)
    return replace(prompt, messages=(*prompt.messages[:said], sentence, *prompt.messages[said:]))


def answer_tokens(prompt: Prompt, model: Model) -> int | None:
    """The longest answer to ask for: what the prompt says, at most what the model is allowed."""
    if model.max_tokens and prompt.max_tokens:
        return min(model.max_tokens, prompt.max_tokens)
    return prompt.max_tokens or model.max_tokens or None


def json_object(text: str) -> Any:
    """A tool's arguments or result as an object, whatever the model or the tool wrote."""
    try:
        told = orjson.loads(text or "{}")
    except ValueError:
        return {"result": text}
    return told if isinstance(told, dict) else {"result": told}


def inline_image(url: str) -> tuple[str, str] | None:
    """Media type and base64 of a `data:` address; None for any other."""
    head, comma, data = url.partition(",")
    if not url.startswith("data:") or not comma or not head.endswith(";base64"):
        return None
    return head[5:].removesuffix(";base64").partition(";")[0], data


def given(**fields: Any) -> dict[str, Any]:
    """The fields that have a value."""
    return {name: value for name, value in fields.items() if value not in (None, "", (), [])}


def dumped(body: Mapping[str, Any]) -> bytes:
    """JSON; keys of schemas that are no text become text."""
    return orjson.dumps(body, option=orjson.OPT_NON_STR_KEYS)
