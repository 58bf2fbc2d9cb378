"""Files of the next photos are read while earlier ones are written: in order, and not too many."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
from published import published_part

from sfhq.errors import IntegrityError
from sfhq.export.choose import choose
from sfhq.export.item import Item, Look, ahead, items
from sfhq.export.splits import Shares


class Counted:
    """Stands where an item does, and counts."""

    def __init__(self, number: int, fetched: list[int]) -> None:
        self.number, self.fetched = number, fetched

    def fetch(self) -> None:
        self.fetched.append(self.number)


def test_they_come_in_order_and_only_some_are_ahead() -> None:
    taken: list[int] = []
    fetched: list[int] = []

    def source() -> Iterator[Item]:
        for number in range(50):
            taken.append(number)
            yield cast(Item, Counted(number, fetched))

    for place, item in enumerate(ahead(source(), 4)):
        assert cast(Counted, item).number == place
        assert place in fetched, "read before it is handed out"
        assert len(taken) <= place + 5
    assert fetched == [*range(50)]


def test_an_end_before_the_end_reads_no_more() -> None:
    fetched: list[int] = []
    found = ahead((cast(Item, Counted(n, fetched)) for n in range(1000)), 4)
    next(found)
    found.close()
    assert len(fetched) <= 5


def test_a_changed_photo_is_an_error_where_its_turn_comes(tmp_path: Path) -> None:
    part = published_part(tmp_path / "part")
    choice = choose([part], "p", shares=Shares((1, 0, 0)))
    plain = list(items(choice, "train", Look()))
    changed = part.image_path("images", plain[3].face.record.face_id)
    changed.write_bytes(changed.read_bytes()[:-1])
    got = []
    with pytest.raises(IntegrityError, match=changed.name):
        for item in ahead(items(choice, "train", Look())):
            got.append(item.photo[0])
    assert got == [item.photo[0] for item in plain[:3]]
