"""Each form of a model answers as the model does, and what can't be made says why."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from core.bundles.manifest import Network
from core.compute.deploy import int8
from core.compute.deploy.engines import Inputs, Recorder, Variant, compare, largest_difference
from core.compute.deploy.int8 import feed_of, quantised
from core.compute.deploy.measuring import mean_dice
from core.compute.deploy.onnx_files import (
    check_graph,
    check_openvino,
    opset_of,
    require_openvino,
    write_openvino,
)
from core.compute.deploy.pruning import prune
from core.compute.deploy.table import choose, rows_of
from core.compute.deploy.torchscript import load_torchscript, torchscript_of
from core.compute.inference import loaded
from core.compute.inference.backends import OnnxBackend, TorchBackend
from core.compute.inference.networks import frozen
from core.compute.training.export import onnx_of
from core.domain.errors import BugError, EnvironmentFault, InputError
from models.networks.narrowing import narrowed
from models.networks.registry import build

TINY = {"in_channels": 1, "out_channels": 3, "channels": [8, 16]}


def network(name: str = "simple_cnn", **params: object) -> nn.Module:
    torch.manual_seed(0)
    made = build(name, **(params or TINY))
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return frozen(made)


def pictures(count: int = 2, side: int = 32, dims: int = 2) -> torch.Tensor:
    return torch.rand((count, 1, *[side] * dims), generator=torch.Generator().manual_seed(1))


class Two(nn.Module):
    """Answers by name, as networks of several tasks do."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Conv2d(1, 4, 3, padding=1), nn.Linear(4, 2)

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        features = torch.relu(self.body(image))
        return {"segmentation": features, "classification": self.head(features.mean((2, 3)))}


@pytest.fixture(scope="module")
def graph() -> bytes:
    return onnx_of(network(), pictures(), dynamic=(0,))


@pytest.fixture(scope="module")
def wide() -> tuple[nn.Module, bytes]:
    """A network whose weights outweigh its graph, and the graph."""
    net = network("simple_cnn", in_channels=1, out_channels=3, channels=[32, 64, 64])
    return net, onnx_of(net, pictures(), dynamic=(0,))


def test_a_trace_answers_as_the_network_for_another_batch() -> None:
    net = network()
    loaded_again = load_torchscript(torchscript_of(net, (pictures(1),), (pictures(3),)))
    assert torch.allclose(loaded_again(pictures(5)), net(pictures(5)), atol=1e-5)


def test_a_trace_keeps_the_names_of_several_outputs() -> None:
    net = Two().eval().requires_grad_(False)
    answer = load_torchscript(torchscript_of(net, (pictures(1),), (pictures(2),)))(pictures(3))
    assert list(answer) == ["segmentation", "classification"] and answer["classification"].shape == (3, 2)


def test_a_network_that_branches_on_its_values_has_no_trace() -> None:
    class Branch(nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return image * 2 if float(image.mean()) > 1 else image

    with pytest.raises(InputError, match="trace differs"):
        torchscript_of(Branch(), (pictures(1),), (pictures(1) + 5,))


def test_a_graph_is_held_against_the_network_on_what_it_is_given(graph: bytes) -> None:
    assert check_graph(graph, network(), [Inputs(pictures())]) < 1e-4
    assert opset_of(graph) == 18
    other = copy.deepcopy(network())
    other.get_submodule("head.out").bias.add_(0.01)
    with pytest.raises(BugError, match="differs from the network"):
        check_graph(graph, other, [Inputs(pictures())])


@pytest.mark.parametrize("kind", ["static", "dynamic"])
def test_eight_bits_take_a_third_of_the_space_and_stay_near(kind: str, wide: tuple[nn.Module, bytes]) -> None:
    net, exact = wide
    feeds = [feed_of(exact, [pictures(4).numpy()])]
    small = quantised(exact, kind, feeds)  # type: ignore[arg-type]
    assert len(small) < 0.35 * len(exact)
    wanted = net(pictures()).numpy()
    (answer,) = OnnxBackend(small, name="onnxruntime-int8").outputs(pictures()).values()
    assert np.abs(answer.numpy() - wanted).max() < 0.1 * np.abs(wanted).max()


def test_static_weights_are_signed_and_per_channel(graph: bytes) -> None:
    model = onnx.load_model_from_string(quantised(graph, "static", [feed_of(graph, [pictures(4).numpy()])]))
    shapes = {t.name: (t.data_type, list(t.dims)) for t in model.graph.initializer}
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    makers = {out: node for node in model.graph.node for out in node.output}
    for convolution in convolutions:
        dequantise = makers[convolution.input[1]]
        kind, dims = shapes[dequantise.input[0]]
        assert kind == onnx.TensorProto.INT8 and shapes[dequantise.input[1]][1] == [dims[0]]
        activation = makers[convolution.input[0]]
        assert shapes[activation.input[2]][0] == onnx.TensorProto.UINT8
    assert len(convolutions) == 2


def test_static_ranges_need_real_inputs(graph: bytes) -> None:
    with pytest.raises(InputError, match="needs real cases") as refusal:
        quantised(graph, "static")
    assert refusal.value.code == "deploy.calibration" and "--data" in refusal.value.remedy


def test_a_graph_of_nonsense_is_refused_with_its_kind() -> None:
    with pytest.raises(InputError, match="dynamic INT8"):
        quantised(b"no graph", "dynamic")


def test_openvino_that_is_absent_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.compute.deploy.onnx_files.has_openvino", lambda: False)
    with pytest.raises(EnvironmentFault, match="not installed") as refusal:
        require_openvino()
    assert "overread[fast]" in refusal.value.remedy
    assert callable(loaded.has_openvino)


def test_openvino_files_answer_as_the_network(graph: bytes, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    xml, weights = write_openvino(graph, tmp_path / "openvino")
    assert weights.stat().st_size > 1000
    exact = TorchBackend(network(), "torch", dims=2)
    assert check_openvino(xml, exact, [Inputs(pictures())]) < 1e-4
    other = copy.deepcopy(network())
    other.get_submodule("head.out").bias.add_(0.01)
    with pytest.raises(BugError, match="OpenVINO's files differ"):
        check_openvino(xml, TorchBackend(other, "torch", dims=2), [Inputs(pictures())])


def test_a_graph_with_shapes_beyond_inference_is_quantised_all_the_same(
    graph: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = int8.quant_pre_process

    def failing(*given: object, skip_symbolic_shape: bool) -> None:
        if not skip_symbolic_shape:
            raise TypeError("object of type 'NoneType' has no len()")
        whole(*given, skip_symbolic_shape=True)

    monkeypatch.setattr(int8, "quant_pre_process", failing)
    assert len(quantised(graph, "dynamic")) > 1000


@pytest.mark.parametrize(
    ("name", "params", "given"),
    [
        ("simple_cnn", TINY, pictures()),
        ("cell_net", TINY, pictures()),
        ("unet3d", {"in_channels": 1, "out_channels": 3, "channels": [8, 16]}, pictures(1, 16, 3)),
    ],
)
def test_pruning_takes_parameters_and_operations_away(
    name: str, params: dict[str, object], given: torch.Tensor
) -> None:
    net = network(name, **params)
    made = prune(net, Network(name=name, params=params), Inputs(given), 0.5)  # type: ignore[arg-type]
    assert made.parameters[1] < 0.4 * made.parameters[0]
    assert made.operations[1] < 0.5 * made.operations[0]
    assert made.network(given).shape == net(given).shape
    assert made.parameters[0] == sum(p.numel() for p in net.parameters())
    again = build(name, **made.description.params)
    again.load_state_dict(made.network.state_dict())
    assert torch.equal(again.eval()(given), made.network(given))


def test_pruning_keeps_the_channels_with_the_largest_weights() -> None:
    net = network()
    first = net.get_submodule("encoder.features.0.0")
    with torch.no_grad():
        first.weight[[1, 3, 5, 7]] *= 100
        net.get_submodule("encoder.features.1.0").weight[:, [1, 3, 5, 7]] *= 100
    kept = first.weight[[1, 3, 5, 7]].clone()
    made = prune(net, Network(name="simple_cnn", params=TINY), Inputs(pictures()), 0.5)
    assert torch.equal(made.network.get_submodule("encoder.features.0.0").weight, kept)


def test_operations_are_counted_as_the_textbook_does() -> None:
    made = prune(network(), Network(name="simple_cnn", params=TINY), Inputs(pictures(2, 16)), 0.5)
    # 3 × 3 kernels: 16² places of 1 → 8 channels, 8² places of 8 → 16; then 16 → 3.
    assert made.operations[0] == 9 * (16 * 16 * 8 + 8 * 8 * 8 * 16) + 16 * 3


@pytest.mark.parametrize("fraction", [0.0, -0.1, 0.99, 1.0, float("nan")])
def test_a_share_that_no_network_survives_is_refused(fraction: float) -> None:
    with pytest.raises(InputError, match="not a share of channels"):
        prune(network(), Network(name="simple_cnn", params=TINY), Inputs(pictures()), fraction)


def test_pruning_without_its_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.compute.deploy.pruning.importlib.util.find_spec", lambda name: None)
    with pytest.raises(EnvironmentFault, match="torch-pruning") as refusal:
        prune(network(), Network(name="simple_cnn", params=TINY), Inputs(pictures()), 0.3)
    assert "overread[train]" in refusal.value.remedy


def test_what_was_pruned_is_not_pruned_again() -> None:
    rows: list[list[str | bool | int | float | None]] = [["encoder.features.0.0", 1, 5]]
    with pytest.raises(InputError, match="already"):
        prune(network(), Network(name="simple_cnn", params={**TINY, "pruned": rows}), Inputs(pictures()), 0.3)


class Loose(nn.Module):
    """Scales its channels by a parameter that belongs to no layer."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Conv2d(1, 8, 3, padding=1), nn.Linear(8, 3)
        self.scale = nn.Parameter(torch.ones(1, 8, 1, 1))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        answer: torch.Tensor = self.head((self.body(image) * self.scale).mean((2, 3)))
        return answer


def test_a_network_whose_channels_are_no_layers_is_refused_with_a_way_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("core.compute.deploy.pruning.build", lambda name, **params: narrowed_loose(**params))
    with pytest.raises(InputError, match="1 of its tensors") as refusal:
        prune(frozen(Loose()), Network(name="loose", params={}), Inputs(pictures(1)), 0.5)
    assert refusal.value.code == "deploy.prune" and "without --prune" in refusal.value.remedy


def narrowed_loose(pruned: list[list[str | int]] | None = None) -> nn.Module:
    return narrowed(Loose(), pruned or [])


def test_a_recorder_keeps_windows_from_everywhere() -> None:
    recorder = Recorder(TorchBackend(network(), "torch", dims=2), 4)
    for number in range(20):
        recorder(torch.full((2, 1, 8, 8), float(number)))
    kept = [float(one.image.mean()) for one in recorder.take()]
    assert len(kept) == 4 and len(set(kept)) > 2 and max(kept) > 9
    assert recorder.take() == []


def test_dice_follows_its_definition() -> None:
    truth = np.array([[1, 1, 0, 2]], np.uint8)
    given = np.array([[1, 0, 0, 0]], np.uint8)
    assert mean_dice(given, truth, [1, 2, 3]) == pytest.approx((2 / 3 + 0) / 2)
    assert mean_dice(np.zeros_like(truth), np.zeros_like(truth), [1]) == 1.0


def variant(name: str, ms: float, accuracy: float | None, exact: bool) -> Variant:
    quality = {} if accuracy is None else {"accuracy": accuracy}
    engine = TorchBackend(network(), "torch", dims=2)
    return Variant(name, name, engine, 100, exact, milliseconds=[ms], quality=quality)


@pytest.mark.parametrize(
    ("small", "chosen", "reason"),
    [
        ((2.0, 0.995), "small", "fastest"),
        ((2.0, 0.98), "onnx", "loses 1.0 points"),
        ((20.0, 0.99), "onnx", "2.0 times as slow"),
        ((4.6, 0.99), "onnx", "not faster enough"),
        ((2.0, None), "onnx", "not judged"),
    ],
)
def test_a_form_is_chosen_for_its_answers_first(
    small: tuple[float, float | None], chosen: str, reason: str
) -> None:
    known = 0.9901 if small[1] is not None else None
    forms = [
        variant("torch", 10, known, True),
        variant("onnx", 5, known, True),
        variant("small", *small, False),
    ]
    assert choose(forms).name == chosen
    assert reason in next(row["reason"] for row in rows_of(forms) if row["name"] == "small")
    assert sum(row["chosen"] for row in rows_of(forms)) == 1


def test_differences_are_taken_from_the_form_that_counts() -> None:
    first, second = variant("torch", 1, None, True), variant("pruned", 1, None, False)
    other = copy.deepcopy(network())
    other.get_submodule("head.out").bias.add_(1.0)
    second.engine = TorchBackend(other, "torch", dims=2)
    third = Variant("graph", "graph", second.engine, 1, False, against="pruned")
    compare([first, second, third], [Inputs(pictures())])
    assert (first.difference, third.difference) == (0.0, 0.0) and second.difference == pytest.approx(1.0)
    assert largest_difference((np.zeros(2, np.float32),), (np.zeros(3, np.float32),)) == float("inf")


def test_files_are_named_as_the_room_says(tmp_path: Path) -> None:
    from core.compute.deploy.request import parsed_formats

    assert parsed_formats(" onnx,TorchScript, onnx ,") == ("onnx", "torchscript")
