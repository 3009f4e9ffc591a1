"""The data of a training: cases by part, their cache, loaders and what is counted about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

from core.compute.training.data.cache import CaseCache
from core.compute.training.data.dataset import CaseDataset
from core.compute.training.data.loader import BatchLoader
from core.compute.training.data.texts import text_encoder
from core.compute.training.data.transforms import build_transforms
from core.compute.training.sampler import ResumableSampler, balanced_weights
from core.domain.errors import InputError
from core.domain.progress import CancelToken, Progress, no_progress
from core.recipes.cases import UNJUDGED, Case, Part
from core.recipes.schema import Recipe


class TrainingData:
    """Loaders for a recipe.

    Parameters
    ----------
    recipe : Recipe
        Transforms are built and checked here.
    parts : mapping of Part to sequence of Case
        The split. Cases that lack a contrast are left out here where the recipe says so.
    out : pathlib.Path or None
        The run's folder; prepared cases lie in its ``cache``. None keeps them in memory only (within
        ``data.cache.memory_mb``), as ``data.cache.enabled`` false does.
    pin_memory : bool
        For a CUDA device.

    Attributes
    ----------
    left_out : tuple of str
        Ids of the cases that lack a contrast.
    vocabulary : bytes or None
        ``vocab.txt`` of the reports, where the recipe uses them.

    Raises
    ------
    InputError
        ``training.transform``; ``training.no_cases`` when nothing is left to train on; ``training.balance``.
    """

    def __init__(
        self,
        recipe: Recipe,
        parts: Mapping[Part, Sequence[Case]],
        out: Path | None,
        *,
        pin_memory: bool = False,
    ) -> None:
        self.recipe, self.pin_memory = recipe, pin_memory
        self.parts: dict[Part, tuple[Case, ...]] = {}
        left_out: list[str] = []
        for part in Part:
            kept, lacking = _complete(parts.get(part, ()), recipe)
            self.parts[part] = kept
            left_out += lacking
        self.left_out = tuple(left_out)
        if not self.parts[Part.TRAIN]:
            raise InputError(
                "training.no_cases",
                "No case is left to train on.",
                "Check data.source, data.split and data.missing.",
            )
        settings = recipe.data.cache
        folder = out / "cache" if out is not None and settings.enabled else None
        self.cache = CaseCache(folder, memory_mb=settings.memory_mb, disk_mb=settings.disk_mb)
        self.datasets = {
            part: CaseDataset(
                cases, recipe, self.cache, build_transforms(recipe, part), windows=part is Part.TRAIN
            )
            for part, cases in self.parts.items()
        }
        self._weights = self._drawing_weights()
        self.vocabulary: bytes | None = None
        if recipe.data.text is not None:
            train = self.datasets[Part.TRAIN]
            texts = [train.facts(index).text for index in range(len(train))]
            encoder = text_encoder(recipe.data.text, texts, out)
            self.vocabulary = encoder.vocabulary_bytes()
            for dataset in self.datasets.values():
                dataset.texts = encoder

    def train_loader(
        self,
        batch_size: int | None = None,
        *,
        rank: int = 0,
        world: int = 1,
        steps: int | None = None,
        workers: int | None = None,
    ) -> BatchLoader:
        """Return the training batches of one process.

        Parameters
        ----------
        batch_size : int, optional
            Draws per batch and process; the recipe's by default (8 for ``auto``). A draw of a volume gives
            ``data.sampling.per_case`` windows, so the batch's first axis is that many times longer.
        steps : int, optional
            Batches per epoch; by default ``training.steps_per_epoch`` times ``training.accumulate``, or as many as
            draw each case ``data.repeat`` times.
        workers : int, optional
            Loader processes; the recipe's by default.
        """
        size = batch_size or self._batch_size
        training = self.recipe.training
        if steps is None and training.steps_per_epoch is not None:
            steps = training.steps_per_epoch * training.accumulate
        dataset = self.datasets[Part.TRAIN]
        length = len(dataset) * self.recipe.data.repeat if steps is None else steps * size * world
        sampler = ResumableSampler(len(dataset), self.recipe.seed, self._weights, rank, world, length=length)
        return self._loader(dataset, sampler, size, workers)

    def validation_loader(
        self, batch_size: int | None = None, *, rank: int = 0, world: int = 1, workers: int | None = None
    ) -> BatchLoader:
        """Return the validation cases in order: batches of images, or one whole image at a time (segmentation).

        With several processes the last round is filled up with the first cases.

        Raises
        ------
        InputError
            ``training.no_cases`` when the part is empty.
        """
        return self._in_order(Part.VALIDATION, batch_size, rank, world, workers)

    def test_loader(
        self, batch_size: int | None = None, *, rank: int = 0, world: int = 1, workers: int | None = None
    ) -> BatchLoader:
        """Return the test cases as ``validation_loader`` does."""
        return self._in_order(Part.TEST, batch_size, rank, world, workers)

    @cached_property
    def class_counts(self) -> tuple[int, ...]:
        """Training cases of each class; for segmentation voxels of each label, background first.

        The latter prepares every training case that isn't in the cache yet.
        """
        return self.counts_of("classification" if self.recipe.classes else "segmentation")

    def counts_of(self, task: str) -> tuple[int, ...]:
        """Return ``class_counts`` of one of the tasks that a recipe trains."""
        dataset = self.datasets[Part.TRAIN]
        if task == "classification":
            labels = [dataset.facts(index).label for index in range(len(dataset))]
            return tuple(labels.count(number) for number in range(len(self.recipe.classes)))
        counts = [0] * self.recipe.out_channels
        for index in range(len(dataset)):
            for value, voxels in dataset.prepared(index).voxels.items():
                if value != UNJUDGED:
                    counts[value] += voxels
        return tuple(counts)

    @property
    def imbalance_ratio(self) -> float:
        """Size of the most frequent class or label over that of the rarest; infinite when one doesn't occur.

        Of a segmentation the labels count, not the background.
        """
        named = self.recipe.classes or self.recipe.structures
        counts = [self.class_counts[label.value] for label in named]
        return max(counts) / min(counts) if min(counts) else float("inf")

    def prepare_all(self, progress: Progress = no_progress, cancel: CancelToken | None = None) -> None:
        """Prepare every case of every part now, so that a case that can't be read stops the run at its start.

        Raises
        ------
        Cancelled
            When ``cancel`` was set; what was prepared stays in the cache.
        """
        total = sum(len(cases) for cases in self.parts.values())
        done = 0
        for dataset in self.datasets.values():
            for index in range(len(dataset)):
                if cancel is not None:
                    cancel.raise_if_cancelled()
                dataset.prepared(index)
                done += 1
                progress("Preparing cases", done / total)

    @property
    def _batch_size(self) -> int:
        size = self.recipe.training.batch_size
        return size if isinstance(size, int) else 8

    def _in_order(
        self, part: Part, batch_size: int | None, rank: int, world: int, workers: int | None
    ) -> BatchLoader:
        dataset = self.datasets[part]
        if not len(dataset):
            raise InputError(
                "training.no_cases",
                f"The {part.value} part has no case.",
                "Check data.split and data.source.",
            )
        whole = self.recipe.task != "classification"
        size = 1 if whole else batch_size or self._batch_size
        sampler = ResumableSampler(len(dataset), self.recipe.seed, None, rank, world, shuffle=False)
        return self._loader(dataset, sampler, size, workers)

    def _loader(
        self, dataset: CaseDataset, sampler: ResumableSampler, size: int, workers: int | None
    ) -> BatchLoader:
        count = self.recipe.data.workers if workers is None else workers
        return BatchLoader(dataset, sampler, size, workers=count, pin_memory=self.pin_memory)

    def _drawing_weights(self) -> Sequence[float] | None:
        if self.recipe.data.balance == "none":
            return None
        if not self.recipe.classes:
            raise InputError(
                "training.balance",
                "data.balance weighs classes of whole images; a segmentation draws its labels evenly by itself.",
                "Set data.balance to none and use data.sampling.",
            )
        train = self.datasets[Part.TRAIN]
        known = [train.facts(index).label for index in range(len(train))]
        labels = [-1 if label is None else label for label in known]
        return [float(weight) for weight in balanced_weights(labels)]


def _complete(cases: Sequence[Case], recipe: Recipe) -> tuple[tuple[Case, ...], list[str]]:
    """Return the cases that have every contrast, and the ids of the others, where the recipe leaves these out."""
    if recipe.data.missing != "leave_out":
        return tuple(cases), []
    lacking = {
        case.id for case in cases if case.images and any(c not in case.images for c in recipe.data.channels)
    }
    return tuple(case for case in cases if case.id not in lacking), sorted(lacking)
