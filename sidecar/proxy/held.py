"""A bound on the memory that clients share; beyond it, who keeps most gives up.

Pure bookkeeping. Must not know what the holders keep, who their callers are or what giving up
means.
"""

from __future__ import annotations

from typing import Protocol


class Holder(Protocol):
    """Something that keeps octets, by identity."""

    def give_up(self) -> None:
        """Keep nothing any more; the caller has already forgotten this holder."""


class _Account:
    """What the holders of one caller keep."""

    __slots__ = ("caller", "held", "total")

    def __init__(self, caller: str) -> None:
        self.caller = caller
        self.held: dict[Holder, int] = {}  # the oldest first: a new value keeps its place
        self.total = 0

    def __repr__(self) -> str:
        return f"<_Account {self.total} octets of {self.caller}>"


class HeldOctets:
    """The octets that holders keep, at most `limit` in total, each holder's in a caller's name.

    A single connection may keep a whole head or a part of a body, but thousands may not. Beyond
    the limit, the caller that keeps most loses what it has kept for the longest time, so that its
    many requests push out no other caller's. If it keeps a single one, that is no more than its
    due: then the oldest of all gives up. A client that sends without pauses completes its request
    long before it is the oldest, however many others there are.

    Amounts count by their number of binary digits: if neither of two callers keeps twice as much as
    the other, either may be chosen. A choice thus takes as long for thousands of callers as for
    one. While there is room, nothing has to be chosen, and callers are not sorted.
    """

    __slots__ = ("_accounts", "_callers", "_limit", "_sizes", "total")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._accounts: dict[Holder, _Account] = {}  # the oldest first
        self._callers: dict[str, _Account] = {}
        # By the number of digits of their totals, without empty ones; None: not sorted
        self._sizes: dict[int, dict[_Account, None]] | None = None
        self.total = 0

    def __repr__(self) -> str:
        held, callers = len(self._accounts), len(self._callers)
        return f"<HeldOctets {self.total} of {self._limit} by {held} of {callers} callers>"

    def put(self, holder: Holder, octets: int, caller: str = "") -> None:
        """Let a holder keep this many octets instead of what it kept before; 0: it is done.

        While the total is over the limit, others give up, or `holder` itself. It counts for the
        caller of its first octets until it is done.
        """
        self._keep(holder, octets, caller)
        while self.total > self._limit:
            self._crowd_out(self._next())

    def put_if_fair(self, holder: Holder, octets: int, caller: str) -> bool:
        """Do as `put`, but only other callers' holders give up; False if it is this one's turn.

        What the holder kept before then still counts. That another one gives up must not change
        what this one keeps.
        """
        account = self._accounts.get(holder)
        before = 0 if account is None else account.held[holder]
        if self.total - before + octets > self._limit:
            account = account or self._callers.get(caller) or _Account(caller)
            if not self._make_room(account, before, octets):
                return False
        self._keep(holder, octets, caller)
        return True

    def drop(self, holder: Holder) -> None:
        """A holder keeps nothing any more, or has gone."""
        if holder in self._accounts:
            self._keep(holder, 0, "")

    def _keep(self, holder: Holder, octets: int, caller: str) -> None:
        account = self._accounts.get(holder)
        if account is None:
            if not octets:
                return
            account = self._callers.get(caller)
            if account is None:
                account = self._callers[caller] = _Account(caller)
            self._accounts[holder] = account
        before, held = account.total, account.held
        account.total += octets - held.get(holder, 0)
        self.total += account.total - before
        if octets:
            held[holder] = octets
        else:
            del held[holder], self._accounts[holder]
            if not held:
                del self._callers[account.caller]
        if self._sizes is not None:
            self._move(self._sizes, account, before.bit_length())

    def _move(self, sizes: dict[int, dict[_Account, None]], account: _Account, old: int) -> None:
        new = account.total.bit_length()
        if 2 * self.total < self._limit:
            self._sizes = None
        elif old != new:
            if old:
                alike = sizes[old]
                del alike[account]
                if not alike:
                    del sizes[old]
            if new:
                sizes.setdefault(new, {})[account] = None

    def _sorted(self) -> dict[int, dict[_Account, None]]:
        """The callers by the size of what they keep."""
        sizes = self._sizes
        if sizes is None:
            sizes = self._sizes = {}
            for each in self._callers.values():
                sizes.setdefault(each.total.bit_length(), {})[each] = None
        return sizes

    def _make_room(self, account: _Account, before: int, octets: int) -> bool:
        """Let others give up, so that a holder of `account` can keep this many octets."""
        several = account.total > before
        size = (account.total - before + octets).bit_length()
        if octets > self._limit or (several and max(self._sorted()) <= size):
            return False
        while self.total - before + octets > self._limit:
            following = self._next()
            if self._accounts[following] is account:
                return False
            self._crowd_out(following)
        return True

    def _next(self) -> Holder:
        """The holder that gives up next."""
        sizes = self._sorted()
        largest = next(iter(sizes[max(sizes)]))
        return next(iter(largest.held if len(largest.held) > 1 else self._accounts))

    def _crowd_out(self, holder: Holder) -> None:
        self.drop(holder)
        holder.give_up()
