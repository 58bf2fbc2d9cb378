"""Folders of pairs: pictures in `art/`, photographs of the same names in `truth/`."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from sfhq.errors import UsageError
from sfhq.training.pairs import load_pairs
from sfhq.training.photos import is_held_out


class TestFoldersOfPairs:
    def folder(self, root: Path, names: dict[str, list[str]]) -> Path:
        for side, stems in names.items():
            (root / side).mkdir(parents=True)
            for number, stem in enumerate(stems):
                shade = 10 * number + (100 if side == "truth" else 0)
                Image.new("RGB", (64, 64), (shade, 0, 0)).save(root / side / stem)
        return root

    def test_pictures_meet_photographs_of_their_name(self, tmp_path: Path) -> None:
        held = [f"face{i}" for i in range(100) if is_held_out(f"face{i}")][:1]
        stems = sorted(held + [f"face{i}" for i in range(6) if not is_held_out(f"face{i}")])
        names = {"art": [s + ".png" for s in stems], "truth": [s + ".bmp" for s in stems]}
        root = self.folder(tmp_path, names)
        kept, unseen = (load_pairs(root, 64, held_out=h) for h in (False, True))
        assert len(kept) + len(unseen) == len(stems) and len(unseen) == 1
        apart = kept.truth.pixels[:, 0].int() - kept.art.pixels[:, 0].int()
        assert bool((apart == 100).all())
        assert not any(is_held_out(name) for name in kept.art.names)

    def test_a_picture_without_its_photograph_is_named(self, tmp_path: Path) -> None:
        root = self.folder(tmp_path, {"art": ["a.png", "b.png"], "truth": ["a.png"]})
        with pytest.raises(UsageError, match=r"art has b, truth does not"):
            load_pairs(root, 64)
        held = next(f"{i}.png" for i in range(100) if is_held_out(str(i)))
        root = self.folder(tmp_path / "one", {"art": [held], "truth": [held]})
        with pytest.raises(UsageError, match="no pair left"):
            load_pairs(root, 64)
        both = {"art": ["a.png", "a.bmp"], "truth": ["a.png"]}
        with pytest.raises(UsageError, match="art has two images of one name"):
            load_pairs(self.folder(tmp_path / "two", both), 64)

    def test_names_that_sort_otherwise_with_another_ending_meet(self, tmp_path: Path) -> None:
        one = next(str(i) for i in range(99) if not is_held_out(f"{i}.png"))
        more = [f"{one}.c{i}" for i in range(99)]
        stems = [one, next(x for x in more if not is_held_out(f"{x}.png"))]
        names = {"art": [s + ".bmp" for s in stems], "truth": [s + ".png" for s in stems]}
        kept = load_pairs(self.folder(tmp_path, names), 64)
        assert len(kept) == 2
        apart = kept.truth.pixels[:, 0].int() - kept.art.pixels[:, 0].int()
        assert bool((apart == 100).all())
