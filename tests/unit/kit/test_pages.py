"""Pages of lists."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frontdesk.kit import pages
from frontdesk.kit.errors import InvalidArgument


@given(st.integers(min_value=0), st.text(st.characters(exclude_characters="\x00", codec="utf-8")))
def test_a_token_gives_its_keys_back(number: int, key: str) -> None:
    """A page goes on behind the row its token was made of."""
    assert pages.decode(pages.encode(number, key), 2) == (str(number), key)


@given(st.text(min_size=1, max_size=50))
def test_any_other_text_is_refused(text: str) -> None:
    """A token that is not ours names the field."""
    try:
        values = pages.decode(text, 3)
    except InvalidArgument as error:
        assert error.field == "page_token"
    else:
        assert values is not None
        assert len(values) == 3


def test_sizes_have_bounds() -> None:
    """0 is the default, more than the most is refused."""
    assert pages.page_size(0, default=50, most=500) == 50
    assert pages.page_size(500, default=50, most=500) == 500
    for asked in (-1, 501):
        with pytest.raises(InvalidArgument):
            pages.page_size(asked, default=50, most=500)
