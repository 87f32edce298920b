"""Which tokens in the near cache a revocation affects, by the revocation's name. Pure.

Its size stays within a small multiple of the cache's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

    from sidecar.auth.denylist import RevocableToken

_SLACK: Final = 1000


class RevocationIndex:
    """Tokens by the revocation names that were looked up for them."""

    __slots__ = ("_added", "_tokens")

    def __init__(self) -> None:
        # Most names belong to one token, which takes no table of its own.
        self._tokens: dict[str, RevocableToken | dict[str, RevocableToken]] = {}
        self._added = 0  # since the last pruning

    def __repr__(self) -> str:
        return f"<RevocationIndex of {len(self._tokens)} names>"

    def __len__(self) -> int:
        return len(self._tokens)

    def add(self, revocable: RevocableToken) -> None:
        """Add a token under each of its names."""
        token_id = revocable.session.id
        for name in revocable.names:
            known = self._tokens.get(name)
            if known is None or (not isinstance(known, dict) and known.session.id == token_id):
                self._tokens[name] = revocable
            elif isinstance(known, dict):
                known[token_id] = revocable
            else:
                self._tokens[name] = {known.session.id: known, token_id: revocable}
        self._added += 1

    def take(self, name: str) -> Sequence[RevocableToken]:
        """Remove a name. Returns the tokens that were under it."""
        known = self._tokens.pop(name, None)
        if known is None:
            return ()
        return tuple(known.values()) if isinstance(known, dict) else (known,)

    def prune(self, kept: Container[str], number: int) -> None:
        """Remove the tokens whose ids are not in `kept`, once enough tokens were added.

        `number` is the size of `kept`. The cost of a pass is spread over as many additions.
        """
        if self._added <= 2 * number + _SLACK:
            return
        previous, self._tokens, self._added = self._tokens, {}, 0
        remaining: dict[str, RevocableToken] = {}
        for known in previous.values():
            for revocable in known.values() if isinstance(known, dict) else (known,):
                if revocable.session.id in kept:
                    remaining[revocable.session.id] = revocable
        for revocable in remaining.values():
            self.add(revocable)

    def clear(self) -> None:
        """Remove all tokens."""
        self._tokens.clear()
        self._added = 0
