"""What a worker tells and what the one who started it makes of it, without a cluster."""

from __future__ import annotations

import json
import os
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core.cli import main
from core.compute.training import cluster_worker, run
from core.compute.training.cluster import _connected, _Run, _use_gpu
from core.compute.training.cluster_worker import LetterBox, work
from core.domain.errors import AppError, EnvironmentFault, InputError, SafetyError
from core.domain.progress import Cancelled, CancelToken
from core.recipes.load import recipe_document
from tests.fakes.shape_training import shape_recipe


class Trainer:
    """Fits by doing something."""

    def __init__(self, fit: Callable[[], None]) -> None:
        self.fit = fit


def outcome(fit: Callable[[LetterBox], None], cancel: CancelToken | None = None, **listeners: Any) -> Any:
    box = LetterBox()
    heard = {"progress": lambda *told: None, "on_event": None} | listeners
    return _Run(Trainer(lambda: fit(box)), **heard).wait(box.take, box.cancel, cancel)


def test_events_progress_and_the_answer_come_back_in_order() -> None:
    told: list[Any] = []

    def fit(box: LetterBox) -> None:
        box.put({"progress": ["Training", 0.5]})
        box.put({"event": {"event": "step"}})
        box.put({"event": {"event": "done"}})
        box.put({"answer": {"epochs": 2}})

    answer = outcome(fit, progress=lambda *what: told.append(what), on_event=told.append)
    assert answer == {"epochs": 2}
    assert told == [("Training", 0.5), {"event": "step"}, {"event": "done"}]


@pytest.mark.parametrize("family", ["InputError", "EnvironmentFault", "SafetyError", "BugError"])
def test_an_error_of_a_worker_comes_back_as_itself(family: str) -> None:
    def fit(box: LetterBox) -> None:
        box.put({"error": [family, "data.no_images", "No images.", "Check the folder."]})
        raise RuntimeError("a worker failed")

    with pytest.raises(AppError) as caught:
        outcome(fit)
    assert type(caught.value).__name__ == family
    assert (caught.value.code, caught.value.remedy) == ("data.no_images", "Check the folder.")


def test_a_cluster_that_breaks_is_an_environment_fault() -> None:
    def fit(box: LetterBox) -> None:
        raise ConnectionError("the head is gone")

    with pytest.raises(EnvironmentFault, match="ConnectionError") as caught:
        outcome(fit)
    assert caught.value.code == "cluster.failed"


def test_the_wish_to_stop_reaches_the_workers() -> None:
    cancel = CancelToken()
    cancel.cancel()

    def fit(box: LetterBox) -> None:
        while not box.is_cancelled():
            pass
        box.put({"cancelled": True})

    with pytest.raises(Cancelled):
        outcome(fit, cancel)


def test_workers_without_processors_or_cards_are_refused() -> None:
    assert _use_gpu({"CPU": 8.0, "GPU": 2.0}, 2, "auto")
    assert not _use_gpu({"CPU": 8.0, "GPU": 1.0}, 2, "auto")
    assert not _use_gpu({"CPU": 8.0, "GPU": 2.0}, 2, "cpu")
    with pytest.raises(EnvironmentFault, match="1 graphics cards; 2 workers"):
        _use_gpu({"CPU": 8.0, "GPU": 1.0}, 2, "cuda")
    with pytest.raises(EnvironmentFault, match="1 processors; 2 workers"):
        _use_gpu({"CPU": 1.0}, 2, "auto")


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(EnvironmentFault) as caught, _connected("auto", 1):
        pass
    assert caught.value.code == "cluster.no_ray"
    assert "overread[cluster]" in caught.value.remedy


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["--backend", "slurm"], "train.backend"), (["--workers", "2"], "train.workers")],
)
def test_the_command_refuses_backends_that_are_not_there(
    arguments: list[str], code: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run(["train", "anything", "--json", *arguments]) != 0
    assert json.loads(capsys.readouterr().out)["error"]["code"] == code


class Remote:
    """A method of a letter box as Ray's handles have them."""

    def __init__(self, method: Callable[..., Any]) -> None:
        self.remote = method


class Handle:
    """A letter box beside us."""

    def __init__(self) -> None:
        self.box = LetterBox()
        self.put, self.is_cancelled = Remote(self.box.put), Remote(self.box.is_cancelled)


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setitem(sys.modules, "ray", types.SimpleNamespace(get=lambda value: value))
    monkeypatch.setattr(cluster_worker, "_ASK_S", 0.01)
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "NODE_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    for name in ("GROUP_RANK", "TORCHELASTIC_RUN_ID"):
        monkeypatch.setenv(name, "")
    (tmp_path / ".token").touch()
    return {
        "recipe": recipe_document(shape_recipe()),
        "data": str(tmp_path),
        "out": str(tmp_path),
        "token": ".token",
        "resume": False,
        "device": "cpu",
        "private_key_file": None,
        "initial": None,
        "profile": True,
        "box": Handle(),
    }


def test_a_worker_trains_as_under_torchrun(job: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}

    def train(recipe: Any, **settings: Any) -> dict[str, Any]:
        given.update(settings, recipe=recipe)
        settings["progress"]("Training", 0.1)
        settings["progress"]("Training", 0.2)
        settings["on_event"]({"event": "started"})
        return {"epochs": 3}

    monkeypatch.setattr(run, "train_recipe", train)
    work(job)
    assert given["recipe"] == shape_recipe()
    assert (given["resume"], given["profile"], given["device"]) == (False, True, "cpu")
    assert (os.environ["GROUP_RANK"], os.environ["TORCHELASTIC_RUN_ID"]) == ("0", "ray")
    letters = job["box"].box.take()
    assert letters == [
        {"progress": ["Training", 0.1]},
        {"event": {"event": "started"}},
        {"answer": {"epochs": 3}},
    ]


def test_only_the_first_worker_writes(job: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr(run, "train_recipe", lambda *_, **settings: settings["on_event"]({}) or {})
    work(job)
    assert job["box"].box.take() == []


def test_a_worker_that_cannot_see_the_folder_says_so(job: dict[str, Any]) -> None:
    job["token"] = ".other"
    with pytest.raises(EnvironmentFault, match="output folder"):
        work(job)
    ((family, code, _, remedy),) = (letter["error"] for letter in job["box"].box.take())
    assert (family, code) == ("EnvironmentFault", "cluster.storage")
    assert "share" in remedy


def test_what_a_training_refuses_is_told_and_ends_the_others(
    job: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def leak(*_: Any, **settings: Any) -> dict[str, Any]:
        raise SafetyError("split.leak", "2 patients are in two parts.", "Split by patient.")

    monkeypatch.setattr(run, "train_recipe", leak)
    with pytest.raises(SafetyError):
        work(job)
    assert job["box"].box.take()[0]["error"][:2] == ["SafetyError", "split.leak"]


def test_a_cancelled_worker_ends_without_an_error(
    job: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def wait(*_: Any, cancel: CancelToken, **settings: Any) -> dict[str, Any]:
        while not cancel.is_cancelled:
            pass
        raise Cancelled

    monkeypatch.setattr(run, "train_recipe", wait)
    job["box"].box.cancel()
    work(job)
    assert job["box"].box.take() == [{"cancelled": True}]


def test_uneven_machines_are_refused(job: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(EnvironmentFault, match="unevenly"):
        work(job)


def test_an_unknown_family_is_a_bug() -> None:
    def fit(box: LetterBox) -> None:
        box.put({"error": ["Other", "x.y", "Something.", "Report it."]})

    with pytest.raises(AppError) as caught:
        outcome(fit)
    assert not isinstance(caught.value, InputError)
