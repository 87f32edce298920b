"""Where a configured path finds a claim."""

from __future__ import annotations

from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.claim_path import ClaimPath

CLAIMS: Final[dict[str, Any]] = {
    "roles": ["a"],
    "realm_access": {"roles": ["b"], "": "empty", "null": None},
    "resource_access": {"shop": {"roles": ["c"]}, "my.client": {"roles": ["d"]}},
    "https://example.com/roles": ["e"],
    "https://example": {"com/roles": ["wrong"]},
    "kubernetes.io": {"namespace": "default"},
    "kubernetes": {"io": "wrong"},
    "cognito:groups": ["f"],
    "groups": [{"name": "g"}, {"name": "h"}],
    "a/b": {"m~n": "i"},
    "": {"": "j"},
    "deep.null": None,
    "deep": {"null": "wrong"},
}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        pytest.param("roles", ["a"], id="name"),
        pytest.param("cognito:groups", ["f"], id="name-with-a-colon"),
        pytest.param("realm_access.roles", ["b"], id="dotted"),
        pytest.param("resource_access.shop.roles", ["c"], id="dotted-twice"),
        pytest.param("https://example.com/roles", ["e"], id="url-is-a-name"),
        pytest.param("kubernetes.io", {"namespace": "default"}, id="whole-name-before-members"),
        pytest.param("deep.null", None, id="whole-name-even-if-null"),
        pytest.param("/roles", ["a"], id="pointer"),
        pytest.param("/realm_access/roles", ["b"], id="pointer-nested"),
        pytest.param("/resource_access/my.client/roles", ["d"], id="pointer-past-dots"),
        pytest.param("/https:~1~1example.com~1roles", ["e"], id="pointer-url"),
        pytest.param("/kubernetes.io/namespace", "default", id="pointer-into-a-dotted-name"),
        pytest.param("/a~1b/m~0n", "i", id="pointer-escapes"),
        pytest.param("/groups/1/name", "h", id="pointer-index"),
        pytest.param("/realm_access/", "empty", id="pointer-empty-name"),
        pytest.param("//", "j", id="pointer-only-empty-names"),
        pytest.param("other", None, id="absent"),
        pytest.param("realm_access.other", None, id="absent-member"),
        pytest.param("realm_access.null", None, id="null"),
        pytest.param("realm_access.roles.0", None, id="no-index-without-a-pointer"),
        pytest.param("roles.x.y", None, id="no-object"),
        pytest.param("resource_access.my.client.roles", None, id="dots-in-a-nested-name"),
        pytest.param("https://example.com/other", None, id="url-has-no-members"),
        pytest.param("/realm_access.roles", None, id="pointer-without-that-name"),
        pytest.param("/groups/2/name", None, id="pointer-beyond-the-list"),
        pytest.param("/groups/-", None, id="pointer-after-the-last"),
        pytest.param("/groups/01", None, id="pointer-leading-zero"),
        pytest.param("/groups/-1", None, id="pointer-negative"),
        pytest.param("/groups/\u0660", None, id="pointer-other-digits"),
        pytest.param("/groups/" + "9" * 5000, None, id="pointer-huge"),
        pytest.param("/cognito:groups/0/x", None, id="pointer-into-a-text"),
    ],
)
def test_find(path: str, found: object) -> None:
    """A path finds exactly one place, or nothing."""
    assert ClaimPath(path).find(CLAIMS) == found


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        pytest.param("", "expected the name of a claim", id="empty"),
        pytest.param("a\nb", "expected the name of a claim", id="control-character"),
        pytest.param(".roles", "a name on each side of every dot", id="dot-first"),
        pytest.param("roles.", "a name on each side of every dot", id="dot-last"),
        pytest.param("a..b", "a name on each side of every dot", id="two-dots"),
        pytest.param("/a~b", 'expected "~" in a JSON pointer', id="bare-tilde"),
        pytest.param("/a~2", 'expected "~" in a JSON pointer', id="other-escape"),
        pytest.param("/a~", 'expected "~" in a JSON pointer', id="tilde-last"),
    ],
)
def test_what_is_no_path(path: str, problem: str) -> None:
    """A path that can name nothing is refused, with what was expected."""
    with pytest.raises(ValueError, match=problem):
        ClaimPath(path)


def test_equal_paths() -> None:
    """Paths are compared by their text, which is what they show."""
    assert ClaimPath("a.b") == ClaimPath("a.b") != ClaimPath("/a/b")
    assert repr(ClaimPath("a.b")) == "ClaimPath(text='a.b')"


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=3), _JSON), st.text(max_size=12))
def test_any_claims_and_paths(claims: dict[str, Any], text: str) -> None:
    """No path and no claims raise, except a ValueError for a path that is none."""
    try:
        path = ClaimPath(text)
    except ValueError:
        return
    path.find(claims)


@given(st.lists(st.text(st.characters(codec="ascii", categories=["L", "P", "S"])), min_size=1))
def test_every_place_has_a_pointer(names: list[str]) -> None:
    """Whatever the names of nested claims are, a JSON pointer finds the innermost one."""
    claims: Any = "found"
    for name in reversed(names):
        claims = {name: claims}
    pointer = "".join("/" + name.replace("~", "~0").replace("/", "~1") for name in names)
    assert ClaimPath(pointer).find(claims) == "found"
