"""Which providers have a model, and in which order they are asked."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from frontdesk.ai_proxy.model import DEFAULT_MODEL, OFFLINE, Model, Price, Provider


class Candidate(NamedTuple):
    """A provider and its model that can answer a call."""

    provider: Provider
    model: Model


@dataclass(frozen=True, slots=True)
class Who:
    """Who answered, or was asked last: names of provider and model, the provider's kind, the price."""

    provider: str
    model: str
    kind: str
    price: Price


class Catalog:
    """The models of an organization's enabled providers by name, ordered by priority."""

    def __init__(self, providers: tuple[Provider, ...]) -> None:
        self.providers = providers
        self._by_name: dict[tuple[str, bool], list[Candidate]] = {}
        for provider in sorted(providers, key=lambda provider: (provider.priority, provider.name)):
            if not provider.disabled:
                for model in provider.models:
                    candidates = self._by_name.setdefault((model.name, model.embeds), [])
                    candidates.append(Candidate(provider, model))

    def find(self, name: str, *, embeds: bool) -> Sequence[Candidate]:
        """Who has a model, the first choice first; those of the same priority by name."""
        return self._by_name.get((name, embeds), ())

    def answering(self, name: str, *, embeds: bool) -> Sequence[Candidate] | None:
        """Who may answer; nobody for `offline`, None for a name that there is not."""
        found = self.find(name, embeds=embeds)
        if found:
            return found
        return () if not embeds and name in (DEFAULT_MODEL, OFFLINE) else None

    def models(self) -> list[tuple[str, bool, list[Candidate]]]:
        """Every model by name: name, whether it makes vectors, who has it."""
        return [(name, embeds, found) for (name, embeds), found in sorted(self._by_name.items())]


class Catalogs:
    """The catalogs of the organizations used last, at most `limit`; made anew when the providers are."""

    def __init__(self, limit: int = 512) -> None:
        self._limit = limit
        self._made: OrderedDict[str, Catalog] = OrderedDict()

    def of(self, organization_id: str, providers: tuple[Provider, ...]) -> Catalog:
        """The catalog of an organization whose providers these are."""
        made = self._made.get(organization_id)
        if made is not None and made.providers is providers:
            self._made.move_to_end(organization_id)
            return made
        made = self._made[organization_id] = Catalog(providers)
        self._made.move_to_end(organization_id)
        while len(self._made) > self._limit:
            self._made.popitem(last=False)
        return made


def draw(candidates: Sequence[Candidate], random: Callable[[], float]) -> list[Candidate]:
    """`candidates`, which are ordered by priority, with those of the same priority in an order drawn by
    weight: the first of two with weights 3 and 1 is the former three times in four. `random`: [0, 1)."""
    left = list(candidates)
    drawn: list[Candidate] = []
    while len(left) > 1:
        priority = left[0].provider.priority
        equal = 1
        while equal < len(left) and left[equal].provider.priority == priority:
            equal += 1
        drawn.append(left.pop(_pick(left[:equal], random) if equal > 1 else 0))
    return drawn + left


def _pick(equals: Sequence[Candidate], random: Callable[[], float]) -> int:
    point = random() * sum(candidate.provider.weight for candidate in equals)
    for index, candidate in enumerate(equals):
        point -= candidate.provider.weight
        if point < 0:
            return index
    return len(equals) - 1
