"""What a client asked, whichever vendor's words it used, and how a vendor refuses it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Body = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Turn:
    """One message: who said it, in OpenAI's words, and its text."""

    role: str
    text: str


@dataclass(frozen=True, slots=True)
class Offered:
    """A tool the client offers; `parameters` is a JSON Schema."""

    name: str
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Asked:
    """One call. `kind`: `chat` or `embed`. `tool_choice`: `auto`, `none`, `required` or a tool's name.
    `format`: `text`, `json_object` or `json_schema`, then with `schema`. `texts` are those to embed."""

    door: str
    model: str
    kind: str = "chat"
    turns: tuple[Turn, ...] = ()
    stream: bool = False
    tools: tuple[Offered, ...] = ()
    tool_choice: str = "auto"
    format: str = "text"
    schema: Mapping[str, Any] | None = None
    max_tokens: int | None = None
    include_usage: bool = False
    incremental: bool = False
    texts: tuple[str, ...] = ()
    dimensions: int | None = None
    base64: bool = False
    single: bool = False
    """One text was given, and one vector is wanted, not a list of them."""
    plain: bool = False
    """DashScope's `result_format` of `text`."""

    @property
    def last_words(self) -> str:
        """The last message of the user, or all that is to be embedded."""
        if self.kind == "embed":
            return "\n".join(self.texts)
        return next((turn.text for turn in reversed(self.turns) if turn.role == "user"), "")


class Refused(Exception):
    """The vendor answers with an error. `code`, `kind` and `param` are the vendor's own words."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str = "",
        kind: str = "",
        param: str = "",
        retry_after: str = "",
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.kind = kind
        self.param = param
        self.retry_after = retry_after


def words_of(content: object) -> str:
    """The text of a message: a text, or a list of parts of which those with a `text` count."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        texts = [part.get("text") for part in content if isinstance(part, dict)]
        return "".join(text for text in texts if isinstance(text, str))
    return ""
