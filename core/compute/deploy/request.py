"""What a deployment is asked for, checked before anything is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from core.compute.deploy.onnx_files import require_openvino
from core.compute.deploy.pruning import check_fraction
from core.domain.errors import InputError
from core.recipes.nearest import did_you_mean

FORMATS = ("torchscript", "onnx", "openvino", "monai", "mlflow", "triton")
REPORT_FILE, TABLE_FILE = "deploy.json", "deploy.md"


@dataclass(frozen=True)
class Request:
    """The wishes.

    Attributes
    ----------
    formats : tuple of str
        Of ``FORMATS``.
    int8 : str or None
        ``static``, ``dynamic`` or ``both``.
    prune : float or None
        Share of the channels to remove.
    data, calibration : pathlib.Path or None
        Cases to measure on; others to calibrate with.
    limit : int or None
        At most so many tested cases.
    epochs : int or None
        Of the fine-tuning after pruning; 0 leaves the pruned network as it is.
    recipe : str or None
        Fine-tunes a pruned model that isn't a training's; of a training its own recipe is used.
    rounds : int
        Of the timing.
    key : pathlib.Path or None
        Signs the bundle.
    """

    formats: tuple[str, ...]
    out: Path
    int8: Literal["static", "dynamic", "both"] | None = None
    prune: float | None = None
    data: Path | None = None
    calibration: Path | None = None
    limit: int | None = None
    epochs: int | None = None
    recipe: str | None = None
    rounds: int = 10
    key: Path | None = None

    def check(self) -> None:
        """Refuse what can't be done.

        Raises
        ------
        InputError
            ``deploy.format``, ``deploy.int8``, ``deploy.prune``, ``deploy.out``, ``deploy.rounds``.
        EnvironmentFault
            ``deploy.openvino`` when the package is absent.
        """
        for name in self.formats:
            if name not in FORMATS:
                raise InputError(
                    "deploy.format", f"There is no format “{name}”.", did_you_mean(name, list(FORMATS))
                )
        if self.int8 not in (None, "static", "dynamic", "both"):
            raise InputError(
                "deploy.int8", f"There is no INT8 “{self.int8}”.", "Use static, dynamic or both."
            )
        if not self.formats and self.int8 is None and self.prune is None:
            raise InputError(
                "deploy.format", "Nothing was asked for.", f"Name formats with --as: {', '.join(FORMATS)}."
            )
        if self.prune is not None:
            check_fraction(self.prune)
        if self.rounds < 1 or (self.limit is not None and self.limit < 1):
            raise InputError("deploy.rounds", "Rounds and cases are counted from 1.", "Give a larger number.")
        for folder in (self.data, self.calibration):
            if folder is not None and not folder.exists():
                raise InputError(
                    "deploy.no_data", f"“{folder.name}” does not exist.", "Check the path of the data."
                )
        self._check_out()
        if "openvino" in self.formats:
            require_openvino()

    def _check_out(self) -> None:
        """Only an empty folder, or one of an earlier deployment, is written to: what lies there is replaced."""
        if self.out.exists() and not self.out.is_dir():
            raise InputError("deploy.out", "The output is a file.", "Give a folder with --out.")
        if self.out.is_dir() and any(self.out.iterdir()) and not (self.out / REPORT_FILE).is_file():
            raise InputError(
                "deploy.out",
                f"The folder “{self.out.name}” holds other files.",
                "Give an empty or a new folder with --out.",
            )


def parsed_formats(text: str | Sequence[str]) -> tuple[str, ...]:
    """Return formats of ``"torchscript, onnx"`` or of a sequence, each once."""
    parts = text.split(",") if isinstance(text, str) else list(text)
    return tuple(dict.fromkeys(part.strip().lower() for part in parts if part.strip()))
