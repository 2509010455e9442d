"""Every setting of the reply-engine."""

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


class ReplyEngineSettings(
    NatsSettings, DatabaseSettings, DoorSettings, SecretSettings, AuthSettings, TelemetrySettings
):
    """Settings of the reply-engine."""

    service: ClassVar[str] = "reply-engine"

    shards: int = Field(
        default=64, ge=1, le=512, description="Shards of the installation; fixed when it was installed."
    )
    inbound_batch: int = Field(default=100, ge=1, le=1000, description="Messages handled in one transaction.")
    inbound_parallel: int = Field(
        default=1,
        ge=1,
        le=16,
        description="Batches handled at once; more than one pays where the database is far away.",
    )
    reply_max_age_seconds: int = Field(
        default=1800, ge=60, description="A buyer's message older than this is left to a person."
    )
    debounce_cap_seconds: int = Field(
        default=10, ge=1, le=60, description="A buyer who never stops typing is answered after this."
    )
    debounce_cap_messages: int = Field(default=20, ge=1, le=100, description="… or after this many messages.")
    sweep_seconds: int = Field(
        default=10, ge=1, le=300, description="How often the sweep looks for what never went on."
    )
    unreported_seconds: int = Field(
        default=60,
        ge=5,
        le=3600,
        description="An answer that nobody reported on is published again after this.",
    )
    ai_seconds: float = Field(
        default=20.0,
        gt=0,
        le=120,
        description="How long a decision waits for the AI before it goes on without.",
    )
    ai_parallel: int = Field(
        default=64, ge=1, le=1000, description="Questions that one replica asks the AI at once."
    )
    ai_waiting: int = Field(
        default=1000,
        ge=0,
        le=10_000,
        description="Questions that may wait for a free place; one more goes on without the AI at once.",
    )
    ai_again_seconds: int = Field(
        default=30,
        ge=0,
        le=300,
        description="A buyer who goes on writing makes the AI begin anew for this long.",
    )
    regex_milliseconds: int = Field(
        default=50,
        ge=1,
        le=1000,
        description="Time limit of one regular expression on one message; all of a decision get twice that.",
    )
    import_kilobytes: int = Field(
        default=900, ge=1, le=900, description="The largest file of rules that may be imported."
    )
