"""The pool's bookkeeping: no slot is lent twice or leaked, and waiters are served in order."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sidecar.proxy.pool import Pool


@dataclass(eq=False)
class Link:
    """A connection, reduced to what the pool needs."""

    name: str
    reusable: bool = True


def filled(limit: int, names: str) -> tuple[Pool[Link, str], list[Link]]:
    """Return a pool and its connections, all of them leased."""
    pool: Pool[Link, str] = Pool(limit)
    links = [Link(name) for name in names]
    for link in links:
        assert pool.reserve()
        pool.opened(link)
    return pool, links


def test_the_last_used_is_taken_first() -> None:
    """The most recently used connection is taken first, so surplus ones age and are closed."""
    pool, (a, b, c) = filled(3, "abc")
    assert pool.take() is None
    for link in (a, b, c):
        assert pool.release(link) is None
    assert pool.idle == [a, b, c]
    assert [pool.take(), pool.take()] == [c, b]
    assert pool.leased == {b, c}


def test_a_closing_connection_is_not_lent() -> None:
    """A closing connection keeps its slot until it is gone, but is not lent."""
    pool, (a, b, c) = filled(3, "abc")
    for link in (a, b, c):
        pool.release(link)
    b.reusable = c.reusable = False
    assert pool.take() is a
    assert not pool.reserve()
    assert pool.take() is None
    assert pool.discard(b)
    assert pool.discard(c)
    assert pool.reserve()


def test_the_limit_counts_all_three() -> None:
    """The limit applies to opening, leased and idle connections together."""
    pool, (idle, _) = filled(3, "ab")
    pool.release(idle)
    assert pool.reserve()
    assert not pool.reserve()
    assert repr(pool) == "<Pool idle=1 leased=1 opening=1 waiting=0 limit=3>"
    pool.not_opened()
    assert pool.reserve()


def test_a_released_connection_goes_to_who_waits() -> None:
    """A released connection goes straight to the next waiter and stays leased in between."""
    pool, (link,) = filled(1, "a")
    for waiter in ("a1", "a2", "b1"):
        pool.waiting.append(waiter[0], waiter)
    assert [pool.release(link) for _ in range(3)] == ["a1", "b1", "a2"]
    assert pool.leased == {link}
    assert pool.release(link) is None
    assert (pool.idle, pool.leased) == ([link], set())


def test_discard() -> None:
    """Discarding an idle or leased connection frees its slot once; a foreign one frees nothing."""
    pool, (a, b) = filled(2, "ab")
    pool.release(a)
    assert not pool.discard(Link("stranger"))
    for link in (a, b):
        assert pool.discard(link)
        assert not pool.discard(link)
    assert repr(pool) == "<Pool idle=0 leased=0 opening=0 waiting=0 limit=2>"


class Pools(RuleBasedStateMachine):
    """Requests arrive, are served and give up; connections open, fail and end.

    The machine drives the pool as an upstream pool does.
    """

    limit = 3

    def __init__(self) -> None:
        super().__init__()
        self.pool: Pool[Link, int] = Pool(self.limit)
        self.count = 0
        self.opening: list[int] = []  # requests that a connection is being opened for
        self.served: dict[Link, int] = {}  # each leased connection and the request it serves
        self.alive: list[Link] = []
        self.line: deque[int] = deque()  # queued requests, in the order they should be served

    @rule()
    def ask(self) -> None:
        """A request takes an idle connection, starts opening a new one, or waits."""
        self.count += 1
        usable = [link for link in self.pool.idle if link.reusable]
        link = self.pool.take()
        if link is not None:
            assert link is usable[-1]
            assert link not in self.served
            self.served[link] = self.count
            return
        assert not usable
        if self.pool.reserve():
            self.opening.append(self.count)
        else:
            assert len(self.alive) + len(self.opening) == self.limit
            self.pool.waiting.append("", self.count)
            self.line.append(self.count)

    @precondition(lambda self: self.opening)
    @rule(data=st.data())
    def open(self, data: st.DataObject) -> None:
        """A connection has been opened."""
        request = data.draw(st.sampled_from(self.opening))
        self.opening.remove(request)
        link = Link(f"for {request}")
        self.pool.opened(link)
        self.alive.append(link)
        self.served[link] = request

    @precondition(lambda self: self.opening)
    @rule(data=st.data())
    def fail(self, data: st.DataObject) -> None:
        """A connection could not be opened; the next waiter may try."""
        self.opening.remove(data.draw(st.sampled_from(self.opening)))
        self.pool.not_opened()
        self._open_for_next()

    @precondition(lambda self: any(link.reusable for link in self.served))
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        """A request finishes and releases its connection."""
        link = data.draw(st.sampled_from([link for link in self.served if link.reusable]))
        del self.served[link]
        waiter = self.pool.release(link)
        assert waiter == (self.line.popleft() if self.line else None)
        if waiter is not None:
            self.served[link] = waiter

    @precondition(lambda self: self.alive)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        """The peer ends a connection, idle or leased; it is not gone yet."""
        data.draw(st.sampled_from(self.alive)).reusable = False

    @precondition(lambda self: self.alive)
    @rule(data=st.data())
    def lose(self, data: st.DataObject) -> None:
        """A connection is gone."""
        link = data.draw(st.sampled_from(self.alive))
        self.alive.remove(link)
        self.served.pop(link, None)
        assert self.pool.discard(link)
        assert not self.pool.discard(link)
        self._open_for_next()

    @precondition(lambda self: self.line)
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        """A queued request stops waiting."""
        request = data.draw(st.sampled_from(list(self.line)))
        self.line.remove(request)
        assert self.pool.waiting.remove("", request)

    def _open_for_next(self) -> None:
        if self.pool.waiting and self.pool.reserve():
            request = self.pool.waiting.popleft()
            assert request == self.line.popleft()
            self.opening.append(request)

    @invariant()
    def slots_add_up(self) -> None:
        """Every connection is in exactly one place, and every slot is accounted for."""
        pool = self.pool
        assert len(pool.idle) == len(set(pool.idle))
        assert not pool.leased & set(pool.idle)
        assert pool.leased | set(pool.idle) == set(self.alive)
        assert pool.leased >= set(self.served)
        assert not any(link.reusable for link in pool.leased - set(self.served))
        assert pool.opening == len(self.opening)
        assert len(pool.idle) + len(pool.leased) + pool.opening <= self.limit

    @invariant()
    def nobody_waits_in_vain(self) -> None:
        """Requests wait in order of arrival, and only while no connection could serve them."""
        assert len(self.pool.waiting) == len(self.line)
        if self.line:
            assert self.pool.idle == []
            assert len(self.pool.leased) + self.pool.opening == self.limit


TestPools = Pools.TestCase
TestPools.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
