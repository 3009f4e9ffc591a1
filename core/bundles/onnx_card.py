"""From an ONNX file and a JSON card to a bundle of ours.

Two kinds of card are understood: a *manifest card*, which holds fields of our own manifest (``preprocessing``
is an object), and a *described card* as the MeshNet networks of brainchop carry it, whose preprocessing is a
list of sentences. Sentences are recognised word by word; one that isn't is refused, because a model that sees
differently prepared images answers wrongly without any sign of it.
"""

from __future__ import annotations

import json
import re
from pathlib import PurePosixPath
from typing import Any

from pydantic import ValidationError

from core.bundles.manifest import (
    Conform,
    Findings,
    Inference,
    Intensity,
    Label,
    Manifest,
    Percentile,
    Preprocessing,
    Requirements,
    Round,
    Weights,
)
from core.bundles.onnx_check import OnnxFacts
from core.bundles.terminology import code_for
from core.domain.errors import InputError

ONNX_FILE = "weights/model.onnx"
_MAX_CARD_BYTES = 1024 * 1024
_CONFORM = re.compile(
    r"^conform as FreeSurfer.*?(\d+)x(\d+)x(\d+), 1 mm, orientation ([LRPASI]{3}), linear", re.IGNORECASE
)
_EIGHT_BIT = re.compile(r"^scale to 0\.\.255 uint8 \(min \.\. ([\d.]+) % quantile\)$")
_QUANTILES = re.compile(
    r"^normalise: quantile ([\d.]+)\.\.([\d.]+) %(?: \((not clipped)\)|, (clipped) to 0\.\.1)$"
)
_PALETTE = ((230, 80, 70), (80, 160, 230), (110, 200, 110), (235, 190, 70), (170, 110, 210), (90, 200, 200))


def manifest_from_card(card: bytes, facts: OnnxFacts, model_id: str) -> tuple[Manifest, str]:
    """Translate a card.

    Parameters
    ----------
    card : bytes
        JSON.
    facts : OnnxFacts
        What the ONNX file itself says; the channels must agree with the labels.
    model_id : str
        Identifier in the catalogue.

    Returns
    -------
    manifest : Manifest
    model_card : str
        Markdown.

    Raises
    ------
    InputError
        ``model.card``: not JSON, or something in it is missing, unknown or contradicts the ONNX file.
    """
    document = _parse(card)
    if isinstance(document.get("preprocessing"), dict):
        manifest = _from_fields(document, model_id)
    else:
        manifest = _from_description(document, model_id)
    _agree(manifest, facts)
    return manifest, _model_card(manifest, document)


def card_id(name: str) -> str:
    """Return an identifier made from a file's name (``"model5_gw_ae.onnx"`` → ``"model5-gw-ae"``)."""
    plain = re.sub(r"[^a-z0-9]+", "-", PurePosixPath(name).stem.lower()).strip("-")
    return plain if len(plain) > 1 else f"model-{plain or 'onnx'}"


def expected_sha256(card: bytes) -> str | None:
    """Return the sha256 of the ONNX file that the card names, if it does."""
    value = _parse(card).get("sha256")
    return value.lower() if isinstance(value, str) else None


def _parse(card: bytes) -> dict[str, Any]:
    try:
        document = json.loads(card) if len(card) <= _MAX_CARD_BYTES else None
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise _refused("it is not a JSON object of at most 1 MB")
    return document


def _from_fields(document: dict[str, Any], model_id: str) -> Manifest:
    fields = {
        "version": "1.0.0",
        "task": "segmentation",
        "title": model_id,
        "intended_use": "Not stated by its maker: research only.",
        "licence": "not stated",
        **{key: value for key, value in document.items() if key != "sha256"},
        "id": model_id,
        "weights": [{"file": ONNX_FILE, "format": "onnx"}],
    }
    try:
        return Manifest.model_validate_json(json.dumps(fields))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise _refused(f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}") from error


def _from_description(document: dict[str, Any], model_id: str) -> Manifest:
    if document.get("task") != "segmentation" or document.get("dimension") != 3:
        raise _refused("only 3-D segmentation is understood in a card of sentences")
    title = str(document.get("title") or model_id)
    modalities = ("MR", "CT") if re.search(r"\bCT\b", title) else ("MR",)
    research = "Research and teaching only; not for clinical use."
    return Manifest(
        id=model_id,
        version="1.0.0",
        task="segmentation",
        title=title[:120],
        description="Third-party network, imported from ONNX.",
        intended_use=research,
        not_intended_for="Diagnosis." if document.get("not_for_clinical_use") else "",
        licence=str(document.get("license") or document.get("licence") or "not stated")[:200],
        source=str(document.get("source") or ""),
        weights=(Weights(file=ONNX_FILE, format="onnx"),),
        labels=_labels(document),
        preprocessing=_preprocessing(document.get("preprocessing")),
        inference=Inference(memory_bytes_per_voxel=_memory(document)),
        requirements=Requirements(
            modalities=modalities,
            body_parts=("HEAD", "BRAIN", "SKULL"),
            max_spacing_mm=8.0,
            min_slices=16,
            min_extent_mm=60.0,
        ),
        findings=Findings(per="segment"),
    )


def _labels(document: dict[str, Any]) -> tuple[Label, ...]:
    names, colours = document.get("labels"), document.get("colors_rgb")
    if not isinstance(names, list) or len(names) < 2 or not all(isinstance(name, str) for name in names):
        raise _refused("“labels” must list the background and at least one structure")
    labels = []
    for value, name in enumerate(names[1:], start=1):
        colour = _PALETTE[value % len(_PALETTE)]
        if isinstance(colours, list) and value < len(colours) and _is_colour(colours[value]):
            colour = (colours[value][0], colours[value][1], colours[value][2])
        labels.append(Label(value=value, name=_readable(name), code=code_for(name), color_rgb=colour))
    return tuple(labels)


def _is_colour(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 3
        and all(isinstance(c, int) and 0 <= c <= 255 for c in value)
    )


def _readable(name: str) -> str:
    return name if " " in name else name.replace("-", " ").replace("_", " ")


def _preprocessing(sentences: Any) -> Preprocessing:
    if not isinstance(sentences, list) or not all(isinstance(sentence, str) for sentence in sentences):
        raise _refused("“preprocessing” must be an object of manifest fields or a list of sentences")
    conform: Conform | None = None
    orientation = "AIL"
    steps: list[Intensity] = []
    for sentence in sentences:
        found = _CONFORM.match(sentence)
        if found and found[1] == found[2] == found[3]:
            conform = Conform(size=int(found[1]))
            orientation = found[4].upper()[::-1]
        else:
            steps += _intensity(sentence)
    if conform is None:
        raise _refused("no sentence says to which grid the image is conformed")
    return Preprocessing(
        orientation=orientation, spacing_ijk_mm=(1.0, 1.0, 1.0), conform=conform, intensity=tuple(steps)
    )


def _intensity(sentence: str) -> list[Intensity]:
    """Steps of one sentence. The network sees array axes in NIfTI order, which the reversed orientation
    gives.
    """
    eight_bit = _EIGHT_BIT.match(sentence)
    if eight_bit:
        scaled = Percentile(
            op="percentile", low=0.0, high=float(eight_bit[1]), to_high=255.0, unless_8bit=True
        )
        return [scaled, Round(op="round")]
    if sentence == "normalise: minmax":
        return [Percentile(op="percentile", low=0.0, high=100.0)]
    quantiles = _QUANTILES.match(sentence)
    if quantiles:
        low, high = float(quantiles[1]), float(quantiles[2])
        return [Percentile(op="percentile", low=low, high=high, clip=quantiles[4] is not None)]
    raise _refused(f"this preprocessing is not known: “{sentence[:80]}”")


def _memory(document: dict[str, Any]) -> int | None:
    """Bytes per voxel, from the peak that the card reports for its 256³ example."""
    expected = document.get("expected")
    peaks = [
        entry["peak_rss_GB"]
        for entry in (expected.values() if isinstance(expected, dict) else ())
        if isinstance(entry, dict) and isinstance(entry.get("peak_rss_GB"), int | float)
    ]
    return max(1, int(max(peaks) * 1e9 / 256**3)) if peaks else None


def _agree(manifest: Manifest, facts: OnnxFacts) -> None:
    (dims,) = facts.inputs.values()
    rank = 5 if manifest.is_3d else 4
    if dims and len(dims) != rank:
        raise _refused(f"the network takes {len(dims)} dimensions, the card describes {rank}")
    if len(dims) == rank and dims[1] not in (None, manifest.preprocessing.channels):
        raise _refused(f"the network takes {dims[1]} channels, the card {manifest.preprocessing.channels}")
    answer = next(iter(facts.outputs.values()))
    if len(answer) > 1 and answer[1] not in (None, manifest.channels_out()):
        raise _refused(
            f"the network answers with {answer[1]} channels, the card has {manifest.channels_out()}"
        )


def _model_card(manifest: Manifest, document: dict[str, Any]) -> str:
    lines = [f"# {manifest.title}", "", manifest.description, "", "## Use", "", manifest.intended_use]
    lines += [manifest.not_intended_for and f"Not intended for: {manifest.not_intended_for}", ""]
    lines += ["## Source and licence", "", manifest.source or "Not stated.", "", manifest.licence, ""]
    sentences = document.get("preprocessing")
    if isinstance(sentences, list):
        lines += ["## Input", "", *(f"- {sentence}" for sentence in sentences), ""]
    lines += ["## Labels", "", *(f"- {label.value}: {label.name}" for label in manifest.labels), ""]
    lines += ["No metrics came with this model; it was imported, not evaluated.", ""]
    return "\n".join(lines)


def _refused(reason: str) -> InputError:
    return InputError(
        "model.card",
        f"The model's card can't be used: {reason}.",
        "Write a card with the fields of bundle.json (see docs), or ask the maker of the model.",
    )
