"""The queue of machine names, under a clock of its own."""

from __future__ import annotations

import threading

from hypothesis import given
from hypothesis import strategies as st

from controller.queue import Pace, Queue


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def make(clock: Clock) -> Queue:
    return Queue(Pace(min_interval=1.0, first_retry=2.0, longest_retry=10.0), clock=clock, jitter=lambda: 1.0)


def test_the_same_name_is_never_out_twice() -> None:
    clock = Clock()
    queue = make(clock)
    queue.add("a")
    queue.add("a")
    assert queue.take(0) == "a"
    queue.add("a")
    clock.now += 5
    assert queue.take(0) is None
    queue.done("a")
    assert queue.take(0) == "a", "what was added meanwhile comes afterwards"


def test_no_faster_than_the_rate() -> None:
    clock = Clock()
    queue = make(clock)
    queue.add("a")
    queue.take(0)
    queue.done("a")
    queue.add("a")
    assert queue.take(0) is None
    clock.now += 1.0
    assert queue.take(0) == "a"


def test_back_off_grows_is_bounded_and_ends_with_success() -> None:
    clock = Clock()
    queue = make(clock)
    queue.add("a")
    waits = []
    for _ in range(5):
        assert queue.take(0) == "a"
        wait = queue.done("a", failed=True)
        assert wait is not None
        waits.append(wait)
        clock.now += wait
    assert waits == [2.0, 4.0, 8.0, 10.0, 10.0]
    queue.take(0)
    assert queue.done("a", again_in=30.0) == 30.0
    clock.now += 30.0
    queue.take(0)
    assert queue.done("a", failed=True) == 2.0


def test_a_trigger_beats_back_off() -> None:
    clock = Clock()
    queue = make(clock)
    queue.add("a")
    queue.take(0)
    queue.done("a", failed=True)
    queue.add("a")
    clock.now += 1.0
    assert queue.take(0) == "a"


def test_close_wakes_everybody() -> None:
    queue = Queue()
    got: list[str | None] = []
    threads = [threading.Thread(target=lambda: got.append(queue.take())) for _ in range(3)]
    for thread in threads:
        thread.start()
    queue.close()
    for thread in threads:
        thread.join(10)
    assert got == [None, None, None]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["add", "take", "done", "fail", "forget", "wait"]))))
def test_no_name_is_lost_and_none_is_out_twice(steps: list[tuple[str, str]]) -> None:
    clock = Clock()
    queue = make(clock)
    out: set[str] = set()
    pending: set[str] = set()
    for name, step in steps:
        if step == "add":
            queue.add(name)
            pending.add(name)
        elif step == "take":
            taken = queue.take(0)
            if taken is not None:
                assert taken not in out
                out.add(taken)
                pending.discard(taken)
        elif step in {"done", "fail"} and name in out:
            out.discard(name)
            queue.done(name, failed=step == "fail")
            if step == "fail":
                pending.add(name)
        elif step == "forget" and name not in out:
            queue.forget(name)
            pending.discard(name)
        else:
            clock.now += 1.0
    for name in out:
        queue.done(name)
    clock.now += 100.0
    assert set(iter(lambda: queue.take(0), None)) == pending
