"""Tokens of users with many groups, at a real sidecar."""

from __future__ import annotations

from typing import Any, Final

import pytest

from tests.peers.scripted_upstream import ScriptedUpstream
from tests.peers.stack import Stack, mint, stack

DEFAULT: Final = 16384
GROUPS: Final = [f"/departments/{number}/members-of-the-department" for number in range(180)]


def of_length(length: int) -> str:
    """Return a valid token of about this many bytes, never more, with many groups as roles."""
    empty = len(mint(roles=GROUPS, pad=""))
    token = mint(roles=GROUPS, pad="x" * ((length - empty) * 3 // 4 - 2))
    assert length - 8 <= len(token) <= length
    return token


async def statuses(running: Stack, token: str) -> list[int]:
    """Return what the application, the verify endpoint and the control plane answer."""
    targets = ("/x", "/auth/verify", "/auth/userinfo")
    return [(await running.get(target, token=token)).status for target in targets]


async def test_the_longest_token_by_default() -> None:
    """A token of 16 KiB works everywhere, with every role; a longer one gets 401."""
    async with (
        ScriptedUpstream() as upstream,
        stack(upstream.url, session_mode="none") as running,
    ):
        for token in (of_length(12_000), of_length(DEFAULT)):
            assert await statuses(running, token) == [200, 200, 200]
            roles = upstream.requests[-1].fields.one("X-Auth-Roles").decode()
            assert roles.split(",") == GROUPS
            answer = await running.get("/auth/verify", token=token)
            assert answer.fields.one("X-Auth-Roles").decode() == roles
            assert (await running.get("/auth/userinfo", token=token)).json()["roles"] == GROUPS
        assert await statuses(running, of_length(DEFAULT + 9)) == [401, 401, 401]
        sample = 'sidecar_decisions_total{decision="deny",reason="token_too_long"}'
        assert await running.metric(sample) >= 2


@pytest.mark.parametrize(
    ("sizes", "longest"),
    [
        pytest.param({"max_token_size": "48KiB"}, 49152, id="head-follows"),
        pytest.param({"max_token_size": "14000"}, 14_000, id="shorter"),
        pytest.param({"max_head_size": "64KiB", "max_token_size": "63KiB"}, 64_512, id="both"),
    ],
)
async def test_a_configured_length(sizes: dict[str, Any], longest: int) -> None:
    """Tokens up to the configured length work everywhere, beside the other headers of a request."""
    async with (
        ScriptedUpstream() as upstream,
        stack(upstream.url, session_mode="none", **sizes) as running,
    ):
        assert await statuses(running, of_length(longest)) == [200, 200, 200]
        refused = await statuses(running, of_length(longest + 9))
        assert refused == [401, 401, 401]


async def test_a_short_head() -> None:
    """Where only the head is limited, a token that does not fit gets 431, as any such head does."""
    async with (
        ScriptedUpstream() as upstream,
        stack(upstream.url, session_mode="none", max_head_size="14KiB") as running,
    ):
        assert running.settings.max_token_size == 14 * 1024 - 512
        assert await statuses(running, of_length(13_000)) == [200, 200, 200]
        assert await statuses(running, of_length(DEFAULT)) == [431, 431, 431]
