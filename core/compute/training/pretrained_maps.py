"""Names of ImageNet weights elsewhere (torchvision, timm, transformers) and in the networks here.

Each family has rules per naming: a pattern of the foreign name and the name in the encoder. Rules ending in
``#0``, ``#1``, ``#2`` join three foreign tensors (query, key, value) into one. What no rule takes (classifiers,
index buffers) is not used.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

Target = str | Callable[[re.Match[str]], str]
Rule = tuple[str, Target]
_PARAMETER = r"(weight|bias)"
_STATISTIC = r"(weight|bias|running_mean|running_var|num_batches_tracked)"
_JOINED = {"q": 0, "k": 1, "v": 2, "query": 0, "key": 1, "value": 2}


@dataclass(frozen=True)
class Translation:
    """What a foreign file gives to an encoder.

    Attributes
    ----------
    naming : str
        ``torchvision``, ``timm``, ``transformers`` … : the rules that took the most.
    tensors : mapping of str to torch.Tensor
        By name in the encoder, as stored (shapes not yet compared).
    unused : tuple of str
        Foreign names that no rule took.
    """

    naming: str
    tensors: Mapping[str, Tensor]
    unused: tuple[str, ...]


def family_of(name: str) -> str | None:
    """Return the family of a network's name, None where no ImageNet weights are known."""
    if name == "medical_cnn":
        return "efficientnet"
    for family in ("resnet", "efficientnet", "densenet", "swin", "vit", "convnext", "xception"):
        if name.startswith(family) and name != "swin_unetr":
            return family
    return None


def translate(family: str, foreign: Mapping[str, Tensor], wanted: frozenset[str]) -> Translation:
    """Return the foreign tensors under the encoder's names, by the naming that fits best.

    Parameters
    ----------
    family : str
        See ``family_of``.
    foreign : mapping of str to torch.Tensor
        The file's tensors.
    wanted : frozenset of str
        Names of the encoder's tensors.
    """
    translations = [
        _apply(naming, rules, foreign, wanted) for naming, rules in _rules(family, foreign, wanted).items()
    ]
    return max(translations, key=lambda translation: len(translation.tensors))


def _apply(
    naming: str, rules: list[Rule], foreign: Mapping[str, Tensor], wanted: frozenset[str]
) -> Translation:
    compiled = [(re.compile(pattern), target) for pattern, target in rules]
    tensors: dict[str, Tensor] = {}
    parts: dict[str, dict[int, Tensor]] = {}
    unused = []
    for key, tensor in foreign.items():
        new = _renamed(key, compiled)
        base, _, place = new.partition("#")
        if base not in wanted:
            unused.append(key)
        elif place:
            parts.setdefault(base, {})[int(place)] = tensor
        else:
            tensors[base] = tensor
    for base, three in parts.items():
        if len(three) == 3:
            tensors[base] = torch.cat([three[index] for index in range(3)])
    return Translation(naming, tensors, tuple(unused))


def _renamed(key: str, rules: list[tuple[re.Pattern[str], Target]]) -> str:
    for pattern, target in rules:
        match = pattern.fullmatch(key)
        if match is not None:
            return match.expand(target) if isinstance(target, str) else target(match)
    return ""


def _rules(family: str, foreign: Mapping[str, Tensor], wanted: frozenset[str]) -> dict[str, list[Rule]]:
    if family == "resnet":
        return {"torchvision": [(r"(.*)", r"\1")], "transformers": _RESNET_TRANSFORMERS}
    if family == "densenet":
        return {"torchvision": _DENSENET}
    if family == "xception":
        return {"timm": [(r"(.*)", r"\1")]}
    if family == "efficientnet":
        return _efficientnet(wanted)
    if family == "swin":
        return {
            "torchvision": [(r"(.*)", r"\1")],
            "timm": _swin_timm(any(key.startswith("layers.3.downsample") for key in foreign)),
            "transformers": _SWIN_TRANSFORMERS,
        }
    if family == "vit":
        return {"torchvision": _VIT_TORCHVISION, "timm": _VIT_TIMM, "transformers": _VIT_TRANSFORMERS}
    return {
        "torchvision": _CONVNEXT_TORCHVISION,
        "timm": _CONVNEXT_TIMM,
        "original": _CONVNEXT_ORIGINAL,
        "transformers": _CONVNEXT_TRANSFORMERS,
    }


def _stage(prefix: str, suffix: str, offset: int) -> Callable[[re.Match[str]], str]:
    """Return a target whose level of ``features`` is 2 × the first group + ``offset``."""

    def target(match: re.Match[str]) -> str:
        return f"{prefix}{2 * int(match[1]) + offset}{match.expand(suffix)}"

    return target


def _joined(template: str, kind_group: int) -> Callable[[re.Match[str]], str]:
    """Return a target that appends the place of query, key or value."""

    def target(match: re.Match[str]) -> str:
        return f"{match.expand(template)}#{_JOINED[match[kind_group]]}"

    return target


# ResNet: torchvision's and timm's names are MONAI's own.

_HF_UNIT = {"convolution": "conv", "normalization": "bn"}
_HF_SHORTCUT = {"convolution": "0", "normalization": "1"}

_RESNET_TRANSFORMERS: list[Rule] = [
    (
        r"(?:resnet\.)?embedder\.embedder\.(convolution|normalization)\.(.*)",
        lambda m: f"{_HF_UNIT[m[1]]}1.{m[2]}",
    ),
    (
        r"(?:resnet\.)?encoder\.stages\.(\d+)\.layers\.(\d+)\.shortcut\.(convolution|normalization)\.(.*)",
        lambda m: f"layer{int(m[1]) + 1}.{m[2]}.downsample.{_HF_SHORTCUT[m[3]]}.{m[4]}",
    ),
    (
        r"(?:resnet\.)?encoder\.stages\.(\d+)\.layers\.(\d+)\.layer\.(\d+)\.(convolution|normalization)\.(.*)",
        lambda m: f"layer{int(m[1]) + 1}.{m[2]}.{_HF_UNIT[m[4]]}{int(m[3]) + 1}.{m[5]}",
    ),
]

# DenseNet: MONAI keeps a dense layer's parts below ``layers``; old torchvision files write norm.1 for norm1.

_DENSENET: list[Rule] = [
    (
        r"features\.denseblock(\d+)\.denselayer(\d+)\.(norm|conv)\.?(\d)\.(.*)",
        r"features.denseblock\1.denselayer\2.layers.\3\4.\5",
    ),
    (r"(features\.(?:conv0|norm0|norm5|transition\d+)\..*)", r"\1"),
]

# Swin: torchvision's names are used here.

_SWIN_TRANSFORMERS: list[Rule] = [
    (rf"(?:swin\.)?embeddings\.patch_embeddings\.projection\.{_PARAMETER}", r"features.0.0.\1"),
    (rf"(?:swin\.)?embeddings\.norm\.{_PARAMETER}", r"features.0.2.\1"),
    (rf"(?:swin\.)?layernorm\.{_PARAMETER}", r"norm.\1"),
    (
        r"(?:swin\.)?encoder\.layers\.(\d+)\.downsample\.(norm|reduction)\.(weight|bias)",
        _stage("features.", r".\2.\3", 2),
    ),
    (
        r"(?:swin\.)?encoder\.layers\.(\d+)\.blocks\.(\d+)\.attention\.(?:self\.)?(query|key|value|[qkv])"
        r"(?:_proj)?\.(weight|bias)",
        lambda m: f"features.{2 * int(m[1]) + 1}.{m[2]}.attn.qkv.{m[4]}#{_JOINED[m[3]]}",
    ),
    (
        r"(?:swin\.)?encoder\.layers\.(\d+)\.blocks\.(\d+)\.attention\.(?:output\.dense|o_proj)\.(weight|bias)",
        _stage("features.", r".\2.attn.proj.\3", 1),
    ),
    (
        r"(?:swin\.)?encoder\.layers\.(\d+)\.blocks\.(\d+)\.attention\.(?:self|relative_position_bias)"
        r"\.relative_position_bias_table",
        _stage("features.", r".\2.attn.relative_position_bias_table", 1),
    ),
    (
        rf"(?:swin\.)?encoder\.layers\.(\d+)\.blocks\.(\d+)\.layernorm_before\.{_PARAMETER}",
        _stage("features.", r".\2.norm1.\3", 1),
    ),
    (
        rf"(?:swin\.)?encoder\.layers\.(\d+)\.blocks\.(\d+)\.layernorm_after\.{_PARAMETER}",
        _stage("features.", r".\2.norm2.\3", 1),
    ),
    (
        rf"(?:swin\.)?encoder\.layers\.(\d+)\.blocks\.(\d+)\.(?:intermediate\.dense|mlp\.fc1)\.{_PARAMETER}",
        _stage("features.", r".\2.mlp.0.\3", 1),
    ),
    (
        rf"(?:swin\.)?encoder\.layers\.(\d+)\.blocks\.(\d+)\.(?:output\.dense|mlp\.fc2)\.{_PARAMETER}",
        _stage("features.", r".\2.mlp.3.\3", 1),
    ),
]


def _swin_timm(reduces_first: bool) -> list[Rule]:
    """Return timm's rules; since its 0.9 a layer reduces before its blocks, in older files after them."""
    return [
        (rf"patch_embed\.proj\.{_PARAMETER}", r"features.0.0.\1"),
        (rf"patch_embed\.norm\.{_PARAMETER}", r"features.0.2.\1"),
        (rf"norm\.{_PARAMETER}", r"norm.\1"),
        (
            r"layers\.(\d+)\.downsample\.(norm|reduction)\.(weight|bias)",
            _stage("features.", r".\2.\3", 0 if reduces_first else 2),
        ),
        (rf"layers\.(\d+)\.blocks\.(\d+)\.mlp\.fc1\.{_PARAMETER}", _stage("features.", r".\2.mlp.0.\3", 1)),
        (rf"layers\.(\d+)\.blocks\.(\d+)\.mlp\.fc2\.{_PARAMETER}", _stage("features.", r".\2.mlp.3.\3", 1)),
        (r"layers\.(\d+)\.blocks\.(\d+)\.(.*)", _stage("features.", r".\2.\3", 1)),
    ]


# ViT: torchvision's names are used here.

_VIT_BLOCK = r"encoder.layers.encoder_layer_\1"

_VIT_TORCHVISION: list[Rule] = [
    (rf"encoder\.layers\.encoder_layer_(\d+)\.mlp\.linear_1\.{_PARAMETER}", _VIT_BLOCK + r".mlp.0.\2"),
    (rf"encoder\.layers\.encoder_layer_(\d+)\.mlp\.linear_2\.{_PARAMETER}", _VIT_BLOCK + r".mlp.3.\2"),
    (r"(.*)", r"\1"),
]

_VIT_TIMM: list[Rule] = [
    (r"cls_token", "class_token"),
    (r"pos_embed", "encoder.pos_embedding"),
    (rf"patch_embed\.proj\.{_PARAMETER}", r"conv_proj.\1"),
    (rf"norm\.{_PARAMETER}", r"encoder.ln.\1"),
    (rf"blocks\.(\d+)\.norm1\.{_PARAMETER}", _VIT_BLOCK + r".ln_1.\2"),
    (rf"blocks\.(\d+)\.norm2\.{_PARAMETER}", _VIT_BLOCK + r".ln_2.\2"),
    (rf"blocks\.(\d+)\.attn\.qkv\.{_PARAMETER}", _VIT_BLOCK + r".self_attention.in_proj_\2"),
    (rf"blocks\.(\d+)\.attn\.proj\.{_PARAMETER}", _VIT_BLOCK + r".self_attention.out_proj.\2"),
    (rf"blocks\.(\d+)\.mlp\.fc1\.{_PARAMETER}", _VIT_BLOCK + r".mlp.0.\2"),
    (rf"blocks\.(\d+)\.mlp\.fc2\.{_PARAMETER}", _VIT_BLOCK + r".mlp.3.\2"),
]

_HF_VIT = r"(?:vit\.)?(?:encoder\.)?layers?\.(\d+)\."

_VIT_TRANSFORMERS: list[Rule] = [
    (r"(?:vit\.)?embeddings\.cls_token", "class_token"),
    (r"(?:vit\.)?embeddings\.position_embeddings", "encoder.pos_embedding"),
    (rf"(?:vit\.)?embeddings\.patch_embeddings\.projection\.{_PARAMETER}", r"conv_proj.\1"),
    (rf"(?:vit\.)?layernorm\.{_PARAMETER}", r"encoder.ln.\1"),
    (rf"{_HF_VIT}layernorm_before\.{_PARAMETER}", _VIT_BLOCK + r".ln_1.\2"),
    (rf"{_HF_VIT}layernorm_after\.{_PARAMETER}", _VIT_BLOCK + r".ln_2.\2"),
    (
        rf"{_HF_VIT}attention\.(?:attention\.)?(query|key|value|[qkv])(?:_proj)?\.(weight|bias)",
        _joined(_VIT_BLOCK + r".self_attention.in_proj_\3", 2),
    ),
    (
        rf"{_HF_VIT}attention\.(?:output\.dense|o_proj)\.{_PARAMETER}",
        _VIT_BLOCK + r".self_attention.out_proj.\2",
    ),
    (rf"{_HF_VIT}(?:intermediate\.dense|mlp\.fc1)\.{_PARAMETER}", _VIT_BLOCK + r".mlp.0.\2"),
    (rf"{_HF_VIT}(?:output\.dense|mlp\.fc2)\.{_PARAMETER}", _VIT_BLOCK + r".mlp.3.\2"),
]

# ConvNeXt: torchvision's names are used here, its last normalisation apart.

_CONVNEXT_TORCHVISION: list[Rule] = [
    (rf"classifier\.0\.{_PARAMETER}", r"norm.\1"),
    (r"(features\..*)", r"\1"),
]

_CONVNEXT_PARTS = {
    "gamma": "layer_scale",
    "layer_scale_parameter": "layer_scale",
    "conv_dw": "block.0",
    "dwconv": "block.0",
    "norm": "block.2",
    "layernorm": "block.2",
    "mlp.fc1": "block.3",
    "pwconv1": "block.3",
    "mlp.fc2": "block.5",
    "pwconv2": "block.5",
}


def _convnext_block(match: re.Match[str]) -> str:
    parameter = match[4] or ""
    return f"features.{2 * int(match[1]) + 1}.{match[2]}.{_CONVNEXT_PARTS[match[3]]}{parameter}"


_CONVNEXT_PART = (
    r"(gamma|layer_scale_parameter|conv_dw|dwconv|norm|layernorm|mlp\.fc1|pwconv1|mlp\.fc2|pwconv2)"
    r"(\.weight|\.bias)?"
)

_CONVNEXT_TIMM: list[Rule] = [
    (rf"stem\.([01])\.{_PARAMETER}", r"features.0.\1.\2"),
    (r"stages\.(\d+)\.downsample\.([01])\.(weight|bias)", _stage("features.", r".\2.\3", 0)),
    (rf"stages\.(\d+)\.blocks\.(\d+)\.{_CONVNEXT_PART}", _convnext_block),
    (rf"(?:head\.)?norm\.{_PARAMETER}", r"norm.\1"),
]

_CONVNEXT_ORIGINAL: list[Rule] = [
    (r"downsample_layers\.(\d+)\.([01])\.(weight|bias)", _stage("features.", r".\2.\3", 0)),
    (rf"stages\.(\d+)\.(\d+)\.{_CONVNEXT_PART}", _convnext_block),
    (rf"norm\.{_PARAMETER}", r"norm.\1"),
]

_CONVNEXT_TRANSFORMERS: list[Rule] = [
    (rf"(?:convnext\.)?embeddings\.patch_embeddings\.{_PARAMETER}", r"features.0.0.\1"),
    (rf"(?:convnext\.)?embeddings\.layernorm\.{_PARAMETER}", r"features.0.1.\1"),
    (
        r"(?:convnext\.)?encoder\.stages\.(\d+)\.downsampling_layer\.([01])\.(weight|bias)",
        _stage("features.", r".\2.\3", 0),
    ),
    (rf"(?:convnext\.)?encoder\.stages\.(\d+)\.layers\.(\d+)\.{_CONVNEXT_PART}", _convnext_block),
    (rf"(?:convnext\.)?layernorm\.{_PARAMETER}", r"norm.\1"),
]

# EfficientNet: MONAI counts blocks through all stages and names the stage too.

_TIMM_WIDE = {
    "conv_pw": "_expand_conv",
    "bn1": "_bn0",
    "conv_dw": "_depthwise_conv",
    "bn2": "_bn1",
    "se.conv_reduce": "_se_reduce",
    "se.conv_expand": "_se_expand",
    "conv_pwl": "_project_conv",
    "bn3": "_bn2",
}
_TIMM_FIRST = {**_TIMM_WIDE, "bn1": "_bn1", "conv_pw": "_project_conv", "bn2": "_bn2"}
_TORCHVISION_WIDE = {
    "0.0": "_expand_conv",
    "0.1": "_bn0",
    "1.0": "_depthwise_conv",
    "1.1": "_bn1",
    "2.fc1": "_se_reduce",
    "2.fc2": "_se_expand",
    "3.0": "_project_conv",
    "3.1": "_bn2",
}
_TORCHVISION_FIRST = {
    "0.0": "_depthwise_conv",
    "0.1": "_bn1",
    "1.fc1": "_se_reduce",
    "1.fc2": "_se_expand",
    "2.0": "_project_conv",
    "2.1": "_bn2",
}
_HF_EFFICIENTNET = {
    "expansion.expand_conv": "_expand_conv",
    "expansion.expand_bn": "_bn0",
    "depthwise_conv.depthwise_conv": "_depthwise_conv",
    "depthwise_conv.depthwise_norm": "_bn1",
    "squeeze_excite.reduce": "_se_reduce",
    "squeeze_excite.expand": "_se_expand",
    "projection.project_conv": "_project_conv",
    "projection.project_bn": "_bn2",
}


def _efficientnet(wanted: frozenset[str]) -> dict[str, list[Rule]]:
    found = {match.groups() for key in wanted if (match := re.match(r"_blocks\.(\d+)\.(\d+)\.", key))}
    flat = sorted((int(index), int(stage)) for stage, index in found)
    stage_of = dict(flat)
    first_of: dict[int, int] = {}
    for index, stage in flat:
        first_of.setdefault(stage, index)

    def by_stage(stage: int, block: int) -> str:
        return f"_blocks.{stage}.{first_of.get(stage, -1) + block}"

    def by_index(index: int) -> str:
        return f"_blocks.{stage_of.get(index, -1)}.{index}"

    def timm(match: re.Match[str]) -> str:
        names = _TIMM_WIDE if int(match[1]) else _TIMM_FIRST
        return f"{by_stage(int(match[1]), int(match[2]))}.{names.get(match[3], '')}.{match[4]}"

    def torchvision(match: re.Match[str]) -> str:
        names = _TORCHVISION_WIDE if int(match[1]) > 1 else _TORCHVISION_FIRST
        return f"{by_stage(int(match[1]) - 1, int(match[2]))}.{names.get(match[3], '')}.{match[4]}"

    def transformers(match: re.Match[str]) -> str:
        return f"{by_index(int(match[1]))}.{_HF_EFFICIENTNET.get(match[2], '')}.{match[3]}"

    hf = r"(?:efficientnet\.)?"
    return {
        "torchvision": [
            (r"features\.0\.0\.weight", "_conv_stem.weight"),
            (rf"features\.0\.1\.{_STATISTIC}", r"_bn0.\1"),
            (r"features\.8\.0\.weight", "_conv_head.weight"),
            (rf"features\.8\.1\.{_STATISTIC}", r"_bn1.\1"),
            (rf"features\.(\d+)\.(\d+)\.block\.(\d\.\w+)\.{_STATISTIC}", torchvision),
        ],
        "timm": [
            (r"conv_stem\.weight", "_conv_stem.weight"),
            (rf"bn1\.{_STATISTIC}", r"_bn0.\1"),
            (r"conv_head\.weight", "_conv_head.weight"),
            (rf"bn2\.{_STATISTIC}", r"_bn1.\1"),
            (rf"blocks\.(\d+)\.(\d+)\.([\w.]+)\.{_STATISTIC}", timm),
        ],
        "transformers": [
            (hf + r"embeddings\.convolution\.weight", "_conv_stem.weight"),
            (hf + rf"embeddings\.batchnorm\.{_STATISTIC}", r"_bn0.\1"),
            (hf + r"encoder\.top_conv\.weight", "_conv_head.weight"),
            (hf + rf"encoder\.top_bn\.{_STATISTIC}", r"_bn1.\1"),
            (hf + rf"encoder\.blocks\.(\d+)\.([\w.]+)\.{_STATISTIC}", transformers),
        ],
        "efficientnet-pytorch": [
            (r"_blocks\.(\d+)\.(_.*)", lambda m: f"{by_index(int(m[1]))}.{m[2]}"),
            (r"(_(?:conv_stem|bn0|conv_head|bn1)\..*)", r"\1"),
        ],
    }
