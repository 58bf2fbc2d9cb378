"""WordPiece: the shipped vocabulary, BERT's layout, learning a vocabulary."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

pytest.importorskip("tokenizers")

from encoders.flip.tokens import (
    ADDED,
    SPECIAL,
    load_tokens,
    save_tokens,
    tokens_of,
    train_tokens,
)
from sfhq.errors import IntegrityError, UsageError

CAPTION = "An older man with gray hair. He wears eyeglasses, and he is smiling."


def test_the_shipped_vocabulary_spells_captions() -> None:
    tokens = load_tokens()
    assert 200 <= len(tokens) <= 2000
    assert tokens.unknown(CAPTION) == 0
    assert tokens.unknown("Zebra-striped hat #7?") == 0  # letter by letter
    assert tokens.unknown("髪") == 1
    ids, mask = tokens([CAPTION])
    assert len(CAPTION.split()) < ids.shape[1] < 30 and mask.all()


def test_ids_by_hand() -> None:
    words = [*SPECIAL, "a", "man", "smil", "##ing", "."]
    tokens = tokens_of("\n".join(words) + "\n")
    assert tokens.words == (*words, *ADDED)
    ids, mask = tokens(["A man.", "smiling bear"])
    assert ids.tolist() == [[2, 5, 6, 9, 3], [2, 7, 8, 1, 3]]
    assert mask.all()
    ids, mask = tokens(["", "a"])
    assert ids.tolist() == [[2, 3, 0], [2, 5, 3]]
    assert mask.tolist() == [[True, True, False], [True, True, True]]
    assert tokens.for_matching(ids).tolist() == [[11, 3, 0], [11, 5, 3]]
    assert ids[0, 0] == 2  # not changed in place


def test_long_texts_are_cut() -> None:
    tokens = load_tokens()
    ids, mask = tokens(["hair " * 10_000, "hair"])
    assert ids.shape == (2, 65) and mask.sum(1).tolist() == [65, 3]
    assert ids[0, -1] == tokens.sep
    assert tokens(["a b c d e"], length=4)[0].shape == (1, 4)


def test_broken_characters_are_no_error() -> None:
    tokens = load_tokens()
    ids, _ = tokens(["\ud800 hair\x00", "עברית", "🙂"])
    assert (ids < len(tokens)).all()


def test_a_vocabulary_is_learned_and_saved(tmp_path: Path) -> None:
    texts = [CAPTION, "A young woman with wavy hair."] * 20
    tokens = train_tokens(texts, 160)
    assert len(tokens) <= 160
    assert "hair" in tokens.words and tokens.unknown("xylophone 7?") == 0
    save_tokens(tmp_path / "v.txt", tokens)
    again = load_tokens(tmp_path / "v.txt")
    assert again.words == tokens.words
    assert torch.equal(again([CAPTION])[0], tokens([CAPTION])[0])
    with pytest.raises(UsageError, match="no text to learn"):
        train_tokens([], 160)


def test_ids_are_those_of_bert(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    tokens = load_tokens()
    save_tokens(tmp_path / "vocab.txt", tokens)
    theirs = transformers.BertTokenizer(str(tmp_path / "vocab.txt"))
    for text in (CAPTION, "Naïve café, it's 3.5%!", "bald-headed   boy\twith hat"):
        assert tokens([text])[0][0].tolist() == theirs(text)["input_ids"]


def test_bad_vocabularies(tmp_path: Path) -> None:
    path = tmp_path / "vocab.txt"
    with pytest.raises(UsageError, match="no such vocabulary"):
        load_tokens(path)
    for content, said in (
        (b"a\nb\n", r"without \[PAD\], \[UNK\]"),
        ("\n".join([*SPECIAL, "a", "a"]).encode(), "stands twice"),
        (b"\xff\xfe", "not UTF-8"),
    ):
        path.write_bytes(content)
        with pytest.raises(IntegrityError, match=said) as caught:
            load_tokens(path)
        assert str(caught.value).startswith(f"{path}: ")
