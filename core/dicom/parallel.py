"""A few threads that decode slices; reading and most codecs release the interpreter's lock."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from queue import SimpleQueue

WORKERS = max(1, min(4, os.cpu_count() or 1))


def in_parallel(action: Callable[[int], None], items: Sequence[int], workers: int = WORKERS) -> Iterator[int]:
    """Run ``action`` on each item in a few threads and yield each item when it is done, in order of completion.

    Abandoning the iterator (an exception, ``close``) stops the threads after their current item.

    Raises
    ------
    BaseException
        The first one that ``action`` raises, in the calling thread.
    """
    pending = deque(items)
    finished: SimpleQueue[tuple[int, BaseException | None]] = SimpleQueue()
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            try:
                item = pending.popleft()
            except IndexError:
                return
            try:
                action(item)
            except BaseException as error:  # noqa: BLE001 - handed to the calling thread, which raises it
                finished.put((item, error))
                return
            finished.put((item, None))

    threads = [
        threading.Thread(target=work, name=f"decode-{n}", daemon=True)
        for n in range(min(workers, len(items)))
    ]
    for thread in threads:
        thread.start()
    try:
        for _ in range(len(items)):
            item, error = finished.get()
            if error is not None:
                raise error
            yield item
    finally:
        stop.set()
        for thread in threads:
            thread.join()
