"""Keys of the page in a real browser: layouts, scripts, own keys, names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from browsing import PATIENCE, Open, cut_off, drained, shown, sign_in
from curating import faces_to_judge, serving

from curation.page.session import SessionSettings
from sfhq.parts.part import Part


@pytest.fixture
def part(tmp_path: Path) -> Part:
    return faces_to_judge(tmp_path / "part", 120)


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
