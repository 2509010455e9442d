"""Every setting of the connection-gateway."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator

from frontdesk.connection_gateway.clients.limits import AccessRules, ChatLimits
from frontdesk.connection_gateway.fleet.address import PodAddress
from frontdesk.connection_gateway.platforms.goofish.settings import GoofishSettings
from frontdesk.connection_gateway.platforms.goofish.wire.heartbeat import HeartbeatSettings
from frontdesk.kit.config import (
    AuthSettings,
    CommaList,
    DatabaseSettings,
    DoorSettings,
    NatsSettings,
    SecretSettings,
    Settings,
    TelemetrySettings,
)

_GOOFISH = GoofishSettings()
_CHAT = ChatLimits()


class PodSettings(Settings):
    """Where this replica runs, if that is a pod."""

    pod_name: str | None = Field(default=None, description="This pod's name, by the downward API.")
    pod_namespace: str | None = Field(default=None, description="Its namespace, by the downward API.")
    kubernetes_service_host: str | None = Field(
        default=None,
        validation_alias="KUBERNETES_SERVICE_HOST",
        description="Address of the API server; Kubernetes sets it in every pod.",
    )
    kubernetes_service_port: int = Field(
        default=443,
        ge=1,
        le=65535,
        validation_alias="KUBERNETES_SERVICE_PORT",
        description="Port of the API server; Kubernetes sets it in every pod.",
    )
    kubernetes_credentials: Path = Field(
        default=Path("/var/run/secrets/kubernetes.io/serviceaccount"),
        description="Folder with the `token` and the `ca.crt` of the pod's ServiceAccount.",
    )
    kubernetes_annotate: bool = Field(
        default=False,
        description=(
            "Keep the sessions and shards held as annotations of the own pod; needs its name and namespace, "
            "and the right to patch pods."
        ),
    )

    @field_validator("kubernetes_annotate")
    @classmethod
    def _pod_is_known(cls, value: bool, info: ValidationInfo) -> bool:
        needed = {
            "pod_name": "FRONTDESK_POD_NAME",
            "pod_namespace": "FRONTDESK_POD_NAMESPACE",
            "kubernetes_service_host": "KUBERNETES_SERVICE_HOST",
        }
        missing = [key for name, key in needed.items() if not info.data.get(name)]
        if value and missing:
            raise ValueError(f"needs {', '.join(missing)} too")
        return value

    def pod(self) -> PodAddress | None:
        """The pod to annotate; None when there is none or it is not wanted."""
        if not self.kubernetes_annotate:
            return None
        return PodAddress(
            host=self.kubernetes_service_host or "",
            port=self.kubernetes_service_port,
            namespace=self.pod_namespace or "",
            name=self.pod_name or "",
            credentials=self.kubernetes_credentials,
        )


class ChatSettings(Settings):
    """The door `/chat`; docs/chat.md."""

    allow_anonymous_chat: bool = Field(
        default=False, description="Let people without a token use `/chat` (X-14)."
    )
    anonymous_organization: str = Field(
        default="default", min_length=1, description="The organization that people without a token belong to."
    )
    chat_origins: CommaList = Field(
        default=(),
        description="Origins of pages that may use `/chat` besides the door's own: `https://admin.example.com`.",
    )
    chat_sockets: int = Field(default=_CHAT.sockets, ge=1, description="Sockets of `/chat` on one replica.")
    chat_sockets_per_user: int = Field(
        default=_CHAT.sockets_per_user, ge=1, description="Sockets of one person on one replica (X-21)."
    )
    chat_anonymous_sockets: int = Field(
        default=_CHAT.anonymous_sockets, ge=1, description="Sockets without a token on one replica."
    )
    chat_idle_seconds: float = Field(
        default=_CHAT.idle_s, ge=10, description="A socket on which nothing is asked for so long is closed."
    )
    chat_stall_seconds: float = Field(
        default=_CHAT.stall_s, gt=0, description="A client that takes nothing for so long is cut off."
    )
    chat_send_bytes: int = Field(
        default=_CHAT.send_bytes, ge=1024, description="What may wait to be sent on one socket."
    )
    chat_queue: int = Field(
        default=_CHAT.queue, ge=1, le=10_000, description="Frames of one socket that wait to be read (AI-17)."
    )
    chat_overflow: Literal["wait", "reject"] = Field(
        default=_CHAT.overflow, description="When they are too many: stop reading, or refuse each (X-33)."
    )
    chat_bad_frames: int = Field(
        default=_CHAT.bad_frames, ge=1, description="Wrong frames in a row after which a socket is closed."
    )
    chat_question_chars: int = Field(
        default=_CHAT.question_chars, ge=1, le=100_000, description="The longest question, characters."
    )
    chat_turns: int = Field(
        default=_CHAT.turns, ge=1, le=1000, description="Turns of a conversation that the model is shown."
    )
    chat_history_bytes: int = Field(
        default=_CHAT.history_bytes,
        ge=1024,
        le=512 * 1024,
        description="Bytes of a conversation that the model is shown; a question may have four a character.",
    )
    chat_stored_turns: int = Field(
        default=_CHAT.stored_turns, ge=2, description="Turns that are stored of one session."
    )
    chat_sessions_per_user: int = Field(
        default=_CHAT.sessions_per_user, ge=1, description="Sessions that are stored of one person."
    )
    chat_history_days: int = Field(
        default=_CHAT.history_days, ge=1, description="How long a session is kept after its last turn."
    )
    chat_wake_seconds: float = Field(
        default=20.0, gt=0, le=120, description="How long a question waits for an ai-proxy to take it."
    )
    chat_answer_seconds: float = Field(
        default=_CHAT.answer_s, gt=0, description="The longest answer, in time."
    )
    chat_answer_bytes: int = Field(
        default=_CHAT.answer_bytes,
        ge=1024,
        le=768 * 1024,
        description="The longest answer, in bytes; each piece counts for 200 more.",
    )
    chat_answers: int = Field(
        default=_CHAT.answers, ge=1, description="Answers that are written or kept on one replica."
    )
    chat_kept_bytes: int = Field(
        default=_CHAT.kept_bytes, ge=1024 * 1024, description="Memory for all of them, bytes."
    )
    chat_grace_seconds: float = Field(
        default=_CHAT.grace_s, ge=0, description="An answer goes on for so long after its socket dropped."
    )
    chat_keep_seconds: float = Field(
        default=_CHAT.keep_s, ge=0, description="An answer can be resumed for so long after it ended."
    )

    def chat_access(self) -> AccessRules:
        """Who may come in."""
        return AccessRules(
            anonymous_organization=self.anonymous_organization if self.allow_anonymous_chat else None,
            origins=frozenset(origin.lower().rstrip("/") for origin in self.chat_origins),
        )

    def chat_limits(self) -> ChatLimits:
        """How much of everything."""
        return ChatLimits(
            sockets=self.chat_sockets,
            sockets_per_user=self.chat_sockets_per_user,
            anonymous_sockets=self.chat_anonymous_sockets,
            idle_s=self.chat_idle_seconds,
            stall_s=self.chat_stall_seconds,
            send_bytes=self.chat_send_bytes,
            queue=self.chat_queue,
            overflow=self.chat_overflow,
            bad_frames=self.chat_bad_frames,
            question_chars=self.chat_question_chars,
            turns=self.chat_turns,
            history_bytes=self.chat_history_bytes,
            stored_turns=self.chat_stored_turns,
            sessions_per_user=self.chat_sessions_per_user,
            history_days=self.chat_history_days,
            answer_s=self.chat_answer_seconds,
            answer_bytes=self.chat_answer_bytes,
            answers=self.chat_answers,
            kept_bytes=self.chat_kept_bytes,
            grace_s=self.chat_grace_seconds,
            keep_s=self.chat_keep_seconds,
        )


class GatewaySettings(
    NatsSettings,
    DatabaseSettings,
    DoorSettings,
    SecretSettings,
    AuthSettings,
    TelemetrySettings,
    PodSettings,
    ChatSettings,
):
    """Settings of the connection-gateway."""

    service: ClassVar[str] = "connection-gateway"

    shards: int = Field(
        default=64, ge=1, le=512, description="Shards of the installation; fixed when it was installed."
    )
    replica: str | None = Field(
        default=None,
        min_length=1,
        max_length=128,
        description="This replica's name, unique and the same after a restart; not set: the host's name.",
    )
    operator_organization: str = Field(
        default="default",
        min_length=1,
        description="The organization whose admins operate the installation: see the fleet, cordon replicas.",
    )
    lease_seconds: float = Field(
        default=10.0, ge=2, le=120, description="A shard whose owner is silent for so long is taken over."
    )
    max_accounts: int = Field(
        default=5000, ge=1, description="Accounts that one replica holds at most (CG-45)."
    )
    connects_per_second: float = Field(
        default=100.0, gt=0, description="How fast one replica opens accounts' connections."
    )
    messages_in_work: int = Field(
        default=100, ge=1, le=1000, description="Frames of one account in work at once (CG-44)."
    )
    sends_in_work: int = Field(
        default=256, ge=1, le=2000, description="Answers of one shard in work at once."
    )
    sends_waiting: int = Field(
        default=32, ge=1, le=1000, description="Answers of one account that wait for its connection."
    )
    max_authentications: int = Field(
        default=10, ge=1, description="Refused logins in a row until an account is FAILED."
    )
    max_kicks: int = Field(
        default=3, ge=1, description="Take-overs by another login in 10 minutes until an account is FAILED."
    )
    token_margin_seconds: int = Field(
        default=600, ge=0, description="An access token is renewed so long before it runs out."
    )
    token_pause_seconds: int = Field(
        default=60, ge=1, description="At least so long between two token calls of an account's duties."
    )
    read_back_seconds: int = Field(
        default=600, ge=10, description="How often histories are compared with what was pushed."
    )
    backoff_strategy: Literal["linear", "exponential"] = Field(
        default="linear", description="How the waits between connection attempts grow (X-06)."
    )
    backoff_jitter: float = Field(
        default=0.2, ge=0, lt=1, description="Spread of the waits between connection attempts, a fraction."
    )
    history_days: int = Field(
        default=7, ge=1, description="How long the record of a send is kept after it was settled."
    )
    heartbeat_interval_seconds: float = Field(
        default=15.0, gt=0, description="Between two heartbeats to the platform (CG-31)."
    )
    heartbeat_timeout_seconds: float = Field(
        default=30.0, gt=0, description="Silence after which a connection is dead (CG-32)."
    )
    heartbeat_max_missed: int = Field(
        default=3, ge=1, description="Unanswered heartbeats in a row after which a connection is dead (X-08)."
    )
    max_frame_bytes: int = Field(
        default=256 * 1024, ge=1024, description="The largest frame that a platform may send (X-23)."
    )
    goofish_ws_url: str = Field(default=_GOOFISH.ws_url, description="Goofish: address of the socket.")
    goofish_api_url: str = Field(default=_GOOFISH.api_url, description="Goofish: base address of mtop.")
    goofish_passport_url: str = Field(
        default=_GOOFISH.passport_url, description="Goofish: base address of the login."
    )
    goofish_upload_url: str = Field(
        default=_GOOFISH.upload_url, description="Goofish: address that takes images."
    )
    goofish_ca_file: Path | None = Field(
        default=None, description="Goofish: the only authority whose certificates count; a simulator's own."
    )
    goofish_headers: dict[str, str] = Field(
        default_factory=dict, description="Goofish: JSON of headers to add to the socket's upgrade (CG-30)."
    )

    @field_validator("goofish_ws_url")
    @classmethod
    def _socket_address(cls, value: str) -> str:
        if not value.startswith(("ws://", "wss://")):
            raise ValueError("must begin with ws:// or wss://")
        return value

    @field_validator("goofish_api_url", "goofish_passport_url", "goofish_upload_url")
    @classmethod
    def _web_address(cls, value: str) -> str:
        if not value.startswith(("http://", "https://")):
            raise ValueError("must begin with http:// or https://")
        return value

    @property
    def replica_name(self) -> str:
        """The replica's name in leases and rows."""
        return self.replica or socket.gethostname()

    def goofish(self) -> GoofishSettings:
        """Where Goofish is and how patient to be with it."""
        return GoofishSettings(
            ws_url=self.goofish_ws_url,
            api_url=self.goofish_api_url,
            passport_url=self.goofish_passport_url,
            upload_url=self.goofish_upload_url,
            ca_file=str(self.goofish_ca_file) if self.goofish_ca_file else "",
            headers=tuple(self.goofish_headers.items()),
            max_frame=self.max_frame_bytes,
            heartbeat=HeartbeatSettings(
                self.heartbeat_interval_seconds, self.heartbeat_timeout_seconds, self.heartbeat_max_missed
            ),
        )
