"""The page in a real browser: keys, prefetch, undo, grid, review, retraining."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browsing import PATIENCE, Open, drained, shown, sign_in
from curating import faces_to_judge, liked, serving

from curation.labels.exchange import export_labels
from curation.page.session import SessionSettings
from sfhq.parts.part import Part


@pytest.fixture
def part(tmp_path: Path) -> Part:
    return faces_to_judge(tmp_path / "part", 120)


def test_three_habits_of_keys_at_once(part: Part, open_page: Open) -> None:
    with serving(part, SessionSettings(repeat_share=0.0)) as (_, session, url):
        page = open_page(url, "ann")
        keys = {"3": "keep", "a": "keep", "p": "keep", "1": "reject", "x": "reject", "f": "flag"}
        keys |= {"2": "skip", " ": "skip", "A": "keep"}
        said = []
        for key, word in keys.items():
            said.append((shown(page), word))
            page.keyboard.press(key)
        drained(page)
        stored = [(s.event.face_id, str(s.event.action)) for s in session.store.events()]
        assert stored == said
        for key in ("Backspace", "u"):
            page.keyboard.press(key)
        drained(page)
        assert shown(page) == said[-2][0]
        assert [s.event.action for s in session.store.events()][-2:] == ["undo", "undo"]
        assert [s.event.face_id for s in session.store.standing()] == [f for f, _ in said[:-2]]


@pytest.mark.long
def test_undo_two_hundred_deep_and_after_a_restart(tmp_path: Path, open_page: Open) -> None:
    part = faces_to_judge(tmp_path / "part", 260)
    taste = liked(part)
    settings = SessionSettings(repeat_share=0.0, retrain_every=10**6)
    with serving(part, settings) as (_, session, url):
        page = open_page(url, "ann")
        for _ in range(10):
            page.keyboard.press("a" if taste[shown(page)] else "x")
        drained(page)
        export_labels(session.store, tmp_path / "before.csv")
        for _ in range(200):
            page.wait_for_selector("#photo img")
            page.keyboard.press("a" if taste[shown(page)] else "x")
        drained(page)
        assert len(session.store.labels()) == 210
        for _ in range(120):
            page.keyboard.press("Backspace")
        drained(page)
        assert len(session.store.labels()) == 90
    with serving(part, settings) as (_, session, url):
        page = open_page(url, "ann")
        for left in range(89, 9, -1):
            page.keyboard.press("Backspace")
            while len(session.store.labels()) > left:
                page.wait_for_timeout(2)
        export_labels(session.store, tmp_path / "after.csv")
    assert (tmp_path / "before.csv").read_bytes() == (tmp_path / "after.csv").read_bytes()


def test_a_session_trains_a_model_that_finds_the_taste(part: Part, open_page: Open) -> None:
    taste = liked(part)
    with serving(part, SessionSettings(repeat_share=0.0, retrain_every=25)) as (_, session, url):
        page = open_page(url, "ann")
        for _ in range(70):
            page.wait_for_selector("#photo img")
            page.keyboard.press("3" if taste[shown(page)] else "1")
        drained(page)
        session.wait(PATIENCE / 1000)
        assert session.trainings >= 1
        page.wait_for_selector("#plot-pool rect.bar-pool")
        left = [f for f in taste if f not in session.store.labels()]
        kept = [session.scores[session.index[f]] for f in left if taste[f]]
        other = [session.scores[session.index[f]] for f in left if not taste[f]]
        right = np.mean([a > b for a in kept for b in other])
        assert right > 0.85
        # A band on the histogram: what comes next lies in it.
        box = page.locator("#plot-pool svg").bounding_box()
        page.mouse.move(box["x"] + box["width"] * 0.6, box["y"] + 20)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] * 0.98, box["y"] + 20)
        page.wait_for_selector("#plot-pool rect.brush")
        # Figures that come meanwhile take nothing from under the hand.
        with page.expect_response("**/api/figures*"):
            pass
        page.mouse.move(box["x"] + box["width"] * 0.99, box["y"] + 20)
        page.mouse.up()
        assert page.evaluate("sfhq.state.band[0]") == pytest.approx(0.6, abs=0.02)


def test_the_grid_takes_a_page_and_gives_it_back(part: Part, open_page: Open) -> None:
    with serving(part, SessionSettings(retrain_every=10**6)) as (_, session, url):
        page = open_page(url, "ann")
        page.keyboard.press("g")
        page.wait_for_selector("#grid button:nth-child(36) img")
        page.locator("#grid button").nth(4).click()
        page.keyboard.press("ArrowRight")
        page.keyboard.press("x")
        faces = page.evaluate("sfhq.state.page.map((card) => card.face)")
        # Pressed twice before the next page can be there, the page is taken once.
        press = "document.body.dispatchEvent(new KeyboardEvent('keydown', enter))"
        page.evaluate(
            f"() => {{ const enter = {{key: 'Enter', bubbles: true}}; {press}; {press} }}"
        )
        drained(page)
        labels = session.store.labels()
        assert sorted(labels) == sorted(faces) and len(session.store.events()) == 36
        assert sum(not kept for kept in labels.values()) == 2
        page.keyboard.press("Backspace")
        drained(page)
        assert session.store.labels() == {}
        # Taken back at once, it is not pushed aside by the page that was asked for.
        page.keyboard.press("Enter")
        page.keyboard.press("Backspace")
        drained(page)
        page.wait_for_timeout(300)
        assert session.store.labels() == {}
        assert page.evaluate("sfhq.state.page.map((card) => card.face)") == faces


def test_conflicts_are_reviewed(part: Part, open_page: Open) -> None:
    taste = liked(part)
    with serving(part, SessionSettings(overlap=1.0, repeat_share=0.0)) as (_, session, url):
        for who, flip in (("ann", False), ("bob", True)):
            for i, face in enumerate(sorted(taste)[:6]):
                kept = taste[face] != (flip and i < 2)
                action = "keep" if kept else "reject"
                one = {"face": face, "action": action, "client": f"{who}{i}", "reaction": 1}
                session.answer(who, [one])
        page = open_page(url, "eve")
        page.keyboard.press("v")
        page.wait_for_selector(".conflict:nth-child(2) img")
        page.keyboard.press("a")
        page.keyboard.press("x")
        drained(page)
        assert session.store.conflicts() == []
        first, second = sorted(taste)[:2]
        assert session.store.labels()[first] is True
        assert session.store.labels()[second] is False


def test_the_page_says_why_no_training_begins(part: Part, open_page: Open) -> None:
    with serving(part, SessionSettings(repeat_share=0.0)) as (_, session, url):
        page = open_page(url, "ann")
        for _ in range(3):
            page.keyboard.press("a")
        drained(page)
        page.keyboard.press("t")
        status = page.locator("#status", has_text="No training begins")
        assert "3 kept and 0 rejected; wanted 8 or more of each" in status.inner_text()
        for key in "ax" * 9:
            page.wait_for_selector("#photo img")
            page.keyboard.press(key)
        drained(page)
        page.keyboard.press("t")
        page.locator("#status", has_text="Training").wait_for()
        session.wait(PATIENCE / 1000)
        assert session.trainings == 1 and session.hindrance() == ""
        session.train()
        assert session.hindrance() == "a training is under way"
        session.wait(PATIENCE / 1000)


def test_two_parts_are_judged_in_one_browser(tmp_path: Path, browser: Any) -> None:
    """Cookies are kept by host, not by port: neither page may lock the other out."""
    settings = SessionSettings(repeat_share=0.0)
    parts = [faces_to_judge(tmp_path / name, 20) for name in ("one", "two")]
    context = browser.new_context()
    context.set_default_timeout(PATIENCE)
    with (
        serving(parts[0], settings, token="a" * 32) as (_, first, url),
        serving(parts[1], settings, token="b" * 32) as (_, second, other),
    ):
        pages = []
        for address in (url, other):
            page = context.new_page()
            page.goto(address)
            sign_in(page, "ann")
            assert page.url == address.partition("#")[0]  # the token leaves the address bar
            pages.append(page)
        for key, page in zip("ax", pages, strict=True):
            page.reload()  # a part of the page that is asked for anew: scripts, style, images
            page.wait_for_selector("#photo img")
            assert page.evaluate("document.querySelector('#photo img').naturalWidth") > 0
            page.keyboard.press(key)
            drained(page)
        assert list(first.store.labels().values()) == [True]
        assert list(second.store.labels().values()) == [False]
    context.close()


def test_axe_finds_nothing_serious(part: Part, open_page: Open) -> None:
    import axe_playwright_python

    script = Path(axe_playwright_python.__file__).parent / "axe.min.js"
    with serving(part) as (_, session, url):
        for i, face in enumerate(sorted(session.index)[:4]):
            for who, word in (("bob", "keep"), ("cyd", "reject")):
                one = {"face": face, "action": word, "client": f"{who}{i}", "reaction": 1}
                session.answer(who, [one])
        page = open_page(url, "ann")
        page.evaluate(script.read_text(encoding="utf-8"))
        places = ("#photo img", "#grid button img", ".conflict img", "#bindings kbd")
        for key, there in zip("egv?", places, strict=True):
            page.keyboard.press(key)
            page.wait_for_selector(there)
            found = page.evaluate("axe.run()")
            serious = [
                (v["id"], [n["html"] for n in v["nodes"]][:2])
                for v in found["violations"]
                if v["impact"] in ("serious", "critical")
            ]
            assert serious == [], key


def test_two_pages_of_a_person_show_different_faces(part: Part, open_page: Open) -> None:
    with serving(part, SessionSettings(repeat_share=0.0)) as (_, session, url):
        first = open_page(url, "ann")
        second = first.context.new_page()
        second.goto(url)
        second.wait_for_selector("#photo img")
        for _ in range(15):
            for page in (first, second):
                page.wait_for_selector("#photo img")
                page.keyboard.press("a")
        for page in (first, second):
            drained(page)
        judged = [s.event.face_id for s in session.store.events()]
        assert len(judged) == 30 and len(set(judged)) == 30
        # A closed page gives back what it showed.
        held = set(second.evaluate("[sfhq.state.shown, ...sfhq.state.queue].map(c => c.face)"))
        second.close()
        dealt: set[str] = set()
        for _ in range(600):  # less than a lease lasts
            dealt |= {c.face_id for c in session.deal("ann", 50, tab="third")}
            if held <= dealt:
                break
            first.wait_for_timeout(100)
        assert held and held <= dealt


@pytest.mark.long
def test_portraits_judged_in_the_page_train_a_model_for_the_rest(
    tmp_path: Path, open_page: Open, shared_data: Path
) -> None:
    """Half of the labelled portraits through the page; the model ranks the other half."""
    from annotate.detect import Detect
    from curation.taste.judge import auc_with_interval
    from encoders.embed import DlibFaceEncoder, Embed
    from encoders.features.efficientnet import EfficientNetEncoder
    from encoders.features.geometry import GeometryEncoder
    from sfhq.faces.detector import FaceDetector
    from sfhq.ingest import Ingest
    from sfhq.pipeline.engine import run_stage

    part = Part.create(tmp_path / "part")
    run_stage(Ingest(str(shared_data / "portraits"), only="[kr]e[ej]*_*.jpg"), part)
    run_stage(Detect(FaceDetector()), part)
    run_stage(Embed(DlibFaceEncoder(), features=(GeometryEncoder(), EfficientNetEncoder())), part)
    names = {r.face_id: r.source for r in part.faces()}
    asked = {f for f in names if int(f[:2], 16) % 2}
    with serving(part, SessionSettings(repeat_share=0.0)) as (_, session, url):
        page = open_page(url, "david")
        for _ in names:
            page.wait_for_selector("#photo img")
            face = shown(page)
            word = "keep" if names[face].startswith("keep") else "reject"
            page.keyboard.press({"keep": "3", "reject": "1"}[word] if face in asked else "2")
        drained(page)
        assert set(session.store.labels()) == asked
        session.wait()
        session.train()
        session.wait()
        rest = [f for f in names if f not in asked]
        scores = np.array([session.scores[session.index[f]] for f in rest])
        kept = np.array([names[f].startswith("keep") for f in rest])
        assert auc_with_interval(scores, kept)[0] > 0.85
