"""Any picture classifier of the registry as an encoder: cells or one vector of features instead of logits."""

from __future__ import annotations

from torch import Tensor, nn

from models.networks.cell_net import CellNet
from models.networks.classifier import ImageClassifier
from models.networks.cnn2d import Cnn2d


class ImagePath(nn.Module):
    """A classifier without its head.

    Parameters
    ----------
    classifier : torch.nn.Module
        ``Cnn2d``, ``CellNet`` or ``ImageClassifier``, as the registry builds them; its head is taken off.

    Notes
    -----
    Input ``(N, C, H, W)``, output ``(N, T, features)``: the cells of the last feature map row by row, or T = 1 where
    the encoder pools by itself.

    Raises
    ------
    ValueError
        For a network of another kind.
    """

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.features = _without_head(classifier)
        self.network = classifier

    def forward(self, image: Tensor) -> Tensor:
        """Return the tokens of the pictures."""
        network = self.network
        if isinstance(network, ImageClassifier):
            out: Tensor = network(image)
        elif isinstance(network, CellNet):
            out = network.cells(image)
        else:
            assert isinstance(network, Cnn2d)
            out = network.features(image)
        return out.flatten(2).transpose(1, 2) if out.ndim == 4 else out[:, None]


def _without_head(classifier: nn.Module) -> int:
    """Take the head off and return the number of features that it had."""
    if isinstance(classifier, Cnn2d):
        features, classifier.head = classifier.head.in_features, nn.Identity()  # type: ignore[assignment]
    elif isinstance(classifier, CellNet):
        features, classifier.head = classifier.head.in_channels, nn.Identity()  # type: ignore[assignment]
    elif isinstance(classifier, ImageClassifier):
        first = next(layer for layer in classifier.head if isinstance(layer, nn.Linear))
        features, classifier.head = first.in_features, nn.Identity()  # type: ignore[assignment]
    else:
        raise ValueError(f"{type(classifier).__name__} is no picture classifier of the registry")
    return int(features)
