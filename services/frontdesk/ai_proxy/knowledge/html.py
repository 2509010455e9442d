"""A web page's text as Markdown: its headings, paragraphs, list items and rows; menus and programs left out.

The page is read as a stream by libxml2 (`lxml`), no tree is made, and one that is nested too deeply is
refused: the parser's time grows with the depth at each end tag that ends nothing.
"""

from __future__ import annotations

import contextlib
import re

from frontdesk.kit.errors import InvalidArgument

MAX_DEPTH = 256
_SLICE = 1_024  # characters given to the parser before the depth is looked at

_HEADINGS = {f"h{level}": "#" * level + " " for level in range(1, 7)}
_BLOCK_TAGS = """
    address article blockquote body br caption dd details div dl dt fieldset figcaption figure header hr li
    main ol p pre section summary table tbody tfoot thead tr ul
"""
_LEFT_OUT_TAGS = """
    aside button canvas footer form head iframe math nav noscript object script select style svg template
    textarea
"""
_BLOCKS = frozenset(_BLOCK_TAGS.split())
_LEFT_OUT = frozenset(_LEFT_OUT_TAGS.split())
_CELLS = frozenset(("td", "th"))
_SPACE = re.compile(r"\s+")


def page_text(html: str, field: str = "url") -> tuple[str, str]:
    """The title of a page and its text; raises InvalidArgument, which names `field`."""
    from lxml import etree

    text = _Text()
    parser = etree.HTMLParser(target=text, no_network=True)
    with contextlib.suppress(etree.LxmlError):  # a page without any element; what was read before stays
        for start in range(0, len(html), _SLICE):
            parser.feed(html[start : start + _SLICE])
            if text.depth > MAX_DEPTH:
                raise InvalidArgument(field, "the page is nested too deeply")
        parser.close()
    return _SPACE.sub(" ", "".join(text.title)).strip(), "\n\n".join(text.blocks)


class _Text:
    """What libxml2 tells of a page, kept as blocks of text."""

    def __init__(self) -> None:
        self.blocks: list[str] = []
        self.title: list[str] = []
        self.depth = 0
        self._left_out = 0
        self._in_title = False
        self._mark = ""
        self._held: list[str] = []

    def start(self, tag: str, attributes: object) -> None:
        """An element begins."""
        self.depth += 1
        self._in_title = tag == "title" and not self.title
        self._left_out += tag in _LEFT_OUT
        self._edge(tag)
        self._mark = _HEADINGS.get(tag, self._mark)

    def end(self, tag: str) -> None:
        """An element ends."""
        self.depth -= 1
        self._in_title = False
        self._left_out -= tag in _LEFT_OUT
        self._edge(tag)

    def data(self, text: str) -> None:
        """More text."""
        if self._in_title:
            self.title.append(text)
        elif not self._left_out:
            self._held.append(text)

    def close(self) -> None:
        """The page ends."""
        self._edge("body")

    def _edge(self, tag: str) -> None:
        if tag in _CELLS:
            self._held.append(" ")
        elif tag in _BLOCKS or tag in _HEADINGS:
            block = _SPACE.sub(" ", "".join(self._held)).strip()
            if block:
                self.blocks.append(self._mark + block)
            self._held, self._mark = [], ""
