"""A document as a seller writes it, read into paragraphs that know the headings above them.

Three formats: plain text, Markdown, and CSV with the columns `question` and `answer`. Marks of Markdown are
taken off, the words stay as they are. Reading is linear in the length of the document and never fails but for
CSV, where InvalidArgument names the row.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from frontdesk.kit.errors import InvalidArgument

MAX_HEADING = 200
MAX_ANSWER = 2_000


class DocumentFormat(StrEnum):
    """How a document is written; the values are stored."""

    TEXT = "text"
    MARKDOWN = "markdown"
    FAQ_CSV = "faq_csv"


@dataclass(frozen=True, slots=True)
class Paragraph:
    """Text without a blank line in it. `headings` stand above it, the outermost first. `whole`: to be kept
    as one passage, however long or short."""

    headings: tuple[str, ...]
    text: str
    whole: bool = False


def read_document(document_format: DocumentFormat, content: str, field: str = "content") -> list[Paragraph]:
    """The paragraphs of a document; raises InvalidArgument, which names `field`."""
    if document_format is DocumentFormat.FAQ_CSV:
        return list(_faq(content, field))
    lines = content.lstrip("\ufeff").splitlines()
    return list(_markdown(lines) if document_format is DocumentFormat.MARKDOWN else _text(lines))


def _text(lines: list[str]) -> Iterator[Paragraph]:
    """Paragraphs stand between blank lines; in a text without any, each line is one."""
    texts = [line.strip() for line in lines]
    blank = any(not line for line in "\n".join(texts).strip().split("\n"))
    block: list[str] = []
    for line in [*texts, ""]:
        if line:
            block.append(line)
        if block and (not line or not blank):
            yield Paragraph((), "\n".join(block))
            block = []


_HEADING = re.compile(r"(#{1,6})(?:[ \t]+(.*))?")
_FENCE = re.compile(r"(`{3,}|~{3,})")
_RULE = re.compile(r"([-*_][ \t]*){3,}")
_TABLE_RULE = re.compile(r"[|: \t]*-[|:\- \t]*")
_ITEM = re.compile(r"(?:[-*+]|\d{1,3}[.)])[ \t]+")
# Bounded, and what they pass over can't begin one anew, so that no text makes them slow.
_TARGET = r"\((?:[^()\n]|\([^()\n]{0,200}\)){0,2000}\)"
_MARKS = (
    (re.compile(rf"!\[([^\[\]\n]{{0,200}})\]{_TARGET}"), r"\1"),
    (re.compile(rf"\[([^\[\]\n]{{1,200}})\]{_TARGET}"), r"\1"),
    (re.compile(r"(\*\*|__)(?=\S)([^\n]{1,400}?)(?<=\S)\1"), r"\2"),
    (re.compile(r"`([^`\n]{1,400})`"), r"\1"),
)


def _markdown(lines: list[str]) -> Iterator[Paragraph]:
    headings: list[str] = []
    block: list[str] = []
    fence = ""
    for line in [*(line.strip() for line in lines), ""]:
        mark = _FENCE.match(line)
        if fence:
            fence = "" if line.startswith(fence) else fence
            block += [line] if fence and line else []
            continue
        if mark:
            fence = mark[1]
            continue
        heading = _HEADING.fullmatch(line)
        if line and not heading and not _RULE.fullmatch(line):
            block += [] if "|" in line and _TABLE_RULE.fullmatch(line) else [_plain(line)]
            continue
        yield from _block(headings, block)
        block = []
        if heading:
            level = len(heading[1])
            name = _plain((heading[2] or "").rstrip("# \t"))[:MAX_HEADING]
            headings = [*(headings + [""] * level)[: level - 1], name]
    yield from _block(headings, block)


def _block(headings: list[str], block: list[str]) -> Iterator[Paragraph]:
    text = "\n".join(line for line in block if line)
    if text:
        yield Paragraph(tuple(name for name in headings if name), text)


def _plain(line: str) -> str:
    line = line.lstrip("> \t")
    if line.startswith("|"):
        line = " ".join(cell.strip() for cell in line.strip("|").split("|"))
    line = _ITEM.sub("", line, count=1) if _ITEM.match(line) else line
    for mark, words in _MARKS:
        line = mark.sub(words, line)
    return line.strip()


def _faq(content: str, field: str) -> Iterator[Paragraph]:
    reader = csv.reader(io.StringIO(content.lstrip("\ufeff"), newline=""), strict=True)
    try:
        names = [name.strip().casefold() for name in next(reader, [])]
        if "question" not in names or "answer" not in names:
            raise InvalidArgument(field, "the first row must name the columns `question` and `answer`")
        at_question, at_answer = names.index("question"), names.index("answer")
        for row in reader:
            if not any(cell.strip() for cell in row):
                continue
            if len(row) <= max(at_question, at_answer):
                raise InvalidArgument(field, f"line {reader.line_num}: a question or an answer is missing")
            question, answer = row[at_question].strip(), row[at_answer].strip()
            if not 1 <= len(question) <= MAX_HEADING:
                raise InvalidArgument(
                    field, f"line {reader.line_num}: a question has 1 to {MAX_HEADING} characters"
                )
            if not 1 <= len(answer) <= MAX_ANSWER:
                raise InvalidArgument(
                    field, f"line {reader.line_num}: an answer has 1 to {MAX_ANSWER} characters"
                )
            yield Paragraph((question,), answer, whole=True)
    except csv.Error as error:
        raise InvalidArgument(field, f"line {reader.line_num}: {error}") from None
