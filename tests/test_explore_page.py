"""The explorer's page in a real browser: grid, facets, keys, map, boards, views, exports."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from browsing import PATIENCE
from exploring import COUNT, PAYLOAD, explorer_of, exploring, faces_to_see

from curation.explore.explorer import Explorer
from sfhq.parts.part import Part
from sfhq.parts.table import part_table

Open = Callable[..., Any]
SERIOUS = ("serious", "critical")


@pytest.fixture(scope="module")
def explorer(tmp_path_factory: pytest.TempPathFactory) -> Explorer:
    return explorer_of(faces_to_see(tmp_path_factory.mktemp("page") / "seen"))


@pytest.fixture(scope="module")
def served(
    explorer: Explorer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Path]]:
    """The page's address, and the folder for new parts."""
    folder = tmp_path_factory.mktemp("parts")
    with exploring(explorer, folder) as (_, url):
        yield url, folder


@pytest.fixture
def open_page(browser: Any) -> Iterator[Open]:
    """Opens the page; fails on any error of a script, dialog, or request elsewhere."""
    contexts: list[Any] = []
    troubles: list[str] = []

    def opened(url: str, width: int = 1280, height: int = 800, **options: Any) -> Any:
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        context.set_default_timeout(PATIENCE)
        contexts.append(context)

        def look(route: Any) -> None:
            if route.request.url.startswith(("http://127.0.0.1:", "data:", "blob:")):
                route.continue_()
            else:
                troubles.append(route.request.url)
                route.abort()

        def refuse(dialog: Any) -> None:
            troubles.append(dialog.message)
            dialog.dismiss()

        context.route("**/*", look)
        page = context.new_page()
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("dialog", refuse)
        page.goto(url)
        page.wait_for_selector(".tile img[src]")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert troubles == []


def changing(page: Any, act: Callable[[], object]) -> None:
    """Does something, and waits until the page shows what follows from it."""
    before = page.evaluate("Number(document.body.dataset.ready)")
    act()
    page.wait_for_function("n => Number(document.body.dataset.ready) > n", arg=before)


def shown(page: Any) -> list[int]:
    found: list[int] = page.evaluate(
        "[...document.querySelectorAll('.tile')].map(t => Number(t.dataset.i))"
    )
    return found


def status(page: Any) -> str:
    found: str = page.locator("#status").inner_text()
    return found


def test_facets_filter_and_count(served: tuple[str, Path], open_page: Open) -> None:
    page = open_page(served[0])
    assert status(page) == f"{COUNT} faces" and shown(page) == list(range(COUNT))
    assert "token" not in page.url
    box = page.locator("[data-key='hair_colour=blond']")
    with page.expect_response("**/api/facets*"):
        changing(page, box.check)
    assert shown(page) == list(range(1, COUNT, 3)) and status(page) == f"8 of {COUNT} faces"
    counts = page.locator("details[data-column=hair_colour] .count")
    page.wait_for_function("() => document.activeElement?.dataset?.key === 'hair_colour=blond'")
    assert counts.all_inner_texts() == ["8", "8", "8"]
    low = page.locator("[data-key='years-0']")
    low.fill("10")
    changing(page, lambda: low.press("Tab"))
    assert shown(page) == [10, 13, 16, 19, 22], (status(page), page.url)
    changing(page, lambda: page.locator("#chips button").first.click())
    assert shown(page) == list(range(10, COUNT))


def test_words_conditions_and_sql(served: tuple[str, Path], open_page: Open) -> None:
    page = open_page(served[0])
    page.keyboard.press("/")
    page.keyboard.type("man -glasses years:<10")
    changing(page, lambda: page.keyboard.press("Enter"))
    assert shown(page) == [2, 6]
    changing(page, lambda: page.keyboard.press("c"))
    page.keyboard.press("/")
    page.keyboard.type("hair_color:red")
    page.keyboard.press("Enter")
    page.locator("#status.trouble", has_text="did you mean: hair_colour").wait_for()
    page.locator("#sql summary").click()
    page.fill("#where", "years % 5 = 0 AND hair_colour = 'black'")
    page.evaluate("sfhq.state.q = ''")
    changing(page, page.locator("#where-form button").click)
    assert shown(page) == [0, 15]


def test_everything_by_the_keyboard(served: tuple[str, Path], open_page: Open) -> None:
    page = open_page(served[0])
    press = page.keyboard.press
    press("ArrowRight")
    press("ArrowRight")
    press("ArrowDown")
    across = page.evaluate(
        "getComputedStyle(document.querySelector('#grid')).gridTemplateColumns.split(' ').length"
    )
    here = "Number(document.activeElement.dataset.place)"
    assert page.evaluate(here) == 1 + across
    press("x")
    press("End")
    press("x")
    assert page.evaluate("[...sfhq.picked]") == [1 + across, COUNT - 1]
    assert status(page) == f"{COUNT} faces, 2 picked"
    press("u")
    press("Home")
    press("Enter")
    page.wait_for_selector("#detail[open] #photo[data-layer=photo]")
    press("ArrowRight")
    page.wait_for_function("() => document.querySelector('#detail-title').textContent === 'f0001'")
    press("o")
    page.wait_for_selector("#photo[data-layer=masks]")
    press("m")  # what is below an open face stays
    press("x")
    assert page.get_attribute("#pick", "aria-pressed") == "true"
    assert page.evaluate("sfhq.state.mode") == "grid"
    changing(page, lambda: press("s"))
    assert page.locator("#detail").is_hidden() and len(shown(page)) == COUNT - 1
    assert 1 not in shown(page)
    changing(page, lambda: press("b"))
    assert page.locator("#board-rows .row").count() == 3
    changing(page, lambda: press("m"))
    page.focus("#plane")
    before = page.evaluate("[sfhqMap.cx, sfhqMap.scale]")
    press("ArrowRight")
    press("+")
    after = page.evaluate("[sfhqMap.cx, sfhqMap.scale]")
    assert after[0] > before[0] and after[1] > before[1]
    press("0")
    press("g")
    press("e")
    page.wait_for_selector("#export[open]")
    press("Escape")
    press("?")
    listed = page.locator("#keys tr").count()
    assert listed > 15
    press("Escape")
    changing(page, lambda: press("r"))
    assert sorted(shown(page)) != shown(page)


def test_an_open_face_shows_its_layers_and_family(tmp_path: Path, open_page: Open) -> None:
    with exploring(explorer_of(faces_to_see(tmp_path / "part", 10))) as (_, url):
        page = open_page(url)
        page.locator(".tile").nth(5).click()
        page.wait_for_selector("#photo[data-layer=photo]")
        assert page.locator(".caption").inner_text() == PAYLOAD, "a caption is text, never HTML"
        page.click("#layers [data-layer='only hair']")
        page.wait_for_selector("#photo[data-layer='only hair']")
        pressed = page.locator("#layers [aria-pressed=true]").all_inner_texts()
        assert pressed == ["only hair"]
        rows = page.locator("#detail th").all_inner_texts()
        assert {"parent id", "source", "years", "hair colour"} <= {*rows}


def test_a_lasso_on_the_map_keeps_what_lies_inside(
    served: tuple[str, Path], explorer: Explorer, open_page: Open
) -> None:
    page = open_page(served[0])
    changing(page, lambda: page.keyboard.press("m"))
    page.wait_for_function("() => sfhqMap.frames > 0")
    page.click("#lasso")
    box = page.locator("#plane").bounding_box()
    left = page.evaluate("sfhqMap.toScreen(0.5, 0)[0] / sfhqMap.ratio")
    x0, y0 = box["x"], box["y"]
    corners = [(4, 4), (left, 4), (left, box["height"] - 4), (4, box["height"] - 4), (4, 6)]
    page.mouse.move(x0 + corners[0][0], y0 + corners[0][1])
    page.mouse.down()

    def trace() -> None:
        for x, y in corners[1:]:
            page.mouse.move(x0 + x, y0 + y, steps=4)
        page.mouse.up()

    changing(page, trace)
    points = explorer.maps.points()
    wanted = [int(i) for i in range(COUNT) if points[i, 0] / 65000 < 0.5]
    changing(page, lambda: page.keyboard.press("g"))
    assert shown(page) == wanted and 0 < len(wanted) < COUNT
    changing(page, lambda: page.locator("#chips button").click())
    assert len(shown(page)) == COUNT


def test_a_view_is_its_address(served: tuple[str, Path], open_page: Open) -> None:
    page = open_page(served[0])
    page.select_option("#sort", "years")
    changing(page, page.locator("[data-key='hair_colour=brown']").check)
    wanted = list(range(COUNT - 1, 0, -3))
    page.wait_for_function("n => document.querySelectorAll('.tile').length === n", arg=len(wanted))
    assert shown(page) == wanted
    address = page.url
    page.click("#save")
    changing(page, page.go_back)
    assert len(shown(page)) == COUNT
    changing(page, page.go_forward)
    assert shown(page) == wanted
    page.reload()
    page.wait_for_selector(".tile img[src]")
    assert shown(page) == wanted and page.url == address
    changing(page, lambda: page.keyboard.press("c"))
    page.keyboard.press("v")
    changing(page, page.locator("#views a").first.click)
    assert shown(page) == wanted
    page.keyboard.press("v")
    page.locator("#views button").first.click()
    assert page.locator("#views").inner_text().startswith("None yet")


def test_a_selection_leaves_as_ids_csv_and_as_a_part(
    served: tuple[str, Path], open_page: Open, tmp_path: Path
) -> None:
    url, folder = served
    page = open_page(url, accept_downloads=True)
    for place in (3, 7):
        page.locator(".tile").nth(place).click(modifiers=["Control"])
    page.keyboard.press("e")
    assert page.locator("#export-what").inner_text() == "The 2 faces that you picked."
    for kind, name in (("ids", "faces.txt"), ("csv", "faces.csv"), ("jsonl", "faces.jsonl")):
        with page.expect_download() as download:
            page.click(f"[data-kind={kind}]")
        assert download.value.suggested_filename == name
        download.value.save_as(tmp_path / name)
    assert (tmp_path / "faces.txt").read_text() == "f0003\nf0007\n"
    assert (tmp_path / "faces.csv").read_text().count("\n") == 3
    lines = (tmp_path / "faces.jsonl").read_text().splitlines()
    assert [json.loads(line)["years"] for line in lines] == [3, 7]
    page.fill("#part-name", "picked")
    page.press("#part-name", "Enter")
    page.locator("#export-told", has_text="2 faces written to").wait_for()
    part = Part.open(folder / "picked")
    assert part_table(part).column("face_id").to_pylist() == ["f0003", "f0007"]
    page.press("#part-name", "Enter")
    page.locator("#export-told.trouble", has_text="is there already").wait_for()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(served: tuple[str, Path], open_page: Open, scheme: str) -> None:
    import axe_playwright_python

    script = Path(axe_playwright_python.__file__).parent / "axe.min.js"
    page = open_page(served[0], color_scheme=scheme)
    page.evaluate(script.read_text(encoding="utf-8"))

    def check(where: str) -> None:
        found = page.evaluate("axe.run()")
        serious = [
            (v["id"], [n["html"] for n in v["nodes"]][:2])
            for v in found["violations"]
            if v["impact"] in SERIOUS
        ]
        assert serious == [], where

    changing(page, page.locator("[data-key='hair_colour=brown']").check)
    page.locator(".tile").nth(1).click(modifiers=["Control"])
    check("grid")
    for key, where in (("m", "map"), ("b", "board"), ("g", "grid")):
        changing(page, lambda key=key: page.keyboard.press(key))  # type: ignore[misc]
        check(where)
    for key, dialog in (("e", "#export"), ("v", "#saved"), ("?", "#help")):
        page.keyboard.press(key)
        page.wait_for_selector(f"{dialog}[open]")
        check(dialog)
        page.keyboard.press("Escape")
    page.locator(".tile").first.click()
    page.wait_for_selector("#photo[data-layer=photo]")
    check("face")


def test_a_phone_scrolls_one_way_only(served: tuple[str, Path], open_page: Open) -> None:
    page = open_page(served[0], 360, 740, has_touch=True, is_mobile=True)
    wide = "document.documentElement.scrollWidth <= innerWidth"
    assert page.evaluate(wide)
    assert page.locator("#facets").is_hidden()
    page.click("#filters-button")
    assert page.locator("#facets").is_visible() and page.evaluate(wide)
    page.click("#filters-button")
    for name in ("map", "board", "grid"):
        changing(page, page.locator(f"[data-mode={name}]").click)
        assert page.evaluate(wide), name
    page.locator(".tile").first.click()
    page.wait_for_selector("#photo[data-layer=photo]")
    inside = "document.querySelector('#detail').scrollWidth <= innerWidth"
    assert page.evaluate(inside) and page.evaluate(wide)
    page.get_by_role("button", name="Close").click()
    page.click("#export-button")
    assert page.evaluate(wide)


def test_a_server_that_went_away_and_a_part_that_changed_are_said(
    tmp_path: Path, open_page: Open
) -> None:
    part = faces_to_see(tmp_path / "part", 10)
    with exploring(explorer_of(part)) as (_, url):
        page = open_page(url)
        path = part.root / "records" / "attribute.json"
        path.write_text(path.read_text() + "\n")
        page.keyboard.press("r")
        page.locator("#status.trouble", has_text="changed since this server read it").wait_for()
        assert len(shown(page)) == 10
    page.keyboard.press("r")
    page.locator("#status.trouble", has_text="is sfhq explore still running?").wait_for()


def test_a_page_without_its_token_says_what_to_open(served: tuple[str, Path], browser: Any) -> None:
    page = browser.new_page()
    page.goto(served[0].split("#")[0])
    page.locator("#status.trouble", has_text="open the address that the command printed").wait_for()
    page.close()
