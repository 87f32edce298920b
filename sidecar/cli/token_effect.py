"""Reports what an accepted token leads to: headers for the application, and routes. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from sidecar.auth.decision import Deny
from sidecar.auth.reason import Reason
from sidecar.auth.routes import Route
from sidecar.cli.token_report import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from sidecar.auth.gate import Gate
    from sidecar.auth.tokens import Verifier
    from sidecar.cli.token_steps import Step

_ANY: Final = Route("any")


@dataclass(frozen=True, slots=True)
class Effect:
    """The headers, and for each route with requirements the reason why it refuses, or None.

    Both are empty for a token that is not accepted. `refused` is the verdict if only the users
    file refuses the token.
    """

    headers: Mapping[str, str] = field(default_factory=dict)
    routes: Mapping[str, str | None] = field(default_factory=dict)
    refused: Verdict | None = None


def effect_of(
    token: bytes, verifier: Verifier, gate: Gate, routes: Sequence[Route], now: float
) -> Effect:
    """Return what the token leads to if its session, where it needs one, is live."""
    verified = verifier.verify_access(token, now)
    if isinstance(verified, Reason):
        return Effect()
    allowed = gate.trust(_ANY, verified)
    if isinstance(allowed, Deny):
        why = "refused, user_gone: the users file has no such user, or the user is disabled"
        return Effect(refused=Verdict((why,), accepted=False))
    lines = allowed.identity.decode("ascii").split("\r\n")[:-1]
    decisions = {each.name: gate.trust(each, verified) for each in routes if each.restricted}
    return Effect(
        headers=dict(line.split(": ", 1) for line in lines),
        routes={
            name: found.reason.label if isinstance(found, Deny) else None
            for name, found in decisions.items()
        },
    )


def as_lines(steps: Sequence[Step], effect: Effect) -> Iterator[str]:
    """Yield the steps and the effect as lines of text."""
    yield "steps"
    yield from (step.line() for step in steps)
    if effect.headers:
        yield "headers for the application"
        yield from (f"  {name}: {value}" for name, value in effect.headers.items())
    if effect.routes:
        yield "routes with requirements"
        for name, reason in effect.routes.items():
            yield f"  {name}: {'allowed' if reason is None else f'denied, {reason}'}"


def as_members(steps: Sequence[Step], effect: Effect) -> dict[str, Any]:
    """Return the steps and the effect as members of a JSON object."""
    return {
        "steps": [{"step": each.name, "ok": each.passed, "detail": each.detail} for each in steps],
        "headers": dict(effect.headers),
        "routes": dict(effect.routes),
    }
