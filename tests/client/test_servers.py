"""Which of several servers is asked, and that they are of one store."""

from __future__ import annotations

from collections import Counter

import pytest

from tickcell.client import address as addresses
from tickcell.client import errors
from tickcell.client.backoff import Backoff
from tickcell.client.servers import Servers

THREE = addresses.parse_all("a:1,b:1,c:1")
AWAY = errors.LostError("UNAVAILABLE: refused", "UNAVAILABLE")


def visited(session: str, given: str = "a:1,b:1,c:1") -> list[str]:
    """Returns the addresses in the order in which they are asked while none answers."""
    servers = Servers(addresses.parse_all(given), session)
    order = []
    for _ in servers.addresses:
        order.append(servers.current.text)
        servers.leave(servers.current)
    assert servers.current.text == order[0]
    return order


def test_sessions_spread_over_the_servers_and_over_the_rest_when_one_is_away() -> None:
    orders = [visited(f"car-{number}") for number in range(600)]
    assert min(Counter(order[0] for order in orders).values()) > 150
    after_a = Counter(order[1] for order in orders if order[0] == "a:1")
    assert min(after_a["b:1"], after_a["c:1"]) > 60


def test_a_session_s_order_is_always_the_same_however_the_addresses_are_given() -> None:
    assert visited("car-7") == visited("car-7") == visited("car-7", "c:1,a:1,b:1")


def test_without_a_session_the_order_is_the_one_given() -> None:
    assert visited("") == ["a:1", "b:1", "c:1"]


def test_two_that_leave_one_server_go_on_by_one() -> None:
    servers = Servers(THREE)
    servers.leave(THREE[0])
    servers.leave(THREE[0])
    assert servers.current is THREE[1]


def test_addresses_come_with_commas_or_as_a_list() -> None:
    assert addresses.parse_all(["a:1", "b:1", "c:1"]) == THREE
    assert addresses.parse_all("a:1") == THREE[:1]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("", "expected HOST:PORT"),
        ("a:1,", "got '', expected HOST:PORT"),
        ("a:1, b:1", "got ' b:1', expected HOST:PORT"),
        ("a:1,b:1,a:1", "each of them once"),
        ([], "at least one"),
        (["a:1", 7], "a string, or a list of them"),
    ],
)
def test_what_is_no_list_of_addresses_is_refused(given: str | list[str], expected: str) -> None:
    with pytest.raises(errors.AddressError, match=expected):
        addresses.parse_all(given)


def test_a_server_of_another_store_is_named_with_both_stores() -> None:
    servers = Servers(THREE)
    servers.check_store(THREE[0], "one")
    with pytest.raises(errors.StoreDiffersError) as differs:
        servers.check_store(THREE[1], "two")
    assert str(differs.value) == (
        "b:1: keeps sessions in the store two, expected one, as others of a:1,b:1,c:1; "
        "all servers of a client must share one store."
    )
    servers.check_store(THREE[2], "one")


def test_a_store_that_all_servers_have_instead_is_the_one_that_was_restored() -> None:
    servers = Servers(THREE[:2])
    servers.check_store(THREE[0], "one")
    servers.check_store(THREE[1], "one")
    with pytest.raises(errors.StoreDiffersError):
        servers.check_store(THREE[0], "restored")
    servers.check_store(THREE[1], "restored")
    servers.check_store(THREE[0], "restored")


def test_a_store_that_has_the_life_that_is_meant_is_the_one_that_was_restored() -> None:
    servers = Servers(THREE)
    servers.check_store(THREE[0], "one")
    servers.check_store(THREE[0], "restored", is_proven=True)
    servers.check_store(THREE[1], "restored")


def test_all_servers_are_asked_before_the_first_wait() -> None:
    backoff = Backoff("three", 60.0, lambda: 0.0, server_count=3)
    away = errors.StoreAwayError("STORE_AWAY")
    away.retry_s = 1.0
    delays = [backoff.after(each) for each in [AWAY, away, AWAY, AWAY, AWAY, AWAY]]
    # As long as the one that said so asks for; then as gRPC would.
    assert delays == [0.0, 0.0, 1.0, 0.0, 0.0, 0.1]
    backoff.answered()
    assert backoff.after(AWAY) == 0.0


def test_each_server_is_asked_once_also_where_nothing_is_tried_again() -> None:
    backoff = Backoff("two", 0.0, lambda: 0.0, server_count=2)
    assert backoff.after(AWAY) == 0.0
    with pytest.raises(errors.UnavailableError):
        backoff.after(AWAY)


def test_what_another_server_would_say_too_waits() -> None:
    backoff = Backoff("two", 60.0, lambda: 0.0, server_count=2)
    assert backoff.after(errors.OwnerRateExceededError("slow down")) == 0.05


NOT_SERVED = errors.ModelNotServedError("MODEL_NOT_SERVED")


@pytest.mark.parametrize(
    "refused",
    [
        NOT_SERVED,
        errors.ModelUnknownError("MODEL_UNKNOWN"),
        errors.NumericsChangedError("NUMERICS_CHANGED"),
        errors.RecordNewerError("RECORD_NEWER"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_one_server_cannot_do_is_raised_when_all_have_said_so(
    refused: errors.RefusedError,
) -> None:
    backoff = Backoff("three", 60.0, lambda: 0.0, server_count=3)
    assert [backoff.after(refused) for _ in range(2)] == [0.0, 0.0]
    with pytest.raises(type(refused)):
        backoff.after(refused)
    with pytest.raises(type(refused)):
        Backoff("one", 60.0, lambda: 0.0).after(refused)


@pytest.mark.parametrize("order", [[NOT_SERVED, AWAY], [AWAY, NOT_SERVED]])
def test_a_server_that_is_away_may_do_later_what_the_others_cannot(
    order: list[errors.TickcellError],
) -> None:
    backoff = Backoff("two", 60.0, lambda: 0.0, server_count=2)
    assert [backoff.after(each) for each in order] == [0.0, 0.05]


def test_what_every_server_would_refuse_is_raised_though_another_is_away() -> None:
    backoff = Backoff("two", 60.0, lambda: 0.0, server_count=2)
    assert backoff.after(AWAY) == 0.0
    with pytest.raises(errors.StepConflictError):
        backoff.after(errors.StepConflictError("no"))
