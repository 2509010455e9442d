"""How the providers do on this replica: their breakers, and their places for calls at once.

A provider that was changed begins anew, as the change may have mended it. A model that the provider does not
know (404) shuts out calls of that model only: one wrong name must not silence the others.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass

from frontdesk.ai_proxy.breaker import Breaker, BreakerSettings, State
from frontdesk.ai_proxy.errors import UpstreamError, UpstreamLimited, UpstreamMisconfigured, UpstreamRefused
from frontdesk.ai_proxy.model import Provider
from frontdesk.kit.clock import Clock

log = logging.getLogger(__name__)

_UNKNOWN_MODEL = 404
# A limit without any of these is our own: all connections that the organization may have were in use.
_SAID_BY_PROVIDER = frozenset({"status", "upstream_code", "retry_after_s"})


@dataclass(frozen=True, slots=True)
class HealthView:
    """How a provider does. `open_for_s`: seconds until it is tried again; 0 when it is asked."""

    state: State
    open_for_s: float
    in_flight: int


class Health:
    """One provider. Who has a place gives it back with `give_back`."""

    __slots__ = ("_breaker", "_clock", "_models", "_settings", "_waiting", "in_flight", "provider")

    def __init__(self, provider: Provider, settings: BreakerSettings, clock: Clock) -> None:
        self.provider = provider
        self.in_flight = 0
        self._clock = clock
        self._settings = settings
        self._breaker = Breaker(settings)
        self._models: dict[str, Breaker] = {}
        self._waiting: dict[asyncio.Future[Health], None] = {}

    def changed(self, provider: Provider) -> None:
        """The provider was read again; if anything is new about it, what went wrong before says nothing."""
        if provider != self.provider:
            self._breaker = Breaker(self._settings)
            self._models.clear()
        self.provider = provider

    @property
    def idle(self) -> bool:
        """Whether nothing would be lost with it."""
        return not self.in_flight and self.view().state is State.CLOSED

    def view(self) -> HealthView:
        """How it does. When no single model of it is asked, it counts as open."""
        now = self._clock.monotonic()
        breaker = self._breaker
        models = [self._models.get(model.name) for model in self.provider.models]
        open_models = [
            found for found in models if found is not None and found.state(now) is not State.CLOSED
        ]
        if breaker.state(now) is State.CLOSED and open_models and len(open_models) == len(models):
            breaker = min(open_models, key=lambda found: found.open_for(now))
        return HealthView(breaker.state(now), breaker.open_for(now), self.in_flight)

    def rests_for(self, model: str) -> float | None:
        """None when a call of the model would be let through; else seconds until it may be, 0 for soon."""
        now = self._clock.monotonic()
        found = self._models.get(model)
        shut = [one for one in (self._breaker, found) if one is not None and not one.would_admit(now)]
        return max(one.open_for(now) for one in shut) if shut else None

    def admit(self, model: str) -> Permit | None:
        """A permit for one try, or None."""
        if self.rests_for(model) is not None:
            return None
        now = self._clock.monotonic()
        found = self._models.get(model)
        return Permit(
            self, model, self._breaker, self._breaker.admit(now), found, found.admit(now) if found else 0
        )

    def shut(self, model: str) -> None:
        """The provider does not know the model."""
        breaker = self._models.setdefault(model, Breaker(self._settings))
        now = self._clock.monotonic()
        breaker.misconfigured(breaker.admit(now), now)

    def take(self) -> bool:
        """Take a place, if one is free."""
        if self.in_flight >= self.provider.limits.concurrency:
            return False
        self.in_flight += 1
        return True

    def give_back(self) -> None:
        """The place is free, or goes to who waits longest."""
        if self.in_flight <= self.provider.limits.concurrency:
            while self._waiting:
                waiter = next(iter(self._waiting))
                del self._waiting[waiter]
                if not waiter.done():
                    waiter.set_result(self)
                    return
        self.in_flight -= 1

    def queue(self, waiter: asyncio.Future[Health]) -> None:
        """Give `waiter` the next place that is given back; it then holds it."""
        self._waiting[waiter] = None

    def forget(self, waiter: asyncio.Future[Health]) -> None:
        """`waiter` waits no more."""
        self._waiting.pop(waiter, None)


class Permit:
    """Leave for one try; it takes one verdict, and ignores any more."""

    __slots__ = ("_breaker", "_health", "_model", "_model_breaker", "_model_ticket", "_ticket")

    def __init__(
        self,
        health: Health,
        model: str,
        breaker: Breaker,
        ticket: int,
        model_breaker: Breaker | None,
        model_ticket: int,
    ) -> None:
        self._health = health
        self._model = model
        self._breaker = breaker
        self._ticket = ticket
        self._model_breaker = model_breaker
        self._model_ticket = model_ticket

    def began(self) -> None:
        """The first piece came."""
        self._ticket = self._breaker.began(self._ticket)
        if self._model_breaker is not None:
            self._model_ticket = self._model_breaker.began(self._model_ticket)

    def succeeded(self) -> None:
        """The answer is whole."""
        self._breaker.succeeded(self._ticket)
        if self._model_breaker is not None:
            self._model_breaker.succeeded(self._model_ticket)
        self._spend()

    def failed(self, error: UpstreamError, now: float) -> None:
        """The try ended with `error`."""
        rested_s = self._health.rests_for(self._model)
        self._judge(error, now)
        if not rested_s and (rests_s := self._health.rests_for(self._model)):
            provider = self._health.provider
            # No name and no message: sellers and providers write those.
            log.warning(
                "provider %s of %s is not asked for %.0f s: %s, status %s",
                provider.provider_id,
                provider.organization_id,
                rests_s,
                error.code,
                error.facts.get("status", "none"),
            )

    def _judge(self, error: UpstreamError, now: float) -> None:
        if isinstance(error, UpstreamRefused):
            self.succeeded()
        elif isinstance(error, UpstreamMisconfigured) and error.facts.get("status") == _UNKNOWN_MODEL:
            self._unknown_model(now)
        elif isinstance(error, UpstreamLimited) and not error.facts.keys() & _SAID_BY_PROVIDER:
            self.dropped()
        elif self._ticket:
            if isinstance(error, UpstreamLimited):
                self._breaker.limited(self._ticket, now, error.retry_after_s)
            elif isinstance(error, UpstreamMisconfigured):
                self._breaker.misconfigured(self._ticket, now)
            else:
                self._breaker.failed(self._ticket, now)
            self._drop_model()
            self._spend()

    def dropped(self) -> None:
        """The try said nothing about the provider."""
        self._breaker.dropped(self._ticket)
        self._drop_model()
        self._spend()

    def _unknown_model(self, now: float) -> None:
        if not self._ticket:
            return
        # It did answer: whoever waits for its trial may ask for another model.
        self._breaker.succeeded(self._ticket)
        if self._model_breaker is None:
            self._health.shut(self._model)
        else:
            self._model_breaker.misconfigured(self._model_ticket, now)
        self._spend()

    def _drop_model(self) -> None:
        if self._model_breaker is not None:
            self._model_breaker.dropped(self._model_ticket)

    def _spend(self) -> None:
        self._ticket = self._model_ticket = 0


class Healths:
    """The providers that were asked last; those that are idle are forgotten beyond `limit`."""

    def __init__(self, settings: BreakerSettings, clock: Clock, limit: int = 4096) -> None:
        self._settings = settings
        self._clock = clock
        self._limit = limit
        self._known: OrderedDict[str, Health] = OrderedDict()

    def of(self, provider: Provider) -> Health:
        """The health of a provider, which may have been changed since."""
        health = self._known.get(provider.provider_id)
        if health is None:
            health = self._known[provider.provider_id] = Health(provider, self._settings, self._clock)
            self._bound()
            return health
        if health.provider is not provider:
            health.changed(provider)
        self._known.move_to_end(provider.provider_id)
        return health

    def view(self, provider_ids: Iterable[str]) -> list[HealthView]:
        """How each provider does; one that was never asked is closed."""
        fine = HealthView(State.CLOSED, 0.0, 0)
        found = (self._known.get(provider_id) for provider_id in provider_ids)
        return [fine if health is None else health.view() for health in found]

    def count(self) -> dict[State, int]:
        """How many of them are in each state."""
        found = Counter(health.view().state for health in self._known.values())
        return {state: found[state] for state in State}

    def _bound(self) -> None:
        if len(self._known) > self._limit:
            idle = [key for key, health in self._known.items() if health.idle]
            for key in idle[: len(self._known) - self._limit]:
                del self._known[key]
