"""An epoch over cached volumes against MONAI's PersistentDataset: seconds, bytes on disk, peak of memory.

Six volumes of 192 × 192 × 96 voxels (NIfTI, compressed) with label maps, brought to 1.5 mm and normalised, two
windows of 64³ each, two of three on foreground, no loader processes. The peer does what MONAI's tutorials do
(``Orientationd``, ``Spacingd``, ``NormalizeIntensityd`` cached, ``RandCropByPosNegLabeld`` after it). A second,
stronger peer keeps the very arrays and windows of ours in a PersistentDataset, so that only the cache differs.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

CASES, SHAPE_KJI, WINDOW, PER_CASE = 6, (96, 192, 192), 64, 2
KINDS = ("ours", "persistent", "persistent_same_arrays")


def recipe(memory_mb: int) -> Any:
    """The training recipe of the bench."""
    from core.recipes.schema import Recipe

    document = {
        "name": "cache-bench",
        "seed": 1,
        "task": "segmentation",
        "spatial_dims": 3,
        "data": {
            "source": {"name": "image_mask_files"},
            "sampling": {"patch_kji": [WINDOW] * 3, "per_case": PER_CASE, "foreground": 2 / 3},
            "cache": {"memory_mb": memory_mb},
        },
        "preprocessing": {
            "orientation": "RAS",
            "spacing_ijk_mm": [1.5, 1.5, 1.5],
            "intensity": [{"op": "zscore"}],
        },
        "network": {"name": "unet3d"},
        "bundle": {
            "id": "cache-bench",
            "title": "Bench",
            "labels": [{"value": value, "name": f"part {value}"} for value in (1, 2, 3)],
        },
    }
    return Recipe.model_validate_json(json.dumps(document))


def write_cases(folder: Path) -> list[Any]:
    """Write the volumes: noise that compresses like CT, three bodies as labels."""
    import nibabel
    import numpy as np
    from scipy import ndimage

    from core.recipes.cases import Case

    cases = []
    for number in range(CASES):
        rng = np.random.default_rng(number)
        labels = np.zeros(SHAPE_KJI, dtype=np.uint8)
        k, j, i = np.ogrid[tuple(slice(0, n) for n in SHAPE_KJI)]
        for value in (1, 2, 3):
            center = [n * rng.uniform(0.3, 0.7) for n in SHAPE_KJI]
            radius = rng.uniform(10, 25)
            labels[(k - center[0]) ** 2 + (j - center[1]) ** 2 + (i - center[2]) ** 2 < radius**2] = value
        hu = ndimage.gaussian_filter(rng.normal(0, 60, SHAPE_KJI), 1.0) * 4 + labels * 80.0 - 100
        affine = np.diag([1.0, 1.0, 1.5, 1.0])
        image, mask = folder / f"{number}.nii.gz", folder / f"{number}-mask.nii.gz"
        nibabel.save(nibabel.Nifti1Image(np.rint(hu).astype(np.int16).T, affine), image)
        nibabel.save(nibabel.Nifti1Image(labels.T, affine), mask)
        cases.append(Case(str(number), str(number), images={"image": (image,)}, mask=mask))
    return cases


def cases_in(folder: Path) -> list[Any]:
    """Return the cases that ``write_cases`` wrote."""
    from core.recipes.cases import Case

    return [
        Case(str(n), str(n), images={"image": (folder / f"{n}.nii.gz",)}, mask=folder / f"{n}-mask.nii.gz")
        for n in range(CASES)
    ]


def epoch_of(kind: str, folder: Path, memory_mb: int = 0) -> Callable[[], list[Any]]:
    """Return a function that runs one epoch over the cache below ``folder`` and returns the last batch."""
    source, cases = recipe(memory_mb), cases_in(folder / "source")
    if kind == "ours":
        from core.compute.training.data.module import TrainingData
        from core.recipes.cases import Part

        loader = TrainingData(source, {Part.TRAIN: cases}, folder / "ours").train_loader(1)
        return lambda: list(_counted(loader))
    if kind == "persistent":
        return _monai_epoch(cases, folder / kind)
    return _same_arrays_epoch(source, cases, folder / kind)


def _monai_epoch(cases: list[Any], folder: Path) -> Callable[[], list[Any]]:
    from monai import transforms
    from monai.data import DataLoader, PersistentDataset

    keys = ("image", "label")
    chain = transforms.Compose(
        [
            transforms.LoadImaged(keys),
            transforms.EnsureChannelFirstd(keys),
            transforms.Orientationd(keys, "RAS", labels=(("L", "R"), ("P", "A"), ("I", "S"))),
            transforms.Spacingd(keys, (1.5, 1.5, 1.5), mode=("bilinear", "nearest")),
            transforms.NormalizeIntensityd("image"),
            transforms.RandCropByPosNegLabeld(
                keys, "label", (WINDOW,) * 3, pos=2, neg=1, num_samples=PER_CASE
            ),
        ]
    )
    items = [{"image": str(case.images["image"][0]), "label": str(case.mask)} for case in cases]
    loader = DataLoader(PersistentDataset(items, chain, folder), batch_size=1, shuffle=True, num_workers=0)
    return lambda: list(_counted(loader))


def _same_arrays_epoch(source: Any, cases: list[Any], folder: Path) -> Callable[[], list[Any]]:
    import numpy as np
    from monai import transforms
    from monai.data import DataLoader, PersistentDataset

    from core.compute.training.data.cache_file import compact
    from core.compute.training.data.patches import draw_starts
    from core.compute.training.data.prepare import prepare_case

    size, epoch = (WINDOW,) * 3, 0
    prepared = [prepare_case(case, source) for case in cases]
    table = [
        [
            draw_starts(compact(sample, 0), size, PER_CASE, 2 / 3, np.random.default_rng((number, round_)))
            for round_ in range(64)
        ]
        for number, sample in enumerate(prepared)
    ]

    class Keep(transforms.Transform):
        """The array as ours prepares it; cached, because it isn't random."""

        def __call__(self, item: dict[str, Any]) -> dict[str, Any]:
            sample = prepared[item["number"]]
            return {**item, "image": sample.image, "label": sample.target[None]}

    class Crop(transforms.RandomizableTransform):
        """Windows whose places are known already."""

        def __call__(self, item: dict[str, Any]) -> list[dict[str, Any]]:
            windows = []
            for start in table[item["number"]][epoch % 64]:
                box = (slice(None), *(slice(a, a + n) for a, n in zip(start, size, strict=True)))
                windows.append({key: item[key][box].clone() for key in ("image", "label")})
            return windows

    items = [{"number": number} for number in range(len(cases))]
    dataset = PersistentDataset(items, transforms.Compose([Keep(), Crop()]), folder)
    loader = DataLoader(dataset, batch_size=1, shuffle=True, num_workers=0)

    def run() -> list[Any]:
        nonlocal epoch
        epoch += 1
        return list(_counted(loader))

    return run


def _counted(loader: Any) -> Any:
    """Yield the shape of each batch; the batch itself is let go, as in training."""
    for batch in loader:
        yield tuple(batch["image"].shape)


def cached_epoch_ratio(rounds: int = 5) -> dict[str, Any]:
    """Return seconds per case of ours and of both peers (least and median of interleaved rounds), and their ratios.

    ``ratio`` is the peer's seconds over ours with nothing held in memory (``memory_mb`` 0).
    """
    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "source").mkdir()
        write_cases(folder / "source")
        runs = {kind: epoch_of(kind, folder) for kind in KINDS}
        runs["ours_in_memory"] = epoch_of("ours", folder, memory_mb=512)
        building = {}
        for kind, run in runs.items():
            before = time.perf_counter()
            shapes = run()
            building[kind] = time.perf_counter() - before
            assert shapes == [(PER_CASE, 1, WINDOW, WINDOW, WINDOW)] * CASES, shapes
        runs["ours_in_memory"]()  # a case is taken into memory when it is used again
        seconds: dict[str, list[float]] = {kind: [] for kind in runs}
        for _ in range(rounds):
            for kind, run in runs.items():
                before = time.perf_counter()
                run()
                seconds[kind].append((time.perf_counter() - before) / CASES)
        # The second peer holds all arrays in its process, so that its peak says nothing.
        memory = {kind: _memory_of(kind, folder) for kind in KINDS[:2]}
        disk = {kind: _bytes_below(folder / kind) for kind in KINDS}
        source = _bytes_below(folder / "source")
    least = {kind: min(values) for kind, values in seconds.items()}
    middle = {kind: statistics.median(values) for kind, values in seconds.items()}
    return {
        "rounds": rounds,
        "ms_per_case": {kind: round(1000 * value, 2) for kind, value in least.items()},
        "ms_per_case_median": {kind: round(1000 * value, 2) for kind, value in middle.items()},
        "first_epoch_s": {kind: round(value, 2) for kind, value in building.items()},
        "ratio": round(least["persistent"] / least["ours"], 2),
        "ratio_median": round(middle["persistent"] / middle["ours"], 2),
        "ratio_same_arrays": round(least["persistent_same_arrays"] / least["ours"], 2),
        "source_bytes": source,
        "disk_bytes": disk,
        "peak_extra_mb": memory,
    }


def _bytes_below(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _memory_of(kind: str, folder: Path) -> dict[str, float]:
    """Run two epochs over the filled cache in a process of its own and return its peak beyond the start, in MB."""
    command = [sys.executable, __file__, "--memory", kind, "--folder", str(folder)]
    answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found: dict[str, float] = json.loads(answer.splitlines()[-1])
    return found


def measure_memory(kind: str, folder: Path) -> dict[str, float]:
    """Peak of resident memory during two epochs: all of it, and without mapped files (which the system may drop)."""
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    torch.set_num_threads(1)
    run = epoch_of(kind, folder)
    # What torch's loader takes at its first use belongs to neither.
    list(DataLoader(TensorDataset(torch.zeros(4, 8)), batch_size=2))
    start, peak, done = _resident(), {"rss": 0, "anonymous": 0}, threading.Event()

    def watch() -> None:
        while not done.wait(0.001):
            for name, value in _resident().items():
                peak[name] = max(peak[name], value)

    watcher = threading.Thread(target=watch)
    watcher.start()
    run()
    run()
    done.set()
    watcher.join()
    return {name: round((peak[name] - start[name]) / 1e6, 1) for name in peak}


def _resident() -> dict[str, int]:
    import psutil

    info = psutil.Process().memory_info()
    shared = getattr(info, "shared", 0)
    return {"rss": info.rss, "anonymous": info.rss - shared}


def main() -> None:
    """Print the comparison as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory", choices=KINDS)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    if options.memory:
        print(json.dumps(measure_memory(options.memory, options.folder)))
        return
    print(json.dumps({"python": platform.python_version(), **cached_epoch_ratio(options.rounds)}, indent=2))


if __name__ == "__main__":
    main()
