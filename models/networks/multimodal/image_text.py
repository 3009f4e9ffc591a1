"""A classifier of pictures that also reads the report, where there is one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

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
    Two things keep it good: in training some reports are hidden (``data.text.dropout``), and ``auxiliary_loss`` asks
    that each picture that has a report is answered alike without it (``training.auxiliary_weight``).

    Source: D. Lopez-Paz et al., Unifying distillation and privileged information, ICLR 2016.
    """

    _imitation: Tensor | None

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
        self._imitation = None

    def forward(self, image: Tensor, text: Tensor | None = None) -> Tensor:
        """Return one logit per class."""
        tokens = self.image(image)
        if text is None:
            return self._answer(tokens, *self._no_report(tokens))
        report, there = self.text(text)
        logits = self._answer(tokens, report, there)
        if self.training:
            without = self._answer(tokens, *self._no_report(tokens))
            self._imitation = _divergence(without, logits.detach(), there.any(dim=1))
        return logits

    def train(self, mode: bool = True) -> ImageText:
        """Set the mode; what the last training pass left is forgotten."""
        self._imitation = None
        super().train(mode)
        return self

    def auxiliary_loss(self) -> Tensor:
        """Return how far the answers without a report are from those with it, after a training pass; else 0.

        It is the Kullback-Leibler divergence, averaged over the pictures with a report; the answers with the report are
        the teacher and aren't changed by it. Each pass's value is given once.
        """
        value, self._imitation = self._imitation, None
        return self.fused_head.weight.new_zeros(()) if value is None else value

    def _answer(self, tokens: Tensor, report: Tensor, there: Tensor) -> Tensor:
        alone: Tensor = self.image_head(tokens.mean(dim=1))
        together: Tensor = self.fused_head(self.fusion(tokens, report, there))
        return alone + together

    def _no_report(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        report = tokens.new_zeros((len(tokens), 1, self.text.features))
        return report, torch.zeros(report.shape[:2], dtype=torch.bool, device=tokens.device)


def _divergence(student: Tensor, teacher: Tensor, counts: Tensor) -> Tensor:
    """Return the mean KL divergence of the rows that count, 0 without one."""
    rows = functional.kl_div(
        functional.log_softmax(student.float(), dim=1),
        functional.log_softmax(teacher.float(), dim=1),
        reduction="none",
        log_target=True,
    ).sum(dim=1)
    return (rows * counts).sum() / counts.sum().clamp(min=1)


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
