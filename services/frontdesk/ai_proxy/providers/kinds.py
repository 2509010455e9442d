"""The kinds of providers: a new one is a file here and a line in this table."""

from __future__ import annotations

from collections.abc import Mapping

from frontdesk.ai_proxy.providers.adapter import HttpAdapter
from frontdesk.ai_proxy.providers.anthropic import Anthropic
from frontdesk.ai_proxy.providers.base import Adapter
from frontdesk.ai_proxy.providers.dashscope import DashScope
from frontdesk.ai_proxy.providers.gemini import Gemini
from frontdesk.ai_proxy.providers.http import ProviderHttp
from frontdesk.ai_proxy.providers.openai import OpenAi

KINDS: Mapping[str, type[HttpAdapter]] = {
    "openai": OpenAi,
    "dashscope": DashScope,
    "anthropic": Anthropic,
    "gemini": Gemini,
}


def adapters(http: ProviderHttp, *, event_bytes: int = 4 * 1024 * 1024) -> Mapping[str, Adapter]:
    """An adapter a kind, all on one pool. An event of a stream has at most `event_bytes`."""
    return {kind: adapter(http, event_bytes=event_bytes) for kind, adapter in KINDS.items()}
