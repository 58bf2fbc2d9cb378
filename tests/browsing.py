"""A browser for tests of pages, and what they do with the page of `sfhq curate`."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from sfhq.parts.part import Part
from sfhq.web.serving import place_of

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
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


def launched() -> Iterator[Any]:
    """A browser; skips the test where there is none."""
    api = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine")
    with api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield found
        found.close()


def sign_in(page: Any, who: str, wait_for: str = "#photo img") -> None:
    page.fill("#name", who)
    page.press("#name", "Enter")
    page.wait_for_selector(wait_for)


def opened_pages(browser: Any) -> Iterator[Open]:
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
