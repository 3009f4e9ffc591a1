"""Which process is asked, who is asked again, and who is told to come back."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from core.server.faults import HttpFault
from core.server.item import Answer, Item, Upload
from core.server.limits import Limits
from core.server.links import LinkLost, ModelSettings
from core.server.pool import ModelPool

POISON = b"poison"


class FakeLink:
    """A process that dies of poison, with all that it works on, and is back a moment later."""

    def __init__(self, name: str) -> None:
        self.device = self.wanted_device = name
        self.ready, self.failed, self.restarts = asyncio.Event(), "", 0
        self.asked: list[bytes] = []
        self._open: list[asyncio.Future[Answer]] = []
        self.ready.set()

    @property
    def load(self) -> int:
        return len(self._open)

    def memory_bytes(self) -> int:
        return 1

    async def ask(self, item: Item) -> Answer:
        content = item.uploads[0].content()
        self.asked.append(content)
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._open.append(future)
        asyncio.get_running_loop().call_later(0.01, self._finish, content, future)
        try:
            return await future
        finally:
            self._open.remove(future)

    def _finish(self, content: bytes, future: asyncio.Future[Answer]) -> None:
        if content != POISON:
            if not future.done():
                future.set_result(Answer(200, content))
            return
        self.ready.clear()
        self.restarts += 1
        for one in self._open:
            if not one.done():
                one.set_exception(LinkLost())
        asyncio.get_running_loop().call_later(0.02, self.ready.set)


def pool_of(*links: FakeLink, **limits: Any) -> ModelPool:
    pool = ModelPool(ModelSettings(Path("b"), Path("h"), limits=Limits(**limits)))
    pool._links = list(links)  # type: ignore[arg-type]
    return pool


def item(content: bytes) -> Item:
    return Item((Upload("picture", content),))


def test_the_process_with_the_least_to_do_is_asked() -> None:
    async def run() -> list[int]:
        links = FakeLink("cpu"), FakeLink("cuda:0")
        pool = pool_of(*links)
        await asyncio.gather(*(pool.predict(item(bytes([n]))) for n in range(6)))
        return [len(link.asked) for link in links]

    assert asyncio.run(run()) == [3, 3]


def test_one_poisoned_image_takes_no_other_down_with_it() -> None:
    async def run() -> tuple[list[Any], int]:
        link = FakeLink("cpu")
        pool = pool_of(link)
        contents = [b"a", b"b", POISON, b"c", b"d"]
        answers = await asyncio.gather(*(pool.predict(item(c)) for c in contents), return_exceptions=True)
        return answers, link.restarts

    answers, restarts = asyncio.run(run())
    poisoned = answers.pop(2)
    assert isinstance(poisoned, HttpFault)
    assert (poisoned.status, poisoned.error.code) == (503, "server.model_lost")
    assert [answer.body for answer in answers] == [b"a", b"b", b"c", b"d"]
    assert restarts == 2


def test_a_full_queue_says_when_to_come_back() -> None:
    async def run() -> list[Any]:
        pool = pool_of(FakeLink("cpu"), queue=2)
        asked = (pool.predict(item(bytes([n]))) for n in range(3))
        return await asyncio.gather(*asked, return_exceptions=True)

    first, second, third = asyncio.run(run())
    assert (first.status, second.status) == (200, 200)
    assert isinstance(third, HttpFault)
    assert (third.status, third.error.code, third.retry_after_s) == (503, "server.queue_full", 1.0)


def test_nobody_waits_for_ever_for_a_model_that_does_not_start() -> None:
    async def run(failed: str) -> Any:
        link = FakeLink("cpu")
        link.ready.clear()
        link.failed = failed
        with pytest.raises(HttpFault) as caught:
            await pool_of(link, start_s=0.02).predict(item(b"a"))
        return caught.value.error.user_message

    assert asyncio.run(run("")) == "The model is still being loaded."
    assert asyncio.run(run("The weights are damaged.")) == "The weights are damaged."


def test_the_state_tells_of_all_processes() -> None:
    async def run() -> Any:
        links = FakeLink("cpu"), FakeLink("cuda:0")
        links[0].ready.clear()
        return pool_of(*links).state()

    state = asyncio.run(run())
    assert (state.ready, state.wanted, state.device, state.waiting) == (1, 2, "cuda:0", 0)
    assert set(state.memory_bytes) == {"web", "model-0", "model-1"}
