"""Work runs elsewhere, answers come back on the GUI thread, errors arrive as AppErrors."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from app.bridge.executors import Executors
from core.domain.errors import AppError, InputError

pytestmark = pytest.mark.gui
Wait = Callable[..., None]


@pytest.fixture
def executors(qt_application: object) -> Iterator[Executors]:
    made = Executors()
    yield made
    made.shutdown()


def test_work_runs_elsewhere_and_answers_here(executors: Executors, wait_until: Wait) -> None:
    seen: list[tuple[str, str]] = []

    def done(name: str) -> None:
        seen.append((name, threading.current_thread().name))

    executors.io(lambda: threading.current_thread().name, done, pytest.fail)
    executors.db(lambda: threading.current_thread().name, done, pytest.fail)
    wait_until(lambda: len(seen) == 2, "two answers")
    here = threading.current_thread().name
    assert {name.rsplit("_", 1)[0] for name, _ in seen} == {"overread-io", "overread-db"}
    assert [where for _, where in seen] == [here, here]
    assert executors.pending == 0


def test_the_database_has_one_thread_and_keeps_the_order(executors: Executors, wait_until: Wait) -> None:
    order: list[int] = []
    threads: set[int] = set()
    for number in range(20):
        executors.db(lambda n=number: (threads.add(threading.get_ident()), n)[1], order.append, pytest.fail)
    wait_until(lambda: len(order) == 20, "all answers")
    assert order == list(range(20)) and len(threads) == 1


def test_a_refusal_arrives_as_it_is(executors: Executors, wait_until: Wait) -> None:
    refused: list[AppError] = []

    def work() -> None:
        raise InputError("a.b", "No.", "Try another.")

    executors.io(work, pytest.fail, refused.append)
    wait_until(lambda: bool(refused), "the refusal")
    assert refused[0].code == "a.b"


@pytest.mark.expects_logs
def test_a_bug_becomes_an_error_without_its_words(executors: Executors, wait_until: Wait) -> None:
    refused: list[AppError] = []
    executors.io(lambda: {}["Planted^Name"], pytest.fail, refused.append)
    wait_until(lambda: bool(refused), "the error")
    assert refused[0].code == "bug.unexpected"
    assert "Planted" not in refused[0].user_message


def test_after_the_end_nothing_is_answered(qt_application: object) -> None:
    executors = Executors()
    last: list[str] = []
    executors.shutdown(lambda: last.append(threading.current_thread().name))
    executors.io(lambda: 1, pytest.fail, pytest.fail)
    executors.post(lambda: pytest.fail("too late"))
    assert last and last[0].startswith("overread-db")
