"""What a budget has used and set aside in its period, and what a call does to it: plain values, no database.

    set aside    before the call: room for the most it can use, or no call
    settle       after it: what was set aside goes, what was used comes
    expire       nobody settled it in time: what was set aside counts as used, until somebody does after all
    roll         the next period began: nothing is used; what calls of the old one use does not count in it
    warn         80, 95 and 100 percent are told once a period

Used and set aside together never pass the limit by what was let through; by what calls used beyond what was
set aside for them they may.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from frontdesk.ai_proxy.periods import Period, period_start

# Percent of the limit that a person is told of.
WARNINGS = (100, 95, 80)
USED_UP = 100
TOKENS = "tokens"


class Scope(StrEnum):
    """What a budget counts."""

    ORGANIZATION = "organization"
    ACCOUNT = "account"
    API_KEY = "api_key"
    MODEL = "model"


@dataclass(frozen=True, slots=True)
class BudgetDefinition:
    """A budget as a person set it. `subject` is the account, key or model, empty for the organization;
    `currency` is ISO 4217 or `tokens`; `time_zone` is empty for UTC."""

    budget_id: str
    organization_id: str
    scope: Scope
    subject: str
    period: Period
    time_zone: str
    limit: Decimal
    currency: str
    fallback_model: str = ""
    disabled: bool = False

    def counts(self, currency: str) -> bool:
        """Whether calls that are priced in `currency` (empty: not at all) count."""
        return self.currency in (TOKENS, currency)


@dataclass(slots=True)
class Reservation:
    """What one call set aside in one budget; `expired`: it was counted as used already."""

    call_id: str
    budget_id: str
    organization_id: str
    period_start_ms: int
    amount: Decimal
    expires_at_ms: int
    expired: bool = False


@dataclass(slots=True)
class Standing:
    """A budget in its period. `warned` percent are to be told, `told` percent were."""

    budget: BudgetDefinition
    period_start_ms: int
    spent: Decimal = Decimal(0)
    reserved: Decimal = Decimal(0)
    warned: int = 0
    told: int = 0

    def roll(self, now_ms: int) -> None:
        """Begin the period of `now_ms`, if it is a later one: clocks of replicas differ a little."""
        start = period_start(self.budget.period, self.budget.time_zone, now_ms)
        if start > self.period_start_ms:
            self.period_start_ms = start
            self.spent = self.reserved = Decimal(0)
            self.warned = self.told = 0

    def has_room(self, amount: Decimal) -> bool:
        """Whether a call may begin that uses at most `amount`; a limit of zero lets nothing through."""
        limit = self.budget.limit
        return limit > 0 and self.spent + self.reserved + amount <= limit

    def set_aside(self, call_id: str, amount: Decimal, expires_at_ms: int) -> Reservation:
        """Keep `amount` for a call."""
        self.reserved += amount
        budget = self.budget
        return Reservation(
            call_id, budget.budget_id, budget.organization_id, self.period_start_ms, amount, expires_at_ms
        )

    def refuse(self) -> None:
        """A call found no room: over budget for people too, when most of it is used; a single call that is
        too large, or a crowd of them, is told to its caller only."""
        if self.reached():
            self.warned = USED_UP

    def give_back(self, reservation: Reservation) -> None:
        """Nothing was used, or it is counted by `use`."""
        if reservation.period_start_ms != self.period_start_ms:
            return
        if reservation.expired:
            self.spent -= reservation.amount
        else:
            self.reserved -= reservation.amount

    def use(self, amount: Decimal, reservation: Reservation | None, started_at_ms: int) -> None:
        """A call used `amount`: it counts in the period it was reserved in; one that reserved nothing, as the
        budget was made after it began, in the period it began in."""
        began_in_it = started_at_ms >= self.period_start_ms
        if reservation is not None:
            self.give_back(reservation)
            began_in_it = reservation.period_start_ms == self.period_start_ms
        if began_in_it and not self.budget.disabled:
            self.spent += amount
            self.warn()

    def expire(self, reservation: Reservation) -> None:
        """Count what was set aside as used."""
        if reservation.period_start_ms == self.period_start_ms:
            self.reserved -= reservation.amount
            self.spent += reservation.amount
            self.warn()
        reservation.expired = True

    def reached(self) -> int:
        """The highest warning that holds, 0 for none. A limit of zero warns of nothing: it is meant so."""
        limit = self.budget.limit
        for percent in WARNINGS:
            if limit > 0 and self.spent * 100 >= limit * percent:
                return percent
        return 0

    def warn(self) -> None:
        """Note what is to be told."""
        self.warned = max(self.warned, self.reached())

    def rearm(self) -> None:
        """The limit changed: warnings that do not hold any more will be given again."""
        self.warned = min(self.warned, self.reached())
        self.told = min(self.told, self.warned)
