"""The loss of cells equals its definition, counts what is known only, and has the right gradient."""

from __future__ import annotations

import math

import pytest
import torch

from core.compute.training.losses.cells import Cells
from core.compute.training.losses.registry import build_loss
from core.domain.errors import InputError
from core.recipes.cases import UNJUDGED


def constant_cells(values: torch.Tensor) -> torch.Tensor:
    """Logits that are constant within cells of 4 pixels."""
    return values.repeat_interleave(4, dim=2).repeat_interleave(4, dim=3)


def test_it_is_the_weighted_cross_entropy_of_the_cells_that_count() -> None:
    # Two by two cells: label 1 covers the first, half of the second is unclear, the third is empty, the fourth unknown.
    target = torch.zeros(1, 8, 8, dtype=torch.long)
    target[0, :4, :4] = 1
    target[0, 0, 4:] = 1  # a quarter: neither present nor absent
    target[0, 4:, 4:] = UNJUDGED
    cells = torch.tensor([[[[9.0, 9.0], [9.0, 9.0]], [[0.3, 5.0], [-0.7, 4.0]]]], dtype=torch.float64)
    wanted = (3.0 * math.log(1 + math.exp(-0.3)) + math.log(1 + math.exp(-0.7))) / 2
    loss = Cells(cell=4)(constant_cells(cells), target)
    assert float(loss) == pytest.approx(wanted, abs=1e-12)


def test_the_background_channel_carries_nothing() -> None:
    target = torch.zeros(1, 8, 8, dtype=torch.long)
    cells = torch.randn(1, 3, 2, 2, dtype=torch.float64)
    other = cells.clone()
    other[:, 0] += 7
    loss = Cells(cell=4)
    assert torch.equal(loss(constant_cells(cells), target), loss(constant_cells(other), target))


def test_nothing_known_is_no_loss() -> None:
    target = torch.full((1, 8, 8), UNJUDGED)
    assert float(Cells(cell=4)(torch.randn(1, 3, 8, 8), target)) == 0.0


def test_its_gradient_is_right() -> None:
    target = torch.randint(0, 3, (2, 8, 8), generator=torch.Generator().manual_seed(0))
    logits = torch.randn(2, 3, 8, 8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: Cells(cell=4)(x, target), (logits,))


def test_impossible_limits_are_refused() -> None:
    with pytest.raises(InputError, match="cells"):
        build_loss("cells", present=0.1, absent=0.3)
