"""What each network is for and how it is usually trained. Plain data: needs no torch.

The defaults of the classifiers are the table of the brain-tumour system (S2) where it has a row, for one
graphics card of 4 GB; densenet121 is the body-part system (S5), the 2-D U-Net the lesion system (S3).
"""

from __future__ import annotations

from dataclasses import dataclass

CLASSIFICATION = "classification"
SEGMENTATION = "segmentation"
MULTITASK = "multitask"


@dataclass(frozen=True)
class NetworkSpec:
    """Facts and training defaults of one network.

    Attributes
    ----------
    name, title : str
        Stable name, and the name that a person reads.
    task : str
        ``classification``, ``segmentation`` or ``multitask``.
    dimensions : tuple of int
        Two, three or both (argument ``spatial_dims``, where there are both).
    input_size : int
        Usual height and width (and depth) in pixels.
    optimiser, learning_rate, batch_size
        Usual training; the names are those of the recipes (``adamw``, ``adam``, ``adamax``, ``sgd``).
    backbone, head : tuple of str
        Prefixes of the two groups of parameters; an empty backbone means "all but the head".
    cam_layers : tuple of str
        Modules to explain with the default arguments, first the usual one.
    cam_layout : str
        ``channels_first`` or ``tokens`` (``(N, 1 + patches, C)``, the class token first).
    divisor : int
        What sizes must be multiples of, with the default arguments.
    imagenet : bool
        Whether a user's ImageNet file fits (``core.compute.training.pretrained``).
    """

    name: str
    title: str
    task: str
    dimensions: tuple[int, ...]
    input_size: int
    optimiser: str
    learning_rate: float
    batch_size: int
    cam_layers: tuple[str, ...]
    cam_layout: str = "channels_first"
    divisor: int = 1
    imagenet: bool = False
    backbone: tuple[str, ...] = ("encoder",)
    head: tuple[str, ...] = ("head", "adapter")


def _classifier(
    name: str,
    title: str,
    size: int,
    batch: int,
    rate: float,
    cam: str,
    *,
    optimiser: str = "adamw",
    dimensions: tuple[int, ...] = (2,),
    layout: str = "channels_first",
    divisor: int = 1,
    imagenet: bool = True,
) -> NetworkSpec:
    return NetworkSpec(
        name,
        title,
        CLASSIFICATION,
        dimensions,
        size,
        optimiser,
        rate,
        batch,
        (f"encoder.{cam}",),
        layout,
        divisor,
        imagenet,
    )


def _segmentation(
    name: str,
    title: str,
    head: str,
    cam: tuple[str, ...],
    *,
    divisor: int = 16,
    size: int = 96,
    batch: int = 2,
    rate: float = 1e-3,
    optimiser: str = "adamw",
    dimensions: tuple[int, ...] = (2, 3),
) -> NetworkSpec:
    return NetworkSpec(
        name,
        title,
        SEGMENTATION,
        dimensions,
        size,
        optimiser,
        rate,
        batch,
        cam,
        divisor=divisor,
        backbone=(),
        head=(head,),
    )


_BOTH = (2, 3)

_ALL = (
    _classifier("resnet18", "ResNet-18", 224, 128, 1e-4, "layer4", dimensions=_BOTH),
    _classifier("resnet50", "ResNet-50", 224, 64, 1e-3, "layer4", dimensions=_BOTH),
    _classifier("efficientnet_b0", "EfficientNet-B0", 224, 128, 1e-3, "_bn1", dimensions=_BOTH),
    _classifier("efficientnet_b1", "EfficientNet-B1", 240, 64, 1e-3, "_bn1", dimensions=_BOTH),
    _classifier("efficientnet_b2", "EfficientNet-B2", 260, 64, 1e-3, "_bn1", dimensions=_BOTH),
    _classifier("efficientnet_b3", "EfficientNet-B3", 300, 32, 1e-3, "_bn1", dimensions=_BOTH),
    _classifier("efficientnet_b4", "EfficientNet-B4", 380, 16, 1e-3, "_bn1", dimensions=_BOTH),
    _classifier(
        "densenet121", "DenseNet-121", 64, 4, 1e-4, "features.norm5", optimiser="adam", dimensions=_BOTH
    ),
    _classifier("swin_t", "Swin Transformer, tiny", 224, 32, 5e-5, "permute"),
    _classifier("swin_s", "Swin Transformer, small", 224, 8, 1e-4, "permute"),
    _classifier(
        "vit_b_16",
        "Vision Transformer B/16",
        224,
        16,
        1e-4,
        "encoder.layers.encoder_layer_11.ln_1",
        layout="tokens",
        divisor=16,
    ),
    _classifier("convnext_tiny", "ConvNeXt, tiny", 224, 32, 1e-4, "features.7"),
    _classifier("xception", "Xception", 299, 16, 1e-3, "act4", optimiser="adamax"),
    _classifier("medical_cnn", "EfficientNet-B0, frozen, with a small head", 224, 64, 1e-3, "_bn1"),
    _classifier("simple_cnn", "Plain CNN", 128, 64, 1e-3, "features.3.2", dimensions=_BOTH, imagenet=False),
    NetworkSpec(
        "cnn2d",
        "Small residual CNN",
        CLASSIFICATION,
        (2,),
        64,
        "adamw",
        1e-3,
        64,
        ("features",),
        backbone=("features",),
        head=("head",),
    ),
    NetworkSpec(
        "cell_net",
        "Residual CNN that judges cells",
        CLASSIFICATION,
        (2,),
        128,
        "adamw",
        2e-3,
        24,
        ("features",),
        backbone=("features",),
        head=("head",),
    ),
    NetworkSpec(
        "image_text",
        "Picture and report",
        CLASSIFICATION,
        (2,),
        64,
        "adamw",
        1e-3,
        32,
        ("image.network.features",),
        backbone=("image", "text"),
        head=("image_head", "fusion", "fused_head", "image.network.adapter"),
    ),
    _segmentation(
        "unet",
        "U-Net",
        "model.2",
        ("model.1.submodule.2", "model.1.submodule.1.submodule.1.submodule.1.submodule"),
    ),
    _segmentation(
        "attention_unet",
        "Attention U-Net",
        "model.2",
        ("model.1.merge", "model.1.submodule.1.submodule.1.submodule.1.submodule"),
    ),
    _segmentation("unet_plus_plus", "U-Net++", "final_conv_0_4", ("upcat_0_4", "conv_4_0")),
    _segmentation("deeplabv3plus", "DeepLabV3+", "head", ("decoder", "pyramid"), divisor=1),
    _segmentation("segresnet", "SegResNet", "conv_final", ("up_layers.2", "down_layers.3"), divisor=8),
    _segmentation("dynunet", "DynUNet (nnU-Net)", "output_block", ("upsamples.3", "bottleneck")),
    _segmentation(
        "swin_unetr", "SwinUNETR", "out", ("decoder1", "encoder10"), divisor=32, batch=1, rate=4e-4
    ),
    _segmentation("unet3d", "3-D U-Net", "head", ("decoder.0", "encoder.4"), dimensions=(3,)),
    NetworkSpec(
        "mri_multitask",
        "Multi-task network for MR volumes",
        MULTITASK,
        (3,),
        96,
        "adamw",
        1e-3,
        1,
        ("trunk", "decoder"),
        divisor=16,
        backbone=(),
        head=("heads",),
    ),
)

SPECS: dict[str, NetworkSpec] = {spec.name: spec for spec in _ALL}
