"""What users of such systems have reported, row by row, at the real program.

A row that passes without the change that it is about shows nothing. To see whether it does, run the
table against the program of another tree, which has its own `.venv`, and list the rows that pass:

    SIDECAR_TREE=/path/to/tree .venv/bin/python -m pytest tests/reports -q --tb=no -rp

The control, `test_the_table_reaches_the_program`, should pass there.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

import pytest
import pytest_asyncio

from tests.reports.applications import APPLICATIONS
from tests.reports.keys import KEYS
from tests.reports.operating import OPERATING
from tests.reports.report import USUAL, Exchange, LoneReport, Report, Rows
from tests.reports.signing_in import SIGNING_IN
from tests.reports.site import Setup, Site, site
from tests.reports.tokens import TOKENS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    Sites = Callable[[Setup], Awaitable[Site]]

REPORTS: Final[Rows] = (*SIGNING_IN, *TOKENS, *KEYS, *APPLICATIONS, *OPERATING)
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sites() -> AsyncIterator[Sites]:
    """Start a site for each setup when it is first needed; rows with equal setups share it."""
    running: dict[Setup, Site] = {}
    async with contextlib.AsyncExitStack() as stack:

        async def start(setup: Setup) -> Site:
            if setup not in running:
                running[setup] = await stack.enter_async_context(site(setup))
            return running[setup]

        yield start


@pytest.mark.parametrize(
    "report",
    [
        pytest.param(
            each,
            id=each.name,
            marks=pytest.mark.needs(*each.needs if isinstance(each, Report) else ()),
        )
        for each in REPORTS
    ],
)
async def test_report(report: Report | LoneReport, sites: Sites) -> None:
    """The report has the right answer."""
    try:
        if isinstance(report, LoneReport):
            await report.play()
        else:
            await report.play(await sites(report.setup))
    except (AssertionError, TimeoutError) as fault:
        fault.add_note(f"report: {report.says}")
        raise


async def test_the_table_reaches_the_program(sites: Sites) -> None:
    """Control: what every version can do succeeds, so the table's other rows can succeed."""
    usual = await sites(USUAL)
    await Exchange(target="/public/x")(usual)
    await Exchange(claims={"roles": ["user"]}, saw={"x-auth-roles": "user"})(usual)
    await Exchange(target="/admin/x", browser="admin", saw={"x-auth-user": "admin"})(usual)
    await Exchange(target="/admin/x", user="alice", status=403)(usual)
