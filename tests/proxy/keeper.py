"""A holder of octets for the tests of what holds it."""

from __future__ import annotations


class Keeper:
    """A holder that counts how often it gave up, and then appends itself to `order`."""

    def __init__(self, name: str = "", order: list[Keeper] | None = None) -> None:
        self.name = name
        self.order = [] if order is None else order
        self.gave_up = 0

    def __repr__(self) -> str:
        return f"<Keeper {self.name}>"

    def give_up(self) -> None:
        """Count the call."""
        self.gave_up += 1
        self.order.append(self)
