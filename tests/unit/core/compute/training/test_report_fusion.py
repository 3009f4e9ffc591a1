"""Picture and report together: a telling report helps, and the picture is read without one too.

A small part of ``tests/performance/report_fusion.py``, which also holds them against the picture alone, on drawn
radiographs whose consolidations are hard to see.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from core.bundles.bundle import read_bundle
from core.compute.evaluation.paired import delong
from core.compute.inference.loaded import ModelCache
from core.compute.inference.run import run_bundle
from core.recipes.reading import read_case
from core.recipes.sources.registry import list_cases
from tests.fakes.fusion_trial import answers_of, fused

SMALL = [
    "data.source.pictures=null",
    "data.source.radiographs={count: 300, held_out: 150, size: 24, contrast: 0.28}",
    "data.source.informative=0.95",
    "data.text.dropout=0.3",
    "data.text.max_tokens=48",
    "preprocessing.resize_hw=[24, 24]",
    "network.params.image_params={channels: [8, 16, 32]}",
    "network.params.text_config={hidden_size: 48, num_hidden_layers: 1, intermediate_size: 64}",
    "network.params.width=48",
    "training.epochs=9",
    "training.batch_size=16",
    "training.precision=fp32",
    "training.memory_format=contiguous",
    "training.threads=1",
    "optimizer.learning_rate=0.003",
    "evaluation={gates: null, bootstrap: 100}",
]


@pytest.mark.slow
def test_a_telling_report_helps_and_without_one_the_picture_is_read(tmp_path: Path) -> None:
    recipe = fused("gated", SMALL)
    both = answers_of(recipe, None, tmp_path / "both")
    told = delong(both.labels, both.hidden, both.shown)
    # Hidden, the picture is still read; shown, the report adds to it.
    assert told.current > 0.55
    assert told.candidate > 0.9
    assert told.p < 0.01

    # The application gives the bundle the report as text and gets what training saw.
    bundle = read_bundle(tmp_path / "both" / "bundle")
    case = next(case for case in list_cases(recipe.data.source, None) if case.text and case.label == 1)
    volume = read_case(case, recipe.data).volumes["image"]
    said = {
        text: run_bundle(bundle, volume, text=text, cache=ModelCache(), device="cpu").classes
        for text in (None, case.text)
    }
    assert said[None] != said[case.text]
