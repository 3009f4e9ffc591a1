"""Add models to the user's catalogue and remove them."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from core.bundles.bundle import Bundle, read_bundle
from core.bundles.manifest import MANIFEST_FILE
from core.bundles.onnx_card import ONNX_FILE, card_id, expected_sha256, manifest_from_card
from core.bundles.onnx_check import MAX_ONNX_BYTES, check_onnx
from core.bundles.signing import HASH_FILE, sha256_hex
from core.bundles.sources import FileSource, open_source, safe_name
from core.bundles.writer import write_bundle
from core.domain.audit import AuditCode
from core.domain.errors import EnvironmentFault, InputError, SafetyError
from core.services.engine import Engine
from core.services.list_models import catalogue

_ACCEPTED = (
    "Accepted are: a bundle of Overread (folder or .zip), or an ONNX file with a JSON card of the same name."
)


def add_model(engine: Engine, path: Path, model_id: str | None = None) -> dict[str, Any]:
    """Check a model and add it to the user's catalogue.

    Parameters
    ----------
    path : pathlib.Path
        A bundle's folder or ``.zip``; an ``.onnx`` file or its ``.json`` card; a folder with one such pair.
    model_id : str, optional
        Identifier in the catalogue for a model that isn't a bundle yet.

    Returns
    -------
    dict
        ``id``, ``version``, ``task``, ``title``, ``labels``, ``verified``, ``licence``, ``path``.

    Raises
    ------
    InputError
        ``model.exists``, ``model.unsupported``, ``model.card``, ``onnx.invalid`` and those of
        ``read_bundle``.
    SafetyError
        ``bundle.hash`` and its like, ``onnx.external_data``, ``onnx.custom_operator``.
    """
    engine.paths.bundles.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".adding-", dir=engine.paths.bundles) as temporary:
        staged = _stage(path, model_id, Path(temporary) / "bundle")
        target = engine.paths.bundles / staged.id
        if target.exists() or staged.id in {bundle.id for bundle in catalogue(engine).list()}:
            raise InputError(
                "model.exists",
                f"There is already a model “{staged.id}”.",
                "Remove it first. A file of weights may get another --id; a bundle of yours, another bundle.id when it "
                "is trained.",
            )
        try:
            staged.path.rename(target)
            _record(engine, AuditCode.MODEL_ADDED, "C", staged)
        except BaseException:
            shutil.rmtree(target, ignore_errors=True)
            raise
    return _document(staged, target)


def remove_model(engine: Engine, model_id: str) -> dict[str, Any]:
    """Remove a model that the user added; returns ``{"id", "removed": True}``.

    Raises
    ------
    InputError
        ``model.shipped`` for a model of the program, ``model.promoted`` while a trained version is in use,
        ``model.unknown``.
    """
    bundle = catalogue(engine).get(model_id)
    if bundle.path.is_relative_to(engine.paths.versions):
        raise InputError(
            "model.promoted",
            f"A version of “{model_id}” that was trained here is in use.",
            "Roll the model back first.",
        )
    if not bundle.path.is_relative_to(engine.paths.bundles):
        raise InputError(
            "model.shipped", f"“{model_id}” belongs to the program.", "Only added models can be removed."
        )
    with tempfile.TemporaryDirectory(prefix=".removing-", dir=engine.paths.bundles) as temporary:
        aside = Path(temporary) / "bundle"
        try:
            bundle.path.rename(aside)
        except OSError as error:
            raise EnvironmentFault(
                "model.in_use",
                f"“{model_id}” can't be removed now.",
                "Wait until its job is done and try again.",
            ) from error
        try:
            _record(engine, AuditCode.MODEL_REMOVED, "D", bundle)
        except BaseException:
            aside.rename(bundle.path)
            raise
    return {"id": model_id, "removed": True}


def _stage(path: Path, model_id: str | None, target: Path) -> Bundle:
    """Write a verified bundle to ``target``."""
    if path.is_file() and path.suffix.lower() in (".onnx", ".json"):
        return _from_onnx(path.with_suffix(".onnx"), path.with_suffix(".json"), model_id, target)
    if not path.is_dir() and path.suffix.lower() != ".zip":
        raise _unsupported(path)
    source = open_source(path)
    names = set(source.names())
    if MANIFEST_FILE in names and HASH_FILE in names:
        return _copied(read_bundle(path), source, model_id, target)
    networks = sorted(name for name in names if name.lower().endswith(".onnx"))
    pairs = [name for name in networks if str(Path(name).with_suffix(".json").as_posix()) in names]
    if len(pairs) == 1:
        card = Path(pairs[0]).with_suffix(".json").as_posix()
        return _imported(source.read(pairs[0]), source.read(card), pairs[0], model_id, target)
    if len(pairs) > 1:
        raise InputError(
            "model.several",
            f"{path.name} holds {len(pairs)} models: {', '.join(pairs)}.",
            "Add them one by one by their .onnx files.",
        )
    raise _unsupported(path, names)


def _copied(bundle: Bundle, source: FileSource, model_id: str | None, target: Path) -> Bundle:
    if model_id is not None and model_id != bundle.id:
        raise InputError(
            "model.id", f"This bundle is named “{bundle.id}” by its maker.", "Leave out --id for bundles."
        )
    for name in source.names():
        file = target / safe_name(name)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(source.read(name))
    return read_bundle(target)


def _from_onnx(network: Path, card: Path, model_id: str | None, target: Path) -> Bundle:
    for needed in (network, card):
        if not needed.is_file():
            raise InputError("model.card", f"{needed.name} is missing beside its partner.", _ACCEPTED)
    if network.stat().st_size > MAX_ONNX_BYTES:
        raise InputError("onnx.invalid", f"{network.name} is larger than 2 GB.", "Use a smaller network.")
    return _imported(network.read_bytes(), card.read_bytes(), network.name, model_id, target)


def _imported(network: bytes, card: bytes, name: str, model_id: str | None, target: Path) -> Bundle:
    expected = expected_sha256(card)
    if expected is not None and expected != sha256_hex(network):
        raise SafetyError(
            "bundle.hash",
            f"{name} was altered: its sha256 is not the one that its card names.",
            "Get it again.",
        )
    facts = check_onnx(network)
    manifest, model_card = manifest_from_card(card, facts, model_id or card_id(name))
    files = {ONNX_FILE: network, "source/card.json": card}
    return write_bundle(
        target,
        manifest,
        files=files,
        card=model_card,
        licence_text=f"{manifest.licence}\n{manifest.source}\n",
    )


def _unsupported(path: Path, names: set[str] | None = None) -> InputError:
    kind = "This kind of file"
    held = names or {path.name}
    if any(name.endswith("configs/metadata.json") for name in held):
        kind = "A MONAI bundle"
    elif {"plans.json", "dataset.json"} & {Path(name).name for name in held}:
        kind = "An nnU-Net model folder"
    elif any(name.lower().endswith((".pt", ".pth", ".ts", ".pkl", ".ckpt")) for name in held):
        kind = "A PyTorch file (it may hold code)"
    elif any(name.lower().endswith(".onnx") for name in held):
        kind = "An ONNX file without a JSON card"
    return InputError("model.unsupported", f"{kind} can't be added by this version.", _ACCEPTED)


def _record(engine: Engine, code: AuditCode, action: str, bundle: Bundle) -> None:
    identity = bundle.identity
    detail = {
        "model_id": identity.id,
        "model_version": identity.version,
        "model_sha256": identity.sha256,
        "verification": bundle.verification,
    }
    engine.record(
        code, action=action, object_kind="model", object_ref=identity.id, n_objects=1, detail=detail
    )


def _document(bundle: Bundle, target: Path) -> dict[str, Any]:
    manifest = bundle.manifest
    return {
        "id": manifest.id,
        "version": manifest.version,
        "task": manifest.task,
        "title": manifest.title,
        "labels": [label.name for label in manifest.labels],
        "verified": bundle.verification,
        "licence": manifest.licence,
        "path": str(target),
    }
