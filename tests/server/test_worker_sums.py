"""What several workers counted is shown as what one server counted."""

from __future__ import annotations

import itertools
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import parser

import tools
from tickcell.server.config import Limits
from tickcell.server.monitoring.metrics import Metrics
from tickcell.server.observer import Observer
from tickcell.server.store.contract import Counts, Sizes
from tickcell.server.workers.sums import Sums

# The parent's to say, or of the process that is asked.
_APART = ("tickcell_serving", "tickcell_workers", "process_")

_counts = st.lists(st.integers(0, 2**40), min_size=4, max_size=4)


def observer_of(counts: list[int]) -> Observer:
    """An observer of one worker, which has heard of so much."""
    applied, refused, tick_ns, streams = counts
    observer = Observer()
    model = observer.counts_of("aa", "drive", "1")
    model.applied = applied
    model.tick.note(tick_ns)
    observer.refused_counts["STEP_GAP"] = refused
    observer.open_streams = streams
    observer.store_holds(Counts(7, 3), Sizes(4096, 512))
    return observer


def text_of(observer: Observer) -> str:
    return Metrics(observer, Limits()).text().decode()


def samples(text: str | bytes) -> dict[tuple[str, Any], float]:
    """Returns all numbers that are neither the parent's own nor of a process."""
    text = text if isinstance(text, str) else text.decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in parser.text_string_to_metric_families(text)
        for sample in family.samples
        if not sample.name.startswith(_APART)
    }


def value(text: bytes, name: str) -> float:
    (found,) = [
        sample.value
        for family in parser.text_string_to_metric_families(text.decode())
        for sample in family.samples
        if sample.name == name
    ]
    return found


@given(st.lists(_counts, min_size=1, max_size=4))
def test_sums_are_what_one_server_would_have_counted(workers: list[list[int]]) -> None:
    observers = [observer_of(counts) for counts in workers]
    alone = observer_of([sum(each) for each in zip(*workers, strict=True)])
    tick = alone.counts_of("aa", "drive", "1").tick
    tick.total = sum(counts[2] for counts in workers)
    each = [observer.counts_of("aa", "drive", "1").tick.counts for observer in observers]
    tick.counts = [sum(bucket) for bucket in zip(*each, strict=True)]
    expected = samples(text_of(alone))
    expected["tickcell_streams_limit", ()] *= len(workers)
    summed = samples(Sums().text([text_of(observer) for observer in observers], len(workers)))
    assert summed.keys() == expected.keys()
    for key, number in summed.items():
        # A sum of seconds is one of fractions.
        assert abs(number - expected[key]) <= 1e-9 * abs(expected[key]), key


@given(st.lists(_counts, min_size=1, max_size=4), st.data())
def test_what_a_worker_counted_stays_counted_when_it_is_gone(
    workers: list[list[int]], data: st.DataObject
) -> None:
    texts = [text_of(observer_of(counts)) for counts in workers]
    gone = data.draw(st.integers(0, len(texts)))
    sums = Sums()
    for text in texts[:gone]:
        sums.leave(text, is_lost=False)
    shown = samples(sums.text(texts[gone:], 1))
    whole = samples(Sums().text(texts, 1))
    gauges = {"tickcell_streams", "tickcell_streams_limit", "tickcell_build_info"}
    for key, number in whole.items():
        if key[0] not in gauges and "store_" not in key[0] and key[0] != "tickcell_sessions_limit":
            assert abs(shown[key] - number) <= 1e-9 * abs(number), key
    streams = sum(counts[3] for counts in workers[gone:])
    assert shown.get(("tickcell_streams", ()), 0) == streams


def test_what_is_of_the_store_is_shown_once() -> None:
    shown = samples(Sums().text([text_of(observer_of([1, 1, 1, 1]))] * 3, 3))
    assert shown["tickcell_store_sessions", (("state", "live"),)] == 7
    assert shown["tickcell_store_database_bytes", ()] == 4096
    assert shown["tickcell_sessions_limit", ()] == Limits().max_sessions
    (info,) = [number for key, number in shown.items() if key[0] == "tickcell_build_info"]
    assert info == 1


def test_parent_says_how_many_serve_and_how_many_were_lost() -> None:
    sums = Sums()
    text = text_of(observer_of([1, 1, 1, 1]))
    for serving, lost in itertools.product((0, 2), (0, 1)):
        if lost:
            sums.leave(text, is_lost=True)
        shown = sums.text([text] * serving, serving)
        assert value(shown, "tickcell_workers") == serving
        assert value(shown, "tickcell_serving") == (serving > 0)
    assert value(shown, "tickcell_workers_lost_total") == 2


def test_promtool_finds_nothing_to_complain_of() -> None:
    sums = Sums()
    sums.leave(text_of(observer_of([5, 5, 5, 5])), is_lost=True)
    text = sums.text([text_of(observer_of([1, 2, 3, 4]))] * 2, 2)
    tools.promtool("check", "metrics", text=text.decode())
