"""Person names as DICOM writes them: three groups of five components, shown safely and searched leniently.

Source: DICOM PS3.5 6.2.1.2 (groups and components) and 6.2.1.3 (how they are written); Unicode Standard
Annex 9 (bidirectional text), section 2.7 (isolates around text of unknown direction).
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

MOST_SHOWN = 256
"""Characters of a name that are shown; a longer one is cut and ends with an ellipsis."""

_FIRST_STRONG_ISOLATE, _POP_ISOLATE = "\u2068", "\u2069"
# Marks, embeddings, overrides and isolates that change the order of what stands around them, zero-width
# characters that hide letters from a search, and the tag characters. ZWNJ and ZWJ stay: Persian and the Indic
# scripts need them.
_UNSAFE = re.compile(
    "[\u0000-\u0008\u000e-\u001f\u007f-\u0084\u0086-\u009f\u00ad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e"
    "\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)
_BREAKS = re.compile("[\\s\u0085\u2028\u2029]+")
_SURROGATES = re.compile("[\ud800-\udfff]")
_RIGHT_TO_LEFT = frozenset({"R", "AL", "AN", "RLE", "RLO", "RLI"})
# Combining marks that tell letters apart rather than decorate them: nukta, kana voicing, virama.
_KEPT_MARKS = frozenset({0, 7, 8, 9})
_LETTERS = str.maketrans(
    {"ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "æ": "ae", "œ": "oe", "ı": "i", "ħ": "h", "ŧ": "t"}
    | {"ـ": "", "ٱ": "ا", "ى": "ي", "ة": "ه", "\u200c": "", "\u200d": ""}
    | {chr(katakana): chr(katakana - 0x60) for katakana in range(0x30A1, 0x30F7)}
)
_SPELLED_OUT = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "å": "aa"})
_SEPARATORS = re.compile(r"[\^=\\\s]+")
_APOSTROPHES = str.maketrans("", "", "'’ʼ`-‐‑.")


@dataclass(frozen=True, slots=True)
class NameGroup:
    """One component group: how the name is written in one script."""

    family: str = ""
    given: str = ""
    middle: str = ""
    prefix: str = ""
    suffix: str = ""

    @classmethod
    def parse(cls, text: str) -> NameGroup:
        """Read ``family^given^middle^prefix^suffix``; what follows the fifth component belongs to the suffix."""
        parts = [part.strip() for part in text.split("^")]
        parts[4:] = [" ".join(part for part in parts[4:] if part)]
        return cls(*parts)

    @property
    def components(self) -> tuple[str, ...]:
        """The components that hold something, in the order of the standard."""
        return tuple(
            part for part in (self.family, self.given, self.middle, self.prefix, self.suffix) if part
        )

    def in_words(self) -> str:
        """Return family, given and middle names and suffix; names in East Asian scripts without a comma."""
        given = " ".join(part for part in (self.given, self.middle) if part)
        if _is_east_asian(self.family + given):
            name = " ".join(part for part in (self.family, given) if part)
        else:
            name = ", ".join(part for part in (self.family, given) if part)
        name = ", ".join(part for part in (name, self.suffix) if part)
        return name or self.prefix


@dataclass(frozen=True, slots=True)
class PersonName:
    """One person's name in up to three groups."""

    alphabetic: NameGroup = NameGroup()
    ideographic: NameGroup = NameGroup()
    phonetic: NameGroup = NameGroup()

    @classmethod
    def parse(cls, text: str) -> PersonName:
        """Read the first value of a PN element; never fails. Groups beyond the third are left out."""
        groups = text.partition("\\")[0].split("=")[:3]
        return cls(*(NameGroup.parse(group) for group in groups))

    @property
    def groups(self) -> tuple[NameGroup, ...]:
        """The groups that hold something, the ideographic one first: it is how its bearer writes the name."""
        ordered = (self.ideographic, self.alphabetic, self.phonetic)
        return tuple(group for group in ordered if group.components)

    def displayed(self) -> str:
        """Return all groups for display: ``"Doe, John"``, ``"山田 太郎 (Yamada, Tarou · やまだ たろう)"``.

        Each group is isolated, so a right-to-left name cannot reorder what stands beside it. Prefixes are left out.
        """
        shown: list[str] = []
        for group in self.groups:
            text = isolated(group.in_words())
            if text and text not in shown:
                shown.append(text)
        if len(shown) < 2:
            return "".join(shown)
        return f"{shown[0]} ({' · '.join(shown[1:])})"


def name_in_words(text: str) -> str:
    """Return every person of a PN element for display, several separated by semicolons."""
    names = (PersonName.parse(value).displayed() for value in text.split("\\"))
    return "; ".join(name for name in names if name)


def isolated(text: str) -> str:
    """Return text from a file as it may stand in a line of the screen.

    Control characters, bidirectional overrides and zero-width characters are taken out, line breaks become spaces,
    and text with right-to-left letters is put between FSI and PDI. Text without any stays free of both, so that it
    can be copied and compared.
    """
    if text.isascii() and text.isprintable() and len(text) <= MOST_SHOWN:
        return text.strip()
    plain = _UNSAFE.sub("", _BREAKS.sub(" ", _SURROGATES.sub("\ufffd", text))).strip()
    if len(plain) > MOST_SHOWN:
        plain = plain[: MOST_SHOWN - 1] + "…"
    if any(unicodedata.bidirectional(c) in _RIGHT_TO_LEFT for c in plain):
        return f"{_FIRST_STRONG_ISOLATE}{plain}{_POP_ISOLATE}"
    return plain


def folded(text: str) -> str:
    """Return text as it is compared in a search; fold the query with it too.

    Letter case, width, accents, kana and the separators of person names make no difference. Source: Unicode
    Standard Annex 15 (NFKD), Core Specification 3.13 (case folding).
    """
    if text.isascii():
        return _SEPARATORS.sub(" ", text).strip().lower()
    wide = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", _UNSAFE.sub("", text)).casefold())
    bare = "".join(c for c in wide if unicodedata.combining(c) in _KEPT_MARKS)
    return _SEPARATORS.sub(" ", unicodedata.normalize("NFC", bare).translate(_LETTERS)).strip()


def search_text(text: str) -> str:
    """Return what a query is looked for in: all persons, groups and components of a PN element, folded.

    Each group stands in both orders (family name first and last) and joined without spaces, as East Asian names are
    typed; names with apostrophes, hyphens or umlauts also without them or spelled out.
    """
    words: list[str] = []
    for value in text.split("\\"):
        for group in value.split("="):
            words.extend(_spellings(group))
    return " ".join(dict.fromkeys(words))


def _spellings(group: str) -> list[str]:
    parts = [part for part in group.split("^") if part.strip()]
    plain = [folded(part) for part in parts]
    if not plain:
        return []
    out = [" ".join(plain)]
    if len(plain) > 1:
        out += [" ".join((*plain[1:], plain[0])), "".join(plain[:2])]
    bare = out[0].translate(_APOSTROPHES)
    if bare != out[0]:
        out.append(bare)
    if not group.isascii():
        spelled = folded(unicodedata.normalize("NFC", " ".join(parts)).casefold().translate(_SPELLED_OUT))
        if spelled != out[0]:
            out.append(spelled)
    return out


def _is_east_asian(text: str) -> bool:
    """Whether the text holds Han characters, kana or Hangul."""
    return any("\u3040" <= c <= "\u9fff" or "\uac00" <= c <= "\ud7a3" or c >= "\U00020000" for c in text)
