"""Relations between rules: unreachable rules, and paths that belong to the sidecar."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from sidecar.errors import ConfigError
from sidecar.settings import RouteSettings, settings_from
from sidecar.settings.routes import check_routes

if TYPE_CHECKING:
    from pathlib import Path


def found(*rules: dict[str, Any]) -> list[tuple[int, str, str]]:
    """Return the problems of these rules."""
    return list(check_routes([RouteSettings(**rule) for rule in rules], "/auth"))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param({"path": "/x"}, {"path": "/x"}, id="same-path"),
        pytest.param({"path": "/*"}, {"path": "/x"}, id="everything"),
        pytest.param({"path": "/*"}, {"path": "/*"}, id="everything-twice"),
        pytest.param({"path": "/x/*"}, {"path": "/x"}, id="prefix-and-its-root"),
        pytest.param({"path": "/x/*"}, {"path": "/x/y/*"}, id="prefix-in-prefix"),
        pytest.param({"path": "/x"}, {"path": "/x", "methods": ("GET",)}, id="any-method"),
        pytest.param(
            {"path": "/x", "methods": ("GET", "POST")},
            {"path": "/x", "methods": ("POST",)},
            id="more-methods",
        ),
        pytest.param(
            {"path": "/x", "methods": ("GET",)}, {"path": "/x", "methods": ("HEAD",)}, id="head"
        ),
        pytest.param({"path": "/x"}, {"path": "/x", "hosts": ("a",)}, id="any-host"),
        pytest.param(
            {"path": "/x", "access": "public"}, {"path": "/x", "roles": ("admin",)}, id="access"
        ),
        pytest.param({"path": "/x", "paths_case": "insensitive"}, {"path": "/X"}, id="any-case"),
        pytest.param(
            {"path": "/x/*", "paths_case": "insensitive"}, {"path": "/X/Y"}, id="prefix-in-any-case"
        ),
        pytest.param({"path": "/x", "trailing_slash": "ignore"}, {"path": "/x/"}, id="any-slash"),
        pytest.param({"path": "/x/", "trailing_slash": "ignore"}, {"path": "/x"}, id="no-slash"),
        pytest.param({"path": "/*"}, {"path": "/x", "paths_case": "insensitive"}, id="all"),
        pytest.param(
            {"path": "/x/*"}, {"path": "/x", "trailing_slash": "ignore"}, id="both-slashes"
        ),
    ],
)
def test_a_rule_that_is_never_reached_is_reported(
    first: dict[str, Any], second: dict[str, Any]
) -> None:
    """A rule is reported if an earlier rule matches all of its requests."""
    ((position, key, problem),) = found(first, second)
    assert (position, key) == (1, "path")
    assert problem == f"never reached: route[1] ({first['path']}) comes first and covers it"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param({"path": "/x"}, {"path": "/x/*"}, id="exact-then-prefix"),
        pytest.param({"path": "/x/*"}, {"path": "/xy"}, id="not-a-segment"),
        pytest.param({"path": "/x"}, {"path": "/X"}, id="case"),
        pytest.param({"path": "/x"}, {"path": "/x/"}, id="trailing-slash"),
        pytest.param({"path": "/x"}, {"path": "/x", "paths_case": "insensitive"}, id="more-cases"),
        pytest.param(
            {"path": "/x/*"}, {"path": "/x/*", "paths_case": "insensitive"}, id="prefix-more-cases"
        ),
        pytest.param({"path": "/x"}, {"path": "/x", "trailing_slash": "ignore"}, id="more-slashes"),
        pytest.param({"path": "/x", "methods": ("GET",)}, {"path": "/x"}, id="fewer-methods"),
        pytest.param(
            {"path": "/x", "methods": ("GET",)},
            {"path": "/x", "methods": ("GET", "POST")},
            id="some-methods",
        ),
        pytest.param({"path": "/x", "hosts": ("a",)}, {"path": "/x"}, id="fewer-hosts"),
        pytest.param(
            {"path": "/x", "hosts": ("a",)}, {"path": "/x", "hosts": ("b",)}, id="other-host"
        ),
    ],
)
def test_a_rule_that_can_be_reached_is_accepted(
    first: dict[str, Any], second: dict[str, Any]
) -> None:
    """A rule is accepted if the earlier one does not match all of its requests."""
    assert found(first, second) == []


JWKS = "/.well-known/jwks.json"


@pytest.mark.parametrize("prefix", ["/auth", "/_sign-in", "/a/b"])
@pytest.mark.parametrize("below", ["", "/*", "/login"])
def test_what_the_sidecar_serves_is_not_for_rules(prefix: str, below: str) -> None:
    """A rule for a path of the control plane is refused, and every other prefix is free."""
    rules = [RouteSettings(path=prefix + below)]
    ((_, key, problem),) = check_routes(rules, prefix)
    assert key == "path"
    assert problem == (
        f"expected a path that the sidecar does not serve itself, because auth_prefix is {prefix}; "
        f"got {prefix}{below}"
    )
    assert list(check_routes(rules, "/other")) == []
    assert list(check_routes(rules, None)) == []  # the prefix is malformed, and reported as such


@pytest.mark.parametrize("prefix", ["/auth", "/_sign-in", None])
def test_the_public_keys_are_not_for_rules(prefix: str | None) -> None:
    """The path of the public keys is the same with every prefix."""
    ((_, key, problem),) = check_routes([RouteSettings(path=JWKS)], prefix)
    assert key == "path"
    assert problem == (
        f"expected a path that the sidecar does not serve itself, on every host; got {JWKS}"
    )


@pytest.mark.parametrize(
    ("rule", "problem"),
    [
        pytest.param(
            {"path": "/x"}, 'expected a prefix such as /x/* for "pass"; got /x', id="exact"
        ),
        pytest.param(
            {"path": "/x/*", "method_override": "X-HTTP-Method"},
            'expected "reject" beside method_override; got "pass"',
            id="method-override",
        ),
    ],
)
def test_where_escapes_cannot_pass(rule: dict[str, Any], problem: str) -> None:
    """Escapes are ambiguous below a prefix only, and the method must be clear."""
    assert found({**rule, "path_escapes": "pass"}) == [(0, "path_escapes", problem)]
    assert found({"path": "/x/*", "path_escapes": "pass"}) == []


@pytest.mark.parametrize("path", ["/authors", "/authors/*", "/.well-known/*", "/*"])
def test_neighbours_of_what_the_sidecar_serves_are_free(path: str) -> None:
    """Only whole segments of the sidecar's own paths are reserved."""
    assert found({"path": path}) == []


@pytest.mark.parametrize("credentials", ["bearer", "cookie"])
def test_a_public_route_looks_at_no_credentials(credentials: str) -> None:
    """Which credentials count means nothing where none is looked at."""
    ((_, key, problem),) = found({"path": "/x", "access": "public", "credentials": credentials})
    assert key == "credentials"
    assert problem == f"expected any, because a public route looks at none; got {credentials}"
    for access in ("optional", "required"):
        assert found({"path": "/x", "access": access, "credentials": credentials}) == []
    assert found({"path": "/x", "access": "public", "credentials": "any"}) == []


@pytest.mark.parametrize("access", ["public", "optional"])
@pytest.mark.parametrize(
    "asked", [{"roles": ("a",)}, {"scopes": ("a",)}, {"claims": {"a": ("b",)}}]
)
def test_a_requirement_needs_access_required(access: str, asked: dict[str, Any]) -> None:
    """A route that is not `required` cannot require roles, scopes or claims."""
    ((_, key, problem),) = found({"path": "/x", "access": access, **asked})
    assert key == "access"
    assert problem == f"expected required, because the route has {next(iter(asked))}; got {access}"


def test_a_rule_for_options_alone_announces_nothing() -> None:
    """`preflight = "pass"` is refused for OPTIONS alone, which no preflight announces."""
    ((position, key, problem),) = found(
        {"path": "/y", "methods": ("OPTIONS",)},
        {"path": "/x", "methods": ("OPTIONS",), "preflight": "pass"},
    )
    assert (position, key) == (1, "methods")
    assert problem == ("expected the methods that preflights announce, such as DELETE; got OPTIONS")
    for methods in ((), ("DELETE",), ("OPTIONS", "DELETE")):
        assert found({"path": "/x", "methods": methods, "preflight": "pass"}) == []


@pytest.mark.parametrize("value", ["", "none", "token", "all"])
def test_forwarded_credentials(tmp_path: Path, value: str) -> None:
    """`forward_credentials` is one of three words, or empty for the default."""
    assert load_route(tmp_path, value).forward_credentials == value


@pytest.mark.parametrize("value", ["cookie", "None", "both"])
def test_unknown_credentials(tmp_path: Path, value: str) -> None:
    """Any other value is a problem with its place."""
    with pytest.raises(ConfigError, match=r"forward_credentials.*none.*token.*all"):
        load_route(tmp_path, value)


def load_route(folder: Path, value: str) -> RouteSettings:
    """The route of a file with this `forward_credentials`."""
    file = folder / "sidecar.toml"
    secrets = "".join(f'{name} = "{name * 4}"\n' for name in ("jwt_secret", "refresh_secret"))
    file.write_text(f'{secrets}[[route]]\npath = "/x"\nforward_credentials = "{value}"\n')
    (route,) = settings_from(env={}, file=file).route
    return route


def test_two_rules_have_two_names() -> None:
    """Names must be unique, because they label the metrics of a rule."""
    rules = [
        {"path": "/x", "name": "a"},
        {"path": "/y"},
        {"path": "/z", "name": "a"},
        {"path": "/"},
    ]
    assert found(*rules) == [(2, "name", "expected a unique name; a is taken")]


def test_a_rule_with_problems_of_its_own_keeps_its_place() -> None:
    """Later rules are still counted from the first rule of the file."""
    rules = [None, RouteSettings(path="/x"), RouteSettings(path="/x")]
    ((position, _, problem),) = check_routes(rules, "/auth")
    assert position == 2
    assert problem.startswith("never reached: route[2] (/x)")


def test_an_override_needs_post() -> None:
    """A rule that no POST matches cannot accept a header that overrides POST."""
    rule = {"path": "/x", "method_override": "X-HTTP-Method"}
    problem = (0, "methods", "expected POST among them, because only a POST can be overridden")
    assert found({**rule, "methods": ("GET", "DELETE")}) == [problem]
    assert found({**rule, "methods": ("GET", "POST")}, {"path": "/y"}) == found(rule) == []
