"""Reports as word pieces: BERT's own ids, a vocabulary that names nobody, and what is refused."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from core.compute.text import LEARNT_PIECES, MIN_REPORTS, SPECIAL, TextEncoder
from core.domain.errors import InputError
from core.phantom.chest_reports import chest_report

SETTINGS = SimpleNamespace(max_tokens=24, lowercase=True)
WORDS = ["no", "focal", "consolidation", "con", "##soli", "##dation", "##s", "lung", "clear", ".", ","]


def reports(count: int = 60) -> list[str]:
    rng = np.random.default_rng(0)
    return [chest_report(rng, bool(n % 2)) for n in range(count)]


def test_ids_are_those_of_berts_own_tokeniser(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    file = tmp_path / "vocab.txt"
    file.write_text("\n".join([*SPECIAL, *WORDS]) + "\n", encoding="utf-8")
    ids = {piece: number for number, piece in enumerate([*SPECIAL, *WORDS])}
    theirs = transformers.BertTokenizer(vocab=ids, do_lower_case=True)
    ours = TextEncoder.from_folder(tmp_path, SETTINGS)
    for text in (
        "No focal Consolidation.",
        "Lungs, clear.\nNo consolidations; naïve ÉTAT 12 mm",
        "lung " * 60,
    ):
        expected = theirs(text, padding="max_length", truncation=True, max_length=24)["input_ids"]
        assert ours.encode(text) == expected


def test_no_report_and_one_without_a_word_are_a_row_of_zeros() -> None:
    encoder = TextEncoder.learn(reports(), SETTINGS)
    for text in (None, "", " \n "):
        assert encoder.encode(text) == [0] * 24
    assert encoder.encode("No focal consolidation.")[0] == SPECIAL.index("[CLS]")


def test_a_learnt_vocabulary_depends_on_the_reports_and_not_on_their_order() -> None:
    texts = reports(200)
    one = TextEncoder.learn(texts, SETTINGS)
    other = TextEncoder.learn(list(reversed(texts)), SETTINGS)
    assert one.vocabulary_bytes() == other.vocabulary_bytes()
    assert one.size <= LEARNT_PIECES
    assert one.pieces("No focal consolidation.") == ["[CLS]", "no", "focal", "consolidation", ".", "[SEP]"]


def test_a_name_in_few_reports_does_not_enter_the_vocabulary() -> None:
    texts = reports()
    texts[: MIN_REPORTS - 1] = [
        f"{text} Compared with Zwetschgenbaum 19481105." for text in texts[: MIN_REPORTS - 1]
    ]
    encoder = TextEncoder.learn(texts, SETTINGS)
    pieces = encoder.vocabulary_bytes().decode()
    assert "zwet" not in pieces
    assert "1948" not in pieces
    # It is spelt, as every word that isn't known.
    assert "[UNK]" not in encoder.pieces("Zwetschgen")


def test_the_bytes_of_a_vocabulary_give_the_same_encoder() -> None:
    encoder = TextEncoder.learn(reports(), SETTINGS)
    again = TextEncoder.from_bytes(encoder.vocabulary_bytes(), SETTINGS)
    assert again.encode(reports()[3]) == encoder.encode(reports()[3])
    assert again.size == encoder.size


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "first line"),
        (b"[UNK]\n[PAD]\n", "first line"),
        (b"[PAD]\n[UNK]\n[CLS]\n", "SEP"),
        ("\n".join([*SPECIAL, "no", "no"]).encode(), "twice"),
        (b"[PAD]\n\xff\xfe", "UTF-8"),
    ],
)
def test_what_is_no_vocabulary_is_refused_with_the_reason(content: bytes, said: str) -> None:
    with pytest.raises(InputError, match=said):
        TextEncoder.from_bytes(content, SETTINGS)


def test_a_missing_vocabulary_is_refused_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"vocab\.txt"):
        TextEncoder.from_folder(tmp_path, SETTINGS)
