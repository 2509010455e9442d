"""Every setting of ai-proxy."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from frontdesk.kit.config import (
    AuthSettings,
    DatabaseSettings,
    DoorSettings,
    NatsSettings,
    SecretSettings,
    TelemetrySettings,
)


class AiProxySettings(
    NatsSettings, DatabaseSettings, DoorSettings, SecretSettings, AuthSettings, TelemetrySettings
):
    """Settings of ai-proxy."""

    service: ClassVar[str] = "ai-proxy"

    ai_calls: int = Field(
        default=512, ge=1, le=10_000, description="Calls at once on a replica, from any door over NATS."
    )
    ai_fresh_milliseconds: int = Field(
        default=1_000,
        ge=0,
        le=60_000,
        description="How long a replica may go by providers, budgets and policies as they were.",
    )
    ai_connections: int = Field(
        default=100, ge=1, le=1_000, description="Connections to providers at once, all together."
    )
    ai_connections_share_percent: int = Field(
        default=50,
        ge=1,
        le=100,
        description="Percent of the connections to providers that one organization may hold, at least one.",
    )
    ai_private_upstreams: bool = Field(
        default=False,
        description=(
            "Whether providers may be at private addresses, as a model of one's own; every seller of the "
            "installation may then name one."
        ),
    )
    ai_request_megabytes: int = Field(
        default=16, ge=1, le=256, description="The largest request of `/v1`, its pictures included, MiB."
    )
    ai_requests_megabytes: int = Field(
        default=256,
        ge=16,
        le=65_536,
        description=(
            "Memory that requests of `/v1` under way may take on a replica, estimated at four times their "
            "bytes and 200 a value, MiB; an organization has at most half of it."
        ),
    )
    ai_body_megabytes: int = Field(
        default=8, ge=1, le=256, description="The largest answer of a provider that is not streamed, MiB."
    )
    ai_stream_megabytes: int = Field(
        default=64, ge=1, le=1_024, description="The largest streamed answer of a provider, MiB."
    )
    ai_event_megabytes: int = Field(
        default=4, ge=1, le=64, description="The largest event of a streamed answer, MiB."
    )
    ai_call_seconds: float = Field(
        default=300.0, ge=1, le=3_600, description="The longest that a call of a model may take."
    )
    ai_write_seconds: float = Field(
        default=30.0,
        ge=0.1,
        le=600,
        description="A caller of `/v1` that takes nothing for so long, or has not sent all, is cut off.",
    )
    ai_answer_tokens: int = Field(
        default=2_048,
        ge=1,
        le=1_000_000,
        description="What is set aside in budgets for an answer whose length nobody bounds.",
    )
    ai_answer_characters: int = Field(
        default=4_000_000, ge=1_000, le=100_000_000, description="A stream that does not end is cut off here."
    )
    ai_concurrency: int = Field(
        default=32, ge=1, le=1_000, description="Calls at once to a provider that says nothing about it."
    )
    ai_connect_milliseconds: int = Field(
        default=5_000, ge=10, le=60_000, description="The same for the time until a connection stands."
    )
    ai_first_token_milliseconds: int = Field(
        default=20_000, ge=10, le=600_000, description="The same for the time until the first piece."
    )
    ai_idle_milliseconds: int = Field(
        default=20_000, ge=10, le=600_000, description="The same for the time between two pieces."
    )
    ai_attempts: int = Field(
        default=2, ge=1, le=10, description="The same for tries of one call, the first included."
    )
    ai_slot_seconds: float = Field(
        default=5.0, ge=0, le=60, description="How long a call waits for a place when every provider is full."
    )
    ai_slot_waiters: int = Field(
        default=1_000, ge=0, le=100_000, description="Calls that may wait for a place on a replica."
    )
    ai_retry_after_seconds: float = Field(
        default=5.0,
        ge=0,
        le=60,
        description="A longer wait that a provider asks for is not waited for: another one is asked.",
    )
    ai_hedge_milliseconds: int = Field(
        default=0,
        ge=0,
        le=60_000,
        description="Ask the next provider too when nothing came for so long; 0 asks one at a time.",
    )
    ai_breaker_failures: int = Field(
        default=5, ge=1, le=1_000, description="Failures in a row after which a provider is left alone."
    )
    ai_breaker_seconds: float = Field(
        default=30.0, ge=0.1, le=3_600, description="For how long at first; a trial that fails doubles it."
    )
    ai_breaker_most_seconds: float = Field(
        default=300.0, ge=0.1, le=86_400, description="For how long at most."
    )
    ai_cache_megabytes: int = Field(
        default=0, ge=0, le=4_096, description="Memory for answers to the same question; 0 keeps none."
    )
    ai_cache_seconds: int = Field(
        default=300, ge=1, le=86_400, description="How long such an answer is kept."
    )
    buyer_answer_turns: int = Field(
        default=20, ge=1, le=200, description="Turns of a chat that a model is shown to answer a buyer."
    )
    buyer_answer_passages: int = Field(
        default=5, ge=1, le=50, description="Passages of knowledge that a model is shown to answer a buyer."
    )
    buyer_answer_tokens: int = Field(
        default=700,
        ge=100,
        le=100_000,
        description="What a model may use for an answer to a buyer; one that thinks aloud needs more.",
    )
    buyer_answer_characters: int = Field(
        default=1_000,
        ge=50,
        le=2_000,
        description="A longer answer to a buyer does not leave: a person is called.",
    )
    buyer_answer_attempts: int = Field(
        default=2,
        ge=1,
        le=5,
        description="How often a model is asked that answers a buyer in no form that can be read.",
    )
    policies: int = Field(
        default=2_000, ge=1, le=100_000, description="Policies an organization may have, of items mostly."
    )
    budgets: int = Field(default=1_000, ge=1, le=100_000, description="Budgets an organization may have.")
    knowledge_documents: int = Field(
        default=1_000, ge=1, le=100_000, description="Documents of knowledge an organization may store."
    )
    knowledge_document_bytes: int = Field(
        default=512 * 1024, ge=1024, le=4 * 1024 * 1024, description="Bytes of a document of knowledge."
    )
    knowledge_document_passages: int = Field(
        default=2_000, ge=1, le=20_000, description="Passages that a document of knowledge may be cut into."
    )
    knowledge_passages: int = Field(
        default=20_000, ge=1, le=1_000_000, description="Passages of knowledge an organization may store."
    )
    knowledge_passage_chars: int = Field(
        default=400, ge=100, le=4_000, description="Characters after which a long paragraph is cut."
    )
    knowledge_import_urls: bool = Field(
        default=False, description="Whether sellers may import pages of the public web as knowledge."
    )
    knowledge_page_bytes: int = Field(
        default=1024 * 1024, ge=1024, le=8 * 1024 * 1024, description="Bytes of a page that is imported."
    )
    knowledge_page_seconds: float = Field(
        default=10.0, gt=0, le=60, description="Seconds that the import of a page may take."
    )
    reservation_seconds: int = Field(
        default=900,
        ge=60,
        le=86_400,
        description="What a call sets aside in budgets counts as used when nobody settled it for this long.",
    )
    spend_hold_milliseconds: int = Field(
        default=500,
        ge=10,
        le=10_000,
        description="How long the end of an answer waits at most for NATS to store what it used.",
    )
    spend_waiting: int = Field(
        default=10_000,
        ge=100,
        le=1_000_000,
        description="Calls whose use waits for NATS in memory; no call begins while it is this many.",
    )
    spend_days: int = Field(
        default=400, ge=10, le=36_500, description="How long the log of what each call used is kept."
    )
