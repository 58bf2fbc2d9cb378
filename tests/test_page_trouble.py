"""The page in a real browser when the server is away, refuses, or is another one."""

from __future__ import annotations

from pathlib import Path

import pytest
from browsing import Open, ahead, arrived, cut_off, drained, shown
from curating import faces_to_judge, forwarding, serving

from curation.page.session import SessionSettings
from sfhq.parts.part import Part


@pytest.fixture
def part(tmp_path: Path) -> Part:
    return faces_to_judge(tmp_path / "part", 120)


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
