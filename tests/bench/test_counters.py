"""The command counters of Redis, and the difference between two readings."""

from __future__ import annotations

import pytest

from bench.counters import Counters, listing, parse

BEFORE = Counters({"get": 5, "ping": 2}, keys=7)
AFTER = Counters({"get": 5, "mget": 3, "ping": 4, "info": 2}, keys=50)


def test_sections_of_info_become_calls_and_keys() -> None:
    """Command names lose their prefix, and keys are the sum of hits and misses."""
    commandstats = {"cmdstat_get": {"calls": 3, "usec": 9}, "cmdstat_client|id": {"calls": 1}}
    found = parse(commandstats, {"keyspace_hits": 2, "keyspace_misses": 1, "role": "master"})
    assert found == Counters({"get": 3, "client|id": 1}, keys=3)


def test_difference_names_only_what_happened() -> None:
    """A difference has only commands that were called in between."""
    done = AFTER - BEFORE
    assert done == Counters({"mget": 3, "ping": 2, "info": 2}, keys=43)


@pytest.mark.parametrize(
    ("name", "reads"),
    [
        pytest.param("get", 1, id="get"),
        pytest.param("mget", 1, id="mget"),
        pytest.param("hgetall", 1, id="any-hget"),
        pytest.param("exists", 1, id="exists"),
        pytest.param("evalsha", 1, id="script"),
        pytest.param("getdel", 0, id="not-by-prefix-alone"),
        pytest.param("ping", 0, id="ping"),
    ],
)
def test_reads_are_whatever_could_look_a_session_up(name: str, reads: int) -> None:
    """Only commands that could look up a session count as reads."""
    assert Counters({name: 1}, keys=0).reads == reads


def test_the_suites_own_commands_do_not_count() -> None:
    """INFO, which the suite sends itself, is not counted."""
    done = AFTER - BEFORE
    assert done.total == 5
    assert listing(done) == "mget 3, ping 2"
    assert listing(Counters({}, 0)) == "none"
