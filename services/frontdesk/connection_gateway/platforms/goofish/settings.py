"""Where the platform is and how long to wait for it; values in seconds and bytes."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field

from frontdesk.connection_gateway.platforms.goofish.wire.heartbeat import HeartbeatSettings


@dataclass(frozen=True, slots=True)
class GoofishSettings:
    """Addresses (A1) and limits.

    `ca_file` is the only authority trusted when set (a simulator's own), the system's are otherwise.
    `headers` are added to the WebSocket upgrade (CG-30).
    """

    ws_url: str = "wss://wss-goofish.dingtalk.com/"
    api_url: str = "https://h5api.m.goofish.com"
    passport_url: str = "https://passport.goofish.com"
    upload_url: str = (
        "https://stream-upload.goofish.com/api/upload.api?floderId=0&appkey=xy_chat&_input_charset=utf-8"
    )
    ca_file: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    open_timeout: float = 10.0
    close_timeout: float = 5.0
    ready_timeout: float = 15.0
    request_timeout: float = 10.0
    http_timeout: float = 20.0
    http_connections: int = 64
    max_frame: int = 256 * 1024
    max_in_flight: int = 64
    heartbeat: HeartbeatSettings = field(default_factory=HeartbeatSettings)

    def tls(self) -> ssl.SSLContext:
        """A context for all connections; make one and share it, it is large.

        Raises OSError for a bad file.
        """
        return ssl.create_default_context(cafile=self.ca_file or None)
