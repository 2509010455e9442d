"""What can be made to go wrong, for one seller or for all."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from frontdesk.kit.errors import InvalidArgument


@dataclass(slots=True)
class Faults:
    """Options of the control API's `faults`; fractions are 0 to 1, counts are used up."""

    slow_answers_ms: int = 0
    """Every answer on the socket and over HTTP comes so late."""
    drop_send_answers: float = 0.0
    """Fraction of sends that are stored and never answered."""
    reject_sends: str = ""
    """`moreInfo` with which sends are refused, e.g. `CSI_FORBID||安全拦截`."""
    temporary_send_errors: int = 0
    """So many sends are refused with "system is error"."""
    half_open: bool = False
    """Nothing is read or written any more; the socket stays open."""
    zombie: bool = False
    """Heartbeats are answered, pushes are not sent."""
    duplicate_pushes: float = 0.0
    """Fraction of pushes that come twice."""
    reorder_pushes: float = 0.0
    """Fraction of pushes that come 50 ms late."""
    batch_pushes: int = 1
    """So many messages share a frame."""
    missed_pushes: float = 0.0
    """Fraction of messages that are stored and never pushed."""
    replay_on_reconnect: bool = False
    """Messages of an absence are pushed after the next login that asked with getState."""
    malformed_frames: int = 0
    """So many broken frames come before the next pushes."""
    plain_payloads: float = 0.0
    """Fraction of payloads in base64 of JSON instead of MessagePack."""
    reg_reject: str = ""
    """`/reg` is refused with this reason, code 401."""
    refuse_connections: bool = False
    """The upgrade is answered with 503."""
    before_ready_400: bool = False
    """Requests before /s/vulcan are answered 400."""
    forged_ackdiff_400: bool = False
    """ackDiff without a getState before it is answered 400."""
    repush_ms: int = 10_000
    """A push without acknowledgement comes again after this; 0 for never."""
    risk_control: bool = False
    """Every mtop call is answered with the check for robots."""
    html: bool = False
    """Every HTTP call is answered with a page."""
    http_status: int = 0
    """Every HTTP call is answered with this status."""
    mtop_errors: dict[str, str] = field(default_factory=dict)
    """`ret` by name of the call."""
    token_life_ms: int = 0
    """New access tokens live so long; 0 for a day."""


_FIELDS = {f.name: f for f in fields(Faults)}
DEFAULT = Faults()


def changed(faults: Faults, options: dict[str, object]) -> Faults:
    """`faults` with `options` on top; raises InvalidArgument naming the option."""
    values = {name: getattr(faults, name) for name in _FIELDS}
    for name, given in options.items():
        if name not in _FIELDS:
            raise InvalidArgument(name, "is no fault")
        wanted = type(getattr(DEFAULT, name))
        whole = isinstance(given, int) and not isinstance(given, bool)
        value = float(str(given)) if wanted is float and whole else given
        if type(value) is not wanted:
            raise InvalidArgument(name, f"must be a {wanted.__name__}")
        if isinstance(value, dict) and not all(isinstance(ret, str) for ret in value.values()):
            raise InvalidArgument(name, "must be texts by name of the call")
        if isinstance(value, (int, float)) and not isinstance(value, bool) and value < 0:
            raise InvalidArgument(name, "must not be negative")
        if isinstance(value, float) and value > 1:
            raise InvalidArgument(name, "is a fraction from 0 to 1")
        values[name] = value
    return Faults(**values)


class FaultBook:
    """The faults of all, and of single sellers, which count before those."""

    def __init__(self) -> None:
        self._all = Faults()
        self._single: dict[str, Faults] = {}

    def of(self, user_id: str) -> Faults:
        """What goes wrong for a seller."""
        return self._single.get(user_id, self._all) if self._single else self._all

    def set(self, user_id: str | None, options: dict[str, object]) -> Faults:
        """Change the faults of a seller, or of all."""
        if user_id is None:
            self._all = changed(self._all, options)
            return self._all
        self._single[user_id] = changed(self._single.get(user_id, self._all), options)
        return self._single[user_id]

    def clear(self) -> None:
        """All is well again."""
        self._all, self._single = Faults(), {}
