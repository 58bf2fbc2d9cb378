"""WordPiece: texts to ids, with a vocabulary of captions that is shipped, or BERT's from a file.

Texts are lower-cased and stripped of accents. Punctuation stays, so that sentences keep their ends.

Source: Devlin et al. 2019, "BERT"; Li et al. 2022, "BLIP", for [DEC] and [ENC].
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sfhq.errors import IntegrityError, UsageError
from sfhq.images import write_atomic
from sfhq.weights.checkpoints import MOST_TOKENS

SHIPPED = Path(__file__).with_name("vocabulary.txt")
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
ADDED = ("[DEC]", "[ENC]")  # behind BERT's vocabulary, in this order
LENGTH = 65  # most tokens of a text in the published training
MOST_BYTES = 1 << 24
MOST_LETTERS = 20_000  # of a text; what follows could not reach the network anyway


class Tokens:
    """A WordPiece vocabulary.

    Args:
        words: tokens in the order of their ids, with those of `SPECIAL`; those of `ADDED` are put
            behind them where they are missing.

    Raises:
        UsageError: the package `tokenizers` is missing, a special token is missing, or a token
            stands twice.
    """

    def __init__(self, words: Sequence[str]) -> None:
        library = _library()
        missing = [word for word in SPECIAL if word not in words]
        if missing:
            raise UsageError(
                f"vocabulary without {', '.join(missing)}; wanted one such as BERT's vocab.txt"
            )
        if len(set(words)) < len(words):
            raise UsageError("vocabulary in which a token stands twice; wanted each once")
        self.words = (*words, *(w for w in ADDED if w not in words))
        ids = {word: number for number, word in enumerate(self.words)}
        self._ids = ids
        self.pad, self.cls, self.enc = ids["[PAD]"], ids["[CLS]"], ids["[ENC]"]
        self.sep = ids["[SEP]"]
        self._model = library.Tokenizer(library.models.WordPiece(ids, unk_token="[UNK]"))
        self._model.normalizer = library.normalizers.BertNormalizer(lowercase=True)
        self._model.pre_tokenizer = library.pre_tokenizers.BertPreTokenizer()

    def __len__(self) -> int:
        return len(self.words)

    def __call__(self, texts: Sequence[str], length: int = LENGTH) -> tuple[Tensor, Tensor]:
        """Ids (N, L) int64 and mask (N, L) bool of texts, as long as the longest of them.

        Each begins with [CLS] and ends with [SEP]; what is longer than `length` is cut.
        """
        shown = [_readable(text) for text in texts]
        rows = [e.ids[: length - 2] for e in self._model.encode_batch(shown)]
        longest = max((len(row) for row in rows), default=0) + 2
        ids = torch.full((len(rows), longest), self.pad)
        mask = torch.zeros(len(rows), longest, dtype=torch.bool)
        for i, row in enumerate(rows):
            ids[i, : len(row) + 2] = torch.tensor([self.cls, *row, self.sep])
            mask[i, : len(row) + 2] = True
        return ids, mask

    def for_matching(self, ids: Tensor) -> Tensor:
        """The same ids with [ENC] first, which the network reads when it looks at an image."""
        changed = ids.clone()
        changed[:, 0] = self.enc
        return changed

    def unknown(self, text: str) -> int:
        """How many words of a text the vocabulary cannot spell."""
        return int(self._model.encode(_readable(text)).ids.count(self._ids["[UNK]"]))

    def to_text(self) -> str:
        """The vocabulary, one token a line."""
        return "".join(f"{word}\n" for word in self.words)


def _readable(text: str) -> str:
    """A text without what cannot be encoded, and no longer than can matter."""
    return text[:MOST_LETTERS].encode("utf-8", "replace").decode()


def _library() -> Any:
    try:
        import tokenizers
        import tokenizers.models
        import tokenizers.normalizers
        import tokenizers.pre_tokenizers
        import tokenizers.trainers
    except ImportError:
        raise UsageError(
            "texts need the package tokenizers; install it: pip install 'sfhq[flip]'"
        ) from None
    return tokenizers


def load_tokens(path: Path | None = None) -> Tokens:
    """A vocabulary from a file with one token a line, such as BERT's vocab.txt.

    Args:
        path: the file; None for the shipped vocabulary of captions.

    Raises:
        UsageError: there is no such file.
        IntegrityError: it is no vocabulary.
    """
    path = path or SHIPPED
    if not path.is_file():
        raise UsageError(f"{path}: no such vocabulary; wanted a file such as BERT's vocab.txt")
    if path.stat().st_size > MOST_BYTES:
        raise IntegrityError(f"{path}: more than {MOST_BYTES:,} bytes; wanted a list of tokens")
    try:
        return tokens_of(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, UsageError) as error:
        said = "not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
        raise IntegrityError(f"{path}: {said}") from None


def tokens_of(text: str) -> Tokens:
    """The inverse of `Tokens.to_text`.

    Raises:
        UsageError: as of `Tokens`; or it has more than a million tokens.
    """
    words = text.removesuffix("\n").split("\n")
    if len(words) > MOST_TOKENS:
        raise UsageError(f"vocabulary of {len(words):,} tokens; wanted at most {MOST_TOKENS:,}")
    return Tokens([word.removesuffix("\r") for word in words])


def train_tokens(texts: Iterable[str], most: int = 1000) -> Tokens:
    """A vocabulary learned from texts.

    Args:
        texts: what it shall spell well.
        most: largest number of tokens, special ones included.

    Raises:
        UsageError: `tokenizers` is missing, or there are no texts.
    """
    library = _library()
    start = Tokens(SPECIAL)
    # Every printable ASCII character has a token of its own, alone and inside a word.
    letters = [chr(code) for code in range(33, 127) if not chr(code).isupper()]
    trainer = library.trainers.WordPieceTrainer(
        vocab_size=most - len(ADDED),
        special_tokens=list(SPECIAL),
        initial_alphabet=letters,
        show_progress=False,
    )
    counted = 0

    def each() -> Iterable[str]:
        nonlocal counted
        for text in texts:
            counted += 1
            yield _readable(text)

    start._model.train_from_iterator(each(), trainer)
    if not counted:
        raise UsageError("no text to learn a vocabulary from; give captions")
    found = start._model.get_vocab()
    words = sorted(found, key=found.__getitem__)
    inside = [f"##{c}" for c in letters if c.isalnum() and f"##{c}" not in found]
    return Tokens([*words[: most - len(ADDED) - len(inside)], *inside])


def save_tokens(path: Path, tokens: Tokens) -> None:
    """Write a vocabulary, one token a line."""
    write_atomic(path, tokens.to_text().encode())


def vocabulary_of(notes: Mapping[str, str], path: Path | None = None) -> Tokens:
    """The vocabulary of a network.

    Args:
        notes: of its file; "vocabulary" holds the tokens.
        path: a file instead; None for what the notes hold, or the shipped one.

    Raises:
        UsageError, IntegrityError: as of `load_tokens`.
    """
    if path is None and "vocabulary" in notes:
        return tokens_of(notes["vocabulary"])
    return load_tokens(path)
