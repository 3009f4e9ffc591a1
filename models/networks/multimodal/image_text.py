"""A classifier of pictures that also reads the report, where there is one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from models.networks.multimodal.fusion import build_fusion
from models.networks.multimodal.image_path import ImagePath
from models.networks.multimodal.text_path import TextPath
from models.networks.parts import Parts, attach, parts_of

_HEAD = ("image_head", "fusion", "fused_head")


class ImageText(nn.Module):
    """Picture and report to logits: those of the picture alone plus those of both together.

    Parameters
    ----------
    image : ImagePath
        Encoder of the pictures.
    text : TextPath
        Encoder of the reports.
    fusion : str
        ``concat``, ``cross_attention`` or ``gated``.
    out_channels : int
        Classes.
    width, heads : int
        Of the fused features; of the attention between them.
    dropout : float
        Before both heads and in the fusion.

    Notes
    -----
    Input ``(N, C, H, W)`` float32 and ``(N, L)`` int64 token ids (0 = padding; a row of zeros, or no tensor at all, is
    a picture without a report). Output ``(N, out_channels)`` logits.

    What the picture says alone has a path of its own to the answer, so a report can add to it and not take its place.
    Train with some reports hidden (``data.text.dropout``): then the answers without a report are learnt too.
    """

    def __init__(
        self,
        image: ImagePath,
        text: TextPath,
        fusion: str,
        out_channels: int,
        width: int = 128,
        heads: int = 4,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        self.image, self.text = image, text
        self.image_head = nn.Sequential(nn.Dropout(dropout), nn.Linear(image.features, out_channels))
        self.fusion = build_fusion(fusion, image.features, text.features, width, heads, dropout)
        self.fused_head = nn.Linear(width, out_channels)

    def forward(self, image: Tensor, text: Tensor | None = None) -> Tensor:
        """Return one logit per class."""
        tokens = self.image(image)
        if text is None:
            report = tokens.new_zeros((len(tokens), 1, self.text.features))
            there = torch.zeros(report.shape[:2], dtype=torch.bool, device=tokens.device)
        else:
            report, there = self.text(text)
        alone: Tensor = self.image_head(tokens.mean(dim=1))
        together: Tensor = self.fused_head(self.fusion(tokens, report, there))
        return alone + together


def image_text(
    in_channels: int = 1,
    out_channels: int = 2,
    image: str = "cnn2d",
    image_params: Mapping[str, Any] | None = None,
    fusion: str = "gated",
    text_config: Mapping[str, Any] | None = None,
    width: int = 128,
    heads: int = 4,
    dropout: float = 0.2,
) -> nn.Module:
    """Build the classifier of picture and report.

    Parameters
    ----------
    image : str
        A two-dimensional classifier of the registry; ``image_params`` are its arguments.
    text_config : mapping, optional
        Fields of BERT's configuration (see ``text_path.SMALL``); a small BERT without.

    Raises
    ------
    ValueError
        For an image network that isn't one of ours, an unknown fusion or field.
    """
    from models.networks.registry import build
    from models.networks.specs import SPECS

    if image not in SPECS or image == "image_text":
        raise ValueError(f"image {image!r} is no picture classifier of the registry")
    choice = {"spatial_dims": 2} if len(SPECS[image].dimensions) > 1 else {}
    classifier = build(image, in_channels=in_channels, out_channels=2, **choice, **dict(image_params or {}))
    parts = parts_of(classifier)
    network = ImageText(
        ImagePath(classifier), TextPath(text_config), fusion, out_channels, width, heads, dropout
    )
    return attach(network, _parts(network, parts))


def _parts(network: ImageText, image: Parts) -> Parts:
    """Return head, stages (the layers of both encoders together, aligned at their ends) and layers to explain."""
    pictures = [tuple(f"image.network.{name}" for name in stage) for stage in image.stages]
    layers = len(network.text.bert.encoder.layer)
    words: list[tuple[str, ...]] = [("text.bert.embeddings",)]
    words += [(f"text.bert.encoder.layer.{number}",) for number in range(layers)]
    stages = []
    for number in range(max(len(pictures), len(words))):
        stage: tuple[str, ...] = ()
        for names in (pictures, words):
            place = number - max(len(pictures), len(words)) + len(names)
            stage += names[place] if place >= 0 else ()
        stages.append(stage)
    # What the picture's head held beside the head itself depends on its channels.
    adapter = tuple(f"image.network.{name}" for name in image.head if name != "head")
    return Parts(
        (*_HEAD, *adapter),
        tuple(stages),
        tuple(f"image.network.{name}" for name in image.cam_layers),
        image.divisor,
    )
