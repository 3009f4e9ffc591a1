"""A model that reads: picture and report together, the picture alone, and why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from core.bundles.writer import write_bundle
from core.compute.explain.run import explain_bundle
from core.compute.inference.prepare import prepare_image
from core.compute.inference.reports import text_ids
from core.compute.inference.run import run_bundle
from core.domain.errors import InputError
from tests.fakes.bundles import CARD, LICENCE, SAFETENSORS_FILE, make_image
from tests.fakes.reading_bundle import REPORTS, TEXT, make_reading_bundle


@pytest.fixture(scope="module")
def reading(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return the bundle and its network."""
    return make_reading_bundle(tmp_path_factory.mktemp("reading") / "b")


@pytest.mark.parametrize("text", [None, "Opacity of the LUNGS"])
def test_the_answer_is_the_networks_own_with_and_without_a_report(reading: Any, text: str | None) -> None:
    bundle, network = reading
    ids = text_ids(bundle, text)
    assert ids is not None and ids.shape == (1, 12) and bool(ids.any()) == (text is not None)
    with torch.no_grad():
        logits = network(prepare_image(make_image(), bundle.manifest), ids)
    output = run_bundle(bundle, make_image(), text=text, device="cpu")
    found = {item.label: item.probability for item in output.classes}
    wanted = torch.softmax(logits[0].double(), 0)
    assert [found["Dark"], found["Bright"]] == pytest.approx(wanted.tolist(), rel=1e-4)


def test_a_report_changes_the_answer(reading: Any) -> None:
    bundle, _ = reading
    silent = run_bundle(bundle, make_image(), backend="exact")
    read = run_bundle(bundle, make_image(), text=REPORTS[1], backend="exact")
    assert silent.classes[0].probability != pytest.approx(read.classes[0].probability, rel=1e-6)


def test_case_does_not_matter_where_the_model_says_so(reading: Any) -> None:
    bundle, _ = reading
    assert torch.equal(text_ids(bundle, "NORMAL lungs"), text_ids(bundle, "normal lungs"))


@pytest.mark.parametrize("method", ["gradcam", "occlusion"])
def test_the_picture_is_explained_with_the_report_at_hand(reading: Any, method: str) -> None:
    bundle, _ = reading
    made = explain_bundle(
        bundle, make_image(), method=method, class_label="Bright", text=REPORTS[1], device="cpu"
    )
    assert made.heat.shape == (1, 48, 40) and made.class_label == "Bright"


def test_a_damaged_vocabulary_is_refused(tmp_path: Path, reading: Any) -> None:
    bundle, _ = reading
    files = {name: bundle.read(name) for name in (SAFETENSORS_FILE,)} | {TEXT.vocabulary_file: b"\xff\xfe"}
    broken = write_bundle(tmp_path / "b", bundle.manifest, files=files, card=CARD, licence_text=LICENCE)
    with pytest.raises(InputError, match="UTF-8"):
        run_bundle(broken, make_image(), text="normal lungs")
