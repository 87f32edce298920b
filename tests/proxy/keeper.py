"""A holder of octets for the tests of what holds it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Keeper:
    """A holder that counts how often it gave up, and calls `on_give_up` with itself."""

    def __init__(self, name: str = "", on_give_up: Callable[[Keeper], None] | None = None) -> None:
        self.name = name
        self.gave_up = 0
        self._on_give_up = on_give_up

    def __repr__(self) -> str:
        return f"<Keeper {self.name}>"

    def give_up(self) -> None:
        """Count the call."""
        self.gave_up += 1
        if self._on_give_up is not None:
            self._on_give_up(self)
