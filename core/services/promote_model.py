"""Which version of a model is in use: changed by a named person with a reason, and changed back, bit by bit the same.

A promoted version is a folder of its own under ``versions``; nothing that was in use is ever overwritten, so a
roll-back only points to what lies there, after its digest was found unchanged. The library is the truth; the pointer
file repeats it for commands that don't open the library.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from core.bundles.bundle import Bundle, read_bundle
from core.bundles.catalogue import Catalogue, Version, read_pointers, write_pointers
from core.bundles.digest import bundle_digest
from core.config.atomic import flush_folder
from core.config.resources import shipped_bundles_dir
from core.domain.audit import AuditCode
from core.domain.errors import AppError, EnvironmentFault, InputError, SafetyError
from core.domain.training import Candidate, CandidateState, ModelVersions, PromotionEntry
from core.library.repositories.training import PromotionRecord
from core.library.unit_of_work import UnitOfWork
from core.services.candidates import candidate_folder, load_candidate
from core.services.engine import Engine
from core.services.list_models import catalogue, promoted_versions
from core.services.start_training import utc_now

NAME_LIMIT, REASON_LIMIT = 128, 2000
PROMOTE, ROLL_BACK = "promote", "rollback"


@dataclass(frozen=True)
class _InUse:
    """A version: its number, the digest of its files, its folder below the home (empty: as shipped or added)."""

    version: str
    sha256: str
    folder: str


def promote(engine: Engine, candidate_id: str, by: str, reason: str) -> ModelVersions:
    """Make a candidate the version in use.

    Parameters
    ----------
    by : str
        The person who decides.
    reason : str
        Why; kept sealed.

    Raises
    ------
    InputError
        ``promote.no_name``, ``promote.no_reason``, ``candidate.unknown``, ``promote.in_use``.
    SafetyError
        ``promote.not_compared``, ``promote.gates`` (there is no way around them), ``promote.other_current`` when
        another version is in use than the one compared with, ``promote.changed`` when the candidate's files aren't
        those that were compared.
    AppError
        If it can't be written; then the version in use is as before.
    """
    person, why = _person(by, "promote"), _reason(reason, "promote")
    candidate = load_candidate(engine, candidate_id)
    _require_passed(candidate)
    current = catalogue(engine).get(candidate.model_id)
    if bundle_digest(current) != candidate.base_sha256:
        raise SafetyError(
            "promote.other_current",
            f"Version {current.manifest.version} is in use; the candidate was compared with {candidate.base_version}.",
            "Train anew from the version in use.",
        )
    bundle = _unchanged(candidate_folder(engine, candidate), candidate.bundle_sha256, candidate.model_id)
    folder = _install(engine, bundle, candidate)
    to = _InUse(candidate.version, candidate.bundle_sha256, folder.relative_to(engine.paths.root).as_posix())
    with engine.unit_of_work() as uow:
        was = _in_use(engine, uow, candidate)
        for other in uow.candidates.all(candidate.model_id):
            if other.state is CandidateState.PROMOTED:
                uow.candidates.set_state(other.candidate_id, CandidateState.SUPERSEDED)
        uow.candidates.set_state(candidate_id, CandidateState.PROMOTED)
        entry = _entry(candidate.model_id, PROMOTE, was, to, person, why, candidate_id)
        _change(engine, uow, entry, was, to, AuditCode.MODEL_PROMOTED)
    _write_pointers(engine)
    return model_versions(engine, candidate.model_id)


def roll_back(engine: Engine, model_id: str, by: str, reason: str) -> ModelVersions:
    """Make the version that was in use before the present one the one in use again.

    Works also when the present version's files are damaged.

    Raises
    ------
    InputError
        ``rollback.no_name``, ``rollback.no_reason``, ``rollback.nothing`` when nothing was promoted.
    SafetyError
        ``rollback.changed`` when the files of the former version aren't those that were in use.
    AppError
        If it can't be written; then the version in use is as before.
    """
    person, why = _person(by, "rollback"), _reason(reason, "rollback")
    last = _last_promotion(engine, model_id)
    to = _InUse(last.entry.from_version, last.from_sha256, last.from_folder)
    _require_former(engine, model_id, to)
    with engine.unit_of_work() as uow:
        if _standing(uow.promotions.of_model(model_id))[-1:] != [last]:
            raise _meanwhile()
        was = _InUse(last.entry.to_version, last.to_sha256, last.to_folder)
        uow.candidates.set_state(last.entry.candidate_id, CandidateState.ROLLED_BACK)
        for candidate in uow.candidates.all(model_id):
            if to.folder and candidate.bundle_sha256 == to.sha256:
                uow.candidates.set_state(candidate.candidate_id, CandidateState.PROMOTED)
        entry = _entry(model_id, ROLL_BACK, was, to, person, why, last.entry.candidate_id)
        _change(engine, uow, entry, was, to, AuditCode.MODEL_ROLLED_BACK)
    _write_pointers(engine)
    return model_versions(engine, model_id)


def model_versions(engine: Engine, model_id: str) -> ModelVersions:
    """Return the version in use, the one that a roll-back returns to, and what was done, newest first.

    Raises
    ------
    InputError
        If there is no such model (``model.unknown``).
    """
    bundle = catalogue(engine).get(model_id)
    with engine.unit_of_work(writes=False) as uow:
        records = uow.promotions.of_model(model_id)
    standing = _standing(records)
    return ModelVersions(
        model_id,
        bundle.manifest.title,
        bundle.manifest.version,
        bundle_digest(bundle),
        standing[-1].entry.from_version if standing else "",
        tuple(record.entry for record in reversed(records)),
    )


def _standing(records: list[PromotionRecord]) -> list[PromotionRecord]:
    """Return the promotions that no roll-back has undone, the oldest first."""
    stack: list[PromotionRecord] = []
    for record in records:
        if record.entry.action == PROMOTE:
            stack.append(record)
        elif stack:
            stack.pop()
    return stack


def _last_promotion(engine: Engine, model_id: str) -> PromotionRecord:
    with engine.unit_of_work(writes=False) as uow:
        standing = _standing(uow.promotions.of_model(model_id))
    if not standing:
        raise InputError(
            "rollback.nothing",
            f"No version of “{model_id}” was promoted; there is nothing to go back to.",
            "Look at the model's history.",
        )
    return standing[-1]


def _person(by: str, what: str) -> str:
    name = by.strip()
    if not name or len(name) > NAME_LIMIT:
        raise InputError(
            f"{what}.no_name", "A person must answer for the version in use.", "Give the person's name."
        )
    return name


def _reason(reason: str, what: str) -> str:
    text = reason.strip()
    if not text or len(text) > REASON_LIMIT:
        raise InputError(
            f"{what}.no_reason", "No reason was given.", f"Give one of at most {REASON_LIMIT} characters."
        )
    return text


def _require_passed(candidate: Candidate) -> None:
    if candidate.state is CandidateState.PROMOTED:
        raise InputError(
            "promote.in_use", "This candidate is in use already.", "Look at the model's history."
        )
    if candidate.comparison is None or not candidate.gates:
        raise SafetyError(
            "promote.not_compared",
            "The candidate was not compared with the model in use.",
            "Wait until the training's comparison is done.",
        )
    failed = [gate for gate in candidate.gates if not gate.passed]
    if failed:
        raise SafetyError(
            "promote.gates",
            f"The candidate failed {len(failed)} of {len(candidate.gates)} gates: "
            + "; ".join(f"{gate.title} ({gate.reason})" for gate in failed)
            + ".",
            "Decide on more cases and train again. A gate can't be passed over.",
        )


def _unchanged(folder: Path, sha256: str, model_id: str) -> Bundle:
    try:
        bundle = read_bundle(folder)
        same = bundle_digest(bundle) == sha256 and bundle.id == model_id
    except AppError as error:
        raise _changed() from error
    if not same:
        raise _changed()
    return bundle


def _install(engine: Engine, bundle: Bundle, candidate: Candidate) -> Path:
    """Copy a candidate's files to where versions lie, and read them again."""
    place = engine.paths.versions / candidate.model_id
    target = place / f"{candidate.version}-{candidate.bundle_sha256[:12]}"
    try:
        if not target.exists():
            place.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".adding-", dir=place) as temporary:
                staged = Path(temporary) / "bundle"
                shutil.copytree(bundle.path, staged)
                staged.rename(target)
            flush_folder(place)
    except OSError as error:
        raise EnvironmentFault(
            "promote.not_written",
            f"The version can't be written ({error.strerror or type(error).__name__}).",
            "Free space on the disk of the data folder.",
        ) from error
    _unchanged(target, candidate.bundle_sha256, candidate.model_id)
    return target


def _in_use(engine: Engine, uow: UnitOfWork, candidate: Candidate) -> _InUse:
    """Return the version in use as the library knows it now; refuse when it changed meanwhile."""
    record = uow.promotions.current().get(candidate.model_id)
    if record is None:
        bundle = _base_catalogue(engine).get(candidate.model_id)
        now = _InUse(bundle.manifest.version, bundle_digest(bundle), "")
    else:
        now = _InUse(record.version, record.bundle_sha256, record.folder)
    if now.sha256 != candidate.base_sha256:
        raise _meanwhile()
    return now


def _require_former(engine: Engine, model_id: str, former: _InUse) -> None:
    try:
        if former.folder:
            bundle = read_bundle(engine.paths.root / former.folder)
        else:
            bundle = _base_catalogue(engine).get(model_id)
        same = bundle.id == model_id and bundle_digest(bundle) == former.sha256
    except AppError as error:
        raise _former_changed(former.version) from error
    if not same:
        raise _former_changed(former.version)


def _base_catalogue(engine: Engine) -> Catalogue:
    return Catalogue([shipped_bundles_dir(), engine.paths.bundles])


def _entry(
    model_id: str, action: str, was: _InUse, to: _InUse, by: str, reason: str, candidate_id: str
) -> PromotionEntry:
    return PromotionEntry(0, model_id, action, was.version, to.version, by, reason, utc_now(), candidate_id)


def _change(
    engine: Engine, uow: UnitOfWork, entry: PromotionEntry, was: _InUse, to: _InUse, code: AuditCode
) -> None:
    uow.promotions.add(PromotionRecord(entry, was.sha256, was.folder, to.sha256, to.folder))
    engine.record(
        code,
        action="U",
        object_kind="model",
        object_ref=entry.model_id,
        n_objects=1,
        detail={
            "model_id": entry.model_id,
            "candidate_id": entry.candidate_id,
            "from_version": was.version,
            "to_version": to.version,
            "from_sha256": was.sha256,
            "to_sha256": to.sha256,
            "by": plain_name(entry.by),
            "reason_given": True,
        },
    )


def plain_name(name: str) -> str:
    """Return a person's name as the audit trail can hold it: plain letters, others by their numbers."""
    return name.replace("^", " ").encode("ascii", "backslashreplace").decode("ascii")[:160]


def repair_pointers(engine: Engine) -> None:
    """Write the pointer file anew when it doesn't say what the library says (a crash came in between)."""
    try:
        if read_pointers(engine.paths.pointers) == _resolved(promoted_versions(engine)):
            return
    except SafetyError:
        pass
    _write_pointers(engine)


def _resolved(promoted: Mapping[str, Version]) -> dict[str, Version]:
    return {key: Version(version.folder.resolve(), version.sha256) for key, version in promoted.items()}


def _write_pointers(engine: Engine) -> None:
    """Repeat the library's pointers in the file; ``repair_pointers`` does it again when that failed."""
    try:
        write_pointers(engine.paths.pointers, promoted_versions(engine))
    except OSError as error:
        raise EnvironmentFault(
            "promote.pointers",
            "The version was changed, but the file that tells other commands could not be written "
            f"({error.strerror or type(error).__name__}).",
            "Free space on the disk of the data folder.",
        ) from error


def _changed() -> SafetyError:
    return SafetyError(
        "promote.changed",
        "The candidate's files aren't those that were compared.",
        "Don't use it; train again.",
    )


def _former_changed(version: str) -> SafetyError:
    return SafetyError(
        "rollback.changed",
        f"The files of version {version} aren't those that were in use.",
        "Restore the bundle from a backup, or install the program again, then roll back.",
    )


def _meanwhile() -> SafetyError:
    return SafetyError(
        "promote.other_current",
        "The version in use was changed meanwhile by somebody else; nothing was done.",
        "Look at the model's history and decide again.",
    )
