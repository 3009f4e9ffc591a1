"""What a server's model was made for and gives, as the manifest that everything after a run goes by.

The server's own manifest is the best source, then that of the same model on this computer. Where there is neither, it
is put together from the model's description; which series it was made for is then unknown, and said to be so.
"""

from __future__ import annotations

from pydantic import ValidationError

from core.bundles.manifest import (
    Findings,
    Label,
    Manifest,
    Measurement,
    Requirements,
    TextInput,
    Weights,
    parse_manifest,
)
from core.domain.errors import AppError, EnvironmentFault, InputError
from core.jobs import server_refusals as refusals
from core.jobs.served import LabelInfo, ModelInfo
from core.services.engine import Engine
from core.services.list_models import catalogue

# Source: Okabe and Ito, Color Universal Design, 2008; black left out.
_COLOURS = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
)


def manifest_of(engine: Engine, info: ModelInfo, name: str) -> tuple[Manifest, bool]:
    """Return the manifest of a server's model, and whether it says which series the model was made for.

    Raises
    ------
    EnvironmentFault
        ``engine.answer`` when the description contradicts itself.
    """
    if info.manifest:
        return _told(info, name), True
    for bundle in catalogue(engine).list():
        identity = bundle.identity
        if (identity.id, identity.version, identity.sha256) == (info.id, info.version, info.sha256):
            return bundle.manifest, True
    return _made(info, name), False


def _told(info: ModelInfo, name: str) -> Manifest:
    try:
        manifest = parse_manifest(info.manifest.encode())
    except InputError:
        raise _contradicts(name, "its model's manifest") from None
    if (manifest.id, manifest.version, manifest.task) != (info.id, info.version, info.task):
        raise _contradicts(name, "its model's manifest is that of another model")
    if [label.value for label in manifest.labels] != [label.value for label in info.labels]:
        raise _contradicts(name, "its model's labels")
    return manifest


def _made(info: ModelInfo, name: str) -> Manifest:
    try:
        return Manifest(
            id=info.id,
            version=info.version,
            task=info.task,  # type: ignore[arg-type]  # checked by the manifest itself
            title=info.title,
            description=info.description,
            intended_use=info.intended_use,
            not_intended_for=info.not_intended_for,
            licence=info.licence,
            weights=(Weights(file="remote", format="onnx"),),
            labels=_labels(info.labels),
            classes=_labels(info.classes),
            measurements=tuple(Measurement(name=one.name, unit=one.unit) for one in info.measurements),
            inputs=tuple(info.inputs),
            text=TextInput() if info.takes_text else None,
            requirements=Requirements(kind=info.kind, regular=info.kind == "volume", colour="any"),
            findings=Findings(per="class" if info.task == "classification" else "segment"),
        )
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])[:60] or "its description"
        raise _contradicts(name, where) from None


def _labels(labels: list[LabelInfo]) -> tuple[Label, ...]:
    return tuple(
        Label(value=one.value, name=one.name, color_rgb=_COLOURS[place % len(_COLOURS)])
        for place, one in enumerate(labels)
    )


def _contradicts(name: str, what: str) -> AppError:
    fault: EnvironmentFault = refusals.not_understood(name, what)
    return fault
