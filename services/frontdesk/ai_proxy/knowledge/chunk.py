"""Paragraphs cut into passages: small enough to be quoted to a buyer, large enough to make sense alone.

A paragraph is a passage. One that is too long is cut after a line or a sentence, or, where there is neither,
between characters; a few words that are no sentence go together with the next under the same headings. No
word is changed or lost: the passages of a paragraph joined are the paragraph, but for the spaces at the cuts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from frontdesk.ai_proxy.knowledge.documents import Paragraph

SHORT = 12  # characters; what is shorter and no sentence says little alone, `说明：`
_ENDS = tuple("。！？!?；;….")

_END = re.compile(r"(?:[。！？!?；;…]+[”’」』\"')）]*|\.(?=\s)|\n)\s*")


def sentences(text: str) -> list[str]:
    """The sentences of a text, each word for word and without the spaces around it."""
    return [sentence for found in _split(text) if (sentence := found.strip())]


def passages(paragraphs: Iterable[Paragraph], most: int) -> Iterator[Paragraph]:
    """Passages of at most `most` characters each, but for those to be kept whole."""
    waiting: Paragraph | None = None
    for paragraph in paragraphs:
        current = paragraph
        if waiting is not None:
            joined = f"{waiting.text}\n{current.text}"
            if waiting.headings == current.headings and not current.whole and len(joined) <= most:
                current = Paragraph(current.headings, joined)
            else:
                yield waiting
            waiting = None
        if len(current.text) < SHORT and not current.whole and not current.text.endswith(_ENDS):
            waiting = current
        elif len(current.text) <= most or current.whole:
            yield current
        else:
            yield from (Paragraph(current.headings, text) for text in _cut(current.text, most))
    if waiting is not None:
        yield waiting


def _cut(text: str, most: int) -> Iterator[str]:
    held = ""
    for sentence in _split(text):
        if held and len(held) + len(sentence.rstrip()) > most:
            yield held.strip()
            held = ""
        held += sentence
        while len(held.strip()) > most:
            held = held.lstrip()
            yield held[:most].rstrip()
            held = held[most:]
    if held.strip():
        yield held.strip()


def _split(text: str) -> Iterator[str]:
    """`text` cut after the ends of sentences: joined again, it is the same."""
    start = 0
    for end in _END.finditer(text):
        yield text[start : end.end()]
        start = end.end()
    if start < len(text):
        yield text[start:]
