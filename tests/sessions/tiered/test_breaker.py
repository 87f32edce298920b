"""The circuit breaker: when it opens, probes and closes."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sidecar.sessions.tiered.breaker import Breaker, State


def opened(breaker: Breaker, now: float = 0.0) -> Breaker:
    """The breaker, after a certain failure."""
    assert breaker.failed(now, 0.0, certain=True)
    return breaker


def test_recovery_is_noticed_within_two_seconds() -> None:
    """However long the outage was, two probes fit into two seconds, in case one fails."""
    breaker, now = opened(Breaker()), 0.0
    for _ in range(20):
        assert breaker.due - now <= 0.75
        now = breaker.due
        assert breaker.probe(now)
        breaker.probed(now, 0.999, well=False)


@pytest.mark.parametrize(
    ("steps", "state"),
    [
        pytest.param("", State.CLOSED, id="new"),
        pytest.param("ff", State.CLOSED, id="fewer failures than it takes"),
        pytest.param("fff", State.OPEN, id="enough failures"),
        pytest.param("ffsff", State.CLOSED, id="a success between starts the count again"),
        pytest.param("c", State.OPEN, id="a certain failure"),
        pytest.param("fffs", State.OPEN, id="a success that began before"),
        pytest.param("fffffff", State.OPEN, id="failures that began before"),
    ],
)
def test_when_it_opens(steps: str, state: State) -> None:
    """Three consecutive failures open it, or one that is certain."""
    breaker = Breaker(threshold=3)
    for step in steps:
        if step == "s":
            breaker.succeeded()
        else:
            breaker.failed(0.0, 0.0, certain=step == "c")
    assert breaker.state is state
    assert breaker.closed is (state is State.CLOSED)


def test_it_reports_once_that_it_opened() -> None:
    """`failed` returns True only to the caller that opened it."""
    breaker = Breaker(threshold=2)
    assert [breaker.failed(0.0, 0.0) for _ in range(4)] == [False, True, False, False]


def test_one_probe_at_a_time() -> None:
    """A probe is due after the interval. No other is due until its outcome is reported."""
    breaker = opened(Breaker(interval=1.0), now=10.0)
    assert not breaker.probe(10.49)
    assert breaker.probe(10.5)
    assert breaker.state is State.HALF_OPEN
    assert not breaker.closed
    assert not breaker.probe(99.0)
    breaker.probed(10.6, 0.0, well=True)
    assert breaker.closed
    assert not breaker.probe(99.0)


@pytest.mark.parametrize(
    ("jitter", "intervals"),
    [
        pytest.param(0.0, [0.5, 1.0, 2.0, 2.5, 2.5], id="least"),
        pytest.param(0.5, [0.75, 1.5, 3.0, 3.75, 3.75], id="middle"),
    ],
)
def test_the_interval_doubles_up_to_a_limit(jitter: float, intervals: list[float]) -> None:
    """Each failed probe doubles the interval; jitter spreads the probes of a fleet."""
    breaker = Breaker(interval=1.0, longest=5.0)
    breaker.failed(0.0, jitter, certain=True)
    now, waited = 0.0, []
    for _ in intervals:
        waited.append(breaker.due - now)
        now = breaker.due
        assert breaker.probe(now)
        breaker.probed(now, jitter, well=False)
    assert waited == intervals


def test_a_recovery_resets_the_interval() -> None:
    """The next outage starts with the shortest interval again."""
    breaker = opened(Breaker(interval=1.0))
    for now in (1.0, 3.0, 7.0):
        assert breaker.probe(now)
        breaker.probed(now, 0.0, well=now == 7.0)
    assert opened(breaker, now=20.0).due == 20.5


def test_an_outcome_without_a_probe_raises() -> None:
    """Only a probe that is under way may close it."""
    with pytest.raises(RuntimeError, match="breaker is closed"):
        Breaker().probed(0.0, 0.0, well=True)


def test_repr() -> None:
    """It shows the state, the failures and the next probe."""
    assert repr(opened(Breaker(interval=1.0))) == "<Breaker open, 1 failures, next probe 0.500>"


class Breakers(RuleBasedStateMachine):
    """Any order of events, checked against the invariants of a breaker."""

    def __init__(self) -> None:
        super().__init__()
        self.breaker = Breaker(threshold=3, interval=1.0, longest=8.0)
        self.now = 0.0
        self.consecutive = 0
        self.probing = False

    @rule(seconds=st.floats(0, 10))
    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.now += seconds

    @rule()
    def succeed(self) -> None:
        """A request succeeded."""
        if self.breaker.closed:
            self.consecutive = 0
        self.breaker.succeeded()

    @rule(jitter=st.floats(0, 0.999), certain=st.booleans())
    def fail(self, jitter: float, certain: bool) -> None:  # noqa: FBT001 (hypothesis draws it)
        """A request failed."""
        was_closed = self.breaker.closed
        self.consecutive += was_closed
        opens = was_closed and (certain or self.consecutive >= 3)
        assert self.breaker.failed(self.now, jitter, certain=certain) is opens
        if opens:
            self.consecutive = 0
            assert self.now + 0.5 <= self.breaker.due <= self.now + 1.0

    @rule()
    def ask(self) -> None:
        """Ask for a probe."""
        due = self.breaker.state is State.OPEN and self.now >= self.breaker.due
        granted = self.breaker.probe(self.now)
        assert granted is due
        assert not (granted and self.probing)
        self.probing = self.probing or granted

    @precondition(lambda self: self.probing)
    @rule(jitter=st.floats(0, 0.999), well=st.booleans())
    def report(self, jitter: float, well: bool) -> None:  # noqa: FBT001 (hypothesis draws it)
        """Report the probe's outcome."""
        self.breaker.probed(self.now, jitter, well=well)
        self.probing = False
        assert self.breaker.closed is well

    @invariant()
    def probing_is_half_open(self) -> None:
        """It is half-open exactly while a probe is under way, and the next is soon due."""
        assert (self.breaker.state is State.HALF_OPEN) is self.probing
        if self.breaker.state is State.OPEN:
            assert self.breaker.due <= self.now + 8.0


TestBreakers = Breakers.TestCase
TestBreakers.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
