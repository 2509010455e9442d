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
