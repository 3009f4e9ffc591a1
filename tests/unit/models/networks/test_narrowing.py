"""Networks that lost channels are built again from numbers alone."""

from __future__ import annotations

import json

import pytest
import torch

from models.networks.narrowing import narrowed, rows_of, width_of
from models.networks.registry import build

ROWS = [["encoder.features.0.0", 1, 5], ["encoder.features.0.1", 5, 5], ["encoder.features.1.0", 5, 16]]
SIZES = {"in_channels": 1, "out_channels": 3, "channels": [8, 16]}


def test_a_network_is_built_with_the_widths_of_its_rows() -> None:
    network = build("simple_cnn", **SIZES, pruned=ROWS).eval()
    assert network.get_submodule("encoder.features.0.0").weight.shape == (5, 1, 3, 3)
    assert network.get_submodule("encoder.features.0.1").running_mean.shape == (5,)
    assert network(torch.zeros(2, 1, 16, 16)).shape == (2, 3)


def test_rows_survive_json_and_name_only_what_changed() -> None:
    full, smaller = build("simple_cnn", **SIZES), build("simple_cnn", **SIZES, pruned=ROWS)
    rows = json.loads(json.dumps(rows_of(full, smaller)))
    assert rows == ROWS
    again = build("simple_cnn", **SIZES, pruned=rows)
    assert [p.shape for p in again.parameters()] == [p.shape for p in smaller.parameters()]


def test_depthwise_convolutions_keep_one_channel_per_group() -> None:
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 1), torch.nn.Conv2d(8, 8, 3, groups=8))
    narrowed(network, [["0", 3, 6], ["1", 6, 6, 6]])
    assert network(torch.zeros(1, 3, 5, 5)).shape == (1, 6, 3, 3)


def test_transposed_convolutions_have_their_inputs_first() -> None:
    network = torch.nn.Sequential(torch.nn.ConvTranspose3d(8, 6, 2, stride=2))
    narrowed(network, [["0", 4, 3]])
    assert network(torch.zeros(1, 4, 2, 2, 2)).shape == (1, 3, 4, 4, 4)


def test_every_kind_of_layer_states_its_width() -> None:
    nn = torch.nn
    known = [
        nn.GroupNorm(2, 8),
        nn.LayerNorm(8),
        nn.PReLU(8),
        nn.Linear(8, 8),
        nn.InstanceNorm3d(8, affine=True),
    ]
    assert all(width_of(module) is not None for module in known)
    for module in known:
        size = 4
        narrowed(
            nn.Sequential(module), [["0", size, size, *([2] if isinstance(module, nn.GroupNorm) else [])]]
        )
        assert {p.shape[0] for p in module.parameters()} == {size}
    assert width_of(nn.ReLU()) is None


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([["encoder.features.0.0", 1, 9]], "can only lose some"),
        ([["encoder.features.0.0", 1, 0]], "can only lose some"),
        ([["encoder.features.0.0", 1, -3]], "can only lose some"),
        ([["encoder.features.0.0", 1, 2.5]], "a row is"),
        ([["encoder.features.0.0", 1, True]], "a row is"),
        ([["encoder.features.0.0"]], "a row is"),
        ("rm -rf", "a row is"),
        ([["encoder.features.0.2", 1, 1]], "no convolution"),
        ([["__class__", 1, 1]], "no convolution"),
        ([["encoder.features.0.0", 1, 5], ["encoder.features.0.0", 1, 5]], "twice"),
        ([["head.out", 16, 3, 2]], "can only lose some"),
    ],
)
def test_rows_that_make_no_sense_are_refused(rows: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build("simple_cnn", **SIZES, pruned=rows)
