"""The cell net: one state, two answers."""

from __future__ import annotations

import math

import torch

from models.networks.cell_net import CellNet
from models.networks.registry import build


def nets() -> tuple[CellNet, CellNet]:
    torch.manual_seed(0)
    what = CellNet(out_channels=3, channels=(4, 6, 8, 8)).eval()
    where = CellNet(out_channels=3, channels=(4, 6, 8, 8), dense=True).eval()
    where.load_state_dict(what.state_dict())
    return what, where


@torch.no_grad()
def test_the_picture_s_logits_are_the_log_mean_exp_of_its_cells() -> None:
    what, _ = nets()
    image = torch.rand(2, 1, 64, 48)
    cells = what.cells(image)
    assert cells.shape == (2, 3, 4, 3)
    wanted = cells.exp().mean(dim=(2, 3)).log()
    assert torch.allclose(what(image), wanted, atol=1e-5)


@torch.no_grad()
def test_the_map_repeats_the_cells_and_its_background_is_zero() -> None:
    what, where = nets()
    image = torch.rand(1, 1, 64, 64)
    located = where(image)
    assert located.shape == (1, 3, 64, 64)
    assert torch.equal(located[:, 0], torch.zeros(1, 64, 64))
    assert torch.equal(located[:, 1:, ::16, ::16], what.cells(image)[:, 1:])


@torch.no_grad()
def test_brightness_and_contrast_of_a_picture_do_not_matter() -> None:
    what, _ = nets()
    image = torch.rand(1, 1, 64, 64)
    assert torch.allclose(what(image), what(0.25 * image + 0.5), atol=2e-2)
    assert math.isfinite(float(what(torch.zeros(1, 1, 64, 64)).sum()))


def test_the_registry_knows_head_and_stages() -> None:
    from models.networks.parts import head_parameters, stages

    network = build("cell_net", in_channels=1, out_channels=3)
    assert {p.shape for p in head_parameters(network)} == {(3, 128, 1, 1), (3,)}
    assert len(stages(network)) == 5
