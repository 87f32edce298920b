"""Every vector end to end and in every cut, because the result may depend on the octets only.

A message is written at once, octet by octet, and in random pieces (always the same ones).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from tests.vectors.corpus import ANSWERS, CUTS, REQUESTS
from tests.vectors.stage import Stage, stage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def staged() -> AsyncIterator[Stage]:
    """One stage for all vectors, which leave nothing behind on it."""
    async with stage() as ready:
        yield ready


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("name", REQUESTS)
async def test_request(staged: Stage, name: str, cut: str) -> None:
    """Client and upstream get what the vector expects, and so does the next request."""
    await staged.play_request(REQUESTS[name], cut)


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("name", ANSWERS)
async def test_answer(staged: Stage, name: str, cut: str) -> None:
    """The client gets what the vector expects, and the connection is reused or dropped."""
    await staged.play_answer(ANSWERS[name], cut)


async def test_corpus_is_large_and_cites() -> None:
    """There are at least 200 vectors, and each cites its specification."""
    assert len(REQUESTS) + len(ANSWERS) >= 200
    citation = re.compile(
        r"RFC [0-9]{4} [0-9A-Z]+(\.[0-9]+)*(; RFC [0-9]{4} [0-9A-Z]+(\.[0-9]+)*)*"
        r"|Fetch [a-z-]+"  # the Living Standard has anchors; its section numbers change
    )
    cited = {name: vector.rfc for name, vector in (REQUESTS | ANSWERS).items()}
    assert {name: rfc for name, rfc in cited.items() if not citation.fullmatch(rfc)} == {}
