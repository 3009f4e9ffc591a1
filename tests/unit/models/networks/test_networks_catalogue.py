"""The networks of the catalogue: they build, keep sizes, and know their parts."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from models.networks.parts import backbone_parameters, divisor, head_parameters, stages
from models.networks.registry import build, cam_layers, describe, names, spec

HAS_EINOPS = True
try:
    import einops  # noqa: F401
except ImportError:
    HAS_EINOPS = False

NEEDS_EINOPS = pytest.mark.skipif(not HAS_EINOPS, reason="MONAI's SwinUNETR needs the package einops")

CLASSIFIERS = [name for name in names() if spec(name).task == "classification"]
SEGMENTERS = [name for name in names() if spec(name).task == "segmentation"]


def marked(items: list[tuple[str, int]]) -> list[object]:
    return [
        pytest.param(*item, marks=NEEDS_EINOPS, id=f"{item[0]}-{item[1]}")
        if item[0] == "swin_unetr"
        else item
        for item in items
    ]


EVERY = marked([(name, dims) for name in names() for dims in spec(name).dimensions])
SMALL: dict[str, dict[str, object]] = {
    "unet": {"features": 4},
    "attention_unet": {"features": 4},
    "unet_plus_plus": {"features": [4, 4, 8, 8, 8, 4]},
    "segresnet": {"features": 8},
    "dynunet": {"features": 4},
    "deeplabv3plus": {"features": 8, "pyramid_channels": 16, "blocks": [1, 1, 1, 1]},
    "swin_unetr": {"features": 12},
}


def made(name: str, dims: int, **params: object) -> nn.Module:
    if len(spec(name).dimensions) > 1:
        params["spatial_dims"] = dims
    return build(name, **params)


def empty(name: str, dims: int, **params: object) -> nn.Module:
    """Return the network without memory (SwinUNETR computes while it is built)."""
    if name == "swin_unetr":
        return made(name, dims, **params)
    with torch.device("meta"):
        return made(name, dims, **params)


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_classifiers_give_one_logit_per_class(name: str) -> None:
    size = 75 if name == "xception" else 64
    network = build(name, in_channels=1, out_channels=3).eval()
    with torch.no_grad():
        logits = network(torch.randn(1, 1, size, size))
    assert logits.shape == (1, 3)
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_classifiers_take_colour(name: str) -> None:
    network = empty(name, 2, in_channels=3, out_channels=3).eval()
    size = 75 if name == "xception" else 64
    assert network(torch.empty(1, 3, size, size, device="meta")).shape == (1, 3)


@pytest.mark.parametrize("name", ["resnet18", "efficientnet_b0", "simple_cnn"])
def test_classifiers_take_volumes(name: str) -> None:
    network = build(name, in_channels=2, out_channels=3, spatial_dims=3).eval()
    with torch.no_grad():
        assert network(torch.randn(1, 2, 32, 32, 32)).shape == (1, 3)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
    ("name", "dims"), marked([(name, dims) for name in SEGMENTERS for dims in spec(name).dimensions])
)
def test_segmentations_give_one_tensor_of_the_images_size(name: str, dims: int, training: bool) -> None:
    network = made(name, dims, in_channels=3, out_channels=4, **SMALL.get(name, {})).train(training)
    size = (64, 32) if dims == 2 else (32, 32, 64)
    assert all(extent % divisor(network) == 0 for extent in size)
    with torch.no_grad():
        logits = network(torch.randn(2, 3, *size))
    assert isinstance(logits, Tensor)
    assert logits.shape == (2, 4, *size)
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize(("name", "dims"), marked([(name, spec(name).dimensions[0]) for name in SEGMENTERS]))
def test_segmentations_learn_with_every_parameter(name: str, dims: int) -> None:
    network = made(name, dims, in_channels=1, out_channels=2, **SMALL.get(name, {}))
    network(torch.randn(2, 1, *((64, 64) if dims == 2 else (32, 32, 32)))).square().sum().backward()
    assert [key for key, parameter in network.named_parameters() if parameter.grad is None] == []


@pytest.mark.parametrize("name", ["densenet121", "swin_t", "convnext_tiny", "efficientnet_b0"])
def test_classifiers_learn_with_every_parameter(name: str) -> None:
    network = build(name, in_channels=1, out_channels=2)
    network(torch.randn(2, 1, 64, 64)).square().sum().backward()
    assert [key for key, parameter in network.named_parameters() if parameter.grad is None] == []


def test_deeplab_takes_any_size() -> None:
    network = made("deeplabv3plus", 2, **SMALL["deeplabv3plus"]).eval()
    with torch.no_grad():
        assert network(torch.randn(1, 1, 45, 70)).shape == (1, 2, 45, 70)


# Source: torchvision's table of models (1000 classes); F. Chollet 2017, table 3 (xception); ENGINE's counts.
KNOWN = {
    "resnet18": 11_689_512,
    "resnet50": 25_557_032,
    "efficientnet_b0": 5_288_548,
    "efficientnet_b1": 7_794_184,
    "efficientnet_b2": 9_109_994,
    "efficientnet_b3": 12_233_232,
    "efficientnet_b4": 19_341_616,
    "densenet121": 7_978_856,
    "swin_t": 28_288_354,
    "swin_s": 49_606_258,
    "vit_b_16": 86_567_656,
    "convnext_tiny": 28_589_128,
    "xception": 22_855_952,
}


@pytest.mark.parametrize("name", sorted(KNOWN))
def test_sizes_are_those_of_the_published_networks(name: str) -> None:
    assert count(empty(name, 2, in_channels=3, out_channels=1000)) == KNOWN[name]


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("swin_t", 27.52),
        ("swin_s", 48.84),
        ("vit_b_16", 85.80),
        ("efficientnet_b0", 4.01),
        ("densenet121", 6.96),
        ("xception", 20.81),
    ],
)
def test_sizes_with_three_classes(name: str, millions: float) -> None:
    assert round(count(empty(name, 2, in_channels=1, out_channels=3)) / 1e6, 2) == millions


def test_medical_cnn_trains_a_fifth_of_a_million() -> None:
    network = build("medical_cnn", in_channels=1, out_channels=3)
    trained = sum(p.numel() for p in network.parameters() if p.requires_grad)
    assert 0.2e6 < trained < 0.21e6
    assert trained == sum(p.numel() for p in head_parameters(network))


def test_a_frozen_encoder_keeps_its_statistics() -> None:
    network = build("medical_cnn", in_channels=1, out_channels=3).train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    network(torch.randn(4, 1, 64, 64)).sum().backward()
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
    network.get_submodule("encoder").requires_grad_(True)
    network.train()(torch.randn(4, 1, 64, 64))
    changed = [key for key, value in network.state_dict().items() if not torch.equal(before[key], value)]
    assert any(key.endswith("running_mean") for key in changed)


def test_grey_is_shown_as_colour() -> None:
    network = build("resnet18", in_channels=1, out_channels=2).eval()
    image = torch.randn(1, 1, 64, 64)
    with torch.no_grad():
        colour = network.get_submodule("encoder")(image.repeat(1, 3, 1, 1))
        assert torch.equal(network(image), network.get_submodule("head")(colour))


def test_several_contrasts_start_as_their_mean() -> None:
    network = build("resnet18", in_channels=4, out_channels=2).eval()
    image = torch.randn(1, 4, 64, 64)
    with torch.no_grad():
        grey = network.get_submodule("encoder")(image.mean(1, keepdim=True).repeat(1, 3, 1, 1))
        assert torch.allclose(network(image), network.get_submodule("head")(grey), atol=1e-5)
    assert any(parameter.shape == (3, 4, 1, 1) for parameter in head_parameters(network))


def test_a_head_may_have_a_hidden_layer() -> None:
    network = empty("resnet50", 2, out_channels=2, head_units=512, dropout=0.5)
    head = dict(network.get_submodule("head").named_children())
    assert list(head) == ["hidden", "relu", "dropout", "out"]
    assert [tuple(p.shape) for p in head_parameters(network)] == [(512, 2048), (512,), (2, 512), (2,)]


@pytest.mark.parametrize(("name", "dims"), EVERY)
def test_head_and_stages_hold_each_parameter_once(name: str, dims: int) -> None:
    network = empty(name, dims, out_channels=3)
    head, backbone = head_parameters(network), backbone_parameters(network)
    staged = [parameter for stage in stages(network) for parameter in stage.parameters]
    assert {id(p) for p in staged} == {id(p) for p in backbone}
    assert len(staged) == len(backbone)
    assert {id(p) for p in head} | {id(p) for p in backbone} == {id(p) for p in network.parameters()}
    assert head
    assert all(stage.parameters for stage in stages(network))


@pytest.mark.parametrize(("name", "dims"), EVERY)
def test_only_the_head_depends_on_the_classes(name: str, dims: int) -> None:
    two, five = empty(name, dims, out_channels=2), empty(name, dims, out_channels=5)
    pairs = zip(two.named_parameters(), five.named_parameters(), strict=True)
    different = {key for (key, one), (_, other) in pairs if one.shape != other.shape}
    head = {id(p) for p in head_parameters(two)}
    assert different
    assert different <= {key for key, parameter in two.named_parameters() if id(parameter) in head}


@pytest.mark.parametrize(("name", "dims"), EVERY)
def test_facts_are_those_of_the_built_network(name: str, dims: int) -> None:
    network, facts = empty(name, dims), spec(name)
    modules = dict(network.named_modules())
    assert cam_layers(name)
    assert all(layer in modules for layer in cam_layers(name))
    assert network.parts.cam_layers == facts.cam_layers
    assert network.divisor == facts.divisor
    prefixes = tuple(f"{prefix}." for prefix in facts.head)
    named = {id(p) for key, p in network.named_parameters() if key.startswith(prefixes)}
    assert named == {id(p) for p in head_parameters(network)}


@pytest.mark.parametrize("name", ["resnet18", "swin_t", "vit_b_16", "unet", "deeplabv3plus"])
def test_explained_layers_feed_the_answer(name: str) -> None:
    dims = 2
    network = made(name, dims, in_channels=1, out_channels=2, **SMALL.get(name, {})).eval()
    kept: list[Tensor] = []
    layer = network.get_submodule(cam_layers(name)[0])
    handle = layer.register_forward_hook(lambda _m, _i, output: kept.append(output))
    answer = network(torch.randn(1, 1, 64, 64))
    handle.remove()
    (slope,) = torch.autograd.grad(answer.sum(), kept[0])
    assert slope.abs().sum() > 0
    assert kept[0].ndim == (3 if spec(name).cam_layout == "tokens" else 4)


@pytest.mark.parametrize(("name", "dims"), EVERY)
def test_no_activation_works_in_place(name: str, dims: int) -> None:
    network = empty(name, dims)
    assert [key for key, module in network.named_modules() if getattr(module, "inplace", False)] == []


@pytest.mark.parametrize(
    ("name", "dims"),
    marked([(n, 2) for n in ("efficientnet_b0", "densenet121", "swin_t", "simple_cnn")]
    + [(n, spec(n).dimensions[0]) for n in SEGMENTERS]),
)  # fmt: skip
def test_weights_survive_safetensors(name: str, dims: int, tmp_path: Path) -> None:
    params = {"in_channels": 1, "out_channels": 2, **SMALL.get(name, {})}
    one, two = made(name, dims, **params).eval(), made(name, dims, **params).eval()
    save_file(one.state_dict(), tmp_path / "weights.safetensors")
    two.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    image = torch.randn(1, 1, *((32,) * dims if dims == 3 else (64, 64)))
    with torch.no_grad():
        assert torch.equal(one(image), two(image))


def test_the_keys_of_shipped_networks_stay() -> None:
    assert list(build("cnn2d").state_dict())[:2] == ["features.0.0.weight", "features.0.1.weight"]
    assert "decoder.0.1.running_mean" in build("unet3d").state_dict()


def test_dynunet_computes_what_monai_does() -> None:
    from monai.networks.nets.dynunet import DynUNet

    torch.manual_seed(0)
    ours = build("dynunet", spatial_dims=2, depth=3, features=4, norm="instance").eval()
    theirs = DynUNet(2, 1, 2, [3] * 4, [1, 2, 2, 2], [2] * 3, filters=[4, 8, 16, 32]).eval()
    assert theirs.load_state_dict(ours.state_dict(), strict=False).unexpected_keys == []
    image = torch.randn(1, 1, 32, 32)
    with torch.no_grad():
        assert torch.equal(ours(image), theirs(image))


def test_descriptions_are_json_with_the_arguments() -> None:
    for name in names():
        facts = json.loads(json.dumps(describe(name)))
        assert {"in_channels", "out_channels"} <= set(facts["params"])
        assert facts["task"] in {"classification", "segmentation", "multitask"}
        assert facts["optimiser"] in {"adam", "adamw", "adamax", "sgd"}
    assert describe("xception")["input_size"] == 299
    assert describe("xception")["optimiser"] == "adamax"
    assert describe("swin_s")["batch_size"] == 8


@pytest.mark.parametrize(
    ("name", "params", "words"),
    [
        ("unet", {"activation": "swash"}, "swish"),
        ("unet", {"norm": "layer"}, "group"),
        ("efficientnet_b0", {"padding": "valid"}, "symmetric"),
        ("deeplabv3plus", {"norm": "group"}, "instance"),
        ("dynunet", {"depth": 1}, "at least 2"),
    ],
)
def test_values_that_cannot_be_built_are_refused(name: str, params: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        build(name, **params)


def test_a_network_from_elsewhere_has_parts_too() -> None:
    network = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    assert [tuple(p.shape) for p in head_parameters(network)] == [(2, 8), (2,)]
    assert [stage.name for stage in stages(network)] == ["0"]
    assert divisor(network) == 1


def test_parts_are_found_inside_a_compiled_network() -> None:
    network = build("simple_cnn", in_channels=1, out_channels=2)
    compiled = torch.compile(network)
    assert [id(p) for p in head_parameters(compiled)] == [id(p) for p in head_parameters(network)]


def test_our_own_networks_load_no_library() -> None:
    code = (
        "import sys\n"
        "from models.networks.registry import build, names, spec\n"
        "for name in ('cnn2d', 'unet3d', 'simple_cnn', 'deeplabv3plus'): build(name)\n"
        "assert not {'monai', 'transformers', 'lightning'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_no_network_loads_torchvision_or_timm() -> None:
    for name in ("unet", "efficientnet_b0", "swin_t"):
        empty(name, 2)
    assert not {"torchvision", "timm"} & set(sys.modules)
