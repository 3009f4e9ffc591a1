"""Events, positions, schedules, what is best, checkpoints, averages."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from torch import nn

from core.compute.training.averaging import Average
from core.compute.training.chance import seed_batch
from core.compute.training.checkpoints import LAST_FILES, Checkpoints, load_checkpoint, save_checkpoint
from core.compute.training.events import EventLog, read_events
from core.compute.training.position import Schedule, Watch
from core.domain.errors import EnvironmentFault, InputError
from core.recipes.schema import Constant, Cosine, EarlyStopping, Plateau


def test_events_are_lines_with_time_and_without_infinities(tmp_path: Path) -> None:
    heard: list[dict[str, object]] = []
    log = EventLog(tmp_path / "events.jsonl", heard.append)
    log.emit("step", step=0, loss=float("nan"), values={"a": float("inf"), "b": 1.0})
    log.close()
    (document,) = read_events(tmp_path / "events.jsonl")
    assert document["loss"] is None
    assert document["values"] == {"a": None, "b": 1.0}
    assert document["time_utc"].endswith("+00:00")
    assert heard == [document]


def test_rewinding_drops_later_steps_and_a_cut_line_but_keeps_notes(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    log = EventLog(path)
    log.emit("step", step=0)
    offset = log.offset
    log.emit("step", step=1)
    log.note("oom", "Memory ran out.")
    log.emit("epoch", epoch=0)
    log.close()
    with path.open("ab") as stream:
        stream.write(b'{"event": "step", "st')
    log = EventLog(path)
    log.rewind(offset)
    log.emit("step", step=1)
    log.close()
    kinds = [(event["event"], event.get("step")) for event in read_events(path)]
    assert kinds == [("step", 0), ("note", None), ("step", 1)]
    assert all(json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())


def test_followers_write_nothing() -> None:
    log = EventLog(None, lambda document: pytest.fail("a follower told something"))
    log.emit("step", step=0)
    log.rewind(0)
    assert log.offset == 0


def test_cosine_is_that_of_torch_after_the_warm_up() -> None:
    schedule = Schedule(Cosine(name="cosine", warmup_epochs=0.5, final=0.1), 20, 5)
    parameter = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    peer = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=90, eta_min=0.1)
    warm = [schedule.rate(step) for step in range(10)]
    assert warm == pytest.approx([(n + 1) / 11 for n in range(10)])
    for step in range(10, 101):
        assert schedule.rate(step) == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-6)
        optimizer.step()
        peer.step()


def test_plateau_falls_when_that_of_torch_falls() -> None:
    schedule = Schedule(Plateau(name="plateau", factor=0.5, patience=2), 10, 50)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    peer = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=2, threshold=1e-4)
    for value in [1.0, 0.8, 0.81, 0.82, 0.83, 0.84, 0.85, 0.86, 0.5, 0.5, 0.5, 0.5, 0.4, math.nan]:
        schedule.observe(value)
        if math.isfinite(value):
            peer.step(value)
        assert schedule.rate(999) == pytest.approx(optimizer.param_groups[0]["lr"])
    assert schedule.factor < 1
    other = Schedule(Plateau(name="plateau"), 10, 50)
    other.load(schedule.state())
    assert other.state() == schedule.state()


def test_a_constant_rate_stays_after_its_warm_up() -> None:
    schedule = Schedule(Constant(name="constant", warmup_epochs=1), 4, 3)
    assert [round(schedule.rate(step), 3) for step in range(6)] == [0.2, 0.4, 0.6, 0.8, 1, 1]


def test_early_stopping_stops_when_that_of_lightning_stops() -> None:
    from lightning.pytorch.callbacks import EarlyStopping as Peer

    values = [0.5, 0.6, 0.6005, 0.6009, 0.7, 0.7001, 0.69, 0.7005, 0.7009]
    watch = Watch("max", EarlyStopping(patience=3, min_delta=0.001), 1)
    peer = Peer("x", min_delta=0.001, patience=3, mode="max")
    for value in values:
        stop = watch.observe(value)
        assert stop == peer._evaluate_stopping_criteria(torch.tensor(value))[0]
    assert stop


def test_the_best_epochs_are_kept_and_ties_go_to_the_smaller_loss_then_to_the_later() -> None:
    watch = Watch("max", None, 2)
    kept = [
        watch.place("a", 0.5, 0, 1.0),
        watch.place("b", 0.9, 1, 1.0),
        watch.place("c", 0.7, 2, 1.0),
        watch.place("d", 0.1, 3, 1.0),
        watch.place("e", 0.9, 4, 0.5),
        watch.place("f", 0.9, 5, 0.5),
        watch.place("g", math.nan, 6),
    ]
    assert kept == [True, True, True, False, True, True, False]
    assert [item["file"] for item in watch.best] == ["f", "e"]
    assert Watch("min", None, 1).place("only", math.nan, 0)


def state(drawn: int) -> dict[str, object]:
    return {"position": {"drawn": drawn}, "weights": torch.full((3,), float(drawn))}


def test_two_checkpoints_take_turns_and_the_newest_is_read(tmp_path: Path) -> None:
    store = Checkpoints(tmp_path)
    assert store.load_last() == (None, [])
    names = [store.save_last(state(drawn)) for drawn in (1, 2, 3)]
    assert names == [LAST_FILES[0], LAST_FILES[1], LAST_FILES[0]]
    again = Checkpoints(tmp_path)
    found, damaged = again.load_last()
    assert found is not None
    assert found["position"]["drawn"] == 3
    assert damaged == []
    assert again.upcoming == LAST_FILES[1]


@pytest.mark.parametrize("damage", ["flip", "cut", "empty"])
def test_a_damaged_checkpoint_is_told_and_the_one_before_it_is_read(tmp_path: Path, damage: str) -> None:
    store = Checkpoints(tmp_path)
    store.save_last(state(1))
    newest = tmp_path / store.save_last(state(2))
    data = bytearray(newest.read_bytes())
    if damage == "flip":
        data[len(data) // 2] ^= 1
    newest.write_bytes(b"" if damage == "empty" else data[: -20 if damage == "cut" else None])
    found, damaged = Checkpoints(tmp_path).load_last()
    assert found is not None
    assert found["position"]["drawn"] == 1
    assert damaged == [newest.name]


def test_the_hash_beside_a_checkpoint_holds_at_every_moment_of_a_save(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "last-0.ckpt"
    save_checkpoint(path, state(1))

    def crash(self: Path, target: Path) -> Path:
        raise OSError("the power went")

    original = Path.replace
    calls = 0

    def second_fails(self: Path, target: Path) -> Path:
        nonlocal calls
        calls += 1
        return original(self, target) if calls == 1 else crash(self, target)

    monkeypatch.setattr(Path, "replace", second_fails)
    with pytest.raises(EnvironmentFault) as caught:
        save_checkpoint(path, state(2))
    assert caught.value.code == "training.disk"
    monkeypatch.undo()
    assert load_checkpoint(path)["position"]["drawn"] == 1
    save_checkpoint(path, state(3))
    assert load_checkpoint(path)["position"]["drawn"] == 3


class _Sly:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("run",)


def test_checkpoints_hold_no_objects(tmp_path: Path) -> None:
    path = tmp_path / "c.ckpt"
    torch.save({"position": _Sly()}, path)
    with pytest.raises(InputError) as caught:
        load_checkpoint(path)
    assert caught.value.code == "training.checkpoint"


def test_only_the_best_files_stay(tmp_path: Path) -> None:
    store = Checkpoints(tmp_path)
    for name in ("best-00000.ckpt", "best-00001.ckpt"):
        store.save_best(name, {"weights": {}})
    store.keep_best({"best-00001.ckpt"})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best-00001.ckpt", "best-00001.ckpt.sha256"]


def test_the_average_follows_the_formula_and_is_there_only_within() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    average = Average(network, 0.9)
    expected = {key: value.clone() for key, value in network.state_dict().items()}
    for step in range(20):
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(torch.randn_like(parameter))
        average.update(network, step)
        decay = min(0.9, (step + 1) / (step + 10))
        for key, value in network.state_dict().items():
            if value.dtype.is_floating_point:
                expected[key] = decay * expected[key] + (1 - decay) * value
    own = {key: value.clone() for key, value in network.state_dict().items()}
    with average.within(network):
        inside = {key: value.clone() for key, value in network.state_dict().items()}
    for key in own:
        assert torch.allclose(inside[key].float(), expected[key].float(), atol=1e-5)
        assert torch.equal(network.state_dict()[key], own[key])
    assert not torch.equal(inside["0.weight"], own["0.weight"])


def test_random_numbers_depend_on_seed_batch_and_rank_only() -> None:
    def drawn(*place: int) -> list[float]:
        seed_batch(*place)
        return torch.rand(3).tolist()

    first = drawn(1, 2)
    torch.rand(100)
    assert drawn(1, 2) == first
    assert len({tuple(drawn(*place)) for place in [(1, 2), (2, 2), (1, 3), (1, 2, 1)]}) == 4
