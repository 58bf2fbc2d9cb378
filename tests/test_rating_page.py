"""The rating page in a real browser: by keys, on a phone, saved and scored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from encoders.flip.data import Captioned
from encoders.flip.studies.ratings import (
    PAGE,
    QUESTIONS,
    Item,
    draw,
    read_ratings,
    score,
    write_page,
)


@pytest.fixture
def items(tmp_path: Path) -> list[Item]:
    count = 8
    rng = torch.Generator().manual_seed(1)
    pixels = torch.randint(256, (count, 3, 64, 64), generator=rng, dtype=torch.uint8)
    names = tuple(f"f{i}" for i in range(count))
    data = Captioned(pixels, names, names, tuple((f"a man, number {i}",) for i in range(count)))
    found = draw(data, count, repeats=0.25, foreign=0.0)
    write_page(found, data, tmp_path / "rating", "Faces and captions")
    return found


def test_pairs_are_rated_by_keys_saved_and_scored(
    browser: Any, items: list[Item], tmp_path: Path
) -> None:
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    page = context.new_page()
    page.goto((tmp_path / "rating" / PAGE).as_uri())
    page.keyboard.press("Enter")
    assert page.inner_text("#said") == "Answer all three questions first."
    for n in range(len(items)):
        for key in ("3", "4", "5" if n % 2 else "4"):
            page.keyboard.press(key)
        if n == 1:
            page.locator("[name=mistakes]").nth(1).check()
        page.keyboard.press("Enter")
    last = f"Pair {len(items)} of {len(items)}; {len(items)} rated"
    assert page.inner_text("#place") == last
    page.focus("#back")
    page.keyboard.press("Enter")
    assert page.inner_text("#place").startswith(f"Pair {len(items) - 1} of")
    page.keyboard.press("Enter")
    assert page.inner_text("#place").startswith(f"Pair {len(items) - 2} of")
    page.click("#save")
    assert page.inner_text("#said") == "Give your name or number first."
    page.fill("#rater", "Ann, 1")
    with page.expect_download() as told:
        page.click("#save")
    assert page.inner_text("#said") == f"{len(items)} of {len(items)} pairs saved"
    saved = tmp_path / told.value.suggested_filename
    told.value.save_as(saved)
    ratings = read_ratings([saved], items)
    assert ratings.keys() == {"Ann, 1"}
    answers = [ratings["Ann, 1"][item.item] for item in items]
    assert [[a[q] for q in QUESTIONS] for a in answers[:2]] == [[3, 4, 4], [3, 4, 5]]
    assert answers[1]["mistakes"] == ("hair",)
    found = score(items, ratings)
    assert (found.pairs, found.means["natural"].value, found.means["grammar"].value) == (8, 3, 4)
    page.reload()
    assert page.input_value("#rater") == "Ann, 1", "answers survive"
    assert f"{len(items)} rated" in page.inner_text("#place")
    context.close()


@pytest.mark.parametrize("width", [320, 390, 1280])
def test_answers_stand_in_one_row_and_a_new_face_is_in_sight(
    browser: Any, items: list[Item], tmp_path: Path, width: int
) -> None:
    context = browser.new_context(viewport={"width": width, "height": 640})
    page = context.new_page()
    page.goto((tmp_path / "rating" / PAGE).as_uri())
    wide = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    assert wide <= 0, "nothing to scroll to the side"
    for question in QUESTIONS:
        boxes = page.locator(f"label:has([name={question}])")
        tops = {round(boxes.nth(k).bounding_box()["y"]) for k in range(5)}
        assert len(tops) == 1, question
        boxes.nth(3).click()
    page.click("#next")
    assert page.inner_text("#place").startswith("Pair 2 of")
    assert page.locator("#image").bounding_box()["y"] >= 0
    context.close()
