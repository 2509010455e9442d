"""How many tokens a text is, about: fast, without a vocabulary, rather too many than too few.

Vocabularies differ by more than a third for the same Chinese sentence, and providers are data here, so no one
of them would be right (docs/adr/0012-how-tokens-are-counted.md). What is counted is bytes of UTF-8 by kind,
each with the weight that the newest vocabularies ask for at their worst. The numbers reserve of budgets, and
stand in, marked `counted`, where a provider says nothing.
"""

from __future__ import annotations

import string

import orjson

from frontdesk.ai_proxy.model import ModelMessage, Prompt, Tool

# Tokens of a thousand characters. Digits are one each in the vocabularies of Qwen and Gemini; a blank goes
# with the word behind it. Capitals are dear in what is no word: codes, keys, base64.
LOWER, UPPER, DIGIT, BLANK, SIGN = 280, 550, 1050, 30, 750
# Characters of two bytes (Cyrillic, Arabic …), three (Chinese, Japanese, Korean …), four (emoji).
TWO, THREE, FOUR = 650, 930, 2300

# What a vendor puts around a message and in front of the answer.
MESSAGE_TOKENS, PROMPT_TOKENS = 5, 3
# A picture in high resolution, the dearest of the vendors' rules.
IMAGE_TOKENS = 1600

_LOWER = string.ascii_lowercase.encode()
_UPPER = string.ascii_uppercase.encode()
_DIGIT = string.digits.encode()
# First bytes of characters of several bytes, and the bytes that follow them.
_TWO, _THREE, _FOUR = bytes(range(0xC0, 0xE0)), bytes(range(0xE0, 0xF0)), bytes(range(0xF0, 0x100))
_FOLLOWING = bytes(range(0x80, 0xC0))


def count_text(text: str) -> int:
    """Tokens of a text, about; 0 of none."""
    if not text:
        return 0
    data = text.encode("utf-8", "replace")
    weight = 0
    if not text.isascii():
        data = data.translate(None, _FOLLOWING)
        for leads, each in ((_THREE, THREE), (_TWO, TWO), (_FOUR, FOUR)):
            rest = data.translate(None, leads)
            weight += (len(data) - len(rest)) * each
            data = rest
    for kind, each in ((_LOWER, LOWER), (_UPPER, UPPER), (_DIGIT, DIGIT), (b" ", BLANK)):
        rest = data.translate(None, kind)
        weight += (len(data) - len(rest)) * each
        data = rest
    return (weight + len(data) * SIGN) // 1000 + 1


def count_prompt(prompt: Prompt) -> int:
    """Tokens of a whole prompt, about: messages, pictures, tools and the answer's schema."""
    count = PROMPT_TOKENS + sum(_message(message) for message in prompt.messages)
    count += sum(_tool(tool) for tool in prompt.tools)
    if prompt.schema is not None:
        count += count_text(orjson.dumps(prompt.schema).decode())
    return count


def _message(message: ModelMessage) -> int:
    count = MESSAGE_TOKENS + count_text(message.text) + IMAGE_TOKENS * len(message.image_urls)
    for call in message.tool_calls:
        count += MESSAGE_TOKENS + count_text(call.name) + count_text(call.arguments)
    return count


def _tool(tool: Tool) -> int:
    words = count_text(tool.name) + count_text(tool.description)
    return MESSAGE_TOKENS + words + count_text(orjson.dumps(tool.parameters).decode())
