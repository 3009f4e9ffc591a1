"""The words of the worklist's lines. Text of files is made safe here: plain, isolated, without control characters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from app.presenters.identity import without_identity
from app.presenters.wording import count_in_words, date_in_words, series_detail, series_title
from core.domain.browse import StudyLine
from core.domain.person_name import PersonName, folded, isolated
from core.domain.study import ObjectKind, PatientIdentity, ReadStatus, SeriesKind, SeriesSummary, StudySummary

COLUMNS = (
    ("date", "Study date"),
    ("modality", "Modality"),
    ("counts", "Series and pictures"),
    ("body_part", "Body part"),
    ("imported", "Import date"),
    ("tags", "Tags"),
    ("patient_id", "Patient ID"),
    ("birth_date", "Birth date"),
    ("age_sex", "Age and sex"),
    ("accession", "Accession number"),
)
"""Details that a reader may choose; the last four belong to the patient and are hidden with the identity."""

STATUS_WORDS = {
    ReadStatus.UNREAD: "Unread",
    ReadStatus.IN_PROGRESS: "In progress",
    ReadStatus.REVIEWED: "Reviewed",
}
_OBJECTS = {
    ObjectKind.SEGMENTATION: ("segment", "Segmentation"),
    ObjectKind.STRUCTURE_SET: ("structure-set", "Structure set"),
    ObjectKind.REPORT: ("report", "Structured report"),
    ObjectKind.PRESENTATION: ("presentation", "Presentation state"),
    ObjectKind.KEY_OBJECTS: ("key-objects", "Key objects"),
    ObjectKind.PARAMETRIC_MAP: ("parametric-map", "Parametric map"),
    ObjectKind.DOCUMENT: ("document", "Document"),
    ObjectKind.UNKNOWN: ("layers", "Other object"),
}
_PROJECTIONS = frozenset({"CR", "DX", "MG", "RF", "PX", "IO", "RG"})
_DERIVED = frozenset({"SEG", "SR", "PR", "KO", "DOC", "RTSTRUCT", "RTPLAN", "RTDOSE", "REG", "FID"})
_LOCALIZER = "series.localizer"


@dataclass(frozen=True)
class Words:
    """What one line says; ``tip`` and ``spoken`` are plain text.

    Attributes
    ----------
    title, beside, detail : str
        First line, what stands dimmed beside it (another script of the name), second line.
    chips : tuple of str
        Short marks before the detail: tags, time points, current or prior.
    icon, icon_name : str
        Kind of the line for the eye, and in words.
    caution : str
        What must be known before relying on it, or empty.
    """

    title: str
    detail: str = ""
    beside: str = ""
    chips: tuple[str, ...] = ()
    icon: str = ""
    icon_name: str = ""
    caution: str = ""
    status: str = ""
    results: int = 0
    count: str = ""
    relation: str = ""
    strong: bool = False

    @property
    def spoken(self) -> str:
        """The line as it is read aloud and searched."""
        waiting = f"{count_in_words(self.results, 'result', 'results')} waiting" if self.results else ""
        caution = f"Caution: {self.caution}" if self.caution else ""
        parts = [self.title, self.beside, self.icon_name, self.status, self.relation, *self.chips]
        return ", ".join(part for part in [*parts, self.detail, self.count, waiting, caution] if part)

    @property
    def tip(self) -> str:
        """The line in full, with the reason of the caution mark."""
        name = " · ".join(part for part in (self.title, self.beside) if part)
        marks = " · ".join(part for part in (self.status, self.relation, *self.chips) if part)
        waiting = f"{count_in_words(self.results, 'result', 'results')} waiting" if self.results else ""
        kind = "" if self.icon_name in ("", self.title) else self.icon_name
        lines = (name, kind, self.detail, marks, waiting, f"Caution: {self.caution}" if self.caution else "")
        return "\n".join(line for line in lines if line)


@dataclass(frozen=True)
class Wording:
    """How lines are worded: whether identity is hidden, and which details the reader chose."""

    hidden: bool = False
    columns: tuple[str, ...] = ("date", "modality", "tags", "patient_id", "birth_date", "age_sex")

    def name(self, line: StudyLine) -> tuple[str, str]:
        """Return the name in the alphabetic group and in the others; the pseudonym when hidden or unknown."""
        if not self.hidden:
            parsed = PersonName.parse(line.identity.patient_name)
            alphabetic, ideographic, phonetic = (
                isolated(group.in_words())
                for group in (parsed.alphabetic, parsed.ideographic, parsed.phonetic)
            )
            found = [text for text in (alphabetic, ideographic, phonetic) if text]
            if found:
                return found[0], found[1] if len(found) > 1 else ""
        return line.patient_key, ""

    def one_name(self, line: StudyLine) -> str:
        """Return the name with its other script in brackets."""
        first, beside = self.name(line)
        return f"{first} ({beside})" if beside else first

    def text(self, text: str, identity: PatientIdentity) -> str:
        """Return a hand-written text of a file as it may be shown."""
        return isolated(without_identity(text, identity) if self.hidden else text)

    def patient(self, lines: Sequence[StudyLine], folded_away: bool) -> Words:
        """Return the words of a patient's line."""
        newest = lines[0]
        name, beside = self.name(newest)
        detail = " · ".join(part for part in self._patient_details(newest) if part)
        count = count_in_words(len(lines), "study", "studies")
        return Words(
            name,
            detail or count,
            beside,
            caution=patient_conflict([line.identity for line in lines]),
            count=count if folded_away and detail else "",
            results=sum(line.waiting for line in lines) if folded_away else 0,
            strong=True,
        )

    def _patient_details(self, line: StudyLine) -> list[str]:
        identity, chosen = line.identity, self.columns
        if self.hidden:
            return [isolated(identity.sex)] if "age_sex" in chosen else []
        texts = {
            "patient_id": isolated(identity.patient_id),
            "birth_date": date_in_words(identity.birth_date),
            "age_sex": " ".join(
                part
                for part in (age_in_words(identity.birth_date, line.study_date), isolated(identity.sex))
                if part
            ),
            "accession": isolated(identity.accession_number),
        }
        return [text for column, text in texts.items() if column in chosen]

    def study(self, line: StudyLine, relation: str) -> Words:
        """Return the words of a study's line; ``relation`` is ``"current"``, ``"prior"``, ``"newer"`` or empty."""
        pictures = count_in_words(line.instance_count, "picture", "pictures")
        texts = {
            "date": date_in_words(line.study_date),
            "modality": " ".join(modalities_in_words(line.modalities)),
            "body_part": isolated(" ".join(part.lower() for part in line.body_parts)),
            "counts": f"{line.series_count} series, {pictures}",
            "imported": f"in {line.imported_utc[:10]}" if line.imported_utc else "",
        }
        detail = " · ".join(text for column, text in texts.items() if text and column in self.columns)
        tags = tuple(isolated(tag) for tag in line.tags) if "tags" in self.columns else ()
        return Words(
            self.text(line.description, line.identity) or "Study without description",
            detail,
            chips=tags,
            status=STATUS_WORDS[ReadStatus(line.status)],
            caution="At least one series has a caution; unfold the study to read it."
            if line.has_issues
            else "",
            results=line.waiting,
            relation=relation,
        )

    def series(self, found: SeriesSummary, identity: PatientIdentity) -> Words:
        """Return the words of a series' line."""
        icon, icon_name = series_icon(found)
        chips = [time_points_in_words(found)] if found.time_points > 1 else []
        if found.view:
            chips.append(isolated(found.view))
        title = self.text(series_title(found), identity)
        if found.object_kind is not ObjectKind.NONE:
            detail = icon_name
        else:
            detail = isolated(series_detail(found))
        cautions = "\n".join(issue.message for issue in found.issues)
        return Words(title, detail, chips=tuple(chips), icon=icon, icon_name=icon_name, caution=cautions)


def patient_conflict(identities: Sequence[PatientIdentity]) -> str:
    """Return a caution when studies under one patient ID name different people, or an empty string.

    It says in what they differ and never holds the values: it may be shown while identity is hidden.
    """
    differs = []
    names = {folded(identity.patient_name.partition("=")[0]) for identity in identities}
    if len(names - {""}) > 1:
        differs.append("name")
    if len({identity.birth_date for identity in identities} - {""}) > 1:
        differs.append("birth date")
    if len({identity.sex for identity in identities if identity.sex in ("F", "M")}) > 1:
        differs.append("sex")
    if not differs:
        return ""
    return (
        f"The studies under this patient ID differ in {' and '.join(differs)}: check that it is one patient."
    )


def modalities_in_words(modalities: Sequence[str]) -> tuple[str, ...]:
    """Return the modalities of a study that made pictures; of a study of derived objects alone, theirs."""
    pictures = tuple(isolated(m) for m in modalities if m not in _DERIVED)
    return pictures or tuple(isolated(m) for m in modalities)


def mixed_patients(studies: Sequence[StudySummary]) -> str:
    """Return a caution when one import brought studies of several patients, or an empty string."""
    patients = len({study.pseudonym for study in studies})
    return f"This import brought studies of {patients} different patients." if patients > 1 else ""


def age_in_words(birth_date: str, study_month: str) -> str:
    """Return the age at the time of the study: ``"54 y"``, ``"7 mo"``; empty when a date is missing.

    The index knows the month of a study, not the day, so that the age may be a month too low.
    """
    digits = birth_date.replace("-", "")
    if len(digits) < 6 or not digits[:6].isdigit() or len(study_month) < 7:
        return ""
    year, month = study_month[:4], study_month[5:7]
    if not (year + month).isdigit():
        return ""
    months = (int(year) - int(digits[:4])) * 12 + int(month) - int(digits[4:6])
    if months < 0:
        return ""
    return f"{months // 12} y" if months >= 24 else f"{months} mo"


def time_points_in_words(series: SeriesSummary) -> str:
    """Return how many time points a 4-D series has, in the words of its dimension."""
    dimension = isolated(series.dimension) or "time point"
    return (
        f"{series.time_points} {dimension}s"
        if not dimension.endswith("s")
        else f"{series.time_points} {dimension}"
    )


def series_icon(series: SeriesSummary) -> tuple[str, str]:
    """Return the icon of a series and what it says."""
    if series.object_kind is not ObjectKind.NONE:
        return _OBJECTS[series.object_kind]
    if series.kind is SeriesKind.OTHER:
        return _OBJECTS[ObjectKind.UNKNOWN]
    if any(issue.code == _LOCALIZER for issue in series.issues):
        return "localizer", "Localizer"
    if series.time_points > 1:
        return "volume-4d", "4-D series"
    if series.kind is SeriesKind.CINE:
        return "cine", "Cine"
    if series.view or (series.modality in _PROJECTIONS and series.kind is SeriesKind.IMAGE):
        return "projection", "Projection"
    return ("volume", "Volume") if series.kind is SeriesKind.VOLUME else ("image", "Image")


def interval_in_words(current_month: str, other_month: str) -> str:
    """Return how far another study is from the current one: ``"2 years earlier"``; empty without both months."""
    try:
        years = int(current_month[:4]) - int(other_month[:4])
        months = years * 12 + int(current_month[5:7]) - int(other_month[5:7])
    except ValueError:
        return ""
    if months == 0:
        return "same month"
    direction, months = ("earlier" if months > 0 else "later"), abs(months)
    if months >= 24:
        return f"{count_in_words(months // 12, 'year', 'years')} {direction}"
    return f"{count_in_words(months, 'month', 'months')} {direction}"
