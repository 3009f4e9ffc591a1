"""A picture classifier: channels for the encoder, the encoder, and a head of one or two linear layers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from models.networks.parts import Parts, attach

RGB = 3


class GreyToRgb(nn.Module):
    """Show a grey picture to all three channels of a network that was trained with colours."""

    def forward(self, image: Tensor) -> Tensor:
        """Return ``(N, 3, …)`` of ``(N, 1, …)`` without copying."""
        return image.expand(-1, RGB, *image.shape[2:])


class ImageClassifier(nn.Module):
    """An encoder with a classification head.

    Parameters
    ----------
    encoder : torch.nn.Module
        Returns ``(N, features)``.
    features : int
        Length of the encoder's features.
    in_channels, out_channels : int
        Channels of the image and number of classes.
    encoder_channels : int
        Channels that the encoder takes. One grey channel is repeated; another number is mixed by a 1 × 1
        convolution that starts as the mean of the channels and belongs to the head.
    dropout : float
        Before the last linear layer.
    head_units : int, optional
        Units of a hidden layer in the head.
    spatial_dims : int
        Two or three.

    Notes
    -----
    Input ``(N, in_channels, …)`` float32, output ``(N, out_channels)`` logits. While no parameter of the
    encoder is trained, its normalisation layers keep their statistics and its dropout is off, also in
    ``train()``.
    """

    def __init__(
        self,
        encoder: nn.Module,
        features: int,
        out_channels: int,
        in_channels: int = RGB,
        encoder_channels: int = RGB,
        dropout: float = 0.0,
        head_units: int | None = None,
        spatial_dims: int = 2,
    ) -> None:
        super().__init__()
        self.adapter = _adapter(in_channels, encoder_channels, spatial_dims)
        self.encoder = encoder
        self.head = classification_head(features, out_channels, dropout, head_units)

    def forward(self, image: Tensor) -> Tensor:
        """Return one logit per class."""
        logits: Tensor = self.head(self.encoder(self.adapter(image)))
        return logits

    def train(self, mode: bool = True) -> ImageClassifier:
        """Set the mode; a wholly frozen encoder stays in evaluation."""
        super().train(mode)
        if mode and not any(parameter.requires_grad for parameter in self.encoder.parameters()):
            self.encoder.eval()
        return self


def classification_head(
    features: int, out_channels: int, dropout: float = 0.0, head_units: int | None = None
) -> nn.Sequential:
    """Return the head: with hidden units two linear layers, else one; the last is named ``out``."""
    head = nn.Sequential()
    if head_units:
        head.add_module("hidden", nn.Linear(features, head_units))
        head.add_module("relu", nn.ReLU(inplace=False))
        features = head_units
    if dropout:
        head.add_module("dropout", nn.Dropout(dropout))
    head.add_module("out", nn.Linear(features, out_channels))
    return head


def classifier(encoder: nn.Module, features: int, parts: Parts, **settings: Any) -> ImageClassifier:
    """Return a classifier with its parts attached.

    Parameters
    ----------
    encoder, features
        See ``ImageClassifier``.
    parts : Parts
        Stages and layers to explain, named from the encoder.
    **settings
        The other arguments of ``ImageClassifier``.
    """
    network = ImageClassifier(encoder, features, **settings)
    named = Parts(
        head=("head", "adapter"),
        stages=tuple(tuple(f"encoder.{name}" for name in stage) for stage in parts.stages),
        cam_layers=tuple(f"encoder.{name}" for name in parts.cam_layers),
        divisor=parts.divisor,
    )
    attach(network, named)
    return network


def _adapter(in_channels: int, encoder_channels: int, spatial_dims: int) -> nn.Module:
    if in_channels == encoder_channels:
        return nn.Identity()
    if in_channels == 1 and encoder_channels == RGB:
        return GreyToRgb()
    convolution = nn.Conv2d if spatial_dims == 2 else nn.Conv3d
    mix = convolution(in_channels, encoder_channels, kernel_size=1, bias=False)
    with torch.no_grad():
        mix.weight.fill_(1.0 / in_channels)
    return mix
