"""The access tokens that a refresh has replaced, while they still count beside their successors.

At most one for each login: the next refresh ends it. Pure; knows neither other tokens nor who must
be notified.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.sessions.memory.expiry import ExpiryQueue
from sidecar.sessions.memory.login import Login

if TYPE_CHECKING:
    from sidecar.auth.session import Session


class ReplacedTokens:
    """Keeps them in `tokens`, the logins by token id, where look-ups find them like any other."""

    __slots__ = ("_by_sid", "_ends", "_tokens")

    def __init__(self, tokens: dict[str, Login]) -> None:
        self._tokens = tokens
        self._by_sid: dict[str, str] = {}
        self._ends = ExpiryQueue()

    def __repr__(self) -> str:
        return f"<ReplacedTokens of {len(self._by_sid)} logins>"

    def replace(self, sid: str, session: Session | None) -> str:
        """Let this session count until it expires, and end the one before it.

        Returns the id of the token that ended; empty if there was none.
        """
        ended = self.end(sid)
        if session is None:
            return ended
        self._tokens[session.id] = Login(session, token_until=session.exp)
        self._by_sid[sid] = session.id
        self._ends.add(session.exp, sid)
        return "" if ended == session.id else ended

    def end(self, sid: str) -> str:
        """End the replaced token of a login. Returns its id; empty if there is none."""
        token_id = self._by_sid.pop(sid, "")
        self._tokens.pop(token_id, None)
        return token_id

    def drop(self, token_id: str) -> bool:
        """Remove this token alone. False if it is no replaced one."""
        kept = self._tokens.get(token_id)
        if kept is None or self._by_sid.get(kept.session.sid) != token_id:
            return False
        self.end(kept.session.sid)
        return True

    def sweep(self, now: float) -> None:
        """Remove every token that has expired."""
        while (sid := self._ends.pop_due(now)) is not None:
            kept = self._tokens.get(self._by_sid.get(sid, ""))
            if kept is not None and kept.token_until <= now:
                self.end(sid)
