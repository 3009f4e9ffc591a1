"""A served model that reads: pictures and reports go through the network together, each with its own."""

from __future__ import annotations

import json

import pytest

from core.compute.inference.run import run_bundle
from core.formats.images import read_image_bytes
from core.server.answering import Answerer
from core.server.item import Item, Upload
from core.server.limits import Limits
from tests.fakes.reading_bundle import REPORTS, make_reading_bundle
from tests.fakes.served_app import png


@pytest.fixture(scope="module")
def reading(tmp_path_factory: pytest.TempPathFactory) -> Answerer:
    folder = tmp_path_factory.mktemp("reading")
    bundle, _ = make_reading_bundle(folder / "b")
    return Answerer(bundle, "cpu", Limits(), folder / "probes", folder)


def test_each_picture_is_answered_with_its_own_report(reading: Answerer) -> None:
    texts = [REPORTS[0], None, REPORTS[1], " "]
    items = [Item((Upload("picture", png(120)),), text) for text in texts]
    answers = reading.answer([reading.prepare(item) for item in items])
    assert [answer.batch for answer in answers] == [4, 4, 4, 4]
    found = [json.loads(answer.body)["probabilities"] for answer in answers]
    for text, probabilities in zip(texts, found, strict=True):
        alone = run_bundle(
            reading.bundle, read_image_bytes(png(120)), text=text, device="cpu", backend="exact"
        )
        expected = {each.label: each.probability for each in alone.classes}
        assert probabilities == pytest.approx(expected, abs=1e-5)
    assert found[0] != pytest.approx(found[2], abs=1e-5)
    assert found[1] == pytest.approx(found[3], abs=1e-6)
