"""The command counters of Redis: calls by command, and the number of keys read.

Owns the parsing of INFO. Must not know who sent the commands, or why.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatch
from typing import TYPE_CHECKING

from redis import Redis

if TYPE_CHECKING:
    from collections.abc import Mapping

# All commands that a look-up could use.
READS = ("get", "getex", "mget", "hget*", "hmget", "exists", "hexists", "eval*", "fcall*")
OWN_COMMANDS = frozenset({"info", "hello", "client|setinfo"})  # sent by the suite


@dataclass(frozen=True, slots=True)
class Counters:
    """Calls by command since Redis started, and the number of keys that reads looked up."""

    calls: Mapping[str, int]
    keys: int

    def __sub__(self, other: Counters) -> Counters:
        calls = {name: calls - other.calls.get(name, 0) for name, calls in self.calls.items()}
        return Counters(
            {name: more for name, more in calls.items() if more}, self.keys - other.keys
        )

    @property
    def reads(self) -> int:
        """The number of calls that read values."""
        return sum(
            calls
            for name, calls in self.calls.items()
            if any(fnmatch(name, pattern) for pattern in READS)
        )

    @property
    def total(self) -> int:
        """The number of all calls except the suite's own."""
        return sum(calls for name, calls in self.calls.items() if name not in OWN_COMMANDS)


def parse(
    commandstats: Mapping[str, Mapping[str, int | str]], stats: Mapping[str, int | str]
) -> Counters:
    """The counters from two sections of INFO, as the client library returns them."""
    calls = {
        name.removeprefix("cmdstat_"): int(fields["calls"]) for name, fields in commandstats.items()
    }
    return Counters(calls, int(stats["keyspace_hits"]) + int(stats["keyspace_misses"]))


def read(port: int) -> Counters:
    """The current counters of the Redis on this port. Raises redis.RedisError."""
    with Redis(port=port) as client:
        return parse(client.info("commandstats"), client.info("stats"))


def listing(counters: Counters) -> str:
    """The calls by command as a phrase, the most frequent first."""
    named = {name: calls for name, calls in counters.calls.items() if name not in OWN_COMMANDS}
    ordered = sorted(named.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{name} {calls:,}" for name, calls in ordered) or "none"
