"""Which engine runs a model fastest on this machine, without changing its answers.

A reader waits for this once per model and computer, so it is a short race: engines start in the order in
which they mostly finish, on a window of some 60³ voxels; what is clearly slower than the best so far leaves
at once, and none starts after the time is up. Engines of lower precision must be worth it and must give the
right labels on the bundle's reference input (see ``gate.py``). The winner is remembered; when time was missing
to measure or check an engine, as on a computer that is busy with other work, the race is run again up to two
more times.
"""

from __future__ import annotations

import json
import math
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import onnxruntime
import torch

from core.bundles.manifest import Manifest
from core.bundles.signing import sha256_hex
from core.compute.inference.backends import Backend, Engine, is_exact
from core.compute.inference.gate import Gate
from core.compute.inference.loaded import LoadedModel
from core.config.atomic import atomic_write_bytes
from core.domain.errors import AppError
from core.domain.progress import CancelToken

BUDGET_S = 5.0
_GATE_S = 12.0
_ROUNDS = 2
_HOPELESS = 2.5
_CLOSE = 1.5
_WORTH = 1.15
_WORTH_S = 0.01
_RACE_VOXELS = 64**3
_WHOLE_IMAGE_WINDOW = (64, 64, 64)
_IMAGE = (224, 224)
_ATTEMPTS = 3
_VERSION = 3


@dataclass(frozen=True)
class ProbeResult:
    """Outcome of a race.

    Attributes
    ----------
    chosen : str
        The engine to use.
    seconds : dict
        Engine → seconds for one call on the race's window; of those that left early, their first call.
    agreement : dict
        Engine of lower precision → how well it agreed on the reference input, 0…1.
    refused : dict
        Engine → why it was not considered.
    key : str
        Identifies model and machine.
    call_seconds : float
        Seconds for one call of the chosen engine on the model's own batch of windows.
    took_s : float
        Seconds that the choice took.
    settled : bool
        Whether time sufficed to measure and check all engines.
    attempts : int
        How many races there have been, this one included.
    """

    chosen: str
    seconds: dict[str, float]
    agreement: dict[str, float]
    refused: dict[str, str]
    key: str
    call_seconds: float = 0.0
    took_s: float = 0.0
    settled: bool = True
    attempts: int = 1


def choose_backend(
    model: LoadedModel,
    cache_folder: Path | None = None,
    cancel: CancelToken | None = None,
    on_race: Callable[[], None] | None = None,
) -> tuple[Engine, ProbeResult]:
    """Return the fastest admissible engine of ``model``, from the cache or by measuring.

    Parameters
    ----------
    cache_folder : pathlib.Path, optional
        Where results are kept between processes; without it they are measured once per process.
    on_race : callable, optional
        Called before engines are measured; not when the choice is remembered.
    """
    key = _key(model)
    name = f"{model.bundle.identity.sha256[:16]}-{key[:16]}.json"
    file = None if cache_folder is None else cache_folder / name
    result = _cached(file, key, model)
    if result is None or not (result.settled or result.attempts >= _ATTEMPTS):
        if on_race is not None:
            on_race()
        raced_before = 0 if result is None else result.attempts
        result = replace(_measured(model, key, cancel), attempts=raced_before + 1)
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            atomic_write_bytes(file, json.dumps(asdict(result), indent=2).encode())
    backend = model.backend(result.chosen)
    model.keep_only(result.chosen)
    return backend, result


def _measured(model: LoadedModel, key: str, cancel: CancelToken | None) -> ProbeResult:
    started = time.perf_counter()
    race = _Race(model, race_window(model.bundle.manifest), started + BUDGET_S, cancel)
    race.run()
    agreement: dict[str, float] = {}
    chosen = _winner(model, race, agreement, cancel)
    call = _seconds_per_call(model, race, chosen, started + BUDGET_S)
    took = time.perf_counter() - started
    return ProbeResult(chosen, race.seconds, agreement, race.refused, key, call, took, race.settled)


@dataclass
class _Race:
    """Times engines on one window, interleaved, and lets the slow ones go."""

    model: LoadedModel
    window: tuple[int, ...]
    deadline: float
    cancel: CancelToken | None
    seconds: dict[str, float] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    settled: bool = True

    def run(self) -> None:
        """Fill ``seconds`` and ``refused``."""
        generator = torch.Generator().manual_seed(0)
        channels = self.model.bundle.manifest.channels_in()
        sample = torch.rand((1, channels, *self.window), generator=generator)
        for name in self.model.candidates():
            if self._is_over_for(name):
                self.refused[name] = "not measured: the time for choosing was up"
                self.settled = False
                continue
            self._start(name, sample)
        for _ in range(_ROUNDS):
            for name in self._leaders():
                if time.perf_counter() > self.deadline:
                    return
                self._time(name, sample)

    def _is_over_for(self, name: str) -> bool:
        """Whether an engine comes too late; the first exact one never does: there must be one to fall back on."""
        if time.perf_counter() <= self.deadline:
            return False
        return not is_exact(name) or any(is_exact(other) for other in self.seconds)

    def _start(self, name: str, sample: torch.Tensor) -> None:
        """Build an engine and let it make its kernels; time it unless that call was hopelessly slow."""
        if self.cancel is not None:
            self.cancel.raise_if_cancelled()
        best = min(self.seconds.values(), default=math.inf)
        try:
            first = _timed(self.model.backend(name), sample)
            self.seconds[name] = first
            if first < _HOPELESS * best:
                self._time(name, sample)
        except (AppError, RuntimeError, MemoryError, ImportError) as error:
            self.seconds.pop(name, None)
            self.refused[name] = f"{type(error).__name__}: it could not run here"

    def _leaders(self) -> list[str]:
        best = min(self.seconds.values(), default=math.inf)
        return [name for name, seconds in self.seconds.items() if seconds <= _CLOSE * best]

    def _time(self, name: str, sample: torch.Tensor) -> None:
        self.seconds[name] = min(self.seconds[name], _timed(self.model.backend(name), sample))


def _winner(model: LoadedModel, race: _Race, agreement: dict[str, float], cancel: CancelToken | None) -> str:
    """Return the fastest engine that is exact, or worth it and right on the reference input."""
    ranking = sorted(race.seconds, key=lambda name: race.seconds[name])
    exact = [name for name in ranking if is_exact(name)]
    gate = Gate(model, _GATE_S)
    for name in ranking:
        if name in exact:
            return name
        if exact and not _is_worth(race.seconds[name], race.seconds[exact[0]]):
            race.refused[name] = "not faster enough than the exact engine"
            continue
        verdict = gate.judge(name, race.seconds[name] / math.prod(race.window), cancel)
        agreement[name] = verdict.share
        if not verdict.why:
            return name
        race.refused[name] = verdict.why
        race.settled &= not verdict.unsettled
    return model.exact_name()


def _is_worth(lower: float, exact: float) -> bool:
    """Whether lower precision saves enough to be used at all."""
    return lower * _WORTH < exact and lower + _WORTH_S < exact


def _seconds_per_call(model: LoadedModel, race: _Race, name: str, deadline: float) -> float:
    """Measure one call on the model's own batch of windows; scale up from the race when time is short."""
    manifest = model.bundle.manifest
    size = _own_window(manifest)
    batch = manifest.inference.batch if manifest.is_3d else 1
    if name in race.seconds:
        scaled = race.seconds[name] * batch * math.prod(size) / math.prod(race.window)
        if (size == race.window and batch == 1) or time.perf_counter() + 2 * scaled > deadline:
            return scaled
    sample = torch.rand((batch, manifest.channels_in(), *size))
    return _timed(model.backend(name), sample)


def race_window(manifest: Manifest) -> tuple[int, ...]:
    """Return the model's window, halved along its longest axes until it has some 64³ voxels."""
    size = list(_own_window(manifest))
    step = manifest.inference.divisor if manifest.is_3d else 1
    while math.prod(size) > _RACE_VOXELS:
        axis = size.index(max(size))
        half = -(-size[axis] // (2 * step)) * step
        if half >= size[axis]:
            break
        size[axis] = half
    return tuple(size)


def _own_window(manifest: Manifest) -> tuple[int, ...]:
    if manifest.is_3d:
        return manifest.inference.patch_kji or _WHOLE_IMAGE_WINDOW
    return manifest.preprocessing.resize_hw or _IMAGE


def _timed(backend: Backend, sample: torch.Tensor) -> float:
    started = time.perf_counter()
    backend(sample)
    if backend.device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def _key(model: LoadedModel) -> str:
    """Identify model, machine, libraries and thread count: another of them means measuring again."""
    facts = [
        _VERSION,
        sorted(model.bundle.hashes.items()),
        model.device,
        model.candidates(),
        platform.machine(),
        torch.backends.cpu.get_cpu_capability(),
        torch.get_num_threads(),
        torch.__version__,
        onnxruntime.__version__,
    ]
    return sha256_hex(json.dumps(facts).encode())


def _cached(file: Path | None, key: str, model: LoadedModel) -> ProbeResult | None:
    if file is None or not file.is_file():
        return None
    try:
        result = ProbeResult(**json.loads(file.read_bytes()))
    except (OSError, ValueError, TypeError):
        file.unlink(missing_ok=True)
        return None
    if result.key != key or result.chosen not in (*model.candidates(), model.exact_name()):
        file.unlink(missing_ok=True)
        return None
    return result
