"""Sources by name."""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Literal

from core.domain.errors import EnvironmentFault
from core.recipes.cases import Case
from core.recipes.nearest import did_you_mean
from core.recipes.sources.base import CaseSource, check_unique, refusal
from core.recipes.sources.brain_contrasts import BrainContrastsSource
from core.recipes.sources.class_folders import ClassFoldersSource
from core.recipes.sources.csv_manifest import CsvManifestSource
from core.recipes.sources.dicom_series import DicomSeriesSource
from core.recipes.sources.image_mask_files import ImageMaskSource
from core.recipes.sources.library_cases import LibraryCasesSource
from core.recipes.sources.listed import ListedSource
from core.recipes.sources.nifti_patients import NiftiPatientsSource
from core.recipes.sources.npz_arrays import NpzArraysSource
from core.recipes.sources.painted_lesions import PaintedLesionsSource
from core.recipes.sources.phantoms import PhantomsSource
from core.recipes.sources.synthetic_reports import SyntheticReportsSource
from core.recipes.sources_schema import PluginSource, Source

ENTRY_POINTS = "overread.sources"

SOURCES: dict[str, type[CaseSource]] = {
    source.name: source
    for source in (
        BrainContrastsSource,
        ClassFoldersSource,
        CsvManifestSource,
        DicomSeriesSource,
        ImageMaskSource,
        LibraryCasesSource,
        ListedSource,
        NiftiPatientsSource,
        NpzArraysSource,
        PaintedLesionsSource,
        PhantomsSource,
        SyntheticReportsSource,
    )
}


def list_cases(
    source: Source,
    folder: Path | None,
    channels: tuple[str, ...] = ("image",),
    missing: Literal["refuse", "leave_out", "zeros"] = "refuse",
) -> list[Case]:
    """Return the cases of a source, in an order that depends on names only.

    Parameters
    ----------
    folder : pathlib.Path or None
        The data folder; procedural sources need none.
    missing : str
        What becomes of a case that lacks a channel.

    Raises
    ------
    InputError
        ``data.…`` naming the file and the remedy.
    """
    crawler = source_of(source)
    if folder is None and crawler.needs_folder(_settings(source)):
        raise refusal("no_folder", "This recipe needs a data folder.", "Give it with --data.")
    cases = check_unique(crawler.cases(_settings(source), folder or Path(), channels))
    if not cases:
        raise refusal("no_images", "The data folder holds no cases.", "Check the folder and data.source.")
    kept = []
    for case in cases:
        absent = [channel for channel in channels if channel not in case.images]
        if not absent or case.seed is not None or missing == "zeros":
            kept.append(case)
        elif missing == "refuse":
            raise refusal(
                "no_channel",
                f"The case “{case.id}” lacks {', '.join(absent)}.",
                "Add the file, or set data.missing to leave_out or zeros.",
            )
    if not kept:
        raise refusal("no_channel", f"No case has all of {', '.join(channels)}.", "Check data.channels.")
    return kept


def source_of(source: Source) -> CaseSource:
    """Return the crawler of a source's section.

    Raises
    ------
    InputError
        ``data.no_source`` when a plug-in isn't installed.
    EnvironmentFault
        ``data.source_broken`` when it can't be loaded.
    """
    if isinstance(source, PluginSource):
        return _plugin(source.source)()
    return SOURCES[source.name]()


def _settings(source: Source) -> object:
    return source.params if isinstance(source, PluginSource) else source


@cache
def _plugin(name: str) -> type[CaseSource]:
    known = {point.name: point for point in entry_points(group=ENTRY_POINTS)}
    if name not in known:
        raise refusal("no_source", f"No installed package has a source “{name}”.", did_you_mean(name, known))
    try:
        loaded = known[name].load()
    except Exception as error:
        raise EnvironmentFault(
            "data.source_broken",
            f"The source “{name}” can't be loaded ({type(error).__name__}).",
            "Reinstall it.",
        ) from error
    if not (isinstance(loaded, type) and issubclass(loaded, CaseSource)):
        raise EnvironmentFault(
            "data.source_broken", f"The source “{name}” is no CaseSource.", "Reinstall it."
        )
    return loaded
