"""kit/config.py: all problems at once, no secret shown, one documented table; and tools/config_docs.py."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import ClassVar, Literal

import pytest
from pydantic import Field, SecretStr

from frontdesk.kit.config import (
    AuthSettings,
    CommaList,
    ConfigError,
    DatabaseSettings,
    NatsSettings,
    SecretSettings,
    Settings,
    TelemetrySettings,
    document,
    load,
)


class ShopSettings(NatsSettings, DatabaseSettings, SecretSettings, AuthSettings, TelemetrySettings):
    service: ClassVar[str] = "shop"

    opening: int = Field(default=9, ge=0, le=23, description="Hour of opening.")
    signs: CommaList = Field(default=(), description="What hangs outside.")
    weights: dict[str, int] = Field(default={}, description="Weights as JSON.")


GOOD = {
    "FRONTDESK_NATS_URL": "nats://127.0.0.1:4222",
    "FRONTDESK_DATABASE_URL": "sqlite+aiosqlite:///x.db",
    "FRONTDESK_SECRET_KEYS": "first, second",
    "FRONTDESK_JWT_PUBLIC_KEYS_FILE": "/keys/public.pem",
}


def test_settings_come_from_the_given_environment() -> None:
    """Values are read by key, typed, and defaults fill the rest."""
    settings = load(
        ShopSettings,
        GOOD
        | {
            "FRONTDESK_OPENING": "0",
            "FRONTDESK_SIGNS": "open, 24h ,",
            "FRONTDESK_WEIGHTS": '{"a": 1}',
            "FRONTDESK_LOG_LEVEL": "debug",
            "OTEL_TRACES_EXPORTER": "console",
            "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318",
        },
    )
    assert settings.opening == 0
    assert settings.signs == ("open", "24h")
    assert settings.weights == {"a": 1}
    assert settings.secret_key_list() == ["first", "second"]
    assert settings.log_level == "DEBUG"
    assert settings.otel_traces_exporter == "console"
    assert settings.otel_endpoint == "http://collector:4318"
    assert settings.metrics_port is None


def test_every_problem_is_told_at_once() -> None:
    """Missing keys, wrong values and an unmet choice stand in one error, each with its environment
    variable."""
    with pytest.raises(ConfigError) as raised:
        load(
            ShopSettings,
            {
                "FRONTDESK_NATS_URL": "http://nats",
                "FRONTDESK_OPENING": "25",
                "FRONTDESK_WEIGHTS": "no json",
                "OTEL_TRACES_EXPORTER": "zipkin",
            },
        )
    assert set(raised.value.problems) == {
        "FRONTDESK_NATS_URL",
        "FRONTDESK_DATABASE_URL",
        "FRONTDESK_SECRET_KEYS",
        "FRONTDESK_OPENING",
        "FRONTDESK_WEIGHTS",
        "OTEL_TRACES_EXPORTER",
        "FRONTDESK_JWT_PUBLIC_KEYS | FRONTDESK_JWT_PUBLIC_KEYS_FILE | FRONTDESK_JWKS_URL",
    }
    text = str(raised.value)
    assert text.startswith("7 settings are missing or wrong:")
    assert "missing: This service's own database" in text
    assert "must look like nats://host:4222" in text


def test_no_value_is_shown_in_an_error_or_a_repr() -> None:
    """Neither a wrong value nor a good secret is readable in messages."""
    with pytest.raises(ConfigError) as raised:
        load(ShopSettings, GOOD | {"FRONTDESK_NATS_URL": "redis://:hunter2@nats"})
    assert "hunter2" not in str(raised.value)
    settings = load(ShopSettings, GOOD | {"FRONTDESK_NATS_URL": "nats://u:hunter2@nats:4222"})
    assert "hunter2" not in repr(settings)
    assert "first" not in repr(settings)


def test_an_empty_value_counts_as_not_set() -> None:
    """A chart that renders an empty string gives the default, or a missing key."""
    assert load(ShopSettings, GOOD | {"FRONTDESK_OPENING": ""}).opening == 9
    with pytest.raises(ConfigError) as raised:
        load(ShopSettings, GOOD | {"FRONTDESK_DATABASE_URL": " "})
    assert list(raised.value.problems) == ["FRONTDESK_DATABASE_URL"]


def test_an_env_file_fills_what_the_environment_lacks(tmp_path: Path) -> None:
    """The file named by FRONTDESK_ENV_FILE is read; the environment wins over it."""
    env_file = tmp_path / "env"
    env_file.write_text("FRONTDESK_OPENING=7\nFRONTDESK_SIGNS=closed\n")
    settings = load(ShopSettings, GOOD | {"FRONTDESK_ENV_FILE": str(env_file), "FRONTDESK_OPENING": "8"})
    assert (settings.opening, settings.signs) == (8, ("closed",))


def test_a_named_env_file_must_exist(tmp_path: Path) -> None:
    """A wrong path of the env file is told, not passed over."""
    with pytest.raises(ConfigError, match="FRONTDESK_ENV_FILE"):
        load(ShopSettings, GOOD | {"FRONTDESK_ENV_FILE": str(tmp_path / "none")})


def test_made_by_hand_settings_read_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A settings object made with arguments ignores the process's environment."""
    monkeypatch.setenv("FRONTDESK_LOG_FORMAT", "console")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "other")
    settings = TelemetrySettings(metrics_port=0)
    assert (settings.log_format, settings.otel_service_name, settings.metrics_port) == ("json", None, 0)
    assert load(TelemetrySettings).otel_service_name == "other"


@pytest.mark.parametrize(
    ("url", "good"),
    [
        ("https://id.example.com/keys", True),
        ("http://web-admin/keys", True),
        ("http://web-admin.frontdesk.svc/keys", True),
        ("http://127.0.0.1:8080/keys", True),
        ("http://[::1]:8080/keys", True),
        ("http://id.example.com/keys", False),
        ("http://[2001:db8::1]/keys", False),
        ("http://127.example.com/keys", False),
        ("ftp://web-admin/keys", False),
        ("https:///keys", False),
    ],
)
def test_a_key_set_is_never_fetched_in_the_open(url: str, good: bool) -> None:
    """Plain http is taken for hosts inside only."""
    environ = {"FRONTDESK_JWKS_URL": url}
    if good:
        assert load(AuthSettings, environ).jwks_url == url
    else:
        with pytest.raises(ConfigError, match="https"):
            load(AuthSettings, environ)


class DeskSettings(NatsSettings):
    service: ClassVar[str] = "desk"

    mode: Literal["a", "b"] | None = Field(default=None, description="One | the other.")


def test_the_table_documents_every_key_once() -> None:
    """Each key has one sorted row with type, default, meaning and its services."""
    table = document([ShopSettings, DeskSettings]).splitlines()
    assert table[0] == "| key | type | default | meaning | service |"
    keys = [row.split("`")[1] for row in table[2:]]
    assert keys == sorted(set(keys))
    nats = "| `FRONTDESK_NATS_URL` | str | **required** |"
    assert [row.endswith("| all |") for row in table if row.startswith(nats)] == [True]
    assert "| `FRONTDESK_MODE` | `a` or `b` | not set | One \\| the other. | desk |" in table
    assert "| `FRONTDESK_OPENING` | int | `9` | Hour of opening. | shop |" in table
    assert any(row.startswith("| `FRONTDESK_SIGNS` | list, by comma | not set |") for row in table)
    assert any(row.startswith("| `FRONTDESK_SECRET_KEYS` | secret | **required** |") for row in table)
    assert any(row.startswith("| `OTEL_EXPORTER_OTLP_ENDPOINT` |") for row in table)


def test_an_undocumented_or_ambiguous_key_is_refused() -> None:
    """A field without a description, or one key with two meanings, fails the generation."""

    class Silent(Settings):
        quiet: int = 1

    class Other(Settings):
        opening: int = Field(default=10, description="Hour of opening.")

    class Leaky(Settings):
        key: SecretStr = Field(default=SecretStr("x"), description="A key.")

    with pytest.raises(ValueError, match=r"Silent\.quiet has no description"):
        document([Silent])
    with pytest.raises(ValueError, match="FRONTDESK_OPENING means something else"):
        document([ShopSettings, Other])
    with pytest.raises(ValueError, match="no default"):
        document([Leaky])


@pytest.fixture
def tool() -> ModuleType:
    path = Path(__file__).parents[3] / "tools" / "config_docs.py"
    spec = importlib.util.spec_from_file_location("config_docs", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_tool_writes_and_notices_drift(tool: ModuleType, tmp_path: Path) -> None:
    """Written docs pass --check; missing or edited ones fail it."""
    out = tmp_path / "docs" / "configuration.md"
    check = ["--check", "--out", str(out)]
    assert tool.main(check, [ShopSettings]) == 1
    assert tool.main(["--out", str(out)], [ShopSettings]) == 0
    assert tool.main(check, [ShopSettings]) == 0
    assert "`FRONTDESK_OPENING`" in out.read_text()
    assert tool.main(check, [ShopSettings, DeskSettings]) == 1
