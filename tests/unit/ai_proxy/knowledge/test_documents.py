"""Documents read into paragraphs."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frontdesk.ai_proxy.knowledge.chunk import passages, sentences
from frontdesk.ai_proxy.knowledge.documents import DocumentFormat, Paragraph, read_document
from frontdesk.kit.errors import InvalidArgument

MARKDOWN = """\ufeff# 售后

## 退货

**七天**内可以[联系我](https://example.com/x)。
第二行

- 一
- 二

### 例外 ##
内衣不退
## 换货
| 尺码 | 脚长 |
| --- | --- |
| 42 | 26 |

```sh
# no heading

**kept**
```
---
`尾`
"""


def test_markdown_knows_the_headings_above_a_paragraph() -> None:
    """Marks are taken off; rows, items and fenced lines keep their words."""
    assert read_document(DocumentFormat.MARKDOWN, MARKDOWN) == [
        Paragraph(("售后", "退货"), "七天内可以联系我。\n第二行"),
        Paragraph(("售后", "退货"), "一\n二"),
        Paragraph(("售后", "退货", "例外"), "内衣不退"),
        Paragraph(("售后", "换货"), "尺码 脚长\n42 26"),
        Paragraph(("售后", "换货"), "# no heading\n**kept**"),
        Paragraph(("售后", "换货"), "尾"),
    ]


def test_text_is_cut_at_blank_lines_or_at_lines() -> None:
    """A text with blank lines has paragraphs of several lines, one without has one a line."""
    assert [p.text for p in read_document(DocumentFormat.TEXT, "a\r\nb\r\n\r\nc\n")] == ["a\nb", "c"]
    assert [p.text for p in read_document(DocumentFormat.TEXT, "\n a \nb\n")] == ["a", "b"]


def test_a_row_of_an_faq_is_a_passage() -> None:
    """Columns may stand in any order; empty rows are passed over; an answer is kept whole."""
    content = '\ufeffAnswer,x, Question \n"有, 都\n在",1,盒子在吗\n\n,,\n在,2,还在吗\n'
    found = read_document(DocumentFormat.FAQ_CSV, content)
    assert found == [
        Paragraph(("盒子在吗",), "有, 都\n在", whole=True),
        Paragraph(("还在吗",), "在", whole=True),
    ]
    assert list(passages(found, 100)) == found


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "must name the columns"),
        ("q,a\n1,2\n", "must name the columns"),
        ("question,answer\n只有问题\n", "line 2: a question or an answer is missing"),
        ("question,answer\n,答\n", "line 2: a question has 1 to 200"),
        ("question,answer\n问,\n", "line 2: an answer has 1 to 2000"),
        ("question,answer\n问," + "长" * 2001 + "\n", "line 2: an answer has 1 to 2000"),
        ('question,answer\n问,"没有关上', "line 2: "),
    ],
)
def test_a_bad_faq_names_its_line(content: str, problem: str) -> None:
    """The field and the line are named."""
    with pytest.raises(InvalidArgument, match=problem) as refused:
        read_document(DocumentFormat.FAQ_CSV, content, "document.content")
    assert refused.value.field == "document.content"


@pytest.mark.parametrize(
    "piece", ["[", "![", "**", "`", "#", "> ", "|", "-", "- ", "__a", "[a](", "[a](b(", "```\n"]
)
def test_reading_takes_linear_time(piece: str) -> None:
    """Much of what opens and never closes is read at once."""
    for document_format in (DocumentFormat.MARKDOWN, DocumentFormat.TEXT):
        started = time.process_time()
        found = read_document(document_format, "|" + piece * (128 * 1024 // len(piece)) + "x")
        list(passages(found, 400))
        assert time.process_time() - started < 3


@given(st.text(alphabet="一二。！ab. \n；”", max_size=300), st.integers(12, 60))
def test_no_word_is_lost_or_changed(text: str, most: int) -> None:
    """Passages hold every character of the paragraphs but spaces, in order, and are not too long."""
    paragraphs = read_document(DocumentFormat.TEXT, text)
    found = list(passages(paragraphs, most))
    assert "".join("".join(p.text.split()) for p in found) == "".join(text.split())
    assert all(0 < len(p.text) <= most for p in found)


def test_a_long_paragraph_is_cut_after_sentences() -> None:
    """Sentences stay whole where they fit; short paragraphs go together under the same headings only."""
    text = "第一句话在这里。第二句话也在这里！第三句没有完"
    assert [p.text for p in passages([Paragraph(("h",), text)], 18)] == [
        "第一句话在这里。第二句话也在这里！",
        "第三句没有完",
    ]
    short = [Paragraph(("a",), "短"), Paragraph(("a",), "也短"), Paragraph(("b",), "另一个")]
    assert [(p.headings, p.text) for p in passages(short, 100)] == [(("a",), "短\n也短"), (("b",), "另一个")]


def test_sentences_are_word_for_word() -> None:
    """Chinese and Latin ends of sentences, and lines."""
    assert sentences("95新。屏幕好！“真的？”嗯 Size 4.5 fits. Yes\n包邮") == [
        "95新。",
        "屏幕好！",
        "“真的？”",
        "嗯 Size 4.5 fits.",
        "Yes",
        "包邮",
    ]
