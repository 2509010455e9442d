"""Ids a client makes up, and the signature of an mtop call."""

from __future__ import annotations

import re
from random import Random

from frontdesk.connection_gateway.platforms.goofish.wire import ids
from frontdesk.connection_gateway.platforms.goofish.wire.sign import sign, token_of
from frontdesk.kit.clock import ManualClock


def test_signature_matches_the_golden_vector() -> None:
    """The published example signs to the published digest."""
    assert (
        sign("0123456789abcdef0123456789abcdef", "1700000000000", '{"itemId":"900000000001"}')
        == "c56c45bd3a9f28ac33d74c99fb7c0ced"
    )


def test_signing_token_is_the_cookie_before_the_underscore() -> None:
    """Expiry is no part of the token, and no cookie is an empty token."""
    assert token_of("abc_1700000000000") == "abc"
    assert token_of("") == ""


def test_mids_of_one_millisecond_differ() -> None:
    """A thousand requests of one millisecond have a thousand mids of the documented form."""
    mids = ids.Mids(ManualClock(), Random(1))
    made = [mids.new() for _ in range(1000)]
    assert len(set(made)) == 1000
    assert all(re.fullmatch(r"\d{1,3}1700000000000 0", mid) for mid in made)


def test_mid_key_is_the_part_before_the_space() -> None:
    """An answer is matched whether or not it echoes the trailing part."""
    assert ids.mid_key("4821795227256466 0") == ids.mid_key("4821795227256466") == "4821795227256466"


def test_send_uuid_depends_on_the_outgoing_id_alone() -> None:
    """A repeat has the uuid of the first try; another outgoing id has another."""
    assert ids.send_uuid("d1.1") == ids.send_uuid("d1.1")
    assert ids.send_uuid("d1.1") != ids.send_uuid("d1.2")
    assert re.fullmatch(r"-\d{17}1", ids.send_uuid("d1.1"))


def test_device_id_is_an_upper_case_uuid4_with_the_user() -> None:
    """The random source decides the device id."""
    made = ids.device_id("2200000000001", Random(7))
    assert made == ids.device_id("2200000000001", Random(7))
    assert re.fullmatch(
        r"[0-9A-F]{8}-[0-9A-F]{4}-4[0-9A-F]{3}-[89AB][0-9A-F]{3}-[0-9A-F]{12}-2200000000001", made
    )
    assert ids.device_id("2200000000001") != ids.device_id("2200000000001")


def test_addresses_gain_and_lose_the_suffix_once() -> None:
    """`address` and `bare` are idempotent inverses, and `bare` refuses what is no id."""
    assert ids.address("5") == ids.address("5@goofish") == "5@goofish"
    assert ids.bare("5@goofish") == ids.bare("5") == ids.bare(5) == "5"
    assert ids.bare(True) == ids.bare(None) == ids.bare(["5"]) == ""


def test_a_pair_is_ordered_by_number_not_by_text() -> None:
    """900 comes before 2200000000001."""
    assert ids.ordered_pair("2200000000001", "900") == ("900", "2200000000001")
    assert ids.ordered_pair("900", "2200000000001") == ("900", "2200000000001")
