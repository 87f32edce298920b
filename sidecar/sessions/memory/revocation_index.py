"""Which tokens in the near cache a denial would end: by the denial's name. Pure.

Holds no more than a few times what the cache does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

    from sidecar.auth.denylist import RevocableToken

_SLACK: Final = 1000


class RevocationIndex:
    """Tokens by the names that were read for them."""

    __slots__ = ("_added", "_found")

    def __init__(self) -> None:
        # Most names guard one token, which costs no table of its own.
        self._found: dict[str, RevocableToken | dict[str, RevocableToken]] = {}
        self._added = 0

    def __repr__(self) -> str:
        return f"<RevocationIndex of {len(self._found)} names>"

    def __len__(self) -> int:
        return len(self._found)

    def add(self, revocable: RevocableToken) -> None:
        """One more token."""
        token = revocable.session.id
        for name in revocable.names:
            known = self._found.get(name)
            if known is None or (not isinstance(known, dict) and known.session.id == token):
                self._found[name] = revocable
            elif isinstance(known, dict):
                known[token] = revocable
            else:
                self._found[name] = {known.session.id: known, token: revocable}
        self._added += 1

    def take(self, name: str) -> Sequence[RevocableToken]:
        """The tokens under this name, which are guarded by it no more."""
        known = self._found.pop(name, None)
        if known is None:
            return ()
        return tuple(known.values()) if isinstance(known, dict) else (known,)

    def prune(self, kept: Container[str], number: int) -> None:
        """Forget tokens whose ids are not among those kept, once that is worth the walk.

        `number` is how many are kept. Its price is paid for by as many additions.
        """
        if self._added <= 2 * number + _SLACK:
            return
        found, self._found, self._added = self._found, {}, 0
        tokens: dict[str, RevocableToken] = {}
        for known in found.values():
            for revocable in known.values() if isinstance(known, dict) else (known,):
                if revocable.session.id in kept:
                    tokens[revocable.session.id] = revocable
        for revocable in tokens.values():
            self.add(revocable)

    def clear(self) -> None:
        """Forget all."""
        self._found.clear()
        self._added = 0
