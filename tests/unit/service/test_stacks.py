"""Stacks of tasks and threads."""

import asyncio
import threading

from service.stacks import task_stack, thread_stacks


async def test_the_stack_of_a_task_includes_what_it_waits_for() -> None:
    event = asyncio.Event()

    async def inner() -> None:
        await event.wait()

    async def outer() -> None:
        await inner()

    task = asyncio.create_task(outer())
    await asyncio.sleep(0)
    stack = task_stack(task)
    names = [place.rpartition(".")[2] for place in stack]
    assert names[:3] == ["outer", "inner", "wait"]
    event.set()
    await task


def test_every_thread_has_a_stack() -> None:
    started, end = threading.Event(), threading.Event()

    def wait_here() -> None:
        started.set()
        end.wait()

    thread = threading.Thread(target=wait_here, name="waiting")
    thread.start()
    started.wait()
    stacks = dict(thread_stacks())
    end.set()
    thread.join()
    assert any("wait_here" in place for place in stacks["waiting"])
    assert any("test_every_thread_has_a_stack" in place for place in stacks["MainThread"])
