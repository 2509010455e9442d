"""Who has a model, and the order in which they are asked."""

from __future__ import annotations

import random
from collections import Counter

from frontdesk.ai_proxy.catalog import Catalog, Catalogs, draw
from frontdesk.ai_proxy.model import Model
from support.completions import provider

DEFAULT = Model("default", "m")


def names(catalog: Catalog, model: str, *, embeds: bool = False) -> list[str]:
    return [candidate.provider.name for candidate in catalog.find(model, embeds=embeds)]


def test_enabled_providers_with_the_name_by_priority() -> None:
    """A disabled one, one without the model and one that makes vectors are none."""
    catalog = Catalog(
        (
            provider("late", DEFAULT, priority=9),
            provider("off", DEFAULT, disabled=True),
            provider("other", Model("cheap", "m")),
            provider("vectors", Model("default", "v", embeds=True)),
            provider("first", DEFAULT),
        )
    )
    assert names(catalog, "default") == ["first", "late"]
    assert names(catalog, "default", embeds=True) == ["vectors"]
    assert names(catalog, "unknown") == []
    assert [(name, embeds) for name, embeds, _ in catalog.models()] == [
        ("cheap", False),
        ("default", False),
        ("default", True),
    ]


def test_priority_comes_before_weight() -> None:
    catalog = Catalog((provider("heavy", DEFAULT, priority=1, weight=1000), provider("light", DEFAULT)))
    candidates = catalog.find("default", embeds=False)
    for draws in (lambda: 0.0, lambda: 0.5, lambda: 0.999):
        assert [one.provider.name for one in draw(candidates, draws)] == ["light", "heavy"]


def test_equals_are_drawn_by_weight_each_once() -> None:
    """The shares of the first places are the weights', and nobody is left out or asked twice."""
    catalog = Catalog(tuple(provider(name, DEFAULT, weight=w) for name, w in (("a", 6), ("b", 3), ("c", 1))))
    candidates = catalog.find("default", embeds=False)
    draws = random.Random(1).random
    orders = [[one.provider.name for one in draw(candidates, draws)] for _ in range(5000)]
    assert all(sorted(order) == ["a", "b", "c"] for order in orders)
    first = Counter(order[0] for order in orders)
    assert 0.57 < first["a"] / 5000 < 0.63
    assert 0.27 < first["b"] / 5000 < 0.33


def test_a_catalog_is_kept_while_the_providers_are_the_same() -> None:
    """And only those of the organizations used last."""
    catalogs = Catalogs(limit=2)
    providers = (provider("a"),)
    first = catalogs.of("x", providers)
    assert catalogs.of("x", providers) is first
    assert catalogs.of("x", (provider("a"),)) is not first
    again = catalogs.of("x", providers)
    for other in ("y", "z"):
        catalogs.of(other, providers)
    assert catalogs.of("x", providers) is not again
