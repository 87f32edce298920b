"""What a reload replaces, as it follows from settings."""

from __future__ import annotations

from dataclasses import asdict

import pytest
from msgspec import structs

from sidecar.app.build import make_limits
from sidecar.secret import Secret
from sidecar.settings import Settings

DEFAULTS = Settings(jwt_secret=Secret(""), refresh_secret=Secret(""))

LIMITS = {
    "header_timeout": "header_timeout",
    "idle_timeout": "idle_timeout",
    "upstream_timeout": "upstream_timeout",
    "upstream_queue_timeout": "queue_timeout",
    "max_connections": "connections",
    "max_connections_per_address": "per_address",
    "max_requests": "requests",
    "body_buffer_size": "body_buffer",
    "min_body_rate": "body_rate",
    "min_send_rate": "send_rate",
}


@pytest.mark.parametrize(("setting", "limit"), LIMITS.items())
def test_a_limit_is_what_its_setting_says(setting: str, limit: str) -> None:
    """Each setting changes its own limit and no other."""
    before = asdict(make_limits(DEFAULTS))
    after = asdict(make_limits(structs.replace(DEFAULTS, **{setting: 77})))
    assert after == {**before, limit: 77}
