"""Does a report help? Picture alone against picture with report, for each fusion, on the same test pictures.

``python tests/performance/report_fusion.py --data FOLDER --out DIR --json`` trains the recipe ``chest-report`` with
each fusion on reports that tell the truth in nine of ten cases and on reports that are noise, and its picture encoder
alone. FOLDER holds ``pneumoniamnist.npz`` or a subset; without it radiographs are drawn. What was trained already in
DIR is taken from there. Areas under the ROC curve are compared pairwise on the test part (DeLong, 95 % intervals):
reports shown, and all reports hidden.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from models.networks.multimodal.fusion import FUSIONS  # noqa: E402
from tests.fakes.fusion_trial import Answers, answers_of, compared, fused, image_alone  # noqa: E402

TELLING, NOISE = 0.9, 0.0


def main() -> None:
    """Train what isn't there yet, compare, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--set", dest="settings", action="append", default=[])
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    settings = [*given.settings, "evaluation.bootstrap=100", "training.precision=fp32"]
    if given.data is None:
        settings.append("data.source.pictures=null")
    alone = _kept(image_alone(settings), given, "alone")
    rows = []
    for fusion in reversed(FUSIONS):
        for informative in (TELLING, NOISE):
            name = f"{fusion}-{informative:g}"
            recipe = fused(fusion, [*settings, f"data.source.informative={informative}"])
            rows.append(_row(fusion, informative, alone, _kept(recipe, given, name)))
            print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    document = {
        "name": "report_fusion",
        "ratios": {},
        "ours": {"auc_picture_alone": rows[0]["shown"]["current"], "comparisons": rows},
        "peers": {},
        "rounds": 1,
        "machine": platform.machine(),
    }
    print(json.dumps(document) if given.json else "\n".join(_sentence(row) for row in rows))


def _kept(recipe: Any, given: argparse.Namespace, name: str) -> Answers:
    """Return the answers of a run, trained now or before."""
    file = given.out / f"{name}.npz"
    if file.is_file():
        with np.load(file, allow_pickle=False) as kept:
            return Answers(kept["labels"], kept["shown"], kept["hidden"])
    answers = answers_of(recipe, given.data, given.out / name)
    np.savez(file, labels=answers.labels, shown=answers.shown, hidden=answers.hidden)
    return answers


def _row(fusion: str, informative: float, alone: Answers, both: Answers) -> dict[str, Any]:
    return {
        "fusion": fusion,
        "informative": informative,
        "shown": asdict(compared(alone, both)),
        "hidden": asdict(compared(alone, both, hidden=True)),
    }


def _sentence(row: dict[str, Any]) -> str:
    parts = []
    for what in ("shown", "hidden"):
        one = row[what]
        low, high = one["ci95"]
        parts.append(
            f"{what} {one['candidate']:.4f} ({one['difference']:+.4f}, {low:+.4f} … {high:+.4f}, p {one['p']:.3g})"
        )
    return f"{row['fusion']:16} informative {row['informative']:g}: " + "; ".join(parts)


if __name__ == "__main__":
    main()
