"""Transformer blocks: attention over all tokens or in windows, residual branches, stochastic depth."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from models.networks.mri_multitask.blocks import BlockOptions, TransformerBlock, Trunk
from models.networks.mri_multitask.convolutions import Conv3, GroupNorm, SubvoxelLogits


def tokens(*grid: int) -> torch.Tensor:
    return torch.randn(1, *grid, 16, generator=torch.Generator().manual_seed(1))


def test_one_window_over_the_whole_grid_sees_what_full_attention_sees() -> None:
    torch.manual_seed(0)
    full = TransformerBlock(16, 2)
    windowed = TransformerBlock(16, 2, BlockOptions(window=4))
    windowed.load_state_dict(full.state_dict(), strict=False)
    attention = full.attention
    windowed.attention.qkv.weight.data = torch.cat([attention.query.weight, attention.key_value.weight])
    windowed.attention.qkv.bias.data = torch.cat([attention.query.bias, attention.key_value.bias])
    windowed.attention.bias.table.data.zero_()
    grid = tokens(4, 4, 4)
    assert torch.allclose(full(grid), windowed(grid), atol=1e-5)


def test_a_window_hides_the_others_and_a_shift_lets_neighbours_see_each_other() -> None:
    def reached(shifted: bool) -> list[int]:
        torch.manual_seed(0)
        block = TransformerBlock(16, 2, BlockOptions(window=4), shifted=shifted)
        grid = tokens(8, 4, 4).requires_grad_()
        block(grid)[0, 3].sum().backward()
        assert grid.grad is not None
        return [place for place in range(8) if grid.grad[0, place].abs().sum() > 0]

    assert reached(False) == [0, 1, 2, 3]
    assert reached(True) == [2, 3, 4, 5]


def test_attention_over_all_tokens_reaches_all() -> None:
    grid = tokens(8, 2, 2).requires_grad_()
    TransformerBlock(16, 2)(grid)[0, 0].sum().backward()
    assert grid.grad is not None
    assert (grid.grad.abs().sum(dim=(0, 2, 3, 4)) > 0).all()


def test_layer_scale_makes_a_block_begin_near_the_identity() -> None:
    grid = tokens(4, 4, 4)
    gaps = []
    for scale in (1e-3, 1e-1, 0.0):
        torch.manual_seed(0)
        gaps.append(
            float(
                (TransformerBlock(16, 2, BlockOptions(layer_scale=scale))(grid) - grid).detach().abs().max()
            )
        )
    assert gaps[0] < 0.01 < gaps[1] < gaps[2]


def test_a_dropped_block_is_the_identity_and_evaluation_drops_none() -> None:
    torch.manual_seed(0)
    block, grid = TransformerBlock(16, 2, rate=0.999), tokens(2, 2, 2)
    assert torch.equal(block(grid), grid)
    assert not torch.allclose(block.eval()(grid), grid)


def test_every_second_block_is_shifted_and_has_experts() -> None:
    trunk = Trunk(8, 16, 4, 2, BlockOptions(window=4, experts=2, drop_path=0.3))
    assert [any(block.attention.shift) for block in trunk.blocks] == [False, True, False, True]
    assert [hasattr(block.feedforward, "experts") for block in trunk.blocks] == [False, True, False, True]
    rates = [getattr(block.drop_path, "rate", 0.0) for block in trunk.blocks]
    assert rates == pytest.approx([0.0, 0.1, 0.2, 0.3])


def test_subvoxel_logits_put_each_channel_to_its_voxel() -> None:
    head = SubvoxelLogits(1, 2)
    with torch.no_grad():
        head.project.weight.zero_()
        head.project.bias.copy_(torch.arange(16.0))
        logits = head(torch.zeros(1, 1, 2, 3, 1))
    assert logits.shape == (1, 2, 4, 6, 2)
    assert torch.equal(logits[0, 0, :2, :2, :2], torch.arange(8.0).reshape(2, 2, 2))
    assert torch.equal(logits[0, 1, 2:, 4:, :], torch.arange(8.0, 16.0).reshape(2, 2, 2))


def test_groups_are_normalised_as_torch_does_and_in_float32() -> None:
    norm, plain = GroupNorm(24), nn.GroupNorm(3, 24)
    volume = torch.randn(1, 24, 4, 4, 4)
    assert torch.equal(norm(volume), plain(volume))
    assert norm(volume.bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
def test_in_bfloat16_maps_of_two_slices_have_the_gradient_of_float32(layout: torch.memory_format) -> None:
    torch.manual_seed(0)
    convolution = Conv3(16, 16).to(memory_format=layout)  # type: ignore[call-overload]
    volume = torch.randn(1, 16, 2, 4, 4).to(memory_format=layout)
    convolution(volume).square().sum().backward()
    wanted, convolution.weight.grad = convolution.weight.grad, None
    # What torch would read by mistake is memory that others freed.
    freed = [torch.full((count,), float("nan")) for count in (50, 200, 1000, 5000, 20000) * 3]
    del freed
    with torch.autocast("cpu", torch.bfloat16):
        features = convolution(volume)
    assert features.dtype == torch.bfloat16
    features.float().square().sum().backward()
    assert convolution.weight.grad is not None
    assert (convolution.weight.grad - wanted).abs().max() < 0.02 * wanted.abs().max()
