"""Sample predictions of the validation part as PNG, for a look while training runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from core.compute.inference.sliding import full_logits, sliding_slabs
from core.compute.training.validating import NetworkBackend, engine_for
from core.config.atomic import atomic_path
from core.recipes.schema import Recipe

_INCHES = 2.2


def write_samples(
    path: Path, batches: Iterator[dict[str, Any]], backend: NetworkBackend, recipe: Recipe, count: int
) -> None:
    """Draw ``count`` validation cases: picture with class and answer, or slice with truth and answer side by side."""
    rows = list(islice(_rows(batches, backend, recipe), count))
    if not rows:
        return
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = max(len(row) for row in rows)
    figure = Figure(figsize=(_INCHES * columns, _INCHES * len(rows)), layout="constrained")
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for row, places in zip(rows, axes, strict=True):
        for (title, image, labels), place in zip(row, places, strict=True):
            place.imshow(image, cmap="gray")
            if labels is not None:
                shown = np.ma.masked_equal(labels, 0)
                place.imshow(shown, cmap="tab10", alpha=0.55, vmin=0, vmax=10, interpolation="nearest")
            place.set_title(title, fontsize=7)
            place.set_axis_off()
    with atomic_path(path) as part:
        FigureCanvasAgg(figure).print_png(str(part))


Panel = tuple[str, NDArray[np.float32], NDArray[np.uint8] | None]


def _rows(
    batches: Iterator[dict[str, Any]], backend: NetworkBackend, recipe: Recipe
) -> Iterator[list[Panel]]:
    names = {label.value: label.name for label in recipe.bundle.labels}
    for batch in batches:
        if recipe.task == "classification":
            logits = backend(batch["image"])
            for image, target, answer in zip(batch["image"], batch["target"], logits, strict=True):
                best = int(answer.argmax())
                sure = float(torch.softmax(answer, 0)[best])
                title = f"{names[int(target)]} → {names[best]} ({sure:.0%})"
                yield [(title, _plane(image), None)]
            continue
        for image, truth in zip(batch["image"], batch["target"], strict=True):
            yield _compared(image, truth, backend, recipe)


def _compared(image: Tensor, truth: Tensor, backend: NetworkBackend, recipe: Recipe) -> list[Panel]:
    flat = image.ndim == 3
    volume, labels = (image[:, None], truth[None]) if flat else (image, truth)
    engine, settings = engine_for(backend, recipe, volume, backend.divisor)
    answer = full_logits(sliding_slabs(volume, engine, settings)).argmax(dim=0)
    k = int((labels > 0).flatten(1).sum(dim=1).argmax())
    plane = volume[0, k].numpy()
    maps: Sequence[tuple[str, Tensor]] = (("truth", labels[k]), ("answer", answer[k]))
    return [(name, plane, one.cpu().numpy().astype(np.uint8)) for name, one in maps]


def _plane(image: Tensor) -> NDArray[np.float32]:
    plane: NDArray[np.float32] = (image[0] if image.ndim == 3 else image[0, image.shape[1] // 2]).numpy()
    return plane
