"""The tables of the model: coefficients, and the points beside it. Owns text only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.report import significant, table

if TYPE_CHECKING:
    from bench.scale.model import Fit, Model
    from bench.scale.points import Points


def model_section(points: Points, model: Model) -> str:
    """The coefficients, absolute and in units, and how far the points are from the model."""
    cpu = [
        *coefficients("rest, µs a second", model.rest, ("without pods", "each pod"), points.unit),
        *coefficients("login", model.login, ("each", "each 1,000 connected pods"), points.unit),
        *coefficients(
            "refresh", model.refresh, ("each", "each pod that tracks the token"), points.unit
        ),
        *coefficients(
            "logout", model.logout, ("each", "each pod that tracks the token"), points.unit
        ),
        *coefficients(
            "expiry", model.expiry, ("each", "each pod that tracks the token"), points.unit
        ),
        *coefficients("look-up", model.lookup, ("each command", "each session"), points.unit),
        [
            "last seen",
            "each login",
            significant(model.seen),
            significant(model.seen / points.unit),
            "",
        ],
        *coefficients("cold start", model.start, ("each pod",), points.unit),
    ]
    size = [
        [
            "connections",
            "each pod",
            f"{model.connections.coefficients[1]:,.0f}",
            worst(model.connections),
        ],
        ["tracking table", "each key", f"{model.table.coefficients[0]:,.0f}", worst(model.table)],
        ["", "each key and pod", f"{model.table.coefficients[1]:,.1f}", ""],
        ["sessions", "each login", f"{model.stored.coefficients[0]:,.0f}", worst(model.stored)],
    ]
    header = ["CPU", "of", "µs", "units", "largest offset"]
    return "\n\n".join(
        [
            (
                "A unit is one GET of redis-benchmark on the same machine. The offset is the model"
                " divided by the point, minus one."
            ),
            table(header, cpu),
            table(["memory", "of", "bytes", "largest offset"], size),
            "Each point beside the model:",
            offsets(points, model),
        ]
    )


def coefficients(name: str, fit: Fit, of: tuple[str, ...], unit: float) -> list[list[str]]:
    """A row for each coefficient."""
    return [
        [
            "" if number else name,
            what,
            signed(value),
            signed(value / unit),
            "" if number else worst(fit),
        ]
        for number, (what, value) in enumerate(zip(of, fit.coefficients, strict=True))
    ]


def signed(value: float) -> str:
    """A number with three significant digits, and a minus sign if it is negative."""
    return f"-{significant(-value)}" if value < 0 else significant(value)


def worst(fit: Fit) -> str:
    """The largest offset of a fit."""
    return f"{fit.worst:.0%}"


def offsets(points: Points, model: Model) -> str:
    """How far each point of the fits with several points is from the model."""
    most = max(each.connected for each in points.writes)

    def of(kind: str) -> list[str]:
        return [
            f"{each.pods:,}"
            for each in points.writes
            if each.kind == kind and each.connected == most
        ]

    lines = [
        ("rest", [f"{each.pods:,}" for each in points.rests], model.rest),
        ("memory at rest", [f"{each.pods:,}" for each in points.rests], model.connections),
        (
            "login",
            [f"{each.connected:,}" for each in points.writes if each.kind == "login"],
            model.login,
        ),
        *((kind, of(kind), getattr(model, kind)) for kind in ("refresh", "logout", "expiry")),
        ("look-up", [f"{each.batch:,}" for each in points.lookups if not each.seen], model.lookup),
        ("table", [f"{each.keys:,} by {each.pods:,}" for each in points.tables], model.table),
        ("cold start", [f"{each.pods:,}" for each in points.storms], model.start),
    ]
    return "\n".join(
        f"- {name}: "
        + ", ".join(f"{at}: {offset:+.0%}" for at, offset in zip(places, fit.offsets, strict=True))
        for name, places, fit in lines
    )
