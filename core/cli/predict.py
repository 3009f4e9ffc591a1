"""Batch prediction without the library; loads the compute backends into this process."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from core.bundles.bundle import Bundle, read_bundle
from core.bundles.catalogue import Catalogue, read_pointers
from core.bundles.manifest import Manifest
from core.cli.documents import measurement_document, segment_document
from core.compute.inference.contrasts import Given
from core.compute.inference.loaded import ModelCache
from core.compute.inference.output import InferenceOutput
from core.compute.inference.run import run_bundle
from core.config.paths import Paths
from core.config.resources import shipped_bundles_dir
from core.dicom.assemble import assemble_volume
from core.dicom.scan import scan_paths
from core.domain.errors import AppError, InputError
from core.domain.progress import Progress
from core.domain.segmentation import Segmentation
from core.domain.study import SeriesKind
from core.domain.volume import Volume
from core.formats.images import read_image
from core.formats.nifti import read_nifti, write_nifti
from core.formats.nrrd import read_nrrd
from core.services.measure import measure_segments
from core.services.registered_models import registered_bundle

NIFTI = (".nii", ".nii.gz")
NRRD = (".nrrd", ".nhdr")
PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")


def find_bundle(model: str, home: Path | None) -> Bundle:
    """Return the bundle of a path, of a registered model (``NAME@ALIAS``), or of a catalogue id.

    Raises
    ------
    InputError
        If there is neither (code ``model.unknown``).
    """
    path = Path(model)
    if path.exists():
        return read_bundle(path)
    paths = Paths.resolve(home)
    known = registered_bundle(paths, model)
    if known is not None:
        return known
    return Catalogue([shipped_bundles_dir(), paths.bundles], read_pointers(paths.pointers)).get(model)


def volumes_of(path: Path, work_dir: Path) -> Iterator[Volume]:
    """Read the displayable series of one input.

    Raises
    ------
    InputError
        If the path does not exist or holds no image.
    """
    if not path.exists():
        raise InputError("predict.not_found", "This input does not exist.", "Check the spelling of the path.")
    name = path.name.lower()
    if name.endswith(NIFTI):
        yield read_nifti(path)
        return
    if name.endswith(NRRD):
        yield read_nrrd(path)
        return
    if name.endswith(PICTURES):
        yield read_image(path)
        return
    found = False
    for series in scan_paths([path], work_dir=work_dir).series:
        if series.summary.kind in (SeriesKind.VOLUME, SeriesKind.IMAGE):
            found = True
            yield assemble_volume(series.instances, series.summary, correct=True)
    if not found:
        raise InputError(
            "predict.no_image",
            "This input holds no image series.",
            "Give a DICOM folder, a NIfTI or NRRD file or a picture.",
        )


def predict(
    model: str,
    inputs: Sequence[Path],
    out: Path,
    device: str,
    home: Path | None,
    progress: Progress,
    *,
    contrasts: Mapping[str, Path] | None = None,
    text: str | None = None,
) -> dict[str, Any]:
    """Predict every input in the order given; an input that is refused carries its error and stops nothing.

    Parameters
    ----------
    contrasts : mapping of str to pathlib.Path, optional
        The one case of a model that takes several, in place of ``inputs``: contrast → file or folder. The answer lies
        on the grid of the first.
    text : str, optional
        The report that goes with every input.
    """
    started = time.monotonic()
    bundle = find_bundle(model, home)
    out.mkdir(parents=True, exist_ok=True)
    cache, probes = ModelCache(), Paths.resolve(home).root / "probes"
    results = []
    with tempfile.TemporaryDirectory(prefix="overread-") as unpacked:
        cases: list[tuple[str, Callable[[], Iterator[Given]]]] = [
            (str(path), partial(volumes_of, path, Path(unpacked))) for path in inputs
        ]
        if contrasts:
            name = ", ".join(str(path) for path in contrasts.values())
            cases = [(name, partial(_contrasts_of, contrasts, Path(unpacked)))]
        for number, (name, volumes) in enumerate(cases):
            progress("predicting", number / len(cases))
            entry: dict[str, Any] = {"input": name, "classes": [], "segments": [], "files": []}
            entry["measurements"] = []
            try:
                for part, given in enumerate(volumes()):
                    answer = run_bundle(
                        bundle, given, text=text, device=device, cache=cache, probe_folder=probes
                    )
                    file = out / f"{number:05d}-{part}-{bundle.manifest.id}.nii.gz"
                    first = given if isinstance(given, Volume) else next(iter(given.values()))
                    add_prediction(entry, bundle.manifest, first, answer, file)
            except AppError as error:
                entry["error"] = error.as_dict()
            results.append(entry)
    progress("predicting", 1.0)
    return {
        "model": {"id": bundle.manifest.id, "version": bundle.manifest.version},
        "results": results,
        "seconds": round(time.monotonic() - started, 3),
    }


def _contrasts_of(contrasts: Mapping[str, Path], work_dir: Path) -> Iterator[dict[str, Volume]]:
    """Read one case of several contrasts; of a folder with several series the first.

    Raises
    ------
    InputError
        See ``volumes_of``.
    """
    yield {name: next(volumes_of(path, work_dir)) for name, path in contrasts.items()}


def add_prediction(
    entry: dict[str, Any], manifest: Manifest, volume: Volume, answer: InferenceOutput, file: Path
) -> None:
    """Add what the model says of one volume to the entry of its input; write its label map to ``file``."""
    ranked = sorted(answer.classes, key=lambda c: -c.probability)
    entry["classes"] += [{"label": c.label, "probability": c.probability} for c in ranked]
    entry.setdefault("measurements", []).extend(measurement_document(m) for m in answer.measurements)
    if answer.prediction_set:
        entry["prediction_set"] = list(answer.prediction_set)
    if answer.fallbacks:
        entry["fallbacks"] = list(answer.fallbacks)
    if answer.labels is None:
        return
    write_nifti(file, volume.geometry, answer.labels)
    measures = measure_segments(volume, Segmentation(volume.geometry, answer.labels, manifest.segments()))
    entry["segments"] += [segment_document(s) for s in measures]
    entry["files"].append({"kind": "nifti", "path": str(file)})
