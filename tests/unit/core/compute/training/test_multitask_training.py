"""One network learns several tasks: steps, pieces, going on after a stop, validation, and the finished model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score, mean_absolute_error
from torch import Tensor, nn

from core.bundles.bundle import read_bundle
from core.compute.inference.run import run_bundle
from core.compute.selftest import run_selftest
from core.compute.training.arithmetic import Arithmetic, loss_of
from core.compute.training.events import read_events
from core.compute.training.freezing import build_optimizer
from core.compute.training.losses.multitask import MultitaskLoss
from core.compute.training.meters import MultitaskMeter, meter_for
from core.compute.training.module import TrainingModule
from core.compute.training.objective import Objective, build_objective
from core.compute.training.run import train_recipe
from core.compute.training.validating import NetworkBackend, validate_case, whole_answer
from core.domain.errors import InputError
from core.formats.nifti import read_nifti
from core.recipes.cases import UNJUDGED
from core.recipes.schema import Recipe
from tests.fakes.multitask_training import lesion_recipe, write_lesions
from tests.fakes.training_feed import RandomFeed, Training

NAN = float("nan")


class ThreeHeads(nn.Module):
    """A picture's bright spots, its kind and its brightness, with a report that shifts the kind."""

    def __init__(self, balance: float = 0.0) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.body = nn.Conv2d(1, 4, 3, padding=1)
        self.masks, self.kind, self.number = nn.Conv2d(4, 2, 1), nn.Linear(4, 2), nn.Linear(4, 1)
        self.words = nn.Embedding(9, 4, padding_idx=0)
        self.balance = balance

    def forward(self, image: Tensor, text: Tensor | None = None) -> dict[str, Tensor]:
        features = self.body(image).relu()
        pooled = features.mean((2, 3))
        if text is not None:
            pooled = pooled + self.words(text).sum(1)
        return {
            "segmentation": self.masks(features),
            "classification": self.kind(pooled),
            "regression": self.number(pooled),
        }

    def auxiliary_loss(self) -> Tensor:
        return self.balance * self.kind.weight.square().sum()


class LesionFeed(RandomFeed):
    """The random pictures with three targets; every fifth sample lacks one of them."""

    def _batch(self, images: Tensor, labels: Tensor, numbers: list[int]) -> dict[str, Any]:
        number = torch.tensor(numbers)
        masks = (images[:, 0] > 1).long()
        masks[number % 5 == 0] = UNJUDGED
        classes = labels.masked_fill(number % 5 == 1, -1)
        values = images.mean((1, 2, 3))[:, None].masked_fill((number % 5 == 2)[:, None], NAN)
        target = {"segmentation": masks, "classification": classes, "regression": values}
        text = torch.stack([labels + 1, number % 3], dim=1)
        return {"image": images, "target": target, "text": text, "case": ["x"] * len(images)}

    def train_batches(
        self, epoch: int, first: int, batch_size: int, rank: int, world: int
    ) -> Iterator[dict[str, Any]]:
        for number in range(first, self.batches_per_epoch(batch_size, world)):
            start = number * batch_size
            images, labels = self.samples(epoch, start, batch_size)
            yield self._batch(images, labels, list(range(start, start + batch_size)))

    def validation_batches(self, rank: int = 0, world: int = 1) -> Iterator[dict[str, Any]]:
        for number in range(self.counts["validation"]):
            images, labels = self.samples(99_991, number, 1)
            yield self._batch(images, labels, [number])


def recipe(**changes: Any) -> Recipe:
    base = {
        "spatial_dims": 2,
        "training__batch_size": 8,
        "schedule": {"name": "constant"},
        "optimizer": {"name": "adamw", "learning_rate": 0.02},
        "training__gradient_clip": None,
        "network": {"name": "three_heads"},
        "data__text": {"max_tokens": 4},
    }
    return lesion_recipe(**{**base, **changes})


def trained(out: Path, wanted: Recipe | None = None, **changes: Any) -> TrainingModule:
    chosen = wanted or recipe()
    feed, network = LesionFeed(), changes.pop("network", None) or ThreeHeads()
    training = Training(chosen, out, network, build_objective(chosen, {}), feed, **changes)
    return training.run()


def weights_of(module: TrainingModule) -> dict[str, Tensor]:
    state = {k: v.clone() for k, v in module.network.state_dict().items()}
    return state | {f"loss.{k}": p.detach().clone() for k, p in module.loss.named_parameters()}


def test_the_network_and_the_weights_of_its_tasks_learn_together(tmp_path: Path) -> None:
    module = trained(tmp_path, recipe(training__epochs=10, optimizer__learning_rate=0.05))
    losses = [event["loss"] for event in read_events(tmp_path / "events.jsonl") if event["event"] == "step"]
    assert np.mean(losses[-4:]) < 0.6 * np.mean(losses[:4])
    variances = [float(v) for k, v in weights_of(module).items() if "log_variances" in k for v in v]
    assert len(variances) == 3 and all(abs(v) > 0.05 for v in variances)
    values = [e["values"] for e in read_events(tmp_path / "events.jsonl") if e["event"] == "epoch"][-1]
    assert values["validation_score"] > 0.6
    assert {"validation_dice", "validation_auc", "validation_mae", "validation_mae_volume",
            "validation_variance_regression"} <= values.keys()  # fmt: skip


def test_pieces_of_a_batch_train_as_the_whole_batch_does(tmp_path: Path) -> None:
    parts = recipe(tasks__segmentation={"name": "focal"})
    whole = weights_of(trained(tmp_path / "whole", parts))
    pieces = weights_of(trained(tmp_path / "pieces", parts, micro_batch=3))
    assert max(float((whole[k] - pieces[k]).abs().max()) for k in whole) < 1e-5


def test_a_training_that_goes_on_is_bit_for_bit_the_one_that_never_stopped(tmp_path: Path) -> None:
    whole = weights_of(trained(tmp_path / "whole", recipe(training__epochs=4)))
    trained(tmp_path / "halves", recipe(training__epochs=2))
    halves = weights_of(trained(tmp_path / "halves", recipe(training__epochs=4)))
    assert whole.keys() == halves.keys() and any("log_variances" in key for key in whole)
    assert all(torch.equal(whole[key], halves[key]) for key in whole)


def test_the_report_reaches_the_network(tmp_path: Path) -> None:
    before, module = ThreeHeads(), trained(tmp_path)
    assert not torch.equal(before.words.weight[1], module.network.words.weight[1])
    assert torch.equal(before.words.weight[0], module.network.words.weight[0])


def test_what_the_network_asks_for_itself_counts_in_training_only() -> None:
    feed = LesionFeed()
    batch = next(feed.train_batches(0, 0, 8, 0, 1))
    network = ThreeHeads(balance=1.0)
    objective = build_objective(recipe(training__auxiliary_weight=0.5), {})
    given = (batch["image"], batch["target"], Arithmetic(), batch["text"])
    with_own = loss_of(network, objective.train(), *given)
    network.balance = 0.0
    without = loss_of(network, objective, *given)
    network.balance = 1.0
    own = 0.5 * network.kind.weight.square().sum().item()
    assert (with_own - without).item() == pytest.approx(own, rel=1e-4)
    assert loss_of(network, objective.eval(), *given).item() == pytest.approx(without.item(), rel=1e-5)


def test_the_weights_of_tasks_train_at_the_full_rate_without_decay() -> None:
    wanted = recipe()
    objective = build_objective(wanted, {})
    groups = build_optimizer(wanted, ThreeHeads(), objective).param_groups
    (own,) = [group for group in groups if group["weight_decay"] == 0.0]
    assert [p.shape for p in own["params"]] == [(3,)] and own["full_rate"] == 0.02
    assert len(list(objective.parameters())) == 1


def test_equal_weights_add_the_losses_up_and_learn_nothing() -> None:
    objective = build_objective(recipe(tasks__weighting="equal"), {})
    assert list(objective.parameters()) == [] and objective.learnt() == {}


def test_smoothing_and_balanced_classes_reach_the_classification() -> None:
    wanted = recipe(tasks__classification={"name": "cross_entropy", "class_weights": "balanced"},
                    training__label_smoothing=0.1)  # fmt: skip
    objective = build_objective(wanted, {"classification": [6, 2]})
    assert isinstance(objective, Objective) and isinstance(objective.trained, MultitaskLoss)
    assert isinstance(objective.reported, MultitaskLoss)
    logits, target = torch.tensor([[2.0, -1.0], [0.3, 0.4]]), torch.tensor([0, 1])
    weight = torch.tensor([8 / 12, 8 / 4])
    for loss, smoothing in ((objective.trained, 0.1), (objective.reported, 0.0)):
        expected = nn.functional.cross_entropy(logits, target, weight, label_smoothing=smoothing)
        assert loss.losses["classification"](logits, target).item() == pytest.approx(
            expected.item(), rel=1e-5
        )
    assert objective.trained.weights is objective.reported.weights


def test_a_network_that_lacks_a_task_is_named() -> None:
    batch = next(LesionFeed().train_batches(0, 0, 8, 0, 1))
    with pytest.raises(InputError, match="doesn't answer for each of segmentation"):
        loss_of(
            nn.Conv2d(1, 2, 1), build_objective(recipe(), {}), batch["image"], batch["target"], Arithmetic()
        )


def test_the_values_of_validation_are_sklearns_over_what_is_known() -> None:
    rng = np.random.default_rng(0)
    meter = MultitaskMeter(3, 2, {"volume": 4.0, "depth": 1.0})
    logits = rng.normal(size=(9, 3))
    labels = rng.integers(0, 3, 9)
    labels[4] = -1
    numbers, truth = rng.normal(size=(9, 2)), rng.normal(size=(9, 2))
    truth[2, 0] = truth[3] = NAN
    masks, answers = rng.integers(0, 2, (9, 5, 5)), rng.normal(size=(9, 2, 5, 5))
    masks[1], masks[0, 0] = UNJUDGED, UNJUDGED
    for rows in (slice(0, 4), slice(4, 9)):
        meter.add_tasks(
            {"segmentation": torch.tensor(answers[rows]), "classification": torch.tensor(logits[rows]),
             "regression": torch.tensor(numbers[rows])},
            {"segmentation": torch.tensor(masks[rows]), "classification": torch.tensor(labels[rows]),
             "regression": torch.tensor(truth[rows])}, 0.5,
        )  # fmt: skip
    found = meter.values()
    known = labels >= 0
    macro = f1_score(
        labels[known], logits[known].argmax(1), average="macro", labels=[0, 1, 2], zero_division=0
    )
    assert found["macro_f1"] == pytest.approx(macro)
    errors = [
        mean_absolute_error(truth[seen, k], numbers[seen, k])
        for k in range(2)
        for seen in [np.isfinite(truth[:, k])]
    ]
    assert found["mae"] == pytest.approx(np.mean(errors))
    assert found["mae_volume"] == pytest.approx(4 * errors[0]) and found["mae_depth"] == pytest.approx(
        errors[1]
    )
    dice = []
    for n in range(9):
        judged = masks[n] != UNJUDGED
        if judged.any():
            called, true = answers[n].argmax(0)[judged] == 1, masks[n][judged] == 1
            dice.append(2 * (called & true).sum() / (called.sum() + true.sum()))
    assert found["dice"] == pytest.approx(np.mean(dice))
    assert found["score"] == pytest.approx(np.mean([found["dice"], macro, max(0, 1 - np.mean(errors))]))
    other = MultitaskMeter(3, 2, {"volume": 4.0, "depth": 1.0})
    other.merge(json.loads(json.dumps(meter.parts())))
    assert other.values() == pytest.approx(found, nan_ok=True)


def test_validation_takes_the_whole_image_filled_up_to_the_divisor() -> None:
    network = ThreeHeads()
    object.__setattr__(network, "divisor", 8)
    from models.networks.parts import Parts, attach

    attach(network, Parts(("kind",), (("body",),), divisor=8))
    backend = NetworkBackend(network, Arithmetic(), "cpu")
    image = torch.randn(1, 1, 13, 16)
    answers = whole_answer(backend, recipe(), image)
    assert answers["segmentation"].shape == (1, 2, 13, 16)
    padded = nn.functional.pad(image, (0, 0, 1, 2))
    assert torch.allclose(answers["segmentation"], network(padded)["segmentation"][:, :, 1:14].detach())
    meter = meter_for(recipe())
    batch = next(LesionFeed().validation_batches())
    validate_case(batch, backend, build_objective(recipe(), {}).eval(), recipe(), meter)
    assert np.isfinite(meter.values()["loss"])


def test_a_recipe_of_three_tasks_becomes_a_model_that_is_evaluated_on_each(tmp_path: Path) -> None:
    data = write_lesions(tmp_path / "data", 10)
    gates = tmp_path / "gates.yaml"
    gates.write_text(
        "schema_version: 1\ngates:\n"
        "- {name: Volume, metric: mae_volume, at_most: 1000, min_cases: 1}\n"
        "- {name: Overlap, metric: dice, per_class: true, at_least: 0.999, min_cases: 1}\n"
    )
    wanted = lesion_recipe(evaluation__gates=str(gates), training__epochs=1)
    answer = train_recipe(wanted, data=data, out=tmp_path / "run")
    assert {"mean_dice", "accuracy", "macro_auc_roc", "mae_volume", "loa_low_volume", "mean_r2"} <= answer[
        "metrics"
    ].keys()
    assert [(v["name"], v["passed"]) for v in answer["gates"]] == [
        ("Volume", True),
        ("Overlap: Lesion", False),
    ]
    bundle = read_bundle(Path(answer["bundle"]))
    manifest = bundle.manifest
    assert (manifest.task, [c.name for c in manifest.classes]) == ("multitask", ["ball", "cube"])
    assert run_selftest(bundle).passed
    output = run_bundle(bundle, read_nifti(data / "image-9.nii.gz"), backend="exact")
    report = tmp_path / "run" / "evaluation"
    document = json.loads((report / "metrics.json").read_text(encoding="utf-8"))
    row = next(r for r in document["cases"] if r["case"] == "0002")
    (estimated,) = output.measurements
    assert row["measurements"]["volume"]["predicted"] == pytest.approx(estimated.value, rel=1e-4)
    assert row["predicted"] == output.classes[0].label
    assert document["metrics"]["mae_volume"] == pytest.approx(answer["metrics"]["mae_volume"], rel=1e-4)
    html = (report / "report.html").read_text(encoding="utf-8")
    assert all(title in html for title in ("Each structure", "Each class", "Each measurement"))
