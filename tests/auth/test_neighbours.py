"""Warnings about spellings of a restricted path that a looser route gets."""

from __future__ import annotations

import pytest

from sidecar.auth.credentials import Accepts
from sidecar.auth.neighbours import neighbours
from sidecar.auth.route_rule import Access, RouteRule

PUBLIC = RouteRule(path="/*", access=Access.PUBLIC, name="rest")


def test_case_and_slash_before_a_public_rule() -> None:
    """Both spellings are named, with the route that gets them and both ways out."""
    case, slash = neighbours([RouteRule(path="/admin/x"), PUBLIC])
    assert str(case) == (
        'route /admin/x: "/ADMIN/X" belongs to route rest, which requires less; set paths_case = '
        '"insensitive" if the application serves both alike, otherwise "sensitive"'
    )
    assert str(slash) == (
        'route /admin/x: "/admin/x/" belongs to route rest, which requires less; set '
        'trailing_slash = "ignore" if the application serves both alike, otherwise "strict"'
    )


@pytest.mark.parametrize(
    ("rules", "spelling"),
    [
        pytest.param([RouteRule(path="/a/*", roles=["r"])], "/A", id="default-route"),
        pytest.param([RouteRule(path="/a/*"), PUBLIC], "/A", id="prefix-before-public"),
        pytest.param(
            [RouteRule(path="/a/*"), RouteRule(path="/*", access=Access.OPTIONAL)],
            "/A",
            id="optional",
        ),
        pytest.param(
            [RouteRule(path="/a/*"), RouteRule(path="/A/x", access=Access.PUBLIC)],
            "/A/x",
            id="below-the-prefix",
        ),
        pytest.param(
            [
                RouteRule(path="/ab/*", roles=["r"]),
                RouteRule(
                    path="/AB/*", access=Access.REQUIRED, roles=["r"], paths_case="sensitive"
                ),
            ],
            "/Ab",
            id="third-spelling",
        ),
        pytest.param(
            [RouteRule(path="/a/*", roles=["r"]), RouteRule(path="/*", roles=["r", "s"])],
            "/A",
            id="more-roles",
        ),
        pytest.param(
            [RouteRule(path="/a/*", credentials=Accepts.BEARER)], "/A", id="any-credentials"
        ),
        pytest.param(
            [
                RouteRule(path="/a/*", credentials=Accepts.COOKIE),
                RouteRule(path="/*", credentials=Accepts.BEARER),
            ],
            "/A",
            id="other-credentials",
        ),
        pytest.param(
            [RouteRule(path="/a/*", scopes=["r", "w"]), RouteRule(path="/*", scopes=["r"])],
            "/A",
            id="fewer-scopes",
        ),
        pytest.param(
            [RouteRule(path="/a/*", claims={"t": [1]}), RouteRule(path="/*", claims={"t": [1, 2]})],
            "/A",
            id="more-values",
        ),
        pytest.param(
            [
                RouteRule(path="/a/*", methods=["DELETE"], roles=["r"]),
                RouteRule(path="/*", methods=["GET"], roles=["r"]),
            ],
            "/A",
            id="one-method",
        ),
        pytest.param(
            [
                RouteRule(path="/a/*", roles=["r"]),
                RouteRule(path="/*", hosts=["h"], access=Access.PUBLIC),
                RouteRule(path="/*", roles=["r"], name="last"),
            ],
            "/A",
            id="one-host",
        ),
        pytest.param(
            [RouteRule(path="/a/", paths_case="sensitive"), PUBLIC], "/a", id="slash-missing"
        ),
    ],
)
def test_a_looser_neighbour(rules: list[RouteRule], spelling: str) -> None:
    """A neighbour with fewer requirements is reported, for whatever method and host it is so."""
    (found,) = neighbours(rules)
    assert str(found).startswith(f'route {rules[0].path}: "{spelling}" belongs to route ')


@pytest.mark.parametrize(
    "rules",
    [
        pytest.param([], id="no-rules"),
        pytest.param([PUBLIC], id="public-alone"),
        pytest.param([RouteRule(path="/a/x")], id="default-is-as-strict"),
        pytest.param([RouteRule(path="/1"), RouteRule(path="/*")], id="same-access"),
        pytest.param([RouteRule(path="/*", roles=["r"])], id="everything"),
        pytest.param([RouteRule(path="/", paths_case="sensitive"), PUBLIC], id="root"),
        pytest.param(
            [RouteRule(path="/a", paths_case="sensitive", trailing_slash="strict"), PUBLIC],
            id="said",
        ),
        pytest.param(
            [RouteRule(path="/a", paths_case="insensitive", trailing_slash="ignore"), PUBLIC],
            id="folded",
        ),
        pytest.param(
            [RouteRule(path="/a", access=Access.OPTIONAL), PUBLIC], id="only-required-ones"
        ),
        pytest.param(
            [RouteRule(path="/a/*", roles=["r", "s"]), RouteRule(path="/*", roles=["r"])],
            id="stricter-follows",
        ),
        pytest.param(
            [
                RouteRule(path="/a/*", credentials=Accepts.BEARER, roles=["r"]),
                RouteRule(path="/*", credentials=Accepts.BEARER, roles=["r"]),
            ],
            id="same-credentials",
        ),
        pytest.param(
            [RouteRule(path="/a/*"), RouteRule(path="/*", credentials=Accepts.COOKIE)],
            id="fewer-credentials",
        ),
        pytest.param(
            [
                RouteRule(path="/*", methods=["DELETE"], roles=["r"]),
                RouteRule(path="/a/*", methods=["DELETE"], roles=["s"]),
            ],
            id="never-reached",
        ),
    ],
)
def test_no_looser_neighbour(rules: list[RouteRule]) -> None:
    """Nothing is reported where every neighbour requires as much, or its author has decided."""
    assert neighbours(rules) == []
