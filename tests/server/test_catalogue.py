"""Which model a new session gets, and which one a session finds that is pinned to it."""

from __future__ import annotations

import pytest

from doubles.counting_cell import CountingCell
from doubles.in_process_server import served
from server.world import World
from tickcell.server import errors
from tickcell.server.catalogue import Catalogue, CatalogueError, ServedModel, version_number
from tickcell.server.store import Served

V1, V2, V10 = (served(CountingCell(), "drive", version) for version in ("1", "2", "10"))
WORD = served(CountingCell(), "drive", "of-may")
OTHER = served(CountingCell(), "other", "7")


def server_of(*models: ServedModel) -> Served:
    """What a server of some models announces."""
    return Catalogue(models).served


class TestNewSession:
    def test_newest_is_the_largest_whole_number(self) -> None:
        catalogue = Catalogue([V2, V10, V1])
        assert catalogue.find("drive", "") is V10
        assert catalogue.find("", "") is V10

    def test_pinned_version_is_the_one_that_is_named(self) -> None:
        assert Catalogue([V1, V2, V10]).find("drive", "2") is V2

    def test_among_words_there_is_no_newest(self) -> None:
        with pytest.raises(errors.ArgumentInvalid, match="expected one of: drive of-may, drive 1"):
            Catalogue([V1, WORD]).find("drive", "")

    def test_among_models_one_is_to_be_named(self) -> None:
        catalogue = Catalogue([V1, V2, OTHER])
        with pytest.raises(errors.ArgumentInvalid, match="expected one of"):
            catalogue.find("", "")
        assert catalogue.find("", "7") is OTHER

    def test_newest_counts_once_every_server_has_it(self) -> None:
        catalogue = Catalogue([V1, V2])
        catalogue.hear([server_of(V1, V2), server_of(V1)])
        assert catalogue.find("drive", "") is V1
        assert catalogue.find("drive", "2") is V2
        catalogue.hear([server_of(V1, V2), server_of(V1, V2)])
        assert catalogue.find("drive", "") is V2

    def test_same_version_with_another_content_is_another(self) -> None:
        catalogue = Catalogue([V1, V2])
        exchanged = ServedModel.of(V2.card, V2.cell, "f" * 64)
        catalogue.hear([server_of(V1, exchanged)])
        assert catalogue.find("drive", "") is V1

    def test_servers_with_nothing_in_common_give_their_own_newest(self) -> None:
        catalogue = Catalogue([V1, V2])
        catalogue.hear([server_of(OTHER)])
        assert catalogue.find("drive", "") is V2

    def test_retired_version_is_common_where_it_is_still_loaded(self) -> None:
        catalogue, peer = Catalogue([V1, V2]), Catalogue([V1, V2])
        peer.withdraw(V2.place)
        catalogue.hear([peer.served])
        assert catalogue.find("drive", "") is V2

    def test_what_another_server_has_may_come_here_too(self) -> None:
        catalogue = Catalogue([V1])
        catalogue.retry_s = 1.0
        catalogue.hear([server_of(V1, V2)])
        with pytest.raises(errors.ModelUnknown) as late:
            catalogue.find("drive", "2")
        with pytest.raises(errors.ModelUnknown) as never:
            catalogue.find("drive", "3")
        assert (late.value.retry_s, never.value.retry_s) == (1.0, None)

    def test_server_without_models_says_so(self) -> None:
        with pytest.raises(errors.ModelUnknown, match="served are: none"):
            Catalogue().find("", "")


class TestChange:
    def test_withdrawn_version_is_no_session_s_but_can_be_looked_at(self) -> None:
        catalogue = Catalogue([V1, V2])
        catalogue.withdraw(V2.place)
        assert catalogue.find("drive", "") is V1
        assert list(catalogue) == [V1]
        assert catalogue.get("drive", "2") is V2
        with pytest.raises(errors.ModelUnknown):
            catalogue.find("drive", "2")

    def test_session_goes_on_with_what_it_is_pinned_to_until_that_is_dropped(self) -> None:
        world = World()
        record = world.create("a")
        catalogue, model = world.catalogue, world.model
        exchanged = ServedModel.of(model.card, CountingCell(), "f" * 64)
        catalogue.offer(exchanged)
        assert catalogue.find("counting", "1") is exchanged
        assert catalogue.pinned_to(record, "a") is model
        catalogue.withdraw(model.place)
        assert catalogue.pinned_to(record, "a") is model
        assert catalogue.drop(model.fingerprint) is model
        with pytest.raises(errors.ModelNotServed):
            catalogue.pinned_to(record, "a")

    def test_version_kept_for_its_sessions_is_loaded_and_not_offered(self) -> None:
        catalogue = Catalogue([V1])
        catalogue.keep(V2)
        assert catalogue.find("drive", "") is V1
        assert catalogue.served == Served(frozenset([V1.pin, V2.pin]), frozenset([V1.pin]))

    def test_two_bundles_of_one_name_are_refused_at_the_start(self) -> None:
        with pytest.raises(CatalogueError, match="two bundles are called drive 1"):
            Catalogue([V1, served(CountingCell(), "drive", "1")])

    def test_models_are_in_order(self) -> None:
        models = [OTHER, V10, WORD, V2, V1]
        assert list(Catalogue(models)) == [WORD, V1, V2, V10, OTHER]


@pytest.mark.parametrize(
    ("text", "number"),
    [("1", 1), ("10", 10), ("9" * 18, 10**18 - 1)]
    + [(word, None) for word in ("0", "01", "-1", "1.0", "v1", "", " 1", "1\n", "٣", "9" * 19)],
)
def test_version_is_a_number_without_ornament(text: str, number: int | None) -> None:
    assert version_number(text) == number
