"""A page's text."""

from __future__ import annotations

import time

import pytest

from frontdesk.ai_proxy.knowledge.html import page_text
from frontdesk.kit.errors import InvalidArgument

PAGE = """<!doctype html><html><head><title> 售后
 说明 </title><style>p{}</style><script>var a = "<p>no</p>"</script></head>
<body><nav><ul><li>首页<li>登录</ul></nav>
<h1>售后</h1>intro<p>七天内<b>可以</b>退，<a href="x">联系</a>我。</p>tail
<ul><li>一<li>二</ul>
<table><tr><th>尺码</th><td>42</td></tr></table>
<h2>换货 <i>说明</i></h2><p>不&amp;换<br>谢谢&nbsp;</p>
<!-- hidden --><svg><text>pic</text></svg><footer>©</footer><p></p></body></html>"""


def test_a_page_is_its_headings_and_blocks() -> None:
    """Menus, scripts, styles and comments are left out."""
    assert page_text(PAGE) == (
        "售后 说明",
        "# 售后\n\nintro\n\n七天内可以退，联系我。\n\ntail\n\n一\n\n二\n\n尺码 42\n\n"
        "## 换货 说明\n\n不&换\n\n谢谢",
    )


@pytest.mark.parametrize("page", ["", "   ", "<", "<!--", "<p>", "</p></p>", "\x00", "a\x00b<p>c"])
def test_what_is_hardly_html_is_read(page: str) -> None:
    """Nothing is raised."""
    title, text = page_text(page)
    assert title == ""
    assert set(text) <= set("abc<\n\x00\ufffd")


@pytest.mark.parametrize("page", ["<i>" * 30_000 + "</b>" * 30_000, "<div>" * 50_000])
def test_deep_nesting_is_refused_at_once(page: str) -> None:
    """It is what makes the parser slow."""
    started = time.process_time()
    with pytest.raises(InvalidArgument, match="nested too deeply") as refused:
        page_text(page)
    assert refused.value.field == "url"
    assert time.process_time() - started < 2


@pytest.mark.parametrize("piece", ["<b><p>", "<a>", "<!--", "<", "&amp;", "</p>", "<a x='"])
def test_reading_takes_linear_time(piece: str) -> None:
    """A page of what opens and never closes is read at once."""
    started = time.process_time()
    page_text(piece * (256 * 1024 // len(piece)))
    assert time.process_time() - started < 3
