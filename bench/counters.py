"""What Redis has been asked: calls by command and keys read, from its own counters.

Owns the reading of INFO. Must not know who asked, or why.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatch
from typing import TYPE_CHECKING

from redis import Redis

if TYPE_CHECKING:
    from collections.abc import Mapping

# Whatever a look-up could be made of.
READS = ("get", "getex", "mget", "hget*", "hmget", "exists", "hexists", "eval*", "fcall*")
OURS = frozenset({"info", "hello", "client|setinfo"})  # of the suite itself


@dataclass(frozen=True, slots=True)
class Counters:
    """Calls by command name since Redis started, and keys that were looked up to be read."""

    calls: Mapping[str, int]
    keys: int

    def __sub__(self, other: Counters) -> Counters:
        calls = {name: calls - other.calls.get(name, 0) for name, calls in self.calls.items()}
        return Counters(
            {name: more for name, more in calls.items() if more}, self.keys - other.keys
        )

    @property
    def reads(self) -> int:
        """Calls of commands that read values."""
        return sum(
            calls
            for name, calls in self.calls.items()
            if any(fnmatch(name, pattern) for pattern in READS)
        )

    @property
    def total(self) -> int:
        """All calls but the suite's own."""
        return sum(calls for name, calls in self.calls.items() if name not in OURS)


def parse(
    commandstats: Mapping[str, Mapping[str, int | str]], stats: Mapping[str, int | str]
) -> Counters:
    """The counters in these two sections of INFO, as the client library gives them."""
    calls = {
        name.removeprefix("cmdstat_"): int(fields["calls"]) for name, fields in commandstats.items()
    }
    return Counters(calls, int(stats["keyspace_hits"]) + int(stats["keyspace_misses"]))


def read(port: int) -> Counters:
    """The counters of the Redis on this port now. Raises redis.RedisError."""
    with Redis(port=port) as client:
        return parse(client.info("commandstats"), client.info("stats"))


def listing(counters: Counters) -> str:
    """Calls by command for a sentence, the most frequent first."""
    named = {name: calls for name, calls in counters.calls.items() if name not in OURS}
    ordered = sorted(named.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{name} {calls:,}" for name, calls in ordered) or "none"
