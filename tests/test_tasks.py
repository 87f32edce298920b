"""Tests of `sidecar.tasks`."""

from __future__ import annotations

import asyncio
import gc
import logging

import pytest

from sidecar.tasks import PatientTimeout, Tasks, wait_any
from tests.peers.busy_loop import busy_loop


async def forever() -> None:
    """Wait for an event that is never set."""
    await asyncio.get_running_loop().create_future()


async def test_a_task_runs_under_its_name_and_is_forgotten_after() -> None:
    """A task has its name and result, and is dropped when it is done."""
    tasks = Tasks()

    async def work() -> int:
        return 42

    task = tasks.spawn(work(), "answer")
    assert repr(tasks) == "<Tasks open: answer>"
    assert await task == 42
    await asyncio.sleep(0)
    assert len(tasks) == 0


async def test_a_task_that_nobody_holds_is_not_collected() -> None:
    """A running task is kept alive: the event loop holds only weak references."""
    tasks = Tasks()
    tasks.spawn(forever(), "waiting")
    await asyncio.sleep(0)
    gc.collect()
    assert len(tasks) == 1
    await tasks.close()


async def test_a_fault_is_logged_once_with_its_name(caplog: pytest.LogCaptureFixture) -> None:
    """The exception of a task that is not awaited is logged once."""
    tasks = Tasks()

    async def work() -> None:
        raise ValueError("broken")

    task = tasks.spawn(work(), "refresher")
    await asyncio.wait([task])
    await asyncio.sleep(0)
    del task
    gc.collect()
    (record,) = caplog.records
    assert (record.levelno, record.getMessage()) == (logging.ERROR, "task refresher failed")
    assert record.exc_info is not None
    assert str(record.exc_info[1]) == "broken"


async def test_close_waits_for_the_cleaning_up(caplog: pytest.LogCaptureFixture) -> None:
    """Closing waits for the `finally` blocks of cancelled tasks, and logs no cancellation."""
    tasks = Tasks()
    steps: list[str] = []

    async def work() -> None:
        try:
            await forever()
        finally:
            await asyncio.sleep(0)
            steps.append("cleaned")

    tasks.spawn(work(), "one")
    tasks.spawn(work(), "two")
    await asyncio.sleep(0)
    await tasks.close()
    assert steps == ["cleaned", "cleaned"]
    assert not caplog.records
    assert repr(tasks) == "<Tasks closed: none>"


async def test_nothing_starts_after_close() -> None:
    """A refused coroutine is closed, so Python does not warn about it."""
    tasks = Tasks()
    await tasks.close()
    with pytest.raises(RuntimeError, match="task late started after close"):
        tasks.spawn(forever(), "late")


async def test_waiting_for_events() -> None:
    """Waiting ends with the first event or the timeout, and leaves no task behind."""
    one, other = asyncio.Event(), asyncio.Event()
    before = asyncio.all_tasks()
    await wait_any(0.0, one, other)
    waiting = asyncio.create_task(wait_any(60.0, one, None, other))
    await asyncio.sleep(0)
    assert not waiting.done()
    other.set()
    await waiting
    await wait_any(0.0, None)
    assert asyncio.all_tasks() == before


async def test_a_timeout_ends() -> None:
    """A block that waits for an answer that never arrives ends with TimeoutError."""
    with pytest.raises(TimeoutError):
        async with PatientTimeout(0.01):
            await forever()
    with pytest.raises(TimeoutError):
        async with PatientTimeout(-1.0):
            await forever()


async def test_a_timeout_with_a_busy_loop() -> None:
    """Turns of the loop that are as long as half of the limit do not use it up."""
    ended = asyncio.Event()

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(line)
        writer.close()
        await writer.wait_closed()
        ended.set()

    async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with busy_loop(0.005):
            async with PatientTimeout(0.01) as timeout:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                for _ in range(2):
                    writer.write(b"hello\n")
                    assert await reader.readline() == b"hello\n"
        writer.close()
        await writer.wait_closed()
        await ended.wait()
    assert timeout.left < 0.01


async def test_a_timeout_shows_what_is_left() -> None:
    """It has all of its time until a slice has passed, and stops with its block."""
    async with PatientTimeout(5.0) as timeout:
        assert repr(timeout) == "<PatientTimeout 5.000 s left>"
    await asyncio.sleep(0)
    assert timeout.left == 5.0
