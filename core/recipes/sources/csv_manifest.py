"""A table with a row per case."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping
from pathlib import Path

from core.domain.errors import EnvironmentFault
from core.recipes.cases import Case, Part
from core.recipes.nearest import did_you_mean
from core.recipes.sources.base import (
    CaseSource,
    check_unique,
    pseudonym,
    refusal,
    relative_id,
    require_folder,
)
from core.recipes.sources_schema import CsvManifest

MAX_BYTES = 256 << 20
_OWN = ("file", "label", "mask", "patient", "study", "part", "id")
_PARTS = {
    "train": Part.TRAIN, "training": Part.TRAIN, "val": Part.VALIDATION, "valid": Part.VALIDATION,
    "validation": Part.VALIDATION, "test": Part.TEST, "testing": Part.TEST,
}  # fmt: skip


class CsvManifestSource(CaseSource):
    """Reads the table; separated by comma, semicolon or tab, UTF-8, names of columns in the first row."""

    name = "csv_manifest"

    def cases(self, settings: CsvManifest, folder: Path, channels: tuple[str, ...]) -> list[Case]:
        """Return a case per row, in the order of their files' names."""
        require_folder(folder)
        table = folder / settings.file
        if not table.resolve().is_relative_to(folder.resolve()) or not table.is_file():
            raise refusal(
                "no_table", f"The data folder has no table “{settings.file}”.", "Check data.source.file."
            )
        rows, columns = _rows(table)
        row_of = _Rows(settings, table.parent, channels, columns)
        found = [row_of.case(number, row) for number, row in enumerate(rows, start=2)]
        if not found:
            raise refusal("no_images", f"The table “{settings.file}” has no rows.", "Add a row per case.")
        return check_unique(sorted(found, key=lambda case: case.id))


class _Rows:
    """Turns rows into cases."""

    def __init__(
        self, settings: CsvManifest, folder: Path, channels: tuple[str, ...], columns: tuple[str, ...]
    ) -> None:
        self._settings, self._folder = settings, folder
        self._files = {
            channel: f"file_{channel}" if f"file_{channel}" in columns else "file"
            for channel in channels
            if f"file_{channel}" in columns or (channel == channels[0] and "file" in columns)
        }
        if not self._files:
            wanted = ["file", *(f"file_{channel}" for channel in channels)]
            raise refusal(
                "columns",
                f"The table has none of the columns {', '.join(wanted)}.",
                "Name the column of the images.",
            )
        self._numbers = settings.measurements
        more = (*self._numbers, *(() if settings.text is None else (settings.text,)))
        for name in more:
            if name not in columns:
                raise refusal("columns", f"The table has no column “{name}”.", did_you_mean(name, columns))
        if "label" not in columns and "mask" not in columns and not self._numbers:
            raise refusal("columns", "The table has neither a column label nor mask.", "Add one of them.")
        known = {*_OWN, *more, *self._files.values()}
        self._attributes = [name for name in columns if name and name not in known]

    def case(self, number: int, row: Mapping[str, str]) -> Case:
        images = {
            channel: (self._path(row[column], number),)
            for channel, column in self._files.items()
            if row[column]
        }
        if not images:
            raise refusal("no_image", f"Row {number} of the table names no file.", "Fill in the file.")
        first = next(iter(images.values()))[0]
        case_id = row.get("id") or relative_id(first, self._folder)
        patient = pseudonym(row["patient"]) if row.get("patient") else case_id
        study = pseudonym(row["study"]) if row.get("study") else case_id
        return Case(
            id=case_id,
            patient=patient,
            study=study,
            images=images,
            label=self._known_label(row, number),
            mask=self._mask(row, number),
            attributes={name: row[name] for name in self._attributes if row[name]},
            part=self._part(row.get("part", ""), number),
            values={name: self._number(row[name], name, number) for name in self._numbers if row[name]},
            text=None if self._settings.text is None else row[self._settings.text] or None,
        )

    def _path(self, name: str, number: int) -> Path:
        path = self._folder / name.replace("\\", "/")
        if not path.resolve().is_relative_to(self._folder.resolve()):
            raise refusal(
                "outside",
                f"Row {number} of the table names a file outside of the table's folder.",
                "Put the table above all files and name them relative to it.",
            )
        if not path.is_file():
            raise refusal(
                "no_image", f"The file of row {number}, “{path.name}”, isn't there.", "Check the table."
            )
        return path

    def _mask(self, row: Mapping[str, str], number: int) -> Path | None:
        if row.get("mask"):
            return self._path(row["mask"], number)
        if "mask" in row and "label" not in row and not self._numbers:
            raise refusal("no_mask", f"Row {number} of the table names no mask.", "Fill in the mask.")
        return None

    def _known_label(self, row: Mapping[str, str], number: int) -> int | None:
        if "label" not in row or (self._numbers and not row["label"]):
            return None
        return self._label(row["label"], number)

    def _number(self, text: str, name: str, number: int) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise refusal(
                "number", f"Row {number} of the table has no number in the column “{name}”.", "Correct it."
            )
        return value

    def _label(self, text: str, number: int) -> int:
        classes = self._settings.classes
        if text in classes:
            return classes.index(text)
        if text.isdecimal() and len(text) < 4 and (not classes or int(text) < len(classes)):
            return int(text)
        raise refusal(
            "label",
            f"Row {number} of the table has the label “{text}”, which isn't a class.",
            did_you_mean(text, classes)
            if classes
            else "Number the classes from 0, or name data.source.classes.",
        )

    def _part(self, text: str, number: int) -> Part | None:
        if not text:
            return None
        if text.lower() not in _PARTS:
            raise refusal(
                "part",
                f"Row {number} of the table has the part “{text}”.",
                "Write train, validation or test.",
            )
        return _PARTS[text.lower()]


def columns_of(table: Path) -> tuple[str, ...]:
    """Return the names of a table's columns.

    Raises
    ------
    InputError
        ``data.table``, ``data.columns`` when it can't be read as one.
    """
    return _rows(table)[1]


def _rows(table: Path) -> tuple[list[dict[str, str]], tuple[str, ...]]:
    try:
        with table.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise refusal("table", f"The table “{table.name}” isn't UTF-8 text.", "Save it as UTF-8.") from error
    except OSError as error:
        raise EnvironmentFault(
            "data.unreadable",
            f"The table “{table.name}” can't be read: {error.strerror}.",
            "Check its permissions.",
        ) from error
    if len(data) > MAX_BYTES:
        raise refusal("table", f"The table “{table.name}” is too large.", "Divide it.")
    head = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=head.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        columns = tuple(name.strip() for name in next(reader, []))
        if len(set(columns)) != len(columns):
            raise refusal("columns", "Two columns of the table have one name.", "Rename one of them.")
        rows = []
        for number, cells in enumerate(reader, start=2):
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) != len(columns):
                raise refusal(
                    "table",
                    f"Row {number} has {len(cells)} cells; the table has {len(columns)} columns.",
                    "Correct it.",
                )
            rows.append(dict(zip(columns, (cell.strip() for cell in cells), strict=True)))
    except csv.Error as error:
        raise refusal("table", f"The table “{table.name}” is damaged: {error}.", "Save it again.") from error
    return rows, columns
