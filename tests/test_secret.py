"""Tests of `sidecar.secret`."""

from __future__ import annotations

import copy
import json
import pickle
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import msgspec
import pytest

from sidecar.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Callable

TEXT = "correct-horse"


@dataclass
class Holder:
    """A dataclass with a secret field."""

    secret: Secret


class HolderStruct(msgspec.Struct):
    """A msgspec struct with a secret field, like the settings."""

    secret: Secret


@pytest.mark.parametrize(
    "show",
    [
        pytest.param(repr, id="repr"),
        pytest.param(str, id="str"),
        pytest.param(lambda s: f"{s}", id="f-string"),
        pytest.param(lambda s: f"{s!r:>20}", id="f-string of repr"),
        pytest.param(lambda s: f"{s:>20}", id="format with a width"),
        pytest.param(lambda s: "%s %r" % (s, s), id="percent"),  # noqa: UP031
        pytest.param(lambda s: repr([s, {"k": s}]), id="inside containers"),
        pytest.param(lambda s: repr(Holder(s)), id="inside a dataclass"),
        pytest.param(lambda s: repr(asdict(Holder(s))), id="inside asdict"),
        pytest.param(lambda s: repr(HolderStruct(s)), id="inside a struct"),
        pytest.param(lambda s: repr(ValueError(s)), id="inside an exception"),
        pytest.param(lambda s: str(ValueError(s)), id="an exception's text"),
    ],
)
def test_no_text_made_of_it_shows_it(show: Callable[[Secret], str]) -> None:
    """Every way to turn a secret into text gives only the mask."""
    shown = show(Secret(TEXT))
    assert TEXT not in shown
    assert "***" in shown


@pytest.mark.parametrize(
    "serialise",
    [
        pytest.param(pickle.dumps, id="pickle"),
        pytest.param(json.dumps, id="json"),
        pytest.param(msgspec.json.encode, id="msgspec"),
        pytest.param(lambda s: msgspec.json.encode(HolderStruct(s)), id="inside a struct"),
    ],
)
def test_no_serialiser_takes_it(serialise: Callable[[Secret], object]) -> None:
    """Serialising a secret raises TypeError with a message that does not contain it."""
    with pytest.raises(TypeError) as caught:
        serialise(Secret(TEXT))
    assert TEXT not in str(caught.value)


def test_reveal_gives_the_text() -> None:
    """Only `reveal` returns the text."""
    assert Secret(TEXT).reveal() == TEXT


def test_comparing() -> None:
    """Equal texts are equal secrets; a secret never equals a plain text."""
    assert Secret(TEXT) == Secret(TEXT)
    assert Secret(TEXT) != Secret("other")
    assert Secret(TEXT) != TEXT
    assert Secret("lone \ud800") == Secret("lone \ud800")
    assert len({Secret(TEXT), Secret(TEXT), Secret("other")}) == 2


def test_it_is_true_when_not_empty() -> None:
    """A secret is true if it is set, as in `if settings.redis_password`."""
    assert Secret(TEXT)
    assert not Secret("")


def test_copies_are_the_secret_itself() -> None:
    """Copying settings does not copy the secret in memory."""
    secret = Secret(TEXT)
    assert copy.copy(secret) is secret
    assert copy.deepcopy([secret])[0] is secret
