"""Reports of awkward evaluations: many classes, a class without cases, one case, everything missed."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pypdfium2
import pytest

from core.compute.evaluation.assess import Evaluation, assess
from core.compute.evaluation.evaluation_set import EvaluationSet
from core.compute.evaluation.plots import draw_pictures
from core.compute.evaluation.predicting import Predictions, case_numbers
from core.compute.evaluation.report import write_report
from core.compute.evaluation.report_content import content_of, number, p_value, span
from core.compute.evaluation.structures import score_case
from core.recipes.cases import Case
from core.recipes.schema import Data

DATA = Data.model_validate({"source": {"name": "class_folders", "classes": ["a", "b"]}})
BUNDLE = SimpleNamespace(
    identity=SimpleNamespace(id="m", version="1.0.0", sha256="0" * 64),
    manifest=SimpleNamespace(title='Model <i>"x"</i> & more', task="classification"),
)


def predictions(dataset: EvaluationSet, **fields: object) -> Predictions:
    n = len(dataset.cases)
    given = {"probabilities": None, "rows": (), **fields}
    return Predictions(BUNDLE, case_numbers(dataset), np.ones(n, bool), milliseconds=np.arange(20.0), **given)  # type: ignore[arg-type]


def of_classes(labels: list[int], names: tuple[str, ...]) -> Evaluation:
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(len(names)), len(labels))
    dataset = EvaluationSet(
        "classes", tuple(Case(str(n), str(n), label=y) for n, y in enumerate(labels)), DATA, names, {}
    )
    return assess(dataset, predictions(dataset, probabilities=p), resamples=100)


def of_masks(pairs: list[tuple[np.ndarray, np.ndarray]]) -> Evaluation:
    names = {"Left <lung>": 1, "Lesion": 2}
    dataset = EvaluationSet(
        "masks", tuple(Case(str(n), str(n)) for n in range(len(pairs))), DATA, tuple(names), names
    )
    rows = [
        row
        for name, (p, t) in zip(case_numbers(dataset), pairs, strict=True)
        for row in score_case(p, t, names, (1.0, 1.0, 1.0), case=name)
    ]
    return assess(dataset, predictions(dataset, rows=tuple(rows)), resamples=100)


def block(value: int) -> np.ndarray:
    out = np.zeros((6, 6, 6), np.uint8)
    out[1:4, 1:4, 1:4] = value
    return out


CASES = {
    "many classes": lambda: of_classes([n % 18 for n in range(90)], tuple(f"class {n}" for n in range(18))),
    "a class without cases": lambda: of_classes([0, 1] * 10, ("a", "b", "c")),
    "one case": lambda: of_classes([0], ("a", "b")),
    "one masked case": lambda: of_masks([(block(1), block(1))]),
    "all missed": lambda: of_masks([(block(0), block(1)), (block(0), block(2))]),
    "nothing anywhere": lambda: of_masks([(block(0), block(0))]),
}


class Balanced(HTMLParser):
    """Checks that every tag is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list) -> None:
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize("kind", CASES)
def test_awkward_evaluations_are_reported(kind: str, tmp_path: Path) -> None:
    evaluation = CASES[kind]()
    files = write_report(evaluation, tmp_path)
    page = Balanced()
    page.feed(files["report_html"].read_text(encoding="utf-8"))
    assert page.open == [] and 'Model <i>"x"</i> & more' in page.text
    assert "nan" not in page.text.replace("finance", "").split()
    document = pypdfium2.PdfDocument(files["report_pdf"])
    assert 1 <= len(document) <= 12
    document.close()
    for picture in draw_pictures(evaluation):
        assert picture.png.startswith(b"\x89PNG") and picture.caption


def test_what_is_missed_stands_in_the_report() -> None:
    content = content_of(CASES["all missed"]())
    table = next(t for t in content.tables if t.title == "Each structure")
    assert [[cell.text for cell in row[:3]] for row in table.rows] == [
        ["Left <lung>", "1", "1"],
        ["Lesion", "1", "1"],
    ]


def test_numbers_are_written_for_people() -> None:
    assert [number(x) for x in (float("nan"), float("inf"), 0.12345, -0.5, 12.34, 123.4, -0.0001)] == [
        "–", "∞", "0.123", "−0.500", "12.3", "123", "0.000",
    ]  # fmt: skip
    assert span(-0.01, 0.2) == "−0.010 to 0.200" and span(0.8, 0.9) == "0.800 – 0.900"
    assert [p_value(p) for p in (0.0004, 0.04, None)] == ["< 0.001", "0.040", "–"]
