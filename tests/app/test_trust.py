"""Ending the logins of users who were removed or changed."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from sidecar.app.trust import end_logins
from sidecar.auth.session import Grant, Session
from sidecar.sessions.memory.local import LocalStore

if TYPE_CHECKING:
    import pytest


class Failing(LocalStore):
    """A store that cannot end the logins of bob."""

    __slots__ = ()

    async def revoke_user(self, sub: str) -> int:
        """End every login of a user but bob."""
        if sub == "bob":
            raise RuntimeError("no answer")
        return await super().revoke_user(sub)


async def test_one_failure_spares_no_other(caplog: pytest.LogCaptureFixture) -> None:
    """If one user's logins cannot be ended, the others' end, and the log has a line for each."""
    caplog.set_level(logging.INFO)
    store, now = Failing(time.time), time.time()
    for name in ("alice", "bob", "carol"):
        session = Session(id=name, sid=name, sub=name, claims={}, created=now, exp=now + 60)
        store.put(Grant(session=session))
    await end_logins(store, ["alice", "bob", "carol", "dave"])
    assert [store.peek(name) is None for name in ("alice", "bob", "carol")] == [True, False, True]
    told = [
        (each.levelname, vars(each)["user"], vars(each).get("ended")) for each in caplog.records
    ]
    assert told == [
        ("INFO", "alice", 1),
        ("ERROR", "bob", None),
        ("INFO", "carol", 1),
        ("INFO", "dave", 0),
    ]
