"""The compact form of a JWT: three parts, each in its only canonical encoding."""

from __future__ import annotations

import pytest

from sidecar.auth.compact import split_token


def test_parts() -> None:
    """A token has three decoded parts, which may be empty."""
    assert split_token(b"YQ.Yi8_.") == [b"a", b"b/?", b""]


@pytest.mark.parametrize(
    "token",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"YQ.YQ", id="two-parts"),
        pytest.param(b"YQ.YQ.YQ.YQ", id="four-parts"),
        pytest.param(b"YQ==.YQ.YQ", id="padding"),
        pytest.param(b"Y.YQ.YQ", id="length"),
        pytest.param(b"YR.YQ.YQ", id="bits-that-are-not-used"),
        pytest.param(b"Y Q.YQ.YQ", id="white-space"),
        pytest.param(b"Yi8/.YQ.YQ", id="plain-base64"),
        pytest.param(b"YQ\n.YQ.YQ", id="line-break"),
        pytest.param("é.YQ.YQ".encode(), id="not-ascii"),
    ],
)
def test_malformed(token: bytes) -> None:
    """Any other spelling is refused, because it would be the same token under another id."""
    assert split_token(token) is None
