"""The counts of what clients have open, and whom trusted proxies name."""

from __future__ import annotations

import ipaddress
import tracemalloc
from typing import Final

import pytest

from sidecar.proxy.admission import Admission
from sidecar.telemetry.metrics import Metrics

TRUSTED: Final = (ipaddress.ip_network("10.0.0.0/8"),)


def test_what_is_open() -> None:
    """Each client has a count of its own, and one that has nothing open takes no memory."""
    counts = Admission(Metrics())
    counts.add("a")
    counts.add("a")
    counts.add("b")
    assert (counts.opened("a"), counts.opened("b"), counts.opened("c")) == (2, 1, 0)
    counts.remove("a")
    counts.remove("b")
    assert (counts.opened("a"), counts.opened("b")) == (1, 0)
    assert repr(counts) == "<Admission 1 open by 1 clients>"


def test_the_proxies_that_are_trusted_now() -> None:
    """A client that was found while other proxies were trusted is looked for again."""
    counts = Admission(Metrics())
    named = b"192.0.2.1, 10.0.0.1"
    assert counts.named_by(named, TRUSTED) == "192.0.2.1"
    assert counts.named_by(named, TRUSTED) == "192.0.2.1"
    assert counts.named_by(named, ()) == "10.0.0.1"


@pytest.mark.parametrize("padding", [b"", b"198.51.100.1, " * 200], ids=["short", "long"])
def test_what_is_remembered_is_bounded(padding: bytes) -> None:
    """Clients that send ever new lists of addresses do not fill the memory."""
    counts = Admission(Metrics())
    tracemalloc.start()
    try:
        for number in range(10_000):
            counts.named_by(padding + b"198.51.%d.%d" % divmod(number, 256), TRUSTED)
        assert tracemalloc.get_traced_memory()[0] < 2 << 20
    finally:
        tracemalloc.stop()
