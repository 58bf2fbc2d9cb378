"""The page in a real browser: keys, prefetch, undo, grid, review, retraining, kills."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from curating import faces_to_judge, forwarding, liked, serving

from curation.labels.exchange import export_labels
from curation.labels.store import FILE, LabelStore
from curation.page.session import SessionSettings
from sfhq.parts.part import Part
from sfhq.web.guard import TOKEN_HEADER
from sfhq.web.serving import place_of

playwright_api = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PATIENCE = 90_000  # ms; only a failing test waits as long, whatever else runs beside it
Open = Callable[..., Any]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright_api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield found
        found.close()


def sign_in(page: Any, who: str, wait_for: str = "#photo img") -> None:
    page.fill("#name", who)
    page.press("#name", "Enter")
    page.wait_for_selector(wait_for)


@pytest.fixture
def open_page(browser: Any) -> Iterator[Open]:
    """Opens the page as a person; fails on any word on the console or request elsewhere."""
    contexts: list[Any] = []
    troubles: list[str] = []

    def opened(url: str, who: str, wait_for: str = "#photo img") -> Any:
        context = browser.new_context(viewport={"width": 1280, "height": 800})
        context.set_default_timeout(PATIENCE)
        contexts.append(context)

        def look(route: Any) -> None:
            if route.request.url.startswith(
                ("http://127.0.0.1:", "http://localhost:", "data:", "blob:")
            ):
                route.continue_()
            else:
                troubles.append(route.request.url)
                route.abort()

        context.route("**/*", look)
        page = context.new_page()
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.goto(url)
        sign_in(page, who, wait_for)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert troubles == []


def shown(page: Any) -> str:
    face: str = page.evaluate("document.querySelector('#photo').dataset.face")
    return face


def arrived(page: Any, part: Part) -> None:
    """Waits until a page that loads anew is that of a part."""
    found = "place => document.querySelector('meta[name=sfhq-place]')?.content === place"
    page.wait_for_function(found, arg=place_of(part.root))
    page.wait_for_selector("#photo img")


def ahead(page: Any) -> None:
    """Waits until the next twelve images are there."""
    page.wait_for_function("() => sfhq.state.queue.length >= 12 && !sfhq.state.asking")
    page.evaluate("sfhq.ahead()")


def cut_off(page: Any, *paths: str) -> Callable[[], None]:
    """Let requests fail until what is returned is called.

    The handlers stay: one that is taken away while a request waits for it leaves that request
    without an answer for ever.
    """
    away = True

    def handle(route: Any) -> None:
        if away:
            route.abort()
        else:
            route.fallback()

    def back() -> None:
        nonlocal away
        away = False

    for path in paths:
        page.route(path, handle)
    return back


def drained(page: Any) -> None:
    page.evaluate("sfhq.drained()")


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


def test_the_help_lists_every_key_and_keys_can_be_changed(part: Part, open_page: Open) -> None:
    with serving(part) as (_, session, url):
        page = open_page(url, "ann")
        page.keyboard.press("?")
        listed = page.locator("#bindings kbd").all_inner_texts()
        names = page.evaluate(
            "import('/web/keys.js').then(k => Object.values(k.bindings()).flat().map(k.nameOf))"
        )
        assert listed == names
        page.locator("#bindings tr").nth(0).get_by_role("button").click()
        page.keyboard.press("k")
        assert page.locator("#bindings tr").nth(0).locator("kbd").all_inner_texts() == ["k"]
        page.click("#close-help")
        face = shown(page)
        page.keyboard.press("a")
        assert shown(page) == face  # a is free now
        page.keyboard.press("k")
        drained(page)
        assert [s.event.face_id for s in session.store.events()] == [face]


def test_a_key_pressed_before_the_closed_help_gives_up_the_focus_counts(
    part: Part, open_page: Open
) -> None:
    with serving(part) as (_, session, url):
        page = open_page(url, "ann")
        page.keyboard.press("?")
        face = shown(page)
        focused = page.evaluate(
            """() => {
              const button = document.querySelector("#close-help");
              button.focus();
              button.click();
              const focused = document.activeElement;
              focused.dispatchEvent(new KeyboardEvent("keydown", { key: "a", bubbles: true }));
              return focused.id;
            }"""
        )
        assert focused == "close-help"
        drained(page)
        assert [s.event.face_id for s in session.store.events()] == [face]


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


def test_decisions_wait_for_a_server_that_is_away(part: Part, open_page: Open) -> None:
    with serving(part, SessionSettings(repeat_share=0.0)) as (_, session, url):
        page = open_page(url, "ann")
        ahead(page)
        page.context.set_offline(True)
        faces = []
        for _ in range(8):
            faces.append(shown(page))
            page.keyboard.press("a")
        page.locator("#status", has_text="8 unsaved: the server does not answer").wait_for()
        assert session.store.events() == []
        while page.locator("#photo img").count():
            faces.append(shown(page))
            page.keyboard.press("a")
        page.locator("#empty", has_text="when the server answers").wait_for()
        page.context.set_offline(False)
        page.wait_for_selector("#photo img")
        assert page.locator("#empty").is_hidden()
        drained(page)
        assert [s.event.face_id for s in session.store.events()] == faces


def test_images_come_back_with_the_server_and_never_hide_what_is_unsaved(
    part: Part, open_page: Open
) -> None:
    with serving(part, SessionSettings(repeat_share=0.0)) as (_, session, url):
        page = open_page(url, "ann")
        back = cut_off(page, "**/image/*", "**/api/labels")
        lost = page.locator("#photo .lost")
        faces = []
        while not lost.is_visible():
            page.wait_for_selector("#photo img, #photo .lost")
            faces.append(shown(page))
            page.keyboard.press("a")
        assert "does not answer" in lost.inner_text()
        assert f"{len(faces)} unsaved" in page.locator("#status").inner_text()
        back()
        page.wait_for_selector("#photo img")
        lost.wait_for(state="detached")
        drained(page)
        assert [s.event.face_id for s in session.store.events()] == faces


def test_a_lost_image_is_named_and_shown_once_it_is_there_again(
    part: Part, open_page: Open
) -> None:
    gone = {}
    for record in part.records("embed"):
        path = part.image_path("images", record.face_id)
        gone[record.face_id] = (path, path.with_suffix(".gone"))
        path.rename(path.with_suffix(".gone"))
    with serving(part, SessionSettings(repeat_share=0.0)) as (_, session, url):
        page = open_page(url, "ann", wait_for="#photo .lost")
        face = shown(page)
        assert "run the stage that made it again" in page.locator("#photo .lost").inner_text()
        gone[face][1].rename(gone[face][0])
        page.wait_for_selector("#photo img")
        page.keyboard.press("x")
        page.wait_for_selector("#photo .lost")
        page.keyboard.press(" ")
        drained(page)
        assert session.store.labels() == {face: False}


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


def test_what_the_server_refuses_stays_in_sight_and_the_rest_is_stored(
    tmp_path: Path, open_page: Open
) -> None:
    """Keys are pressed while the server is away; two of the faces are gone when it is back."""
    part, settings = faces_to_judge(tmp_path / "part", 40), SessionSettings(repeat_share=0.0)
    with serving(part, settings) as (client, _, url):
        page, port = open_page(url, "ann"), client.port
        ahead(page)
    faces = []
    for _ in range(7):
        faces.append(shown(page))
        page.keyboard.press("a")
    page.locator("#status", has_text="7 unsaved: the server does not answer").wait_for()
    gone = {faces[0], faces[4]}
    with serving(part, settings, port=port, without=gone) as (_, session, _):
        drained(page)
        assert [s.event.face_id for s in session.store.events()] == [
            f for f in faces if f not in gone
        ]
        status = page.locator("#status")
        assert status.inner_text() == f"2 not stored: face '{faces[4]}' is not in this part"
        page.wait_for_selector("#photo img")
        page.keyboard.press("x")
        drained(page)
        assert len(session.store.events()) == 6
        assert "saved" not in status.inner_text().replace("unsaved", "")
        # Of what is not there, nothing is undone: two undos take back the two last that are.
        for _ in range(2):
            page.keyboard.press("Backspace")
        drained(page)
        assert len(session.store.labels()) == 4
        assert len(page.evaluate("sfhq.state.history")) == 4
        page.reload()
        page.wait_for_selector("#photo img")
        page.click("#refused-button")
        rows = page.locator("#refusals tr").all_inner_texts()
        assert [r.split("\t")[:3] for r in rows] == [["ann", faces[i], "keep"] for i in (0, 4)]
        assert "is not in this part" in rows[0]
    with serving(part, settings, port=port) as (_, session, _):
        page.click("#send-again")
        drained(page)
        assert gone <= set(session.store.labels())
        assert page.locator("#refused-button").is_hidden()
        assert status.inner_text() == "saved"


def test_a_request_that_is_refused_whole_costs_no_other_decision(
    part: Part, open_page: Open
) -> None:
    with serving(part, SessionSettings(repeat_share=0.0)) as (_, session, url):
        page = open_page(url, "ann")
        page.evaluate(
            """(face) => {
              const entry = (answer, annotator = "ann") => ({ annotator, answer });
              const place = document.querySelector("meta[name=sfhq-place]").content;
              localStorage.setItem(`sfhq-unsent-${place}-old`, JSON.stringify([
                entry({ face, action: "keep", client: "old-1" }), entry("no answer"),
                entry({ face, action: "reject", client: "old-2" }),
                entry({ face, action: "keep", client: "old-3" }, "a\\nb"),
                entry({ undo: "old-4", client: "old-5" }),
                entry({ face: "gone", action: "keep", client: "old-6" }),
                entry({ undo: "old-6", client: "old-7" }),
                entry({ face, action: "keep", client: "old-8" }),
              ]));
            }""",
            "f0000",
        )
        page.reload()
        page.wait_for_selector("#photo img")
        drained(page)
        stored = [s.event.client_id for s in session.store.events()]
        assert stored == ["old-1", "old-2", "old-8"]
        # What was undone before it could be stored is not missing.
        assert page.locator("#status").inner_text().startswith("3 not stored: no event 'old-4'")
        page.click("#refused-button")
        page.click("#forget")
        assert page.locator("#status").inner_text() == "saved"


def test_a_server_that_is_started_anew_gets_what_an_old_page_has(
    part: Part, open_page: Open
) -> None:
    settings = SessionSettings(repeat_share=0.0)
    with serving(part, settings, token="a" * 32) as (client, _, url):
        page, port = open_page(url, "ann"), client.port
    faces = [shown(page)]
    page.keyboard.press("a")
    with serving(part, settings, token="b" * 32, port=port) as (_, session, url):
        page.locator("#status", has_text="open the address that the command printed").wait_for()
        assert session.store.events() == []
        other = page.context.new_page()
        other.goto(url)  # the new address in another page is enough for the old one
        other.wait_for_selector("#photo img")
        drained(page)
        assert [s.event.face_id for s in session.store.events()] == faces


def test_a_page_never_gives_its_decisions_to_another_part_on_its_port(
    tmp_path: Path, open_page: Open
) -> None:
    settings = SessionSettings(repeat_share=0.0)
    one, two = (faces_to_judge(tmp_path / name / "part", 60) for name in "ab")
    with serving(one, settings, token="a" * 32) as (client, _, url):
        page, port = open_page(url, "ann"), client.port
    page.keyboard.press("a")
    with serving(two, settings, token="b" * 32, port=port) as (_, session, url):
        other = page.context.new_page()
        other.goto(url)
        other.wait_for_selector("#photo img")
        drained(other)
        page.goto(url)  # only what is behind the "#" differs: the old page loads anew
        arrived(page, two)
        drained(page)
        assert session.store.events() == []
    with serving(one, settings, token="c" * 32, port=port) as (_, session, url):
        page.goto(url)
        arrived(page, one)
        drained(page)
        assert len(session.store.events()) == 1


def test_the_page_works_through_a_forwarded_port(part: Part, open_page: Open) -> None:
    with (
        serving(part, SessionSettings(repeat_share=0.0)) as (client, session, url),
        forwarding(client.port) as port,
    ):
        for i, name in enumerate(("localhost", "127.0.0.1")):
            page = open_page(url.replace(f"127.0.0.1:{client.port}", f"{name}:{port}"), "ann")
            assert page.evaluate("document.querySelector('#photo img').naturalWidth") > 0
            page.keyboard.press("a")
            drained(page)
            assert len(session.store.labels()) == i + 1
            assert page.context.cookies() == []


@pytest.mark.parametrize(
    ("layout", "presses"),
    [
        ("Russian", [("ф", "KeyA", "keep"), ("ч", "KeyX", "reject"), ("Ч", "KeyX", "reject")]),
        ("Greek", [("π", "KeyP", "keep"), ("χ", "KeyX", "reject"), ("φ", "KeyF", "flag")]),
        ("Arabic", [("ش", "KeyA", "keep"), ("ء", "KeyX", "reject"), ("٣", "Digit3", "keep")]),
        ("Hebrew", [("ש", "KeyA", "keep"), ("כ", "KeyF", "flag"), ("לא", "KeyP", "keep")]),
        ("Thai", [("ฟ", "KeyA", "keep"), ("ี", "KeyU", "undo"), ("๑", "Digit1", "reject")]),
        ("Japanese", [("Process", "KeyA", "keep"), ("Process", "KeyX", "reject")]),
        (
            "AZERTY",
            [
                ("a", "KeyQ", "keep"),
                ("q", "KeyA", None),
                ("w", "KeyZ", None),
                ("é", "Digit2", None),
                ("p", "KeyP", "keep"),
            ],
        ),
        (
            "Dvorak",
            [
                ("a", "KeyA", "keep"),
                ("x", "KeyB", "reject"),
                ("q", "KeyX", None),
                ("'", "KeyQ", None),
                (";", "KeyZ", None),
                ("ö", "KeyX", None),
            ],
        ),
        ("none", [("a", "", "keep"), ("Enter", "Enter", "commit"), ("ArrowUp", "ArrowUp", "up")]),
    ],
)
def test_keys_of_every_layout(
    part: Part, browser: Any, layout: str, presses: list[tuple[str, str, str | None]]
) -> None:
    context = browser.new_context()
    context.set_default_timeout(PATIENCE)
    with serving(part) as (_, _, url):
        page = context.new_page()
        page.goto(url)
        for key, code, action in presses:
            event = {"key": key, "code": code}
            found = page.evaluate(
                """async (e) => {
                  const { actionOf } = await import("/web/keys.js");
                  return actionOf(new KeyboardEvent("keydown", e)) ?? null;
                }""",
                event,
            )
            assert found == action, (layout, key, code)
        context.close()


def test_a_key_of_another_script_judges_the_face(part: Part, open_page: Open) -> None:
    with serving(part, SessionSettings(repeat_share=0.0)) as (_, session, url):
        page = open_page(url, "ann")
        press = """(e) => document.body.dispatchEvent(
          new KeyboardEvent("keydown", { ...e, bubbles: true, cancelable: true }))"""
        for key, code in (("ф", "KeyA"), ("q", "KeyA"), ("χ", "KeyX")):
            page.evaluate(press, {"key": key, "code": code})
        drained(page)
        assert [str(s.event.action) for s in session.store.events()] == ["keep", "reject"]
        # A key of that script can be chosen, and goes before the place of the key.
        page.keyboard.press("?")
        page.locator("#bindings tr").nth(1).get_by_role("button").click()
        for key, code in (("Shift", "ShiftLeft"), ("ф", "KeyA")):
            page.evaluate(press, {"key": key, "code": code})
        page.click("#close-help")
        page.evaluate(press, {"key": "ф", "code": "KeyA"})
        drained(page)
        assert session.store.events()[-1].event.action == "reject"


def test_own_keys_come_with_the_name_in_any_browser(part: Part, open_page: Open) -> None:
    with serving(part, SessionSettings(repeat_share=0.0)) as (_, _, url):
        page = open_page(url, "ann")
        page.keyboard.press("?")
        back = cut_off(page, "**/api/keys")
        page.locator("#bindings tr").nth(0).get_by_role("button").click()
        page.keyboard.press("k")
        page.reload()  # before the server has them
        back()
        page.wait_for_selector("#photo img")
        page.wait_for_function(
            "() => !Object.keys(localStorage).some((k) => k.startsWith('sfhq-keys-'))"
        )
    with serving(part, SessionSettings(repeat_share=0.0)) as (_, session, url):
        bob = open_page(url, "bob")
        ann = open_page(url, "ann")
        for page in (bob, ann):
            page.keyboard.press("k")
            drained(page)
        assert session.store.annotators() == ["ann"]
        ann.context.new_page().goto(url)
        fresh = open_page(url, "cyd")
        fresh.evaluate("localStorage.removeItem('sfhq-name')")
        fresh.reload()
        fresh.wait_for_selector("#people option", state="attached")
        names = fresh.locator("#people option").evaluate_all("all => all.map(o => o.value)")
        assert names == ["ann"]
        sign_in(fresh, "ann")


def test_a_name_that_is_refused_is_asked_for_again(part: Part, open_page: Open) -> None:
    with serving(part, SessionSettings(repeat_share=0.0)) as (_, session, url):
        page = open_page(url, "a\u202eb", wait_for="#name-problem")
        assert "wanted a name" in page.locator("#name-problem").inner_text()
        page.reload()
        sign_in(page, "علی\u200cبیگ")
        page.keyboard.press("a")
        drained(page)
        assert session.store.annotators() == ["علی\u200cبیگ"]
        page.reload()
        page.wait_for_selector("#photo img")


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


SERVER = [sys.executable, "-m", "cli", "curate"]


def started(part: Path) -> tuple[subprocess.Popen[str], str]:
    run = subprocess.Popen(
        [*SERVER, str(part)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
    )
    assert run.stdout is not None
    return run, run.stdout.readline().strip()


def test_a_second_server_is_refused(part: Part) -> None:
    run, _ = started(part.root)
    try:
        again = subprocess.run(
            [*SERVER, str(part.root)],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        )
        assert again.returncode == 1
        assert "another sfhq" in again.stderr and again.stderr.count("\n") == 1
    finally:
        run.terminate()
        run.wait()
        assert run.stdout is not None
        run.stdout.close()


def kill_and_count(part: Part, kills: int, seed: int) -> tuple[int, int]:
    """Post labels to a server that is killed again and again: acknowledged, and lost."""
    import http.client
    import json

    rng = np.random.default_rng(seed)
    faces = sorted(liked(part))
    acknowledged: set[str] = set()
    number = 0
    for _ in range(kills):
        run, url = started(part.root)
        port, token = int(url.split(":")[2].split("/")[0]), url.partition("token=")[2]
        deadline = None
        try:
            while True:
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
                one = {"face": faces[number % len(faces)], "action": "keep", "client": f"c{number}"}
                try:
                    connection.request(
                        "POST",
                        "/api/labels",
                        json.dumps({"annotator": "ann", "answers": [one]}),
                        {
                            "Content-Type": "application/json",
                            TOKEN_HEADER: token,
                            "Sec-Fetch-Site": "same-origin",
                        },
                    )
                    if connection.getresponse().status == 200:
                        acknowledged.add(f"c{number}")
                    number += 1
                    if deadline is None:
                        pause = float(rng.uniform(0.0, 0.25))
                        deadline = pause
                        threading.Timer(pause, os.kill, (run.pid, signal.SIGKILL)).start()
                except (OSError, http.client.HTTPException):
                    if run.poll() is not None:
                        break
                    time.sleep(0.02)
                finally:
                    connection.close()
        finally:
            run.wait()
            assert run.stdout is not None
            run.stdout.close()
    with LabelStore(part.root / FILE, readonly=True) as store:
        stored = {s.event.client_id for s in store.events()}
    return len(acknowledged), len(acknowledged - stored)


def test_three_kills_of_the_server_lose_nothing(part: Part) -> None:
    acknowledged, lost = kill_and_count(part, 3, seed=0)
    assert acknowledged > 3 and lost == 0


@pytest.mark.long
def test_twenty_five_kills_of_the_server_lose_nothing(part: Part) -> None:
    acknowledged, lost = kill_and_count(part, 25, seed=1)
    assert acknowledged > 25 and lost == 0


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
