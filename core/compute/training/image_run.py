"""Training, calibration and publication of the classification recipes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from core.bundles.manifest import (
    Calibration,
    Code,
    Conformal,
    Explain,
    ExplainLayer,
    Findings,
    Inference,
    Label,
    Manifest,
    Network,
    OutOfDistribution,
    Percentile,
    Preprocessing,
    Requirements,
    VoiWindow,
    Weights,
)
from core.bundles.writer import Reference, write_bundle
from core.compute.evaluation.classification import (
    ClassificationReport,
    conformal_quantile,
    fit_temperature,
    report,
    softmax,
)
from core.compute.training.cards import card_text, licence_text
from core.compute.training.export import ONNX_FILE, SAFETENSORS_FILE, onnx_of, safetensors_of
from core.compute.training.image_data import Pictures, Split, augmented, read_pictures, scaled, split_pictures
from core.compute.training.loop import train
from core.compute.training.recipe import FolderData, Recipe
from core.domain.progress import CancelToken, Progress
from models.networks.registry import build

_COVERAGE = 0.99
# Region of each class of MedNIST; the labels keep the data set's own names.
_REGIONS: dict[str, tuple[str, Code]] = {
    "AbdomenCT": ("CT", Code(value="818983003", scheme="SCT", meaning="Abdomen")),
    "BreastMRI": ("MR", Code(value="76752008", scheme="SCT", meaning="Breast")),
    "CXR": ("DX", Code(value="43799004", scheme="SCT", meaning="Thoracic cavity structure")),
    "ChestCT": ("CT", Code(value="43799004", scheme="SCT", meaning="Thoracic cavity structure")),
    "Hand": ("DX", Code(value="85562004", scheme="SCT", meaning="Hand")),
    "HeadCT": ("CT", Code(value="69536005", scheme="SCT", meaning="Head")),
}


def train_classifier(
    recipe: Recipe,
    folder: Path,
    out: Path,
    progress: Progress,
    cancel: CancelToken | None,
    private_key_file: Path | None,
) -> dict[str, Any]:
    """Train, calibrate on pictures not trained on, test on others, write the bundle."""
    settings = recipe.data
    assert isinstance(settings, FolderData)
    pictures = read_pictures(folder, settings)
    split = split_pictures(pictures, settings, recipe.seed)
    torch.manual_seed(recipe.seed)
    network = build(recipe.network.name, **recipe.network.params)
    images, labels = scaled(pictures.pixels), torch.from_numpy(pictures.labels)
    training = torch.from_numpy(split.train)

    def batches(step: int, items: range) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(recipe.seed * 1_000_003 + step * 997 + items.start)
        drawn = training[torch.randint(len(training), (len(items),), generator=generator)]
        return augmented(images[drawn], generator), labels[drawn]

    def loss_of(logits: Tensor, target: Tensor) -> Tensor:
        return functional.cross_entropy(logits.float(), target, label_smoothing=recipe.label_smoothing)

    trained = train(recipe, network, batches, loss_of, out, progress=progress, cancel=cancel)
    calibration, results = _calibrate(trained.network, images, pictures, split, settings)
    metrics = _metrics(results, split)
    bundle = _publish(
        recipe, settings, trained.network, pictures, split, calibration, metrics, out, private_key_file
    )
    return {"bundle": str(bundle), "metrics": metrics, "steps": trained.steps, "loss": trained.loss}


@torch.no_grad()
def _logits(network: nn.Module, images: Tensor) -> NDArray[np.float64]:
    parts = [network(images[n : n + 128]) for n in range(0, len(images), 128)]
    return torch.cat(parts).double().numpy()


def _calibrate(
    network: nn.Module, images: Tensor, pictures: Pictures, split: Split, settings: FolderData
) -> tuple[Calibration, ClassificationReport]:
    held = _logits(network, images[torch.from_numpy(split.calibration)])
    # Label smoothing leaves the network less sure than it is right; a temperature below 0.25 would claim
    # more than 180 calibration pictures can support.
    temperature = max(0.25, fit_temperature(held, pictures.labels[split.calibration]))
    known = softmax(held, temperature)
    quantile = conformal_quantile(known, pictures.labels[split.calibration], _COVERAGE)
    scores = np.sort(_energy(held, temperature))
    steps = np.quantile(scores, np.linspace(0, 1, 51))
    test = _logits(network, images[torch.from_numpy(split.test)])
    results = report(softmax(test, temperature), pictures.labels[split.test], settings.classes, quantile)
    unusual = OutOfDistribution(
        method="energy", quantiles=tuple(round(float(s), 6) for s in steps), threshold=0.99
    )
    return Calibration(
        temperature=round(temperature, 6),
        conformal=Conformal(quantile=float(np.ceil(quantile * 1e6) / 1e6), coverage=_COVERAGE),
        out_of_distribution=unusual,
    ), results


def _energy(logits: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    """Return −T log Σ exp(z / T). Source: W. Liu et al., NeurIPS 2020."""
    scaled_logits = logits / temperature
    top = scaled_logits.max(axis=1)
    out: NDArray[np.float64] = -temperature * (top + np.log(np.exp(scaled_logits - top[:, None]).sum(axis=1)))
    return out


def _metrics(results: ClassificationReport, split: Split) -> dict[str, float | list[float] | str]:
    return {
        "test_accuracy": results.accuracy.as_list(),
        "test_macro_f1": results.macro_f1.as_list(),
        **{f"test_recall_{name}": round(value, 4) for name, value in results.recall.items()},
        "test_expected_calibration_error": round(results.calibration_error, 4),
        "test_prediction_set_coverage": round(results.coverage, 4),
        "test_prediction_set_size": round(results.set_size, 3),
        "pictures_trained_on": float(len(split.train)),
        "pictures_for_calibration": float(len(split.calibration)),
        "pictures_tested_on": float(len(split.test)),
    }


def _publish(
    recipe: Recipe,
    settings: FolderData,
    network: nn.Module,
    pictures: Pictures,
    split: Split,
    calibration: Calibration,
    metrics: dict[str, float | list[float] | str],
    out: Path,
    private_key_file: Path | None,
) -> Path:
    size = settings.size_px
    manifest = Manifest(
        id="mednist",
        version="1.0.0",
        task="classification",
        title="Body part and modality (MedNIST)",
        description="Names which of six kinds of picture an image is: abdomen CT, breast MR, chest radiograph, "
        "chest CT, hand radiograph, head CT.",
        intended_use="Research and review support, not for primary diagnosis. Sorting and checking of images "
        "whose kind is unknown; demonstration of classification and explanation.",
        not_intended_for="Diagnosis; kinds of image other than the six (they are flagged as unusual, not refused).",
        licence="CC-BY-SA-4.0",
        source="Trained by this repository: overread train mednist",
        training_data="MedNIST (Dr. B. J. Erickson, Mayo Clinic), 200 pictures per class, CC BY-SA 4.0; "
        "see the card for the split.",
        metrics=metrics,
        network=Network(name=recipe.network.name, params=dict(recipe.network.params)),
        weights=(
            Weights(file=SAFETENSORS_FILE, format="safetensors"),
            Weights(file=ONNX_FILE, format="onnx"),
        ),
        labels=tuple(
            Label(value=n, name=c, region=_REGIONS[c][1] if c in _REGIONS else None)
            for n, c in enumerate(settings.classes)
        ),
        preprocessing=Preprocessing(
            before_resampling=(VoiWindow(op="voi"),),
            intensity=(Percentile(op="percentile", low=0.0, high=100.0),),
            resize_hw=(size, size),
        ),
        inference=Inference(batch=1),
        requirements=Requirements(modalities=("CT", "MR", "CR", "DX"), kind="image", regular=False),
        calibration=calibration,
        findings=Findings(per="class"),
        explain=Explain(
            layers=(
                ExplainLayer(name="features.4", title="Last stage (8 × 8)"),
                ExplainLayer(name="features.3", title="Third stage (16 × 16)"),
            )
        ),
    )
    example = torch.rand(2, 1, size, size, generator=torch.Generator().manual_seed(0))
    chosen = int(split.test[0])
    pixels = pictures.pixels[chosen]
    probabilities = softmax(_logits(network, scaled(pixels[None])), calibration.temperature)[0]
    bundle = write_bundle(
        out / "bundle",
        manifest,
        files={
            SAFETENSORS_FILE: safetensors_of(network),
            ONNX_FILE: onnx_of(network, example, dynamic=(0, 2, 3)),
        },
        card=card_text("mednist", metrics),
        licence_text=licence_text("mednist"),
        reference=Reference(
            voxels=pixels[None],
            lps_from_ijk=np.eye(4),
            modality="OT",
            probabilities=probabilities.astype(np.float32),
        ),
        private_key_file=private_key_file,
        overwrite=True,
    )
    return Path(str(bundle.path))
