"""Steps of the optimiser: accumulation, memory, overflow, mixup, freezing, cancel, pause, resume."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from core.compute.training.arithmetic import Arithmetic
from core.compute.training.events import EVENTS_FILE
from core.compute.training.mixing import Mixture, mix
from core.compute.training.module import OVERFLOW_LIMITS, TrainingModule
from core.domain.errors import EnvironmentFault, InputError
from core.domain.progress import Cancelled, CancelToken
from tests.fakes.shape_training import shape_recipe
from tests.fakes.training_feed import RandomFeed, Training, small_network


def recipe(**changes: Any) -> Any:
    base = {
        "training__epochs": 2,
        "training__batch_size": 4,
        "schedule": {"name": "constant"},
        "optimizer": {"name": "sgd", "learning_rate": 0.05},
    }
    return shape_recipe(**{**base, **changes})


def state_of(module: TrainingModule) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in module.network.state_dict().items()}


def largest_difference(one: dict[str, Tensor], two: dict[str, Tensor]) -> float:
    return max(float((one[key] - two[key]).abs().max()) for key in one)


def test_two_accumulated_halves_are_one_whole_batch(tmp_path: Path) -> None:
    whole = Training(recipe(training__batch_size=4), tmp_path / "whole").run()
    halves = Training(recipe(training__batch_size=2, training__accumulate=2), tmp_path / "halves").run()
    assert halves.position.step == whole.position.step
    assert largest_difference(state_of(whole), state_of(halves)) < 1e-6


def test_the_last_group_of_an_epoch_may_be_smaller_and_still_counts_as_a_mean(tmp_path: Path) -> None:
    # Four batches in groups of three: 3 + 1. The lone batch of the second group steps with its own mean gradient.
    module = Training(recipe(training__accumulate=3, training__epochs=1), tmp_path).run()
    assert module.position.step == 2
    by_hand = small_network()
    optimizer = torch.optim.SGD(by_hand.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-4)
    batches = list(RandomFeed().train_batches(0, 0, 4, 0, 1))
    for group in (batches[:3], batches[3:]):
        optimizer.zero_grad()
        for batch in group:
            (nn.functional.cross_entropy(by_hand(batch["image"]), batch["target"]) / len(group)).backward()
        nn.utils.clip_grad_norm_(by_hand.parameters(), 1.0)
        optimizer.step()
    assert largest_difference(state_of(module), by_hand.state_dict()) < 1e-6


class Greedy(nn.Module):
    """A network that has memory for so many samples only."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.inner, self.limit = small_network(), limit

    def forward(self, images: Tensor) -> Tensor:
        if len(images) > self.limit and self.training:
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried")
        answer: Tensor = self.inner(images)
        return answer


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_batch_that_does_not_fit_is_split_with_the_same_gradient(tmp_path: Path, accumulate: int) -> None:
    plain = Training(recipe(training__batch_size=8, training__accumulate=accumulate), tmp_path / "plain")
    expected = state_of(plain.run())
    tight = Training(
        recipe(training__batch_size=8, training__accumulate=accumulate),
        tmp_path / "tight",
        network=Greedy(3),
    )
    module = tight.run()
    found = {key.removeprefix("inner."): value for key, value in state_of(module).items()}
    assert largest_difference(expected, found) < 1e-6
    assert module.micro_batch == 2
    # 8 → 4 → 2, found out once and remembered for all later batches.
    assert len(tight.notes("oom")) == 2
    assert [event["loss"] for event in tight.events("step")] == pytest.approx(
        [event["loss"] for event in plain.events("step")], abs=1e-6
    )


def test_a_single_sample_that_does_not_fit_ends_the_training_with_advice(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault) as caught:
        Training(recipe(), tmp_path, network=Greedy(0)).run()
    assert caught.value.code == "training.memory"
    assert "patch_kji" in caught.value.remedy


class Overflowing(nn.Module):
    """A network whose answers are infinite in reduced precision."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = small_network()

    def forward(self, images: Tensor) -> Tensor:
        answer: Tensor = self.inner(images)
        if torch.is_autocast_enabled("cpu") and self.training:
            answer = answer * float("inf")
        return answer


def test_overflowing_steps_are_computed_again_in_fp32_and_then_for_good(tmp_path: Path) -> None:
    expected = state_of(Training(recipe(), tmp_path / "exact").run())
    training = Training(recipe(), tmp_path / "bf16", network=Overflowing(), arithmetic=Arithmetic("bf16"))
    module = training.run()
    found = {key.removeprefix("inner."): value for key, value in state_of(module).items()}
    assert largest_difference(expected, found) < 1e-6
    assert module.arithmetic.precision == "fp32"
    assert len(training.notes("overflow")) == OVERFLOW_LIMITS["bf16"]
    assert len(training.notes("precision")) == 1


def test_a_training_that_diverges_says_so(tmp_path: Path) -> None:
    class Broken(nn.Module):
        def forward(self, logits: Tensor, target: Tensor) -> Tensor:
            return nn.functional.cross_entropy(logits, target) * float("nan")

    with pytest.raises(InputError) as caught:
        Training(recipe(), tmp_path, loss=Broken()).run()
    assert caught.value.code == "training.diverged"
    assert "step 0" in caught.value.user_message


def test_four_samples_are_learnt_by_heart(tmp_path: Path) -> None:
    training = Training(
        recipe(
            training__epochs=60, training__batch_size=4, optimizer={"name": "adam", "learning_rate": 0.05}
        ),
        tmp_path,
        feed=FixedFeed(4, 4),
    )
    training.run()
    losses = [event["loss"] for event in training.events("step")]
    assert losses[-1] < 0.01 < losses[0]


class FixedFeed(RandomFeed):
    """The same samples in each epoch."""

    def samples(self, epoch: int, start: int, count: int) -> tuple[Tensor, Tensor]:
        del epoch
        return super().samples(0, start, count)


class Always(nn.Module):
    """A network that says the same to everything."""

    def __init__(self, answer: Tensor) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, image: Tensor) -> Tensor:
        return self.answer[: len(image)]


def test_mixup_blends_pictures_and_weighs_both_targets() -> None:
    images, targets = torch.eye(4)[:, None, None, :], torch.arange(4)
    mixed = mix(Mixture(images, targets), 0.4, torch.Generator().manual_seed(1))
    again = mix(Mixture(images, targets), 0.4, torch.Generator().manual_seed(1))
    assert torch.equal(mixed.images, again.images)
    assert mixed.others is not None
    share = mixed.share
    expected = (1 - share) * images + share * images[mixed.others]
    assert torch.allclose(mixed.images, expected)
    logits = torch.randn(4, 4, generator=torch.Generator().manual_seed(2))
    soft = (1 - share) * torch.eye(4)[targets] + share * torch.eye(4)[mixed.others]
    wanted = -(soft * torch.log_softmax(logits, 1)).sum(1).mean()
    found = mixed.loss(Always(logits), nn.CrossEntropyLoss(), Arithmetic())
    assert float(found) == pytest.approx(float(wanted), abs=1e-6)


def test_a_cancel_takes_effect_before_the_next_step(tmp_path: Path) -> None:
    training = Training(recipe(training__epochs=50), tmp_path)
    stop_after(training, 3, training.cancel.cancel)
    with pytest.raises(Cancelled):
        training.run()
    assert len(training.events("step")) == 3


def stop_after(training: Training, steps: int, action: Callable[[], None]) -> None:
    """Do something as soon as so many steps were made."""
    feed, done = training.feed, 0
    original = feed.train_batches

    class Watching(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, logits: Tensor, target: Tensor) -> Tensor:
            nonlocal done
            if self.training:
                done += 1
                if done == steps:
                    action()
            value: Tensor = self.inner(logits, target)
            return value

    training.loss = Watching(training.loss)
    feed.train_batches = original  # type: ignore[method-assign]


def test_a_paused_training_waits_and_changes_nothing(tmp_path: Path) -> None:
    straight = Training(recipe(), tmp_path / "straight")
    expected = state_of(straight.run())
    training = Training(recipe(), tmp_path / "paused")
    stop_after(training, 3, training.pause.pause)

    def resume() -> None:
        until = time.monotonic() + 20
        while time.monotonic() < until and not (
            (tmp_path / "paused" / EVENTS_FILE).exists() and training.events("paused")
        ):
            time.sleep(0.01)
        training.pause.resume()

    helper = threading.Thread(target=resume)
    helper.start()
    module = training.run()
    helper.join()
    assert largest_difference(expected, state_of(module)) == 0
    assert len(training.events("paused")) == len(training.events("resumed")) == 1
    assert [event["step"] for event in training.events("step")] == list(range(8))


def test_a_paused_training_can_be_cancelled(tmp_path: Path) -> None:
    training = Training(recipe(), tmp_path)
    training.pause.pause()
    threading.Timer(0.3, training.cancel.cancel).start()
    with pytest.raises(Cancelled):
        training.run()
    assert not training.events("step")


@pytest.mark.parametrize("stop", [1, 3, 4, 6])
def test_a_training_continued_anywhere_ends_as_one_that_never_stopped(tmp_path: Path, stop: int) -> None:
    changes = {
        "training__epochs": 2,
        "training__ema_decay": 0.8,
        "training__mixup": 0.4,
        "training__checkpoints": {"every_steps": 1},
        "optimizer": {"name": "adamw", "learning_rate": 0.01},
        "schedule": {"name": "cosine", "warmup_epochs": 0.5},
    }
    straight = Training(recipe(**changes), tmp_path / "straight", network=noisy_network())
    expected = straight.run()
    broken = Training(recipe(**changes), tmp_path / "broken", network=noisy_network())
    stop_after(broken, stop, broken.cancel.cancel)
    with pytest.raises(Cancelled):
        broken.run()
    again = Training(recipe(**changes), tmp_path / "broken", network=noisy_network())
    module = again.run()
    assert [e["loss"] for e in again.events("step")] == [e["loss"] for e in straight.events("step")]
    assert [e["values"] for e in again.events("epoch")] == [e["values"] for e in straight.events("epoch")]
    assert largest_difference(state_of(expected), state_of(module)) == 0
    assert largest_difference(expected.average.values, module.average.values) == 0


def noisy_network() -> nn.Module:
    network = small_network(norm=True)
    assert isinstance(network, nn.Sequential)
    network.insert(2, nn.Dropout(0.3))
    return network


def test_a_network_that_cannot_be_compiled_trains_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(network: nn.Module) -> Callable[[Tensor], Tensor]:
        def run(images: Tensor) -> Tensor:
            raise RuntimeError("no C++ compiler")

        return run

    expected = state_of(Training(recipe(), tmp_path / "eager").run())
    monkeypatch.setattr(torch, "compile", refuse)
    training = Training(recipe(training__compile=True), tmp_path / "compiled")
    module = training.run()
    assert largest_difference(expected, state_of(module)) == 0
    assert len(training.notes("compile_fallback")) == 1


def test_the_budget_ends_training_cleanly_in_the_middle_of_an_epoch(tmp_path: Path) -> None:
    training = Training(
        recipe(training__epochs=500, training__budget_minutes=0.005, training__batch_size=1), tmp_path
    )
    module = training.run()
    assert 0 < module.position.step < 500 * 16
    assert module.position.seconds >= 0.3
    assert len(training.notes("budget")) == 1
    assert "validation_accuracy" in training.events("epoch")[-1]["values"]


def test_early_stopping_ends_a_training_that_learns_nothing(tmp_path: Path) -> None:
    training = Training(
        recipe(
            training__epochs=50,
            training__early_stopping={"patience": 3},
            optimizer={"name": "sgd", "learning_rate": 1e-9},
        ),
        tmp_path,
    )
    module = training.run()
    # The first epoch sets the record, three more don't improve it.
    assert module.position.epoch == 4
    assert len(training.notes("early_stopping")) == 1


def test_cancel_tokens_are_polled_between_validation_cases(tmp_path: Path) -> None:
    training = Training(recipe(training__epochs=1), tmp_path)
    cancel = CancelToken()
    training.cancel = cancel
    original = training.feed.validation_batches

    def validation(rank: int = 0, world: int = 1) -> Any:
        cancel.cancel()
        yield from original(rank, world)

    training.feed.validation_batches = validation  # type: ignore[method-assign]
    with pytest.raises(Cancelled):
        training.run()
    assert not training.events("epoch")
