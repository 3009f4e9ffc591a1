"""Builders of the classifiers whose encoder is MONAI's."""

from __future__ import annotations

from monai.networks.nets.densenet import DenseNet121
from monai.networks.nets.efficientnet import EfficientNetBN
from monai.networks.nets.resnet import ResNet, ResNetBlock, ResNetBottleneck
from torch import nn

from models.networks.classifier import RGB, classifier
from models.networks.layers import without_inplace
from models.networks.parts import Parts

_RESNETS = {18: (ResNetBlock, (2, 2, 2, 2), 512), 50: (ResNetBottleneck, (3, 4, 6, 3), 2048)}


def resnet(
    depth: int,
    in_channels: int = 3,
    out_channels: int = 1000,
    spatial_dims: int = 2,
    dropout: float = 0.0,
    head_units: int | None = None,
) -> nn.Module:
    """Build a ResNet with torchvision's layout: stride 2 at the start, projections without bias."""
    block, layers, features = _RESNETS[depth]
    channels = _encoder_channels(in_channels, spatial_dims)
    encoder = ResNet(
        block,
        list(layers),
        [64, 128, 256, 512],
        spatial_dims=spatial_dims,
        n_input_channels=channels,
        conv1_t_stride=2,
        shortcut_type="B",
        bias_downsample=False,
        feed_forward=False,
    )
    stages = (("conv1", "bn1"), ("layer1",), ("layer2",), ("layer3",), ("layer4",))
    return classifier(
        without_inplace(encoder),
        features,
        Parts((), stages, ("layer4",)),
        in_channels=in_channels,
        encoder_channels=channels,
        out_channels=out_channels,
        dropout=dropout,
        head_units=head_units,
        spatial_dims=spatial_dims,
    )


def densenet121(
    in_channels: int = 3,
    out_channels: int = 1000,
    spatial_dims: int = 2,
    dropout: float = 0.0,
    head_units: int | None = None,
) -> nn.Module:
    """Build DenseNet-121."""
    channels = _encoder_channels(in_channels, spatial_dims)
    encoder = DenseNet121(spatial_dims=spatial_dims, in_channels=channels, out_channels=1)
    encoder.class_layers.out = nn.Identity()
    stages = (
        ("features.conv0", "features.norm0"),
        ("features.denseblock1", "features.transition1"),
        ("features.denseblock2", "features.transition2"),
        ("features.denseblock3", "features.transition3"),
        ("features.denseblock4", "features.norm5"),
    )
    return classifier(
        without_inplace(encoder),
        1024,
        Parts((), stages, ("features.norm5",)),
        in_channels=in_channels,
        encoder_channels=channels,
        out_channels=out_channels,
        dropout=dropout,
        head_units=head_units,
        spatial_dims=spatial_dims,
    )


def efficientnet(
    variant: str,
    in_channels: int = 3,
    out_channels: int = 1000,
    spatial_dims: int = 2,
    dropout: float = 0.2,
    head_units: int | None = None,
    padding: str = "symmetric",
) -> nn.Module:
    """Build EfficientNet.

    Parameters
    ----------
    variant : str
        ``b0`` … ``b4``.
    padding : str
        ``symmetric`` (epsilon 1e-5, as torchvision's and most of timm's ImageNet files expect; any size) or
        ``same`` (TensorFlow's rule for the variant's own size, epsilon 1e-3: transformers' and timm's
        ``tf_`` files).
    """
    if padding not in {"symmetric", "same"}:
        raise ValueError(f"padding {padding!r}; known: symmetric, same")
    epsilon = 1e-5 if padding == "symmetric" else 1e-3
    channels = _encoder_channels(in_channels, spatial_dims)
    encoder = EfficientNetBN(
        f"efficientnet-{variant}",
        pretrained=False,
        spatial_dims=spatial_dims,
        in_channels=channels,
        num_classes=1,
        norm=("batch", {"eps": epsilon, "momentum": 0.1 if padding == "symmetric" else 0.01}),
    )
    features = encoder._fc.in_features
    encoder._fc, encoder._dropout = nn.Identity(), nn.Identity()
    if padding == "symmetric":
        _pad_symmetrically(encoder)
    stages = (
        ("_conv_stem", "_bn0"),
        *((f"_blocks.{index}",) for index in range(len(encoder._blocks) - 1)),
        (f"_blocks.{len(encoder._blocks) - 1}", "_conv_head", "_bn1"),
    )
    return classifier(
        without_inplace(encoder),
        features,
        Parts((), stages, ("_bn1",)),
        in_channels=in_channels,
        encoder_channels=channels,
        out_channels=out_channels,
        dropout=dropout,
        head_units=head_units,
        spatial_dims=spatial_dims,
    )


def medical_cnn(
    in_channels: int = 3, out_channels: int = 2, dropout: float = 0.3, head_units: int = 160
) -> nn.Module:
    """Build EfficientNet-B0 with a frozen encoder and a small trained head (0.2 million parameters)."""
    network = efficientnet("b0", in_channels, out_channels, dropout=dropout, head_units=head_units)
    network.get_submodule("encoder").requires_grad_(False)
    return network.train()


def _encoder_channels(in_channels: int, spatial_dims: int) -> int:
    """Two-dimensional encoders see colours, so that ImageNet weights fit; volumes have their own channels."""
    return RGB if spatial_dims == 2 else in_channels


def _pad_symmetrically(encoder: nn.Module) -> None:
    """Pad inside the convolutions by half the kernel instead of by TensorFlow's rule for one size."""
    for module in encoder.modules():
        for name, child in list(module.named_children()):
            if name.endswith("_padding"):
                setattr(module, name, nn.Identity())
            elif isinstance(child, nn.Conv2d | nn.Conv3d):
                child.padding = tuple(size // 2 for size in child.kernel_size)
