"""The cases that a model is evaluated on, found in a folder whose layout says what they are.

Four layouts: a table (``manifest.csv``: file, label or mask, optionally patient; other columns are groups), folders
``images`` and ``masks`` (or ``labels``) with equal names, one folder per class, and — with a recipe — whatever its
source reads. In reports cases are numbered: their files' names may hold identity.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from core.bundles.manifest import Manifest, Measurement
from core.domain.errors import InputError
from core.recipes.cases import Case, CaseData, Part
from core.recipes.fingerprint import file_sha256, fingerprint
from core.recipes.load import load_recipe
from core.recipes.nearest import did_you_mean
from core.recipes.reading import read_case
from core.recipes.schema import Data
from core.recipes.sources.csv_manifest import columns_of
from core.recipes.sources.registry import list_cases, source_of
from core.recipes.sources_schema import ClassFolders, CsvManifest, ImageMaskFiles, NiftiPatients
from core.recipes.split_result import restored

_VALUES_FILE = "labels.json"
_TABLE = "manifest.csv"
_RUN_FILE, _RECIPE_FILE, _SPLIT_FILE = "run.json", "recipe.yaml", "split.json"


Kind = Literal["classes", "masks", "tasks"]
_KINDS: dict[str, Kind] = {"classification": "classes", "segmentation": "masks", "multitask": "tasks"}


@dataclass(frozen=True, eq=False)
class EvaluationSet:
    """Cases and how they are read.

    Attributes
    ----------
    kind : str
        ``"classes"`` (each case has a label, the index in ``names``), ``"masks"``, or ``"tasks"`` (each case has at
        least one of label, mask and values).
    names : tuple of str
        The model's classes or structures, in the order of its values; of several tasks the structures, then classes.
    structures : dict
        For masks and tasks: the structures that the data hold, name → label value of the model.
    classes : tuple of str
        For classes and tasks: what the labels stand for.
    measurements : tuple of Measurement
        For tasks: what the values are.
    notes : tuple of str
        What a reader of the report must know about the data.
    """

    kind: Kind
    cases: tuple[Case, ...]
    data: Data
    names: tuple[str, ...]
    structures: dict[str, int]
    notes: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    measurements: tuple[Measurement, ...] = ()

    @property
    def class_names(self) -> tuple[str, ...]:
        """What the labels stand for; empty without classes."""
        return self.names if self.kind == "classes" else self.classes

    def read(self, case: Case) -> CaseData:
        """Read one case; AppErrors of the readers name it."""
        return read_case(case, self.data)

    def patients(self) -> list[str] | None:
        """Return the patient of each case; None when the data don't tell (each case its own)."""
        known = [case.patient for case in self.cases]
        return None if all(case.patient in (case.id, "") for case in self.cases) else known

    def columns(self) -> dict[str, list[str]]:
        """Return the groups given with the cases: column → value of each case."""
        names = sorted({name for case in self.cases for name in case.attributes})
        return {name: [case.attributes.get(name, "") for case in self.cases] for name in names}

    def fingerprint(self) -> str:
        """Return the sha256 of all files' contents and the truth, whatever the files are called."""
        rows = []
        for case in self.cases:
            truth = f"{case.label} {case.seed}"
            if case.values:
                truth += f" {sorted(case.values.items())}"
            rows.append(" ".join([*(file_sha256(path) for path in case.files), truth]))
        return hashlib.sha256("\n".join(sorted(rows)).encode()).hexdigest()


def evaluation_set_of(cases: Sequence[Case], data: Data, manifest: Manifest) -> EvaluationSet:
    """Return cases that a recipe's source found as a test set for a model.

    Labels of the cases are values of the model.

    Raises
    ------
    InputError
        ``evaluation.no_cases``, ``evaluation.truth`` when the cases lack what the model's task needs.
    """
    if not cases:
        raise InputError(
            "evaluation.no_cases", "There is no case to evaluate on.", "Choose other data or another part."
        )
    names = names_of(manifest)
    kind = kind_of(manifest)
    lacking = [case for case in cases if not _has_truth(case, kind)]
    if lacking:
        what = {"classes": "a class", "masks": "a mask", "tasks": "an answer to any task"}[kind]
        raise InputError(
            "evaluation.truth",
            f"{len(lacking)} of {len(cases)} cases have no {what.split(maxsplit=1)[1]}.",
            f"{manifest.title} needs {what} for every case.",
        )
    structures = {label.name: label.value for label in manifest.structures}
    classes = tuple(label.name for label in manifest.image_classes)
    return EvaluationSet(
        kind, tuple(cases), data, names, structures, _patient_note(cases), classes, manifest.measurements
    )


def _has_truth(case: Case, kind: Kind) -> bool:
    if kind == "classes":
        return case.label is not None or (case.seed is not None and not case.images)
    masked = case.mask is not None or case.seed is not None
    return masked or (kind == "tasks" and (case.label is not None or bool(case.values)))


def read_evaluation_set(path: Path, manifest: Manifest) -> EvaluationSet:
    """Find the cases below a folder, or of a table.

    Raises
    ------
    InputError
        ``evaluation.layout`` when the folder has none of the known layouts, ``evaluation.classes`` when no folder is
        a class of the model, ``evaluation.values`` (``labels.json``), and ``data.…`` from the sources.
    """
    if not path.exists():
        raise InputError("evaluation.no_data", "The data folder does not exist.", "Check its path.")
    folder = path if path.is_dir() else path.parent
    names = names_of(manifest)
    table = _table(path)
    notes: list[str] = []
    values, structures = _values(folder, manifest)
    source: CsvManifest | ImageMaskFiles | ClassFolders | NiftiPatients
    class_names = tuple(label.name for label in manifest.image_classes)
    masks = next((n for n in ("masks", "labels") if (folder / n).is_dir()), None)
    if table is not None:
        source = _of_table(table, manifest, values)
    elif masks is not None and (folder / "images").is_dir():
        source = ImageMaskFiles(name="image_mask_files", masks=masks, values=values)
    elif manifest.inputs and manifest.structures:
        source = NiftiPatients(name="nifti_patients", values=values)
    else:
        source, notes = _class_folders(folder, class_names or names)
    data = Data(
        source=source,
        channels=manifest.inputs or ("image",),
        missing="zeros" if manifest.missing_inputs == "zeros" else "refuse",
    )
    cases = source_of(source).cases(source, folder, data.channels)
    if isinstance(source, ClassFolders):
        cases = [replace(c, label=class_names.index(source.classes[c.label or 0])) for c in cases]
    found = evaluation_set_of(cases, data, manifest)
    if structures and found.kind != "classes":
        found = replace(found, structures=structures)
    return replace(found, notes=(*notes, *found.notes))


def kept_out_of_training(run_folder: Path, data: Path, manifest: Manifest) -> EvaluationSet | None:
    """Return the test part of the data that a run was trained on; None when the data are others.

    Raises
    ------
    InputError
        ``evaluation.no_cases`` when the run kept nothing out.
    SafetyError
        ``split.leak``.
    """
    files = [run_folder / name for name in (_RUN_FILE, _RECIPE_FILE, _SPLIT_FILE)]
    if not all(file.is_file() for file in files):
        return None
    run, split = (json.loads(files[n].read_text(encoding="utf-8")) for n in (0, 2))
    try:
        section = load_recipe(files[1]).data
        cases = list_cases(section.source, data, section.channels, section.missing)
    except InputError:
        return None
    if fingerprint(cases) != run.get("data_fingerprint"):
        return None
    tested = restored(split, cases).parts[Part.TEST]
    note = (
        f"The model was trained on other cases of these data; it is evaluated on the {len(tested)} that its "
        "training never saw."
    )
    found = evaluation_set_of(tested, section, manifest)
    return replace(found, notes=(note, *found.notes))


def kind_of(manifest: Manifest) -> Kind:
    """Return what kind of data a model is evaluated on."""
    return _KINDS[manifest.task]


def names_of(manifest: Manifest) -> tuple[str, ...]:
    """Return the names of a model's structures and classes in the order of their values."""
    labels = sorted(manifest.labels, key=lambda label: label.value)
    return tuple(label.name for label in (*labels, *sorted(manifest.classes, key=lambda label: label.value)))


def _of_table(table: Path, manifest: Manifest, values: dict[int, int]) -> CsvManifest:
    """Return the source for a table; columns named like the model's measurements are their true values."""
    columns = columns_of(table)
    text = next((name for name in ("text", "report") if manifest.text is not None and name in columns), None)
    return CsvManifest(
        name="csv_manifest",
        file=table.name,
        classes=tuple(label.name for label in manifest.image_classes),
        values=values,
        measurements=tuple(one.name for one in manifest.measurements if one.name in columns),
        text=text,
    )


def _table(path: Path) -> Path | None:
    if path.is_file():
        if path.suffix.lower() != ".csv":
            raise InputError(
                "evaluation.layout", "The data are neither a folder nor a CSV table.", "Give one of them."
            )
        return path
    if (path / _TABLE).is_file():
        return path / _TABLE
    tables = sorted(path.glob("*.csv"))
    return tables[0] if len(tables) == 1 else None


def _class_folders(folder: Path, names: Sequence[str]) -> tuple[ClassFolders, list[str]]:
    present = sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    known = {_plain(name): name for name in names}
    pairs = [(known[_plain(name)], name) for name in present if _plain(name) in known]
    other = [name for name in present if _plain(name) not in known]
    if not pairs:
        raise InputError(
            "evaluation.layout",
            "The data folder holds no table, no folders “images” and “masks”, and no folder named as a class.",
            f"Classes of the model: {', '.join(names)}.",
        )
    if other:
        raise InputError(
            "evaluation.classes",
            f"The folder “{other[0]}” of the data is no class of the model.",
            did_you_mean(other[0], names),
        )
    missing = [name for name in names if name not in dict(pairs)]
    notes = [f"The data hold no case of {', '.join(missing)}."] if missing else []
    if len(pairs) < 2:
        raise InputError(
            "evaluation.classes",
            f"The data hold cases of one class only ({pairs[0][0]}).",
            "Add the others: one class alone can't be told from anything.",
        )
    source = ClassFolders(
        name="class_folders", classes=tuple(a for a, _ in pairs), folders=tuple(b for _, b in pairs)
    )
    return source, notes


def _plain(name: str) -> str:
    return "".join(c for c in name.casefold() if c.isalnum())


def _values(folder: Path, manifest: Manifest) -> tuple[dict[int, int], dict[str, int]]:
    """Read ``labels.json`` (value in the mask → name of a structure): values, and the structures that are named."""
    file = folder / _VALUES_FILE
    if not file.is_file() or manifest.task == "classification":
        return {}, {}
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(found, Mapping):
            raise ValueError
        named = {int(value): str(name) for value, name in found.items()}
    except (OSError, ValueError) as error:
        raise InputError(
            "evaluation.values",
            f"{_VALUES_FILE} is no list of mask values and names.",
            'Write {"1": "Heart", "2": "Liver"}.',
        ) from error
    known = {label.name.casefold(): label for label in manifest.labels}
    for name in named.values():
        if name.casefold() not in known:
            raise InputError(
                "evaluation.values",
                f"{_VALUES_FILE} names “{name}”, which isn't a structure of the model.",
                did_you_mean(name, [label.name for label in manifest.labels]),
            )
    values = {value: known[name.casefold()].value for value, name in named.items()}
    structures = {label.name: label.value for label in manifest.labels if label.value in values.values()}
    return values, structures


def _patient_note(cases: Sequence[Case]) -> tuple[str, ...]:
    if any(case.patient not in (case.id, "") for case in cases):
        return ()
    return (
        "The data don't tell which cases belong to one patient; intervals take each case as a patient of its own "
        "and are too narrow where that isn't so.",
    )
