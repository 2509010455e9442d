"""Configuration: read once at start from the environment, all problems told at once, every key documented.

A service's `config.py` declares one class that joins the parts it needs:

    class ReplySettings(NatsSettings, DatabaseSettings, TelemetrySettings):
        service: ClassVar[str] = "reply-engine"
        debounce_s: float = Field(default=0, ge=0, description="Wait for a buyer's next line, seconds.")

    settings = load(ReplySettings)

Keys are the field names in upper case after `FRONTDESK_`; the standard `OTEL_*` names stand as they are. An
empty value counts as not set. `FRONTDESK_ENV_FILE` may name a file of `KEY=value` lines; the environment
wins.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar, get_args, get_origin
from urllib.parse import urlsplit

from dotenv import dotenv_values
from pydantic import BeforeValidator, Field, SecretStr, ValidationError, field_validator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from frontdesk.kit.errors import FrontdeskError

PREFIX = "FRONTDESK_"
ENV_FILE_KEY = "FRONTDESK_ENV_FILE"

S = TypeVar("S", bound="Settings")


class ConfigError(FrontdeskError):
    """The configuration is incomplete or wrong. `problems` maps each key to what is wrong with it."""

    def __init__(self, problems: Mapping[str, str]) -> None:
        width = max(map(len, problems))
        lines = [f"  {key:<{width}}  {problem}" for key, problem in problems.items()]
        count = f"{len(problems)} setting{'s are' if len(problems) > 1 else ' is'} missing or wrong:"
        advice = "Set them in the environment (all keys: docs/configuration.md)."
        super().__init__("\n".join([count, *lines, advice]), keys=list(problems))
        self.problems = dict(problems)


def _split(value: object) -> object:
    """`a, b` as a tuple of its parts; anything that is not text is left to the validator."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


CommaList = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]


class Settings(BaseSettings):
    """Base of all settings. Made with keyword arguments it reads no environment; `load` does."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        extra="ignore",
        frozen=True,
        populate_by_name=True,
        hide_input_in_errors=True,
        validate_default=True,
    )

    service: ClassVar[str] = "all"
    # Whether `service` is a command that prepares services, in the table of all keys.
    command: ClassVar[bool] = False
    # Names of fields of which at least one must be set; each class of the bases may have its own.
    one_of: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)


class _Environment(EnvSettingsSource):
    """pydantic-settings' reader of environment variables, on a mapping that is given."""

    def __init__(self, cls: type[BaseSettings], environ: Mapping[str, str]) -> None:
        super().__init__(cls)
        self.env_vars = {key.lower(): value for key, value in environ.items() if value.strip()}

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        """JSON of a list or mapping; text that is none goes on, so that it is reported with all other
        problems.
        """
        try:
            return super().decode_complex_value(field_name, field, value)
        except ValueError:
            return value


def load(cls: type[S], environ: Mapping[str, str] | None = None) -> S:
    """Settings from `environ` (the process's by default); raises ConfigError with every problem."""
    given = os.environ if environ is None else environ
    env_file = given.get(ENV_FILE_KEY, "")
    if env_file:
        path = Path(env_file)
        if not path.is_file():
            raise ConfigError({ENV_FILE_KEY: "names a file that does not exist"})
        from_file = {key: value for key, value in dotenv_values(path).items() if value is not None}
        given = {**from_file, **{key: value for key, value in given.items() if value.strip()}}
    values = _Environment(cls, given)()
    problems: dict[str, str] = {}
    settings: S | None = None
    try:
        settings = cls(**values)
    except ValidationError as error:
        for problem in error.errors(include_url=False, include_input=False, include_context=False):
            key, text = _problem(cls, problem["loc"], problem["type"], problem["msg"])
            problems.setdefault(key, text)
    for names in _one_of(cls):
        keys = [key_of(name, cls.model_fields[name]) for name in names]
        if not any(key in values or name in values for key, name in zip(keys, names, strict=True)):
            problems[" | ".join(keys)] = "missing: set one of them"
    if settings is None or problems:
        raise ConfigError(problems)
    return settings


def environment() -> Mapping[str, str]:
    """The process's environment, for entry points that add to it before they `load`."""
    return os.environ


def key_of(name: str, field: FieldInfo) -> str:
    """The environment variable of a field."""
    return field.validation_alias if isinstance(field.validation_alias, str) else PREFIX + name.upper()


def _one_of(cls: type[Settings]) -> list[tuple[str, ...]]:
    return [names for base in cls.__mro__ if (names := base.__dict__.get("one_of"))]


def _problem(cls: type[Settings], loc: tuple[int | str, ...], kind: str, text: str) -> tuple[str, str]:
    for name, field in cls.model_fields.items():
        if loc and loc[0] in (name, field.validation_alias):
            if kind == "missing":
                return key_of(name, field), f"missing: {field.description or 'it has no default'}"
            return key_of(name, field), text.removeprefix("Value error, ")
    return PREFIX + "*", text.removeprefix("Value error, ")


def document(classes: Iterable[type[Settings]]) -> str:
    """Every key of `classes` as one Markdown table, sorted by key.

    Raises ValueError when a field has no description, or when two services give one key different types,
    defaults or meanings.
    """
    classes = list(classes)
    rows: dict[str, tuple[str, str, str]] = {
        ENV_FILE_KEY: ("Path", "not set", "A file of `KEY=value` lines; the environment wins over it.")
    }
    services: dict[str, set[str]] = {ENV_FILE_KEY: {cls.service for cls in classes}}
    for cls in classes:
        for name, field in cls.model_fields.items():
            key = key_of(name, field)
            if not field.description:
                raise ValueError(f"{cls.__name__}.{name} has no description")
            row = (_type_name(field.annotation), _default(field), field.description)
            if rows.setdefault(key, row) != row:
                raise ValueError(f"{key} means something else in {cls.__name__} than in another service")
            services.setdefault(key, set()).add(cls.service)
    everyone = {cls.service for cls in classes if not cls.command}
    lines = ["| key | type | default | meaning | service |", "|---|---|---|---|---|"]
    for key in sorted(rows):
        users = ", ".join(
            ["all", *sorted(services[key] - everyone)] if services[key] >= everyone else sorted(services[key])
        )
        kind, default, meaning = (cell.replace("|", "\\|").replace("\n", " ") for cell in rows[key])
        lines.append(f"| `{key}` | {kind} | {default} | {meaning} | {users} |")
    return "\n".join(lines) + "\n"


def _type_name(annotation: Any) -> str:
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in args)
    if args and type(None) in args:
        return " or ".join(_type_name(arg) for arg in args if arg is not type(None))
    if origin is tuple:
        return "list, by comma"
    if annotation is SecretStr:
        return "secret"
    return str(getattr(annotation, "__name__", annotation))


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "**required**"
    value = field.get_default(call_default_factory=True, validated_data={})
    if value is None or value is PydanticUndefined or value == ():
        return "not set"
    if isinstance(value, SecretStr):
        raise ValueError("a secret has no default")
    return f"`{','.join(value) if isinstance(value, tuple) else value}`"


class NatsSettings(Settings):
    """How to reach NATS."""

    nats_url: str = Field(
        description="Addresses of NATS, by comma: `nats://host:4222` or `tls://…`.", repr=False
    )
    nats_user: str | None = Field(default=None, description="This service's NATS user.")
    nats_password: SecretStr | None = Field(default=None, description="The NATS user's password.")
    nats_creds: Path | None = Field(
        default=None, description="A NATS credentials file, in place of user and password."
    )
    nats_ca_file: Path | None = Field(
        default=None,
        description="The only authority whose certificates of NATS count; not set: the system's, for `tls://`.",
    )
    nats_replicas: int = Field(default=1, ge=1, le=5, description="Copies of each stream that NATS keeps.")

    @field_validator("nats_url")
    @classmethod
    def _nats_url(cls, value: str) -> str:
        for url in value.split(","):
            parts = urlsplit(url.strip())
            if parts.scheme not in ("nats", "tls", "ws", "wss") or not parts.hostname:
                raise ValueError("must look like nats://host:4222")
        return value


class DatabaseSettings(Settings):
    """How to reach the service's own database."""

    database_url: SecretStr = Field(
        description=(
            "This service's own database: `sqlite+aiosqlite:///path/file.db` or "
            "`postgresql+asyncpg://user:password@host/db`."
        )
    )
    database_pool: int = Field(default=5, ge=1, le=100, description="Connections to the database.")


class DoorSettings(Settings):
    """Where a service opens its HTTP and gRPC doors."""

    http_host: str = Field(default="127.0.0.1", description="Address of the HTTP door; `0.0.0.0` in a pod.")
    http_port: int | None = Field(
        default=None, ge=0, le=65535, description="Port of the HTTP door; not set: no door of its own."
    )
    grpc_host: str = Field(default="127.0.0.1", description="Address of the gRPC door; `0.0.0.0` in a pod.")
    grpc_port: int | None = Field(
        default=None, ge=0, le=65535, description="Port of the gRPC door; not set: no door of its own."
    )


class TelemetrySettings(Settings):
    """Logs, metrics and traces. The SDK reads the remaining standard OTEL_* keys (sampler, time-outs,
    headers).
    """

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO", description="The least severe line that is logged; `DEBUG` for our own lines only."
    )
    log_format: Literal["json", "console"] = Field(
        default="json", description="`json` for machines, `console` for people."
    )
    metrics_host: str = Field(
        default="127.0.0.1", description="Address of the operations port; `0.0.0.0` in a pod."
    )
    metrics_port: int | None = Field(
        default=None,
        ge=0,
        le=65535,
        description="Port of `/metrics` (Prometheus), `/healthz` and `/readyz`; 0 takes a free one.",
    )
    otel_sdk_disabled: bool = Field(
        default=False, validation_alias="OTEL_SDK_DISABLED", description="`true` exports nothing at all."
    )
    otel_service_name: str | None = Field(
        default=None, validation_alias="OTEL_SERVICE_NAME", description="In place of the service's own name."
    )
    otel_endpoint: str | None = Field(
        default=None,
        validation_alias="OTEL_EXPORTER_OTLP_ENDPOINT",
        description="Base URL of an OTLP/HTTP collector, e.g. `http://collector:4318`.",
    )
    otel_protocol: Literal["http/protobuf"] = Field(
        default="http/protobuf",
        validation_alias="OTEL_EXPORTER_OTLP_PROTOCOL",
        description="The one protocol built in.",
    )
    otel_traces_exporter: Literal["otlp", "console", "none"] | None = Field(
        default=None,
        validation_alias="OTEL_TRACES_EXPORTER",
        description="Where spans go; not set means `otlp` when an endpoint is set, else `none`.",
    )
    otel_metrics_exporter: Literal["otlp", "console", "none"] | None = Field(
        default=None,
        validation_alias="OTEL_METRICS_EXPORTER",
        description="Where metrics are pushed; not set means `otlp` when an endpoint is set, else `none`.",
    )
    otel_logs_exporter: Literal["otlp", "none"] | None = Field(
        default=None,
        validation_alias="OTEL_LOGS_EXPORTER",
        description="Where logs go besides stderr; not set: `otlp` when an endpoint is set, else `none`.",
    )

    readings_seconds: float = Field(
        default=15.0, ge=1, le=300, description="How often what waits is read for the metrics, seconds."
    )

    @property
    def pushed_metrics(self) -> Literal["otlp", "console", "none"]:
        """Where metrics are pushed."""
        if self.otel_sdk_disabled:
            return "none"
        return self.otel_metrics_exporter or ("otlp" if self.otel_endpoint else "none")

    @property
    def measures(self) -> bool:
        """Whether anybody gets the metrics, by pushing or by pulling."""
        return not self.otel_sdk_disabled and (self.pushed_metrics != "none" or self.metrics_port is not None)

    @field_validator("log_level", mode="before")
    @classmethod
    def _upper(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value


class AuthSettings(Settings):
    """Whose tokens open the doors. There is no default key and no way to leave the doors open."""

    one_of: ClassVar[tuple[str, ...]] = ("jwt_public_keys", "jwt_public_keys_file", "jwks_url")

    jwt_public_keys: str | None = Field(
        default=None,
        description=(
            "Ed25519 public keys in PEM, or certificates of such keys, one after the other, that tokens may "
            "be signed with."
        ),
        repr=False,
    )
    jwt_public_keys_file: Path | None = Field(
        default=None, description="A file with the same, in place of it."
    )
    jwks_url: str | None = Field(
        default=None,
        description="Address of a JSON Web Key Set with such keys; fetched again every five minutes.",
    )
    jwt_issuer: str = Field(
        default="frontdesk", min_length=1, description="The issuer (`iss`) of accepted tokens."
    )
    jwt_audience: str = Field(
        default="frontdesk", min_length=1, description="The audience (`aud`) of accepted tokens."
    )

    @field_validator("jwks_url")
    @classmethod
    def _safe_url(cls, value: str | None) -> str | None:
        parts = urlsplit(value or "")
        host = parts.hostname or ""
        fine = parts.scheme == "https" or (parts.scheme == "http" and _inside(host))
        if value and not (host and fine):
            raise ValueError("must be https://…, or http:// to a host inside the cluster or on this machine")
        return value


def _inside(host: str) -> bool:
    """Whether `host` is this machine or a name that only the cluster resolves."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return "." not in host or host.endswith((".svc", ".svc.cluster.local"))


class SecretSettings(Settings):
    """The keys that encrypt secrets at rest."""

    secret_keys: SecretStr = Field(
        description=(
            "Keys that encrypt stored secrets, by comma, newest first: the first encrypts, all decrypt. "
            "`openssl rand -base64 32` makes one."
        )
    )

    def secret_key_list(self) -> list[str]:
        """The keys as `SecretBox` takes them."""
        return [key.strip() for key in self.secret_keys.get_secret_value().split(",") if key.strip()]
