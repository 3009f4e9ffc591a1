"""A contrast agent raises what is labelled, by as much as was said, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from core.compute.training.data.contrast import RandContrastAgent
from core.compute.training.data.named import IMAGE, LABEL, Target

TARGET = Target(dims=3, labelled=True)


def item() -> dict[str, torch.Tensor]:
    label = torch.zeros(1, 8, 8, 8, dtype=torch.uint8)
    label[:, 2:6, 2:6, 2:6] = 1
    label[:, 6:] = 2
    return {IMAGE: torch.zeros(1, 8, 8, 8), LABEL: label}


def test_each_structure_rises_within_its_limits_and_the_rest_stays() -> None:
    step = RandContrastAgent(probability=1.0, shifts={1: (0.1, 0.3), 2: (-0.2, 0.0)}, soften=0).build(TARGET)
    seen = set()
    for seed in range(20):
        out = step(item(), np.random.RandomState(seed))
        inside, other = out[IMAGE][out[LABEL] == 1], out[IMAGE][out[LABEL] == 2]
        assert inside.unique().numel() == 1
        assert 0.1 <= float(inside[0]) <= 0.3
        assert -0.2 <= float(other[0]) <= 0.0
        assert (out[IMAGE][out[LABEL] == 0] == 0).all()
        seen.add(round(float(inside[0]), 3))
    assert len(seen) > 10


def test_one_amount_of_agent_goes_to_all_structures() -> None:
    step = RandContrastAgent(probability=1.0, shifts={1: (0.0, 1.0), 2: (0.0, 1.0)}, soften=0).build(TARGET)
    pairs = []
    for seed in range(40):
        out = step(item(), np.random.RandomState(seed))
        pairs.append((float(out[IMAGE][out[LABEL] == 1][0]), float(out[IMAGE][out[LABEL] == 2][0])))
    assert np.corrcoef(np.array(pairs).T)[0, 1] > 0.9


def test_edges_are_softened_and_the_labels_stay() -> None:
    before = item()
    step = RandContrastAgent(probability=1.0, shifts={1: (0.3, 0.3)}, soften=1).build(TARGET)
    out = step(item(), np.random.RandomState(0))
    assert torch.equal(out[LABEL], before[LABEL])
    assert 0 < float(out[IMAGE][0, 2, 2, 2]) < float(out[IMAGE][0, 4, 4, 4]) == pytest.approx(0.3)


def test_it_needs_a_label_map() -> None:
    with pytest.raises(ValueError, match="label map"):
        RandContrastAgent(shifts={1: (0.0, 1.0)}).build(Target(dims=2, labelled=False))
