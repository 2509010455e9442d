"""What is known of the item that a chat is about."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ItemFacts:
    """An item as its seller lists it. `price` is decimal text in yuan; what is not known is empty."""

    item_id: str = ""
    title: str = ""
    price: str = ""
    description: str = ""
