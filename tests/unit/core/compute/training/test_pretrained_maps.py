"""Names of other libraries: every tensor lands where it belongs.

torchvision's and timm's names are written out here in the order of the architecture, each tensor filled with
its place in that order; the networks here register theirs in the same order. transformers' networks are run
beside ours with the same weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
import torch
from torch import Tensor, nn

from core.compute.training.pretrained_maps import family_of, translate
from models.networks.convnext import ConvNextEncoder
from models.networks.registry import build, names, spec
from models.networks.swin import SwinEncoder
from models.networks.vit import VitEncoder

NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
PAIR = ("weight", "bias")


def encoder(name: str, **params: object) -> nn.Module:
    with torch.device("meta"):
        return build(name, out_channels=3, **params).get_submodule("encoder")


def each(prefix: str, kinds: Sequence[str]) -> Iterator[str]:
    for kind in kinds:
        yield f"{prefix}.{kind}"


def resnet(blocks: Sequence[int], convolutions: int) -> Iterator[str]:
    yield "conv1.weight"
    yield from each("bn1", NORM)
    for layer, count in enumerate(blocks, 1):
        for block in range(count):
            for number in range(1, convolutions + 1):
                yield f"layer{layer}.{block}.conv{number}.weight"
                yield from each(f"layer{layer}.{block}.bn{number}", NORM)
            if block == 0 and (layer > 1 or convolutions == 3):
                yield f"layer{layer}.{block}.downsample.0.weight"
                yield from each(f"layer{layer}.{block}.downsample.1", NORM)
    yield from ("fc.weight", "fc.bias")


def densenet(dot: str) -> Iterator[str]:
    yield "features.conv0.weight"
    yield from each("features.norm0", NORM)
    for block, count in enumerate((6, 12, 24, 16), 1):
        for layer in range(1, count + 1):
            stem = f"features.denseblock{block}.denselayer{layer}"
            for number in (1, 2):
                yield from each(f"{stem}.norm{dot}{number}", NORM)
                yield f"{stem}.conv{dot}{number}.weight"
        if block < 4:
            yield from each(f"features.transition{block}.norm", NORM)
            yield f"features.transition{block}.conv.weight"
    yield from each("features.norm5", NORM)
    yield from each("classifier", PAIR)


B0 = (1, 2, 2, 3, 3, 4, 1)


def efficientnet_torchvision() -> Iterator[str]:
    yield "features.0.0.weight"
    yield from each("features.0.1", NORM)
    for stage, count in enumerate(B0, 1):
        for block in range(count):
            stem = f"features.{stage}.{block}.block"
            convolutions = 1 if stage == 1 else 2
            for number in range(convolutions):
                yield f"{stem}.{number}.0.weight"
                yield from each(f"{stem}.{number}.1", NORM)
            yield from each(f"{stem}.{convolutions}.fc1", PAIR)
            yield from each(f"{stem}.{convolutions}.fc2", PAIR)
            yield f"{stem}.{convolutions + 1}.0.weight"
            yield from each(f"{stem}.{convolutions + 1}.1", NORM)
    yield "features.8.0.weight"
    yield from each("features.8.1", NORM)
    yield from each("classifier.1", PAIR)


def efficientnet_timm() -> Iterator[str]:
    yield "conv_stem.weight"
    yield from each("bn1", NORM)
    for stage, count in enumerate(B0):
        for block in range(count):
            stem = f"blocks.{stage}.{block}"
            wide = ("conv_pw", "bn1", "conv_dw", "bn2", "se", "conv_pwl", "bn3")
            for part in wide if stage else ("conv_dw", "bn1", "se", "conv_pw", "bn2"):
                if part == "se":
                    yield from each(f"{stem}.se.conv_reduce", PAIR)
                    yield from each(f"{stem}.se.conv_expand", PAIR)
                elif part.startswith("bn"):
                    yield from each(f"{stem}.{part}", NORM)
                else:
                    yield f"{stem}.{part}.weight"
    yield "conv_head.weight"
    yield from each("bn2", NORM)
    yield from each("classifier", PAIR)


def swin(depths: Sequence[int], style: str) -> Iterator[str]:
    """torchvision, timm (reduction before a layer's blocks) or old (after them)."""
    first, second, reduce = (
        ("mlp.0", "mlp.3", "") if style == "torchvision" else ("mlp.fc1", "mlp.fc2", "downsample.")
    )
    yield from each("features.0.0" if style == "torchvision" else "patch_embed.proj", PAIR)
    yield from each("features.0.2" if style == "torchvision" else "patch_embed.norm", PAIR)
    for level, depth in enumerate(depths):
        if level:
            where = {"torchvision": f"features.{2 * level}.", "timm": f"layers.{level}."}
            stem = where.get(style, f"layers.{level - 1}.")
            yield f"{stem}{reduce}reduction.weight"
            yield from each(f"{stem}{reduce}norm", PAIR)
        for index in range(depth):
            stem = (
                f"features.{2 * level + 1}.{index}"
                if style == "torchvision"
                else f"layers.{level}.blocks.{index}"
            )
            yield from each(f"{stem}.norm1", PAIR)
            yield f"{stem}.attn.relative_position_bias_table"
            yield from each(f"{stem}.attn.qkv", PAIR)
            yield from each(f"{stem}.attn.proj", PAIR)
            yield from each(f"{stem}.norm2", PAIR)
            yield from each(f"{stem}.{first}", PAIR)
            yield from each(f"{stem}.{second}", PAIR)
    yield from each("norm", PAIR)
    yield from each("head" if style == "torchvision" else "head.fc", PAIR)


def vit_torchvision(first: str, second: str) -> Iterator[str]:
    yield "class_token"
    yield from each("conv_proj", PAIR)
    yield "encoder.pos_embedding"
    for index in range(12):
        stem = f"encoder.layers.encoder_layer_{index}"
        yield from each(f"{stem}.ln_1", PAIR)
        yield f"{stem}.self_attention.in_proj_weight"
        yield f"{stem}.self_attention.in_proj_bias"
        for part in ("self_attention.out_proj", "ln_2", first, second):
            yield from each(f"{stem}.{part}", PAIR)
    yield from each("encoder.ln", PAIR)
    yield from each("heads.head", PAIR)


def vit_timm() -> Iterator[str]:
    yield "cls_token"
    yield from each("patch_embed.proj", PAIR)
    yield "pos_embed"
    for index in range(12):
        for part in ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2"):
            yield from each(f"blocks.{index}.{part}", PAIR)
    yield from each("norm", PAIR)
    yield from each("head", PAIR)


def convnext(style: str) -> Iterator[str]:
    parts = {
        "torchvision": ("layer_scale", "block.0", "block.2", "block.3", "block.5"),
        "timm": ("gamma", "conv_dw", "norm", "mlp.fc1", "mlp.fc2"),
        "original": ("gamma", "dwconv", "norm", "pwconv1", "pwconv2"),
    }[style]
    for level, depth in enumerate((3, 3, 9, 3)):
        torchvision = f"features.{2 * level}"
        stem = {
            "timm": f"stages.{level}.downsample" if level else "stem",
            "original": f"downsample_layers.{level}",
        }
        for part in "01":
            yield from each(f"{stem.get(style, torchvision)}.{part}", PAIR)
        for index in range(depth):
            where = {"timm": f"stages.{level}.blocks.{index}", "original": f"stages.{level}.{index}"}
            block = where.get(style, f"features.{2 * level + 1}.{index}")
            yield f"{block}.{parts[0]}"
            for part in parts[1:]:
                yield from each(f"{block}.{part}", PAIR)
    yield from each({"torchvision": "classifier.0", "timm": "head.norm"}.get(style, "norm"), PAIR)
    yield from each({"torchvision": "classifier.2", "timm": "head.fc"}.get(style, "head"), PAIR)


def xception() -> Iterator[str]:
    for number in (1, 2):
        yield f"conv{number}.weight"
        yield from each(f"bn{number}", NORM)
    for block in range(1, 13):
        if block < 4 or block == 12:
            yield f"block{block}.skip.weight"
            yield from each(f"block{block}.skipbn", NORM)
        first = 0 if block == 1 else 1
        for place in range(first, first + (6 if block < 4 or block == 12 else 9), 3):
            yield f"block{block}.rep.{place}.conv1.weight"
            yield f"block{block}.rep.{place}.pointwise.weight"
            yield from each(f"block{block}.rep.{place + 1}", NORM)
    for number in (3, 4):
        yield f"conv{number}.conv1.weight"
        yield f"conv{number}.pointwise.weight"
        yield from each(f"bn{number}", NORM)
    yield from each("fc", PAIR)


FILES = [
    ("resnet18", "torchvision", tuple(resnet((2, 2, 2, 2), 2))),
    ("resnet50", "torchvision", tuple(resnet((3, 4, 6, 3), 3))),
    ("densenet121", "torchvision", tuple(densenet(""))),
    ("densenet121", "torchvision", tuple(densenet("."))),
    ("efficientnet_b0", "torchvision", tuple(efficientnet_torchvision())),
    ("efficientnet_b0", "timm", tuple(efficientnet_timm())),
    ("medical_cnn", "timm", tuple(efficientnet_timm())),
    ("swin_t", "torchvision", tuple(swin((2, 2, 6, 2), "torchvision"))),
    ("swin_t", "timm", tuple(swin((2, 2, 6, 2), "timm"))),
    ("swin_s", "timm", tuple(swin((2, 2, 18, 2), "old"))),
    ("vit_b_16", "torchvision", tuple(vit_torchvision("mlp.0", "mlp.3"))),
    ("vit_b_16", "torchvision", tuple(vit_torchvision("mlp.linear_1", "mlp.linear_2"))),
    ("vit_b_16", "timm", tuple(vit_timm())),
    ("convnext_tiny", "torchvision", tuple(convnext("torchvision"))),
    ("convnext_tiny", "timm", tuple(convnext("timm"))),
    ("convnext_tiny", "original", tuple(convnext("original"))),
    ("xception", "timm", tuple(xception())),
]


@pytest.mark.parametrize(("name", "naming", "foreign"), FILES, ids=[f"{n}-{w}-{len(k)}" for n, w, k in FILES])
def test_each_tensor_lands_in_its_place(name: str, naming: str, foreign: tuple[str, ...]) -> None:
    ours = _in_order(encoder(name))
    content = {key: torch.tensor(float(place)) for place, key in enumerate(foreign)}
    translation = translate(family_of(name) or "", content, frozenset(ours))
    assert translation.naming == naming
    assert translation.unused == foreign[-2:]
    assert {key: tensor.item() for key, tensor in translation.tensors.items()} == {
        key: float(place) for place, key in enumerate(ours)
    }


def _in_order(network: nn.Module) -> list[str]:
    """Return the state's names; torch lists a module's own parameters first, as the other libraries do."""
    return list(network.state_dict())


def test_every_imagenet_network_has_a_map() -> None:
    assert {name for name in names() if family_of(name) is not None} == {
        name for name in names() if spec(name).imagenet
    }


def same_output(ours: nn.Module, theirs: Tensor, image: Tensor) -> None:
    with torch.no_grad():
        assert torch.allclose(ours.eval()(image), theirs, atol=1e-5, rtol=1e-4)


def filled(family: str, ours: nn.Module, theirs: nn.Module, prefix: str = "") -> nn.Module:
    """Return our encoder with the weights of transformers' network, statistics and tables made random."""
    generator = torch.Generator().manual_seed(1)
    state = theirs.state_dict()
    for key, tensor in state.items():
        if "running_var" in key:
            tensor.uniform_(0.5, 2.0, generator=generator)
        elif tensor.is_floating_point() and tensor.ndim < 3 and "weight" not in key:
            tensor.normal_(0.0, 0.2, generator=generator)
        elif tensor.ndim == 1 and tensor.is_floating_point():
            tensor.uniform_(0.5, 1.5, generator=generator)
    wanted = ours.state_dict()
    content = {f"{prefix}{key}": tensor for key, tensor in state.items()}
    translation = translate(family, content, frozenset(wanted))
    assert translation.naming == "transformers"
    assert set(translation.tensors) == set(wanted)
    shaped = {key: tensor.reshape(wanted[key].shape) for key, tensor in translation.tensors.items()}
    ours.load_state_dict(shaped)
    return ours


def picture(size: int) -> Tensor:
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("size", [32, 40, 44])
def test_swin_computes_what_transformers_does(size: int) -> None:
    from transformers import SwinConfig, SwinModel

    torch.manual_seed(0)
    config = SwinConfig(image_size=size, embed_dim=12, depths=[2, 2], num_heads=[2, 4], window_size=4)
    theirs = SwinModel(config).eval()
    ours = filled("swin", SwinEncoder(12, (2, 2), (2, 4), window=4), theirs, "swin.")
    with torch.no_grad():
        same_output(ours, theirs(picture(size)).pooler_output, picture(size))


@pytest.mark.parametrize("size", [32, 48])
def test_vit_computes_what_transformers_does(size: int) -> None:
    from transformers import ViTConfig, ViTModel

    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48, image_size=32,
        patch_size=8, layer_norm_eps=1e-6,
    )  # fmt: skip
    theirs = ViTModel(config, add_pooling_layer=False).eval()
    ours = filled("vit", VitEncoder(32, 8, 2, 24, 2, 48), theirs, "vit.")
    with torch.no_grad():
        expected = theirs(picture(size), interpolate_pos_encoding=True).last_hidden_state[:, 0]
    same_output(ours, expected, picture(size))


def test_convnext_computes_what_transformers_does() -> None:
    from transformers import ConvNextConfig, ConvNextModel

    torch.manual_seed(0)
    theirs = ConvNextModel(ConvNextConfig(hidden_sizes=[12, 24], depths=[1, 2], num_stages=2)).eval()
    ours = ConvNextEncoder((12, 24), (1, 2))
    for module in (theirs, ours):
        for norm in module.modules():
            if type(norm).__name__.endswith("LayerNorm"):
                norm.eps = 1e-6
    ours = filled("convnext", ours, theirs)
    with torch.no_grad():
        same_output(ours, theirs(picture(32)).pooler_output, picture(32))


@pytest.mark.parametrize(("name", "kind"), [("resnet18", "basic"), ("resnet50", "bottleneck")])
def test_resnet_computes_what_transformers_does(name: str, kind: str) -> None:
    from transformers import ResNetConfig, ResNetModel

    torch.manual_seed(0)
    wide = kind == "bottleneck"
    config = ResNetConfig(
        embedding_size=64,
        hidden_sizes=[256, 512, 1024, 2048] if wide else [64, 128, 256, 512],
        depths=[3, 4, 6, 3] if wide else [2, 2, 2, 2],
        layer_type=kind,
    )
    theirs = ResNetModel(config).eval()
    ours = filled("resnet", build(name).get_submodule("encoder"), theirs, "resnet.")
    with torch.no_grad():
        expected = theirs(picture(64)).pooler_output.flatten(1)
    scale = expected.abs().max()
    with torch.no_grad():
        assert torch.allclose(ours.eval()(picture(64)) / scale, expected / scale, atol=1e-5)


def test_efficientnet_computes_what_transformers_does() -> None:
    from transformers import EfficientNetConfig, EfficientNetModel

    torch.manual_seed(0)
    config = EfficientNetConfig(
        width_coefficient=1.0, depth_coefficient=1.0, hidden_dim=1280, image_size=224, depthwise_padding=[]
    )
    theirs = EfficientNetModel(config).eval()
    ours = build("efficientnet_b0", padding="same").get_submodule("encoder")
    ours = filled("efficientnet", ours, theirs, "efficientnet.")
    with torch.no_grad():
        expected = theirs(picture(224)).pooler_output
        scale = expected.abs().max()
        assert torch.allclose(ours.eval()(picture(224)) / scale, expected / scale, atol=1e-4)


@pytest.mark.parametrize(
    ("family", "old", "new"),
    [
        (
            "swin",
            "swin.encoder.layers.1.blocks.0.attention.self.{}.weight",
            "features.3.0.attn.qkv.weight",
        ),
        (
            "vit",
            "vit.encoder.layer.3.attention.attention.{}.weight",
            "encoder.layers.encoder_layer_3.self_attention.in_proj_weight",
        ),
    ],
)
def test_query_key_and_value_of_older_files_are_joined_in_this_order(family: str, old: str, new: str) -> None:
    parts = {name: torch.full((4, 4), float(place)) for place, name in enumerate(("query", "key", "value"))}
    content = {old.format(name): parts[name] for name in ("value", "query", "key")}
    joined = translate(family, content, frozenset({new})).tensors[new]
    assert joined.shape == (12, 4)
    assert [joined[row, 0].item() for row in (0, 4, 8)] == [0.0, 1.0, 2.0]


@pytest.mark.parametrize(
    ("family", "old", "new"),
    [
        (
            "swin",
            "swin.encoder.layers.1.blocks.0.attention.self.relative_position_bias_table",
            "features.3.0.attn.relative_position_bias_table",
        ),
        ("swin", "swin.encoder.layers.1.blocks.0.attention.output.dense.bias", "features.3.0.attn.proj.bias"),
        ("swin", "swin.encoder.layers.1.blocks.0.intermediate.dense.bias", "features.3.0.mlp.0.bias"),
        ("swin", "swin.encoder.layers.1.blocks.0.output.dense.bias", "features.3.0.mlp.3.bias"),
        (
            "vit",
            "vit.encoder.layer.3.attention.output.dense.bias",
            "encoder.layers.encoder_layer_3.self_attention.out_proj.bias",
        ),
        ("vit", "vit.encoder.layer.3.intermediate.dense.bias", "encoder.layers.encoder_layer_3.mlp.0.bias"),
        ("vit", "vit.encoder.layer.3.output.dense.bias", "encoder.layers.encoder_layer_3.mlp.3.bias"),
        ("efficientnet", "_blocks.3._bn1.running_mean", "_blocks.2.3._bn1.running_mean"),
    ],
)
def test_older_files_of_transformers_are_understood(family: str, old: str, new: str) -> None:
    content = {old: torch.ones(2)}
    assert list(translate(family, content, frozenset({new})).tensors) == [new]
