"""Attention agrees with the plain formula, and windows with a block-diagonal mask."""

from __future__ import annotations

import itertools

import pytest
import torch

from models.networks.mri_multitask.attention import MultiHeadAttention, attend
from models.networks.mri_multitask.windowed import (
    WindowedAttention,
    WindowedAttention1d,
    WindowedAttention3d,
    relative_index,
)


def naive(query, key, value, added=0.0):
    query, key, value = query.double(), key.double(), value.double()
    scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5 + added
    return scores.softmax(-1) @ value


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kernel", ["auto", "flash", "efficient", "math"])
@pytest.mark.parametrize("masked", ["no", "boolean", "float"])
def test_each_kernel_is_the_softmax_formula(kernel, masked):
    query, key, value = drawn(2, 3, 17, 8), drawn(2, 3, 23, 8, seed=1), drawn(2, 3, 23, 8, seed=2)
    mask, added = None, 0.0
    if masked == "boolean":
        mask = drawn(17, 23, seed=3) > 0.0
        added = torch.zeros(17, 23).masked_fill(~mask, float("-inf")).double()
    if masked == "float":
        mask = drawn(3, 17, 23, seed=3)
        added = mask.double()
    found = attend(query, key, value, mask, kernel=kernel)
    assert (found - naive(query, key, value, added)).abs().max() <= 1e-6


def test_the_layer_is_the_formula_with_its_own_projections():
    torch.manual_seed(0)
    layer = MultiHeadAttention(16, 4, context_width=12).eval()
    tokens, context = drawn(2, 7, 16), drawn(2, 9, 12, seed=1)
    query = layer.query(tokens).view(2, 7, 4, 4).transpose(1, 2)
    key, value = (
        part.reshape(2, 9, 4, 4).transpose(1, 2) for part in layer.key_value(context).chunk(2, dim=-1)
    )
    expected = layer.projection(naive(query, key, value).float().transpose(1, 2).reshape(2, 7, 16))
    assert torch.allclose(layer(tokens, context), expected, atol=1e-6)


def test_padded_keys_change_nothing():
    torch.manual_seed(0)
    layer = MultiHeadAttention(16, 4).eval()
    tokens = drawn(2, 7, 16)
    longer = torch.cat([tokens, 100.0 * drawn(2, 3, 16, seed=1)], dim=1)
    hidden = torch.zeros(2, 10, dtype=torch.bool)
    hidden[:, 7:] = True
    for mask in (None, torch.ones(10, 10, dtype=torch.bool), torch.zeros(10, 10)):
        found = layer(longer, attn_mask=mask, key_padding_mask=hidden)[:, :7]
        assert torch.allclose(found, layer(tokens), atol=1e-6)


def test_a_causal_mask_hides_what_follows():
    torch.manual_seed(0)
    layer = MultiHeadAttention(16, 4).eval()
    tokens = drawn(1, 6, 16)
    other = torch.cat([tokens[:, :4], drawn(1, 2, 16, seed=1)], dim=1)
    causal = torch.ones(6, 6, dtype=torch.bool).tril()
    for mask in (causal, causal[None], causal[None, None].expand(1, 4, 6, 6)):
        assert torch.allclose(
            layer(tokens, attn_mask=mask)[:, :4], layer(other, attn_mask=mask)[:, :4], atol=1e-6
        )


def test_a_query_that_sees_nothing_is_finite():
    layer = MultiHeadAttention(16, 4)
    found = layer(drawn(1, 5, 16), key_padding_mask=torch.ones(1, 5, dtype=torch.bool))
    found.sum().backward()
    assert torch.allclose(found, layer.projection.bias.expand_as(found), atol=1e-6)
    assert all(parameter.grad.isfinite().all() for parameter in layer.parameters())


@pytest.mark.parametrize(
    "layer",
    [
        MultiHeadAttention(16, 4, dropout=0.5),
        MultiHeadAttention(16, 4, projection_dropout=0.5),
        WindowedAttention1d(16, 4, 4, dropout=0.5),
    ],
)
def test_dropout_acts_only_in_training(layer):
    tokens = drawn(2, 8, 16)
    layer.train()
    assert not torch.equal(layer(tokens), layer(tokens))
    layer.eval()
    assert torch.equal(layer(tokens), layer(tokens))
    assert not layer.draws_randomness


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(ValueError, match="10 can't be shared by 4"):
        MultiHeadAttention(10, 4)
    with pytest.raises(ValueError, match="kernel"):
        MultiHeadAttention(16, 4, kernel="fast")
    with pytest.raises(ValueError, match="shifted"):
        WindowedAttention1d(16, 4, 4, shift=4)


def by_full_attention(layer, x, hidden=None):
    """The windowed layer's answer worked out position by position, from the definition of a window."""
    grid = x.shape[1:-1]
    axes = []
    for size, length, shift in zip(grid, layer.window, layer.shift, strict=True):
        whole = -(-size // length) * length
        shift = 0 if whole <= length else shift
        place = torch.arange(size)
        rolled = (place - shift) % whole
        axes.append(
            [(int(r // length), int(r % length), bool(p < shift)) for p, r in zip(place, rolled, strict=True)]
        )
    positions = list(itertools.product(*axes))
    windows = torch.tensor([[(axis[0], axis[2]) for axis in position] for position in positions]).flatten(1)
    together = (windows[:, None] == windows[None]).all(-1)
    within = torch.zeros(len(positions), dtype=torch.int64)
    for axis, length in enumerate(layer.window):
        within = within * length + torch.tensor([position[axis][1] for position in positions])
    bias = layer.bias()
    added = 0.0 if bias is None else bias[:, within[:, None], within[None]].double()
    added = added + torch.zeros(together.shape).masked_fill(~together, float("-inf")).double()
    if hidden is not None:
        see = ~hidden.reshape(len(x), 1, 1, -1) | torch.eye(len(positions), dtype=torch.bool)
        added = added + torch.zeros(see.shape).masked_fill(~see, float("-inf")).double()
    split = layer.qkv(x).flatten(1, -2).unflatten(-1, (3, layer.heads, -1)).permute(2, 0, 3, 1, 4)
    attended = naive(*split.unbind(0), added).float().transpose(1, 2).flatten(2)
    return layer.projection(attended).reshape(x.shape)


@pytest.mark.parametrize("bias", ["relative", "dense", "none"])
@pytest.mark.parametrize(("tokens", "shift"), [(16, 0), (16, 2), (14, 0), (14, 3), (3, 1)])
def test_windows_over_a_sequence_are_full_attention_with_a_block_mask(tokens, shift, bias):
    torch.manual_seed(0)
    layer = WindowedAttention1d(16, 4, 4, shift=shift, bias=bias).eval()
    if bias != "none":
        torch.nn.init.normal_(layer.bias.table)
    x = drawn(2, tokens, 16)
    hidden = torch.zeros(2, tokens, dtype=torch.bool)
    hidden[0, 1] = hidden[1, -1] = True
    for mask in (None, hidden):
        assert torch.allclose(layer(x, mask), by_full_attention(layer, x, mask), atol=2e-6)
        with torch.no_grad():
            assert torch.allclose(layer(x, mask), by_full_attention(layer, x, mask), atol=2e-6)


@pytest.mark.parametrize("grid", [(4, 4, 6), (5, 4, 7), (2, 3, 2)])
@pytest.mark.parametrize("shifted", [False, True])
def test_windows_over_a_volume_are_full_attention_with_a_block_mask(grid, shifted):
    torch.manual_seed(0)
    layer = WindowedAttention3d(8, 2, (2, 4, 3), shifted=shifted).eval()
    torch.nn.init.normal_(layer.bias.table)
    x = drawn(2, *grid, 8)
    assert torch.allclose(layer(x), by_full_attention(layer, x), atol=2e-6)


def test_padding_leaves_gradients_finite_and_reaches_the_bias():
    torch.manual_seed(0)
    layer = WindowedAttention3d(8, 2, 4, shifted=True)
    x = drawn(1, 5, 5, 5, 8).requires_grad_(True)
    layer(x).square().sum().backward()
    assert x.grad.isfinite().all()
    assert layer.bias.table.grad.isfinite().all() and layer.bias.table.grad.abs().sum() > 0


def test_pairs_with_the_same_offset_share_a_bias():
    index = relative_index((2, 3))
    places = [(a, b) for a in range(2) for b in range(3)]
    seen: dict[int, tuple[int, int]] = {}
    for (i, p), (j, q) in itertools.product(enumerate(places), repeat=2):
        offset = (p[0] - q[0], p[1] - q[1])
        assert seen.setdefault(int(index[i, j]), offset) == offset
    assert len(seen) == 3 * 5 and int(index.max()) == 14


def test_the_cost_of_windows_grows_with_the_sequence_not_its_square():
    from torch.utils.flop_counter import FlopCounterMode

    layer = WindowedAttention(16, 4, (8,), bias="none").eval()
    flops = []
    for tokens in (64, 128):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            layer(drawn(1, tokens, 16))
        flops.append(counter.get_total_flops())
    assert flops[1] == 2 * flops[0]
