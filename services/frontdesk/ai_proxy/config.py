"""Every setting of ai-proxy."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from frontdesk.kit.config import (
    AuthSettings,
    DatabaseSettings,
    NatsSettings,
    SecretSettings,
    TelemetrySettings,
)


class AiProxySettings(NatsSettings, DatabaseSettings, SecretSettings, AuthSettings, TelemetrySettings):
    """Settings of ai-proxy."""

    service: ClassVar[str] = "ai-proxy"

    nats_replicas: int = Field(default=1, ge=1, le=5, description="Copies of each stream that NATS keeps.")
    http_host: str = Field(default="127.0.0.1", description="Address of the HTTP door; `0.0.0.0` in a pod.")
    http_port: int | None = Field(
        default=None, ge=0, le=65535, description="Port of the HTTP door; not set: no door of its own."
    )
    grpc_host: str = Field(default="127.0.0.1", description="Address of the gRPC door; `0.0.0.0` in a pod.")
    grpc_port: int | None = Field(
        default=None, ge=0, le=65535, description="Port of the gRPC door; not set: no door of its own."
    )
    database_pool: int = Field(default=5, ge=1, le=100, description="Connections to the database.")
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
