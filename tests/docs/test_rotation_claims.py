"""What docs/operating.md says under "Rotation of secrets", tested with real sidecars."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

import pytest

from tests.auth.forge import private_key, private_pem
from tests.peers.raw_client import build
from tests.peers.scripted_upstream import ScriptedUpstream
from tests.peers.stack import REFRESH_SECRET, SECRET, Stack, stack

if TYPE_CHECKING:
    from pathlib import Path

NEW = "the-new-access-secret-of-the-tests-24680"
NEW_REFRESH = "the-new-refresh-secret-of-the-tests-13579"


async def _accepts(pod: Stack, token: str) -> bool:
    return (await pod.get("/", token=token)).status == 200


@pytest.mark.parametrize(
    ("present", "previous", "accepted"),
    [
        pytest.param(SECRET, "", [True, False], id="before"),
        pytest.param(SECRET, NEW, [True, True], id="rolled out, signing nothing"),
        pytest.param(NEW, SECRET, [True, True], id="exchanged"),
        pytest.param(NEW, "", [False, True], id="the old one taken away"),
    ],
)
async def test_access_tokens(present: str, previous: str, accepted: list[bool]) -> None:
    """Tokens signed with either configured secret are accepted, whichever of the two signs."""
    async with (
        ScriptedUpstream() as application,
        stack(application.url) as old,
        stack(application.url, jwt_secret=NEW) as new,
        stack(
            application.url, jwt_secret=present, jwt_secret_previous=previous, session_mode="none"
        ) as pod,
    ):
        tokens = [(await each.login()).access for each in (old, new)]
        assert [await _accepts(pod, token) for token in tokens] == accepted
        assert await _accepts(pod, (await pod.login()).access)


async def test_refresh_tokens() -> None:
    """A refresh token signed with the previous secret is verified; one of another secret is not."""
    async with (
        ScriptedUpstream() as application,
        stack(application.url) as old,
        stack(
            application.url,
            refresh_secret=NEW_REFRESH,
            refresh_secret_previous=REFRESH_SECRET,
        ) as both,
        stack(application.url, refresh_secret=NEW_REFRESH) as new,
    ):
        body = f'{{"refresh_token": "{(await old.login()).refresh}"}}'.encode()
        line = "Content-Type: application/json"
        for pod, result in ((both, "unknown"), (new, "invalid")):
            await pod.ask(build("POST", "/auth/refresh", line, body=body))
            sample = f'sidecar_logins_total{{method="refresh",result="{result}"}}'
            assert await pod.metric(sample) == 1


@pytest.mark.parametrize(
    ("signing", "previous", "accepted"),
    [
        pytest.param("old", "", [True, False], id="before"),
        pytest.param("old", "new", [True, True], id="rolled out, signing nothing"),
        pytest.param("new", "old", [True, True], id="swapped"),
        pytest.param("new", "missing", [False, True], id="the old one removed"),
    ],
)
async def test_private_keys(
    signing: str, previous: str, accepted: list[bool], tmp_path: Path
) -> None:
    """Tokens of both keys are accepted and both are published, whichever of the two signs."""
    for name, algorithm in (("old", "ES256"), ("new", "ES384")):
        (tmp_path / name).write_bytes(private_pem(private_key(algorithm)))
    key, other = str(tmp_path / signing), str(tmp_path / previous) if previous else ""
    async with (
        ScriptedUpstream() as application,
        stack(application.url, jwt_private_key_file=str(tmp_path / "old")) as old,
        stack(application.url, jwt_private_key_file=str(tmp_path / "new")) as new,
        stack(
            application.url,
            session_mode="none",
            jwt_private_key_file=key,
            jwt_private_key_previous_file=other,
        ) as pod,
    ):
        tokens = [(await each.login()).access for each in (old, new)]
        assert [await _accepts(pod, token) for token in tokens] == accepted
        published = (await pod.get("/.well-known/jwks.json")).json()["keys"]
        assert len(published) == sum(accepted)
        own = (await pod.login()).access
        header = json.loads(base64.urlsafe_b64decode(own.partition(".")[0] + "=="))
        assert header["alg"] == {"old": "ES256", "new": "ES384"}[signing]
