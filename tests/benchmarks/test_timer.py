"""The timer against a clock and a device that do only what they are told."""

import pytest
import torch

from benchmarks.timer import Readings, Timer, synchroniser


class Machine:
    """A device that works when it is waited for, and a clock that only its work moves.

    ``log`` holds what happened, in order.
    """

    def __init__(self):
        self.now = 100.0
        self.queued = 0.0
        self.log = []

    def launch(self, name, seconds):
        """A call that returns at once and leaves ``seconds`` of work on the device."""

        def call():
            self.log.append(name)
            self.queued += next(seconds) if hasattr(seconds, "__next__") else seconds

        return call

    def synchronise(self):
        self.log.append("sync")
        self.now += self.queued
        self.queued = 0.0

    def clock(self):
        self.log.append("clock")
        return self.now

    def timer(self, **settings):
        return Timer(self.synchronise, self.clock, **settings)


def test_a_reading_waits_for_the_device_before_each_look_at_the_clock():
    machine = Machine()
    readings = machine.timer(repetitions=1, warm_ups=0)({"a": machine.launch("a", 3.0)})
    assert machine.log == ["sync", "clock", "a", "sync", "clock"]
    assert readings["a"].values == (3.0,)


def test_work_from_before_is_not_counted():
    machine = Machine()
    machine.queued = 50.0
    readings = machine.timer(repetitions=1, warm_ups=0)({"a": machine.launch("a", 3.0)})
    assert readings["a"].values == (3.0,)


def test_it_warms_up_and_interleaves():
    machine = Machine()
    first_is_slow = iter([90.0, 1.0, 2.0, 4.0])
    sides = {"a": machine.launch("a", first_is_slow), "b": machine.launch("b", 5.0)}
    readings = machine.timer(repetitions=3, warm_ups=1)(sides)
    assert [entry for entry in machine.log if entry in sides] == list("abababab")
    assert readings["a"].values == (1.0, 2.0, 4.0)
    assert readings["b"].values == (5.0, 5.0, 5.0)


def test_shorter_calls_may_warm_up():
    machine = Machine()
    sides = {"long": machine.launch("long", 9.0)}
    machine.timer(repetitions=2, warm_ups=2)(sides, warm={"short": machine.launch("short", 1.0)})
    calls = [entry for entry in machine.log if entry in ("long", "short")]
    assert calls == ["short", "short", "long", "long"]


def test_short_calls_are_repeated_within_a_reading():
    machine = Machine()
    readings = machine.timer(repetitions=2, least=1.0)({"a": machine.launch("a", 0.25)})
    assert machine.log.count("a") == 1 + 2 * 4
    assert readings["a"].values == (0.25, 0.25)


def test_median_spread_and_ratio():
    ours = Readings((5.0, 1.0, 2.0, 40.0, 3.0))
    assert ours.median == 3.0
    assert ours.spread == 5.0 - 2.0
    assert Readings((7.0,)).spread == 0.0
    # Round by round: what slowed both sides of a round is no difference.
    assert ours.over(Readings((10.0, 2.0, 4.0, 80.0, 6.0))).values == (0.5,) * 5
    assert ours.per(2).values == (2.5, 0.5, 1.0, 20.0, 1.5)
    assert ours.record() == {"median": 3.0, "spread": 3.0, "values": [5.0, 1.0, 2.0, 40.0, 3.0]}


def test_a_cpu_is_not_waited_for_and_a_gpu_is(monkeypatch):
    waited = []
    monkeypatch.setattr(torch.cuda, "synchronize", waited.append)
    synchroniser(torch.device("cpu"))()
    assert waited == []
    synchroniser(torch.device("cuda", 0))()
    assert waited == [torch.device("cuda", 0)]


def test_sides_of_different_length_have_no_ratio():
    with pytest.raises(ValueError):
        Readings((1.0,)).over(Readings((1.0, 2.0)))
