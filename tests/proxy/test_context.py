"""What all connections share: request ids, and bounds with sensible defaults."""

from __future__ import annotations

import re
from itertools import islice

from sidecar.proxy.context import Limits, make_request_ids
from tests.wire.readers import raw_head, request_parser


def test_request_ids_are_unique_and_short() -> None:
    """Also over the edge of a block, and in order."""
    ids = list(islice(make_request_ids(b"abc"), 3 * 4096))
    assert (ids[0], ids[4095], ids[4096]) == (b"abc-0000", b"abc-0fff", b"abc-1000")
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(rb"abc-[0-9a-f]+", each) for each in ids)


def test_request_ids_of_other_prefixes_differ() -> None:
    """The prefix tells processes apart."""
    assert not set(islice(make_request_ids(b"a"), 100)) & set(islice(make_request_ids(b"b"), 100))


def test_our_ids_are_accepted_by_the_next_sidecar() -> None:
    """One behind another keeps the first's id."""
    made = next(make_request_ids(b"0123456789ab"))
    parser = request_parser()
    raw = raw_head(b"GET / HTTP/1.1", b"Host: h", b"X-Request-Id: " + made)
    assert parser.parse(raw).request_id == made


def test_limits() -> None:
    """Head 32 KiB, 100 headers, header time 10 s, idle 75 s."""
    limits = Limits()
    assert (limits.head.size, limits.head.headers) == (32 * 1024, 100)
    assert (limits.header_timeout, limits.idle_timeout) == (10.0, 75.0)
