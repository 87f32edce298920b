"""When Redis' credential is fetched, used, tried again and reported."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from sidecar.secret import Secret
from sidecar.sessions.redis.credential_renewal import (
    NOT_RENEWED,
    REFUSED,
    RENEWABLE,
    RENEWED,
    RedisCredentials,
)
from sidecar.sessions.redis.credentials import Credential, CredentialError
from sidecar.tasks import Tasks
from sidecar.telemetry.metrics import Metrics
from tests.peers.clock import Clock

if TYPE_CHECKING:
    from collections.abc import Iterable


class Prints:
    """A source that returns each text in turn, the last one for ever; None fails."""

    name = "redis_password_command"

    def __init__(self, *texts: str | None, interval: float = 300.0, cheap: bool = False) -> None:
        self.texts = list(texts)
        self.interval = interval
        self.fetched_on_connect = cheap
        self.fetched = 0

    async def fetch(self) -> str:
        """Return the next text."""
        self.fetched += 1
        text = self.texts.pop(0) if len(self.texts) > 1 else self.texts[0]
        if text is None:
            raise CredentialError("ended with status 1")
        return text


class Scene:
    """Credentials on a clock that is turned by hand."""

    def __init__(self, source: Prints) -> None:
        self.source = source
        self.clock = Clock()
        self.metrics = Metrics()
        self.tasks = Tasks()
        self.credentials = RedisCredentials(
            source, "alice", self.metrics, monotonic=self.clock, sleep=self.clock.sleep
        )

    @property
    def password(self) -> str | None:
        """The newest password."""
        current = self.credentials.current
        return None if current is None else current.password.reveal()

    @property
    def state(self) -> str:
        """The state as `/status` shows it."""
        found: str = self.credentials.describe()["state"]
        return found

    def accept(self) -> None:
        """Redis accepts the newest credential."""
        assert self.credentials.current is not None
        self.credentials.accepted(self.credentials.current)

    def refuse(self) -> None:
        """Redis refuses the newest credential."""
        assert self.credentials.current is not None
        self.credentials.refused(self.credentials.current)

    async def start(self) -> None:
        """Fetch the first one."""
        await self.credentials.start(self.tasks)


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """Everything that is logged."""
    caplog.set_level(logging.DEBUG)
    return caplog


def passwords(names: Iterable[str]) -> list[str]:
    """The output of a command for each of these passwords, which are valid for 100 s."""
    return [f'{{"password": "{name}", "expires_in": 100}}' for name in names]


async def test_before_it_ends() -> None:
    """A credential that says when it ends is renewed after three quarters of that time."""
    scene = Scene(Prints(*passwords(["one", "two", "three"])))
    await scene.start()
    assert scene.password == "one"
    await scene.clock.turn(74.0)
    assert (scene.password, scene.source.fetched) == ("one", 1)
    await scene.clock.turn(1.0)
    assert (scene.password, scene.source.fetched) == ("two", 2)
    await scene.clock.turn(75.0)
    assert scene.password == "three"
    await scene.tasks.close()


@pytest.mark.parametrize(
    ("text", "interval", "fetched"),
    [
        pytest.param("pw", 300.0, 3, id="every interval"),
        pytest.param('{"password":"pw","expires_in":60}', 300.0, 14, id="as the text says"),
        pytest.param('{"password":"pw","expires_in":0.001}', 300.0, 601, id="at most every second"),
    ],
)
async def test_how_often(text: str, interval: float, fetched: int) -> None:
    """How often it is fetched in ten minutes, with the first time."""
    scene = Scene(Prints(text, interval=interval))
    await scene.start()
    await scene.clock.turn(600.0)
    assert scene.source.fetched == fetched
    assert scene.credentials.attempt == 1, "the same credential is not a new one"
    await scene.tasks.close()


async def test_a_source_that_fails(logged: pytest.LogCaptureFixture) -> None:
    """The previous credential stays. Attempts become rarer; the log has one line each way."""
    scene = Scene(Prints("one", *[None] * 8, "two"))
    await scene.start()
    await scene.clock.turn(300.0)
    assert (scene.password, scene.source.fetched) == ("one", 2)
    assert scene.credentials.describe() == {
        "source": "redis_password_command",
        "state": "untried",
        "problem": "ended with status 1",
        "stale_connections": 0,
    }
    await scene.clock.turn(1 + 2 + 4 + 8 + 16 + 32)
    assert (scene.password, scene.source.fetched) == ("one", 8)
    await scene.clock.turn(60)
    assert (scene.password, scene.source.fetched) == ("one", 9)
    await scene.clock.turn(60)
    assert scene.password == "two"
    assert [each.getMessage() for each in logged.records] == [NOT_RENEWED, RENEWABLE]
    assert vars(logged.records[0])["problem"] == "ended with status 1"
    assert scene.metrics.redis_credentials == {"renewed": 0, "failed": 8, "refused": 0}
    await scene.tasks.close()


async def test_a_source_that_fails_at_the_start(logged: pytest.LogCaptureFixture) -> None:
    """There is no credential until it succeeds."""
    scene = Scene(Prints(None, "one"))
    await scene.start()
    assert (scene.password, scene.state, scene.credentials.attempt) == (None, "missing", 0)
    await scene.clock.turn(1.0)
    assert (scene.password, scene.state) == ("one", "untried")
    assert [each.getMessage() for each in logged.records] == [NOT_RENEWED, RENEWABLE]
    await scene.tasks.close()


async def test_a_renewed_one(logged: pytest.LogCaptureFixture) -> None:
    """It counts when Redis accepts it; the first one is no renewal."""
    scene = Scene(Prints("one", "two"))
    await scene.start()
    scene.accept()
    scene.accept()
    assert (scene.state, logged.messages) == ("accepted", [])
    await scene.clock.turn(300.0)
    assert (scene.state, scene.credentials.attempt) == ("untried", 2)
    scene.accept()
    scene.accept()
    assert (scene.state, logged.messages) == ("accepted", [RENEWED])
    assert scene.metrics.redis_credentials == {"renewed": 1, "failed": 0, "refused": 0}
    await scene.tasks.close()


async def test_a_refused_one(logged: pytest.LogCaptureFixture) -> None:
    """It is fetched and tried again every ten seconds; the log says so once, and when it ends."""
    scene = Scene(Prints("one", "two"))
    await scene.start()
    scene.accept()
    await scene.clock.turn(300.0)
    scene.refuse()
    scene.refuse()
    assert (scene.state, scene.credentials.attempt) == ("refused", 0)
    await scene.clock.turn(9.0)
    assert scene.credentials.attempt == 0
    await scene.clock.turn(1.0)
    assert (scene.credentials.attempt, scene.source.fetched) == (3, 3)
    scene.refuse()
    await scene.clock.turn(10.0)
    scene.accept()
    assert logged.messages == [REFUSED, RENEWED]
    assert logged.records[0].levelno == logging.WARNING
    assert scene.metrics.redis_credentials == {"renewed": 1, "failed": 0, "refused": 2}
    await scene.tasks.close()


async def test_refused_and_then_replaced() -> None:
    """A new credential is tried at once."""
    scene = Scene(Prints("one", "two", "three", cheap=True))
    await scene.start()
    scene.accept()
    await scene.credentials.on_connect()
    scene.refuse()
    await scene.credentials.on_connect()
    assert (scene.password, scene.credentials.attempt) == ("three", 3)
    await scene.tasks.close()


async def test_refused_while_the_source_fails() -> None:
    """The refused credential is tried again nevertheless: Redis may learn of it later."""
    scene = Scene(Prints("one", "two", None))
    await scene.start()
    scene.accept()
    await scene.clock.turn(300.0)
    scene.refuse()
    await scene.clock.turn(10.0)
    assert (scene.password, scene.credentials.attempt) == ("two", 3)
    await scene.tasks.close()


async def test_the_first_one_is_refused(logged: pytest.LogCaptureFixture) -> None:
    """That is an outage, which `RedisHealth` logs; a connection that gets in ends it."""
    scene = Scene(Prints("one"))
    await scene.start()
    scene.refuse()
    assert (scene.state, logged.messages) == ("refused", [])
    scene.accept()
    assert (scene.state, scene.credentials.attempt) == ("accepted", 2)
    assert logged.messages == [RENEWED]
    await scene.tasks.close()


async def test_the_previous_one() -> None:
    """New connections use it while the newest is refused, until Redis refuses it as well."""
    scene = Scene(Prints("one", "two", cheap=True))
    await scene.start()
    assert scene.credentials.previous is None
    scene.accept()
    assert scene.credentials.previous is None
    await scene.credentials.on_connect()
    scene.refuse()
    previous = Credential("alice", Secret("one"))
    assert scene.credentials.previous == previous
    scene.credentials.accepted(previous)
    assert scene.state == "refused"
    scene.credentials.refused(previous)
    assert (scene.credentials.previous, scene.password) == (None, "two")
    scene.accept()
    assert (scene.credentials.previous, scene.state) == (None, "accepted")
    await scene.tasks.close()


async def test_the_outcome_of_a_previous_one() -> None:
    """What becomes of a credential that has been replaced no longer counts."""
    scene = Scene(Prints("one", "two", cheap=True))
    await scene.start()
    previous = scene.credentials.current
    assert previous is not None
    await scene.credentials.on_connect()
    scene.credentials.refused(previous)
    assert scene.state == "untried"
    scene.credentials.accepted(previous)
    assert scene.state == "untried"
    await scene.tasks.close()


async def test_a_file_is_read_often() -> None:
    """Whatever it says about its end, because it may be replaced at any time."""
    scene = Scene(Prints(*passwords(["one", "two"]), interval=1.0, cheap=True))
    await scene.start()
    await scene.clock.turn(1.0)
    assert (scene.password, scene.source.fetched) == ("two", 2)
    await scene.clock.turn(10.0)
    assert scene.source.fetched == 12
    await scene.tasks.close()


async def test_new_connections_fetch_what_is_cheap() -> None:
    """A file is read for each of them, a command is not run."""
    for cheap, fetched in ((True, 2), (False, 1)):
        scene = Scene(Prints("one", cheap=cheap))
        await scene.start()
        await scene.credentials.on_connect()
        assert scene.source.fetched == fetched
        await scene.tasks.close()


async def test_nothing_shows_it() -> None:
    """Neither reprs nor `/status` have the password."""
    scene = Scene(Prints("hunter2"))
    await scene.start()
    credentials = scene.credentials
    shown = [credentials, credentials.current, credentials.provider(), credentials.describe()]
    assert "hunter2" not in repr(shown)
    assert repr(credentials) == "<RedisCredentials from redis_password_command: untried>"
    assert credentials.current == Credential("alice", Secret("hunter2"))
    await scene.tasks.close()


async def test_a_failure_of_ours_is_logged(logged: pytest.LogCaptureFixture) -> None:
    """It does not end the renewals."""
    scene = Scene(Prints("one", "two"))
    await scene.start()
    scene.source.texts.insert(0, 5)  # type: ignore[arg-type]
    await scene.clock.turn(300.0)
    assert scene.password == "one"
    await scene.clock.turn(1.0)
    assert scene.password == "two"
    assert logged.messages == ["renewing Redis' credential failed"]
    await scene.tasks.close()
