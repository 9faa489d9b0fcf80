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
    pace = Pace(min_interval=1.0, first_retry=2.0, growth=2.0, longest_retry=10.0, doubtful=2)
    return Queue(pace, clock=clock, jitter=lambda: 1.0)


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


def failed(queue: Queue, clock: Clock, *names: str) -> None:
    """These failed once, and are due again."""
    for name in names:
        queue.add(name)
        assert queue.take(0) == name
        queue.done(name, failed=True)
    clock.now += 10.0


def test_many_that_failed_leave_workers_for_the_others() -> None:
    clock = Clock()
    queue = make(clock)
    failed(queue, clock, "dead1", "dead2", "dead3", "dead4")
    queue.add("well")
    assert [queue.take(0) for _ in range(4)] == ["dead1", "dead2", "well", None]
    assert queue.depth() == 2, "those that wait are still due"
    queue.done("dead1", failed=True)
    assert [queue.take(0) for _ in range(2)] == ["dead3", None]
    queue.done("dead2")
    assert queue.take(0) == "dead4"


def test_one_that_is_hurried_is_not_held_back_by_those_that_failed() -> None:
    clock = Clock()
    queue = make(clock)
    failed(queue, clock, "dead1", "dead2", "guest", "forgotten")
    assert [queue.take(0) for _ in range(3)] == ["dead1", "dead2", None]
    queue.forget("forgotten")
    queue.hurry("guest")
    assert [queue.take(0) for _ in range(2)] == ["guest", None]
    assert queue.done("guest", failed=True) == 2.0, "and its back-off begins anew"


def test_a_place_that_gets_free_wakes_who_waits() -> None:
    queue = Queue(Pace(min_interval=0.0, first_retry=0.0, doubtful=1), jitter=lambda: 1.0)
    for name in ("dead1", "dead2"):
        queue.add(name)
    for taken in (queue.take(0), queue.take(0)):
        queue.done(taken or "", failed=True)
    assert queue.take(0) == "dead1"
    got: list[str | None] = []
    waiting = threading.Thread(target=lambda: got.append(queue.take()))
    waiting.start()
    try:
        queue.done("dead1")
        waiting.join(10)
        assert got == ["dead2"]
    finally:
        queue.close()
        waiting.join(10)


def test_what_comes_up_late_is_seen_soon_after() -> None:
    clock = Clock()
    queue = Queue(clock=clock, jitter=lambda: 1.0)
    queue.add("guest")

    def tried() -> float:
        assert queue.take(0) == "guest"
        wait = queue.done("guest", failed=True)
        assert wait is not None
        clock.now += wait
        return wait

    while clock.now < 190.0:
        wait = tried()
    assert wait < 25.0, "after a minute and a half"
    assert [tried() for _ in range(20)][-1] == 60.0


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
