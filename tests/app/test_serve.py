"""The start of a whole process: what it logs about its configuration."""

from __future__ import annotations

import signal
from typing import Any

from tests.peers.process import process

RANDOM = "h1JcM5O0jVb8mYxq2T7uWn4ZrKs9Pd3LgEaQiXf6vRyBtUoC8wNkHpDzS0eGlMj1"
TEXT = "the-secret-of-our-company-for-signing"


async def test_the_start_logs_each_warning_once() -> None:
    """Variables, settings and files: one line each, with the way out and without a secret."""
    environ = {"REDIS_HOTS": "redis", "REFRESH_TOKEN_EXPIRY": "60d"}
    settings: dict[str, Any] = {
        "jwt_secret": TEXT,
        "refresh_secret": RANDOM,
        "users": (),
        "jwt_audience": "",
    }
    async with process("http://127.0.0.1:1", environ=environ, **settings) as running:
        running.tell(signal.SIGTERM)
        assert await running.ended() == 0
        lines = [line for line in running.lines if line["level"] == "warning"]
        assert [line["setting"] for line in lines] == [
            "environment REDIS_HOTS",
            "jwt_audience",
            "jwt_secret",
            "session_max_age",
            f"users_file {running.folder}/users.toml",
        ]
        for line in lines:
            assert line["message"].startswith(f"{line['setting']}: ")
            assert line["remedy"]
            assert line["logger"] == "sidecar.config"
        assert TEXT not in str(running.lines)


async def test_a_sound_configuration_logs_no_warning() -> None:
    """Otherwise nobody would read them."""
    async with process(
        "http://127.0.0.1:1", jwt_secret=RANDOM, refresh_secret=RANDOM[::-1]
    ) as running:
        running.tell(signal.SIGTERM)
        assert await running.ended() == 0
        assert [line for line in running.lines if line["level"] == "warning"] == []
