"""Reports as numbers: word pieces (WordPiece), as BERT has them, from a vocabulary of one's own or a user's file.

Training and the application use this one class, so that a report means the same to both.

Source: Y. Wu et al., Google's Neural Machine Translation System, 2016 (WordPiece); J. Devlin et al., BERT, NAACL 2019.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterable
from heapq import heappop, heappush
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from core.domain.errors import EnvironmentFault, InputError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PADDING, UNKNOWN, START, END, MASK = SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
VOCABULARY_FILE = "vocab.txt"
LEARNT_PIECES = 2048
"""Most pieces of a learnt vocabulary: the rows of the text embedding of a network that begins from scratch."""
MIN_REPORTS = 3
"""A word enters a learnt vocabulary when so many reports hold it, so that it can't tell of a single patient."""
_MAX_BYTES = 16 << 20
_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"


class TextSettings(Protocol):
    """What is asked of the texts: ``data.text`` of a recipe, ``text`` of a manifest."""

    @property
    def max_tokens(self) -> int:
        """Length of each row of tokens."""

    @property
    def lowercase(self) -> bool:
        """Whether case and accents are dropped."""


class TextEncoder:
    """Turns a report into token ids.

    Parameters
    ----------
    pieces : list of str
        The vocabulary; the place of a piece is its id. ``[PAD]`` is the first.
    max_tokens : int
        Ids per report, ``[CLS]`` and ``[SEP]`` among them; a longer report loses its end.
    lowercase : bool
        Whether case and accents are dropped, as BERT's uncased models want it.

    Raises
    ------
    InputError
        ``text.vocabulary`` when the pieces are no vocabulary of this kind.
    EnvironmentFault
        ``text.library`` when tokenizers isn't installed.
    """

    def __init__(self, pieces: list[str], *, max_tokens: int = 64, lowercase: bool = True) -> None:
        _check(pieces)
        self.max_tokens, self.lowercase = max_tokens, lowercase
        self._pieces = list(pieces)
        self._tokenizer = _tokenizer(self._pieces, lowercase)
        self._tokenizer.enable_truncation(max_tokens)
        self._tokenizer.enable_padding(length=max_tokens, pad_id=0, pad_token=PADDING)

    @classmethod
    def learn(cls, texts: Iterable[str | None], config: TextSettings) -> TextEncoder:
        """Learn a vocabulary of at most ``LEARNT_PIECES`` pieces from training reports.

        Only words without digits that at least ``MIN_REPORTS`` reports hold are learnt from; all else is spelt by
        letters. The same reports in any order give the same vocabulary.
        """
        words = _frequent_words(texts, lowercase=config.lowercase)
        return cls(_learnt(words), max_tokens=config.max_tokens, lowercase=config.lowercase)

    @classmethod
    def from_folder(cls, path: Path | str, config: TextSettings) -> TextEncoder:
        """Read the vocabulary of a BERT folder (``vocab.txt``), or such a file.

        Raises
        ------
        InputError
            ``text.vocabulary``.
        """
        place = Path(path)
        file = place / VOCABULARY_FILE if place.is_dir() else place
        try:
            if file.stat().st_size > _MAX_BYTES:
                raise _refusal(f"“{file.name}” is larger than {_MAX_BYTES >> 20} MB")
            content = file.read_bytes()
        except OSError as error:
            raise _refusal(f"“{file.name}” can't be read") from error
        return cls.from_bytes(content, config)

    @classmethod
    def from_bytes(cls, content: bytes, config: TextSettings) -> TextEncoder:
        """Read what ``vocabulary_bytes`` gave.

        Raises
        ------
        InputError
            ``text.vocabulary``.
        """
        try:
            lines = content.decode("utf-8").split("\n")
        except UnicodeDecodeError as error:
            raise _refusal("it is not UTF-8") from error
        pieces = [line.removesuffix("\r") for line in lines]
        while pieces and not pieces[-1]:
            pieces.pop()
        return cls(pieces, max_tokens=config.max_tokens, lowercase=config.lowercase)

    @property
    def size(self) -> int:
        """Number of pieces."""
        return len(self._pieces)

    def encode(self, text: str | None) -> list[int]:
        """Return ``max_tokens`` ids, filled up with 0; all are 0 for None and for a text without a word."""
        if text is None or not text.strip():
            return [0] * self.max_tokens
        ids: list[int] = self._tokenizer.encode(text).ids
        return ids if len(ids) - ids.count(0) > 2 else [0] * self.max_tokens

    def pieces(self, text: str) -> list[str]:
        """Return the pieces of a text as the network sees them, without padding."""
        return [self._pieces[number] for number in self.encode(text) if number]

    def vocabulary_bytes(self) -> bytes:
        """Return the vocabulary as a ``vocab.txt``: a piece a line."""
        return ("\n".join(self._pieces) + "\n").encode()


def _check(pieces: list[str]) -> None:
    if not pieces or pieces[0] != PADDING:
        raise _refusal(f"its first line isn't {PADDING}")
    absent = [name for name in (UNKNOWN, START, END) if name not in pieces]
    if absent:
        raise _refusal(f"it lacks {absent[0]}")
    if len(set(pieces)) != len(pieces):
        twice = next(piece for piece, count in Counter(pieces).items() if count > 1)
        raise _refusal(f"the piece “{twice[:40]}” stands in it twice")


def _tokenizer(pieces: list[str], lowercase: bool) -> Tokenizer:
    """Return BERT's tokeniser. Source: huggingface/tokenizers, ``BertWordPieceTokenizer``."""
    _library()
    from tokenizers import Tokenizer
    from tokenizers.models import WordPiece
    from tokenizers.normalizers import BertNormalizer
    from tokenizers.pre_tokenizers import BertPreTokenizer
    from tokenizers.processors import BertProcessing

    ids = {piece: number for number, piece in enumerate(pieces)}
    tokenizer = Tokenizer(WordPiece(ids, unk_token=UNKNOWN, max_input_chars_per_word=100))
    tokenizer.normalizer = BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = BertPreTokenizer()
    tokenizer.post_processor = BertProcessing((END, ids[END]), (START, ids[START]))
    return tokenizer


def _frequent_words(texts: Iterable[str | None], *, lowercase: bool) -> Counter[str]:
    """Return how many reports hold each word, without those of few reports and those with digits."""
    _library()
    from tokenizers.normalizers import BertNormalizer
    from tokenizers.pre_tokenizers import BertPreTokenizer

    normal, split = BertNormalizer(lowercase=lowercase), BertPreTokenizer()
    held: Counter[str] = Counter()
    for text in texts:
        if text:
            held.update({word for word, _ in split.pre_tokenize_str(normal.normalize_str(text))})
    return Counter(
        {
            word: count
            for word, count in held.items()
            if count >= MIN_REPORTS and not any(letter.isdigit() for letter in word)
        }
    )


def _learnt(words: Counter[str]) -> list[str]:
    """Return the vocabulary learnt from words: special pieces, letters and digits, then what was merged."""
    letters = sorted({letter for word in words for letter in word} | set(_LETTERS))
    spelling = [*letters, *(f"##{letter}" for letter in letters)]
    room = LEARNT_PIECES - len(SPECIAL) - len(spelling)
    return [*SPECIAL, *spelling, *_merged(words, max(room, 0))]


def _merged(words: Counter[str], most: int) -> list[str]:
    """Join the commonest pair of neighbouring pieces again and again; of equals the first by the alphabet.

    (The library's trainer breaks ties by chance.) Source: R. Sennrich et al., ACL 2016, with the marks of WordPiece.
    """
    pairs = _Pairs(words)
    made: dict[str, None] = {}
    while len(made) < most and (best := pairs.commonest()) is not None:
        joined = best[0] + best[1].removeprefix("##")
        made[joined] = None
        pairs.join(best, joined)
    return list(made)


class _Pairs:
    """Neighbouring pieces of the words, and how often each pair occurs."""

    def __init__(self, words: Counter[str]) -> None:
        self._times = words
        self._spelt = {word: [word[0], *(f"##{letter}" for letter in word[1:])] for word in words}
        self._counts: Counter[tuple[str, str]] = Counter()
        self._held: dict[tuple[str, str], set[str]] = defaultdict(set)
        self._heap: list[tuple[int, tuple[str, str]]] = []
        changed = [pair for word in words for pair in self._count(word, 1)]
        self._push(changed)

    def commonest(self) -> tuple[str, str] | None:
        """Return the pair; what the heap says of others may be out of date and is then left."""
        while self._heap:
            count, pair = heappop(self._heap)
            if self._counts[pair] == -count > 0:
                return pair
        return None

    def join(self, pair: tuple[str, str], joined: str) -> None:
        """Make one piece of the pair in all words."""
        changed: list[tuple[str, str]] = []
        for word in sorted(self._held[pair]):
            changed += self._count(word, -1)
            self._spelt[word] = _joined(self._spelt[word], pair, joined)
            changed += self._count(word, 1)
        self._push(changed)

    def _count(self, word: str, sign: int) -> list[tuple[str, str]]:
        pairs = list(pairwise(self._spelt[word]))
        for pair in pairs:
            self._counts[pair] += sign * self._times[word]
            if sign > 0:
                self._held[pair].add(word)
            else:
                self._held[pair].discard(word)
        return pairs

    def _push(self, changed: Iterable[tuple[str, str]]) -> None:
        for pair in dict.fromkeys(changed):
            if self._counts[pair] > 0:
                heappush(self._heap, (-self._counts[pair], pair))


def _joined(parts: list[str], pair: tuple[str, str], joined: str) -> list[str]:
    out: list[str] = []
    for part in parts:
        if out and (out[-1], part) == pair:
            out[-1] = joined
        else:
            out.append(part)
    return out


def _library() -> None:
    # The library warns when a loader's process is forked after its threads ran; texts are encoded one by one.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        import tokenizers  # noqa: F401
    except ImportError as error:
        raise EnvironmentFault(
            "text.library",
            "Reports need the library tokenizers, which isn't installed.",
            "Install overread[train].",
        ) from error


def _refusal(what: str) -> InputError:
    return InputError(
        "text.vocabulary",
        f"The vocabulary of the reports can't be used: {what}.",
        "Give the vocab.txt of a BERT model, one piece a line, [PAD] first.",
    )
