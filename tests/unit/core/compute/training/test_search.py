"""The search finds a known optimum, stops what is hopeless, survives failures and interruption."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from core.compute.training.search import search
from core.domain.errors import InputError
from core.domain.progress import Cancelled, CancelToken
from core.recipes.search import Choices, FloatRange, SearchSpace, load_space

SPACE = SearchSpace(
    parameters={
        "optimizer.learning_rate": FloatRange(kind="float", low=1e-5, high=1.0, log=True),
        "optimizer.name": Choices(kind="choice", values=("adam", "sgd")),
    },
    trials=15,
    seed=3,
)


class Quadratic:
    """A training whose loss is lowest at a learning rate of 0.01; keeps what it was asked."""

    def __init__(self, fail_on: int | None = None, epochs: int = 5) -> None:
        self.asked: list[Mapping[str, Any]] = []
        self.folders: list[str] = []
        self._fail_on = fail_on
        self._epochs = epochs

    def __call__(
        self,
        overrides: Mapping[str, Any],
        out: Path,
        on_event: Callable[[Mapping[str, Any]], None],
        cancel: CancelToken,
    ) -> Mapping[str, Any]:
        self.asked.append(overrides)
        self.folders.append(out.name)
        if len(self.asked) - 1 == self._fail_on:
            raise InputError("memory", "Too large for the memory.", "Take less.")
        import math

        loss = (math.log10(overrides["optimizer.learning_rate"]) + 2) ** 2
        for epoch in range(self._epochs):
            on_event(
                {"event": "epoch", "epoch": epoch, "values": {"validation_loss": loss + 1 / (epoch + 1)}}
            )
            cancel.raise_if_cancelled()
        return {}


def test_the_best_trial_is_near_the_known_optimum(tmp_path: Path) -> None:
    train = Quadratic()
    rows = search("r", SPACE, train, tmp_path)
    assert len(rows) == 15
    assert rows[0].value is not None
    assert 1e-3 < rows[0].parameters["optimizer.learning_rate"] < 1e-1
    assert rows[0].value == min(row.value for row in rows if row.value is not None)
    assert len(set(train.folders)) == 15


def test_hopeless_trials_are_stopped_early(tmp_path: Path) -> None:
    rows = search("r", SPACE, Quadratic(epochs=8), tmp_path)
    pruned = [row for row in rows if row.state == "pruned"]
    assert pruned
    assert all(row.epochs < 8 for row in pruned)


def test_a_trial_that_fails_is_a_row_with_its_reason(tmp_path: Path) -> None:
    rows = search("r", SPACE.model_copy(update={"trials": 3}), Quadratic(fail_on=1), tmp_path)
    failed = [row for row in rows if row.state == "fail"]
    assert [row.reason for row in failed] == ["Too large for the memory."]
    assert rows[-1] == failed[0]


def test_an_interrupted_search_goes_on_where_it_was(tmp_path: Path) -> None:
    token = CancelToken()
    train = Quadratic()

    def until_third(*arguments: Any) -> Mapping[str, Any]:
        if len(train.asked) == 3:
            token.cancel()
        return train(*arguments)

    with pytest.raises(Cancelled):
        search("r", SPACE.model_copy(update={"trials": 6}), until_third, tmp_path, cancel=token)
    rows = search("r", SPACE.model_copy(update={"trials": 6}), train, tmp_path)
    assert len(rows) == 6
    assert sorted(row.number for row in rows) == list(range(6))


def test_a_wrong_search_space_names_the_field(tmp_path: Path) -> None:
    file = tmp_path / "space.yaml"
    file.write_text("parameters:\n  training.epochs: {kind: int, low: 5, high: 2}\n")
    with pytest.raises(InputError, match=r"training\.epochs"):
        load_space(file)
    file.write_text("parametres: {}\n")
    with pytest.raises(InputError) as caught:
        load_space(file)
    assert "parameters" in f"{caught.value.user_message} {caught.value.remedy}"
