"""What all connections share: request ids, and limits with sensible defaults."""

from __future__ import annotations

import re
from itertools import islice

from sidecar.proxy.context import Limits, make_request_ids
from tests.wire.readers import raw_head, request_parser


def test_request_ids_are_unique_and_short() -> None:
    """Request ids are unique and ascending, across the edges of blocks as well."""
    ids = list(islice(make_request_ids(b"abc"), 3 * 4096))
    assert (ids[0], ids[4095], ids[4096]) == (b"abc-0000", b"abc-0fff", b"abc-1000")
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(rb"abc-[0-9a-f]+", each) for each in ids)


def test_request_ids_of_other_prefixes_differ() -> None:
    """Generators with different prefixes, such as two processes have, share no ids."""
    assert not set(islice(make_request_ids(b"a"), 100)) & set(islice(make_request_ids(b"b"), 100))


def test_our_ids_are_accepted_by_the_next_sidecar() -> None:
    """A second sidecar behind the first keeps the first one's request id."""
    made = next(make_request_ids(b"0123456789ab"))
    parser = request_parser()
    raw = raw_head(b"GET / HTTP/1.1", b"Host: h", b"X-Request-Id: " + made)
    assert parser.parse(raw).request_id == made


def test_limits() -> None:
    """The defaults are 32 KiB and 100 headers for a head, 10 s to send it, and 75 s idle."""
    limits = Limits()
    assert (limits.head.size, limits.head.headers) == (32 * 1024, 100)
    assert (limits.header_timeout, limits.idle_timeout) == (10.0, 75.0)
