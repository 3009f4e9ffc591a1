"""Names in three scripts are shown safely and found however they are typed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.domain.person_name import PersonName, folded, isolated, name_in_words, search_text

FSI, PDI = "\u2068", "\u2069"


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("Doe^John^Q^Dr", "Doe, John Q"),
        ("Adams^John Robert Quincy^^Rev.^B.A. M.Div.", "Adams, John Robert Quincy, B.A. M.Div."),
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", "山田 太郎 (Yamada, Tarou · やまだ たろう)"),
        ("Hong^Gildong=洪^吉洞=홍^길동", "洪 吉洞 (Hong, Gildong · 홍 길동)"),
        ("=王^小东", "王 小东"),
        ("==やまだ^たろう", "やまだ たろう"),
        ("Same^Name=Same^Name", "Same, Name"),
        ("Doe^Jane\\Roe^Mary", "Doe, Jane; Roe, Mary"),
        ("Solo", "Solo"),
        ("^John", "John"),
        ("^^^Dr", "Dr"),
        ("a^b^c^d^e^f^g", "a, b c, e f g"),
        ("", ""),
        ("^^=^", ""),
    ],
)
def test_names_are_shown_as_people_write_them(raw: str, shown: str) -> None:
    assert name_in_words(raw) == shown


def test_components_and_groups_are_told_apart() -> None:
    name = PersonName.parse(" Pavlov ^Ivan^P^Prof^PhD=x=y=too much")
    assert name.alphabetic.components == ("Pavlov", "Ivan", "P", "Prof", "PhD")
    assert (name.ideographic.family, name.phonetic.family) == ("x", "y")


@pytest.mark.parametrize(
    ("raw", "queries"),
    [
        (
            "Yamada^Tarou=山田^太郎=ヤマダ^タロウ",
            [
                "yamada tarou",
                "TAROU YAMADA",
                "山田",
                "山田太郎",
                "やまだ",
                "ﾔﾏﾀﾞ",
                "Ｙａｍａｄａ",
                "たろう やまだ",
            ],
        ),
        ("Müller^Jürgen", ["muller", "Müller", "mueller", "jürgen müller", "MÜLLER"]),
        ("Buc^Jérôme", ["jerome", "JÉRÔME", "buc je"]),
        ("O'Brien-Smith^Anne", ["obriensmith", "o'brien", "anne o'brien"]),
        ("Strauß", ["strauss", "STRAUSS", "strauß"]),
        ("Łukasz^Øre", ["lukasz", "ore"]),
        ("Люкceмбypг", ["люкc", "ЛЮКC"]),
        ("Διονυσιος", ["διονυσιοσ", "ΔΙΟΝΥΣΙΟΣ"]),
        ("قباني^لنزار", ["قبانى", "لنزار قباني"]),
        ("שרון^דבורה", ["דבורה שרון"]),
        ("Hong^Gildong=洪^吉洞=홍^길동", ["홍길동", "길동", "洪吉洞"]),
        ("Doe^Jane\\Roe^Mary", ["mary roe"]),
    ],
)
def test_a_name_is_found_however_it_is_typed(raw: str, queries: list[str]) -> None:
    text = search_text(raw)
    for query in queries:
        assert folded(query) in text, query


def test_voiced_kana_stay_letters_of_their_own() -> None:
    assert folded("が") != folded("か")


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("a\x1b[31mred\x00\x07", "a[31mred"),
        ("two\r\nlines\u2028three", "two lines three"),
        ("abc\u202edef\u202c", "abcdef"),
        ("a\u200bb\ufeffc\u2066d\u2069", "abcd"),
        ("\ud800x", "\ufffdx"),
        ("tag\U000e0041", "tag"),
        ("<script>alert(1)</script>", "<script>alert(1)</script>"),
        ("שרון", f"{FSI}שרון{PDI}"),
        ("قباني\u202e", f"{FSI}قباني{PDI}"),
        ("x" * 300, "x" * 255 + "…"),
    ],
)
def test_what_a_file_says_cannot_disturb_the_line_it_stands_in(raw: str, shown: str) -> None:
    assert isolated(raw) == shown


def test_each_right_to_left_group_is_isolated_by_itself() -> None:
    assert name_in_words("Sharon^Deborah=שרון^דבורה") == f"{FSI}שרון, דבורה{PDI} (Sharon, Deborah)"


@given(st.text(max_size=200))
def test_no_text_breaks_the_names(text: str) -> None:
    shown = name_in_words(text)
    assert shown.count(FSI) == shown.count(PDI)
    assert not any(c in shown for c in "\u202a\u202b\u202d\u202e\u2066\u2067\0\x1b\n")
    assert folded(folded(text)) == folded(text)
    assert isinstance(search_text(text), str)
