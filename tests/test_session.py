"""Whom a session shows, what it stores, and what it learns."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from multiprocessing import active_children
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from curating import faces_to_judge, liked

from curation.faces import Faces
from curation.labels.events import Action
from curation.labels.exchange import export_labels
from curation.labels.store import FILE, LabelStore
from curation.page.dealing import LEASE_SECONDS
from curation.page.deciding import Reused
from curation.page.figures import conflicts, figures
from curation.page.order import next_faces, spread_out, worth
from curation.page.session import Session, SessionSettings
from sfhq.errors import DiskFull, IntegrityError, UsageError
from sfhq.parts.part import Part


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Part:
    return faces_to_judge(tmp_path_factory.mktemp("part") / "part", 300)


OPEN: list[LabelStore] = []


@pytest.fixture(autouse=True)
def close_stores() -> Iterator[None]:
    """Close what a test opened; newer Pythons warn of connections that are left open."""
    yield
    while OPEN:
        OPEN.pop().close()


def open_session(part: Part, path: Path, **settings: Any) -> Session:
    OPEN.append(LabelStore(path / FILE))
    return Session(Faces.of(part), OPEN[-1], SessionSettings(**settings))


def answer(face: str, action: str, client: str) -> dict[str, Any]:
    return {"face": face, "action": action, "client": client, "reaction": 250.0}


def judge(session: Session, who: str, count: int, taste: dict[str, bool], start: int = 0) -> None:
    for i in range(start, start + count):
        card = session.deal(who, 1)[0]
        word = "keep" if taste[card.face_id] else "reject"
        session.answer(who, [answer(card.face_id, word, f"{who}-{i}")])


def test_every_face_comes_once(template: Part, tmp_path: Path) -> None:
    session = open_session(template, tmp_path, repeat_share=0.0, retrain_every=10**6)
    seen: list[str] = []
    while cards := session.deal("ann", 16):
        seen += [c.face_id for c in cards]
    assert sorted(seen) == sorted(session.index)
    session.sit_down("ann")  # the page was opened anew: nothing was answered
    assert len(session.deal("ann", 200)) == 200


def test_what_is_judged_does_not_come_again(template: Part, tmp_path: Path) -> None:
    session = open_session(template, tmp_path, repeat_share=0.0, retrain_every=10**6)
    judge(session, "ann", 40, liked(template))
    card = session.deal("ann", 1)[0]
    session.answer("ann", [answer(card.face_id, "skip", "s")])
    session.sit_down("ann")
    done = {s.event.face_id for s in session.store.current()}
    dealt = {c.face_id for _ in range(20) for c in session.deal("ann", 20)}
    assert len(done) == 40 and not done & dealt
    assert len(dealt) == 260  # a skipped face comes again in another sitting


def test_repeats_are_hidden_and_far_from_their_first(template: Part, tmp_path: Path) -> None:
    session = open_session(template, tmp_path, repeat_share=0.3, retrain_every=10**6)
    judge(session, "ann", 200, liked(template))
    events = [s.event for s in session.store.events()]
    places: dict[str, int] = {}
    repeats = 0
    for place, event in enumerate(events):
        if event.reason == "repeat":
            assert place - places[event.face_id] > 50
            repeats += 1
        else:
            places[event.face_id] = place
    assert 20 < repeats < 70
    found = figures(session, "ann")["consistency"]
    assert found["count"] == repeats
    assert found["value"] == 1.0
    assert "repeat" not in str(session.deal("ann", 30)[0].to_dict(blind=False))


def test_it_learns_in_a_worker_and_scores_what_is_left(template: Part, tmp_path: Path) -> None:
    session = open_session(template, tmp_path, retrain_every=25)
    taste = liked(template)
    try:
        judge(session, "ann", 60, taste)
        session.wait()
        assert session.model is not None and session.trouble == ""
        judge(session, "ann", 60, taste, start=60)
        session.wait()
        assert session.trainings >= 2
        left = [f for f in taste if f not in session.store.labels()]
        scores = {f: session.scores[session.index[f]] for f in left}
        kept = [scores[f] for f in left if taste[f]]
        other = [scores[f] for f in left if not taste[f]]
        right = sum(a > b for a in kept for b in other) / (len(kept) * len(other))
        assert right > 0.9
        found = figures(session, "ann")
        assert found["model"]["auc"]["value"] > 0.8
        assert sum(found["histograms"]["pool"]) == len(left)
        assert sum(found["histograms"]["kept"]) == session.model.counts[0]
        reasons = {s.event.reason for s in session.store.events()}
        assert {"uncertain", "random", "spread"} <= reasons
    finally:
        session.close()


def test_closing_ends_the_worker_in_the_middle_of_a_training(
    template: Part, tmp_path: Path
) -> None:
    session = open_session(template, tmp_path, repeat_share=0.0, retrain_every=10**6)
    judge(session, "ann", 40, liked(template))
    before = set(active_children())
    assert session.train()
    (worker,) = (p for p in active_children() if p not in before)
    session.close()
    # The pool's own thread may be the one that learns how it ended; then join returns before.
    end = time.monotonic() + 60
    while worker.exitcode is None and time.monotonic() < end:
        worker.join(0.1)
        time.sleep(0.01)
    assert worker.exitcode == -signal.SIGTERM  # ended, not waited for


def test_undo_goes_back_through_sessions_and_pages(template: Part, tmp_path: Path) -> None:
    session = open_session(template, tmp_path, repeat_share=0.0, retrain_every=10**6)
    taste = liked(template)
    judge(session, "ann", 5, taste)
    export_labels(session.store, tmp_path / "before.csv")
    page = session.deal("ann", 9, mode="grid")
    session.answer("ann", [answer(c.face_id, "keep", f"page.{i}") for i, c in enumerate(page)])
    assert len(session.store.labels()) == 14
    session.store.close()
    again = open_session(template, tmp_path)
    cards = again.undo("ann", "u1")
    assert {c.face_id for c in cards} == {c.face_id for c in page}
    export_labels(again.store, tmp_path / "after.csv")
    assert (tmp_path / "before.csv").read_bytes() == (tmp_path / "after.csv").read_bytes()
    for i in range(5):
        assert len(again.undo("ann", f"v{i}")) == 1
    assert again.undo("ann", "w") == []
    assert again.store.labels() == {}


def test_an_undo_that_comes_twice_is_one(template: Part, tmp_path: Path) -> None:
    session = open_session(template, tmp_path)
    face = session.deal("ann", 1)[0].face_id
    session.answer("ann", [answer(face, "keep", "a"), {"undo": "a", "client": "u"}])
    session.answer("ann", [{"undo": "a", "client": "u"}])
    session.answer("ann", [{"undo": "a", "client": "u2"}])
    assert session.store.labels() == {}
    found = session.answer("ann", [{"undo": "b", "client": "u3"}])["results"]
    assert "no event 'b' of ann" in found[0]["refused"]


def test_an_undo_that_is_asked_for_twice_takes_back_one(template: Part, tmp_path: Path) -> None:
    session = open_session(template, tmp_path, repeat_share=0.0)
    for i, card in enumerate(session.deal("ann", 3)):
        session.answer("ann", [answer(card.face_id, "keep", f"a{i}")])
    first = session.undo("ann", "u")
    assert len(first) == 1 and session.undo("ann", "u") == first
    assert len(session.store.labels()) == 2
    with pytest.raises(Reused):
        session.undo("ann", "a0")
    assert len(session.store.labels()) == 2


def test_a_page_is_undone_whole_or_not_at_all(template: Part, tmp_path: Path) -> None:
    session = open_session(template, tmp_path, repeat_share=0.0)
    faces = [c.face_id for c in session.deal("ann", 5, mode="grid")]
    session.answer("ann", [answer(faces[4], "skip", "u.1")])
    session.answer("ann", [answer(f, "keep", f"page.{i}") for i, f in enumerate(faces[:4])])
    with pytest.raises(Reused, match=r"'u\.1' is that of another decision"):
        session.undo("ann", "u")
    assert len(session.store.labels()) == 4 and len(session.store.events()) == 5
    assert len(session.undo("ann", "v")) == 4
    assert session.store.labels() == {}


@pytest.mark.parametrize(
    ("one", "status", "message"),
    [
        ({"face": "../etc", "action": "keep", "client": "c"}, 400, "not in this part"),
        ({"face": None, "action": "keep", "client": "c"}, 400, "not in this part"),
        ({"face": "f0000", "action": "undo", "client": "c"}, 400, "wanted keep, reject"),
        ({"face": "f0000", "action": ["keep"], "client": "c"}, 400, "wanted keep, reject"),
        ({"face": "f0000", "action": "keep", "client": ""}, 400, "client id"),
        ({"face": "f0000", "action": "keep"}, 400, "client id"),
        ({"face": "f0000", "action": "keep", "client": "c" * 81}, 400, "client id"),
        ({"face": "f0000", "action": "keep", "client": "\ud800"}, 400, "client id"),
        ({"undo": "before"}, 400, "client id"),
        ({"undo": ["before"], "client": "c"}, 400, "no event"),
        ({"undo": "\ud800", "client": "c"}, 400, "no event"),
        ({"face": "f0000", "action": "keep", "client": "before"}, 409, "of another decision"),
        ({"face": "f0001", "action": "reject", "client": "before"}, 409, "of another decision"),
        ({"undo": "before", "client": "before"}, 409, "of another decision"),
    ],
)
def test_what_cannot_be_is_refused_and_the_rest_is_stored(
    template: Part, tmp_path: Path, one: dict[str, Any], status: int, message: str
) -> None:
    session = open_session(template, tmp_path)
    before = answer("f0001", "keep", "before")
    found = session.answer("ann", [before, one, answer("f0002", "reject", "after")])["results"]
    assert [r.get("number") for r in found] == [1, None, 2]
    assert found[1]["status"] == status and message in found[1]["refused"]
    assert found[1]["client"] == one.get("client")
    assert session.store.labels() == {"f0001": True, "f0002": False}
    again = session.answer("ann", [before])["results"]
    assert again == [{"client": "before", "number": 1}]


def test_a_batch_is_on_the_disk_whole_or_not_at_all(
    template: Part, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = open_session(template, tmp_path)
    session.answer("ann", [answer("f0001", "keep", "a")])
    append, calls = session.store.append, iter(range(10))

    def fails_at_the_third(events: Any) -> list[int]:
        if next(calls) == 2:
            raise DiskFull("no room")
        return append(events)

    monkeypatch.setattr(session.store, "append", fails_at_the_third)
    batch = [{"undo": "a", "client": "u"}, *(answer(f"f000{i}", "keep", f"b{i}") for i in (2, 3))]
    with pytest.raises(DiskFull):
        session.answer("ann", batch)
    assert session.store.labels() == {"f0001": True} and len(session.store.events()) == 1
    monkeypatch.undo()
    session.answer("ann", batch)
    assert session.store.labels() == {"f0002": True, "f0003": True}


@pytest.mark.parametrize(
    ("reaction", "stored"),
    [
        *((250, 250), (2.9, 2), (10**400, 3_600_000), (float("inf"), None), (float("nan"), None)),
        *((-(10**400), None), (-1, None), (True, None), ("3", None), ([3], None), (None, None)),
    ],
)
def test_a_reaction_that_cannot_be_costs_no_label(
    template: Part, tmp_path: Path, reaction: object, stored: int | None
) -> None:
    session = open_session(template, tmp_path)
    session.answer("ann", [{**answer("f0001", "keep", "a"), "reaction": reaction}])
    assert [s.event.reaction_ms for s in session.store.events()] == [stored]


@pytest.mark.parametrize(
    "name",
    ["", "  ", "x" * 65, "a\nb", "a\x00", "\ud800", "\u202eeve", "a\u2028b", "\u200d", "\u200c "],
)
def test_names_that_cannot_be(template: Part, tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="wanted a name"):
        open_session(template, tmp_path).sit_down(name)


NAMES = [
    "علی\u200cبیگ",
    "👩\u200d🔬",
    "क्\u200dष",
    "🏴\U000e0067\U000e0062\U000e007f",
    "Ann\u00a0Lee",
    " ann ",
]


@pytest.mark.parametrize("name", NAMES)
def test_names_of_every_script_label(template: Part, tmp_path: Path, name: str) -> None:
    session = open_session(template, tmp_path)
    face = session.deal(name, 1)[0].face_id
    session.answer(name, [answer(face, "keep", "a")])
    assert session.store.annotators() == [name.strip()]
    assert figures(session, name)["mine"] == 1
    assert [c.face_id for c in session.undo(name, "u")] == [face]


def test_two_pages_of_a_person_get_different_faces_until_one_is_gone(
    template: Part, tmp_path: Path
) -> None:
    time = [0.0]
    OPEN.append(LabelStore(tmp_path / FILE))
    settings = SessionSettings(repeat_share=0.0, overlap=0.0, retrain_every=10**6)
    session = Session(Faces.of(template), OPEN[-1], settings, clock=lambda: time[0])

    def deal(who: str, count: int, tab: str) -> set[str]:
        return {c.face_id for c in session.deal(who, count, tab=tab)}

    for tab in ("one", "two"):
        session.sit_down("ann", tab)
    one, two = deal("ann", 100, "one"), deal("ann", 100, "two")
    assert len(one | two) == 200
    # As long as a page asks for anything, what it holds is its own.
    time[0] += LEASE_SECONDS * 0.9
    figures(session, "ann", "one")
    time[0] += LEASE_SECONDS * 0.9
    assert deal("bob", 300, "three") == set(session.index) - one
    time[0] += LEASE_SECONDS * 0.9
    assert deal("ann", 300, "four") == one
    # What a page got it can answer, however late; the label has the reason by which it was dealt.
    first = min(two)
    session.answer("ann", [answer(first, "keep", "late")], "four")
    assert session.store.events()[-1].event.reason in ("spread", "random")
    session.leave("ann", "four")
    session.leave("ann", "never there")
    assert deal("ann", 300, "five") == one


def test_several_people_share_a_part_and_settle_it(template: Part, tmp_path: Path) -> None:
    session = open_session(template, tmp_path, overlap=0.3, repeat_share=0.0, retrain_every=10**6)
    taste = liked(template)
    judge(session, "ann", 150, taste)
    judge(session, "bob", 100, {f: not v if int(f[1:]) % 9 == 0 else v for f, v in taste.items()})
    ann = {s.event.face_id for s in session.store.current("ann")}
    bob = {s.event.face_id for s in session.store.current("bob")}
    assert 20 <= len(ann & bob) < 80
    disputed = conflicts(session)
    assert disputed
    found = figures(session, "ann")
    assert found["conflicts"] == len(disputed)
    assert found["agreement"]["name"] == "Cohen's kappa"
    assert found["agreement"]["count"] == len(ann & bob)
    face = disputed[0]["face"]
    session.answer("eve", [{**answer(face, "keep", "r"), "review": True}])
    assert len(conflicts(session)) == len(disputed) - 1
    assert session.store.labels()[face] is True
    assert figures(session, "ann")["agreement"]["name"] == "Krippendorff's alpha"


def test_random_faces_measure_the_model(template: Part, tmp_path: Path) -> None:
    session = open_session(template, tmp_path, random_share=0.9, retrain_every=25)
    try:
        judge(session, "ann", 50, liked(template))
        session.wait()
        assert figures(session, "ann")["random"]["value"] is None  # not enough yet
        judge(session, "ann", 90, liked(template), start=50)
        found = figures(session, "ann")["random"]
        assert found["count"] >= 30
        assert found["low"] <= found["value"] <= found["high"]
    finally:
        session.close()


def test_a_lost_and_a_changed_image_are_named(tmp_path: Path) -> None:
    part = faces_to_judge(tmp_path / "part", 10)
    faces = Faces.of(part)
    part.image_path("images", "f0001").unlink()
    part.image_path("images", "f0002").write_bytes(b"other")
    with pytest.raises(IntegrityError, match="missing"):
        faces.image(1)
    with pytest.raises(IntegrityError, match="not the file that was written"):
        faces.image(2)
    assert faces.image(3).size == (32, 32)


def test_worth_and_the_band() -> None:
    scores, spread = np.array([0.5, 0.9, 0.1]), np.zeros(3)
    assert worth(scores, spread).argmax() == 0
    assert worth(scores, spread, (0.8, 1.0)).argmax() == 1
    assert worth(scores, np.array([0, 0, 0.9])).argmax() == 2


def test_the_next_faces_differ_and_are_free() -> None:
    rng = np.random.default_rng(0)
    features = np.repeat(np.eye(5), 20, axis=0)  # five kinds of twenty
    scores = np.full(100, 0.5)
    free = np.arange(100)[np.arange(100) % 3 > 0]
    chosen = next_faces(scores, scores * 0, features, free, 5, rng)
    assert {i // 20 for i in chosen} == set(range(5))
    assert set(chosen) <= set(free.tolist())
    assert len(next_faces(scores, scores * 0, features, free[:3], 5, rng)) == 3
    assert spread_out(features, free[:0], 5, rng) == []


def test_flags_are_no_labels(template: Part, tmp_path: Path) -> None:
    session = open_session(template, tmp_path)
    face = session.deal("ann", 1)[0].face_id
    session.answer("ann", [answer(face, "flag", "f")])
    assert session.store.labels() == {}
    assert [s.event.action for s in session.store.current()] == [Action.FLAG]
    assert figures(session, "ann")["flagged"] == 1


@pytest.mark.long
def test_five_hundred_repeats_tell_how_far_a_person_is_consistent(tmp_path: Path) -> None:
    """Of somebody who answers the same again 97 times in a hundred."""
    part = faces_to_judge(tmp_path / "part", 1300)
    taste = liked(part)
    session = open_session(part, tmp_path, repeat_share=0.45, retrain_every=10**6)
    rng = np.random.default_rng(5)
    first: dict[str, bool] = {}
    number = 0
    while len(session.store.repeats("ann")) < 500:
        for card in session.deal("ann", 25):
            kept = first.get(card.face_id)
            if kept is None:
                kept = first[card.face_id] = taste[card.face_id]
            elif rng.random() < 0.03:
                kept = not kept
            number += 1
            word = "keep" if kept else "reject"
            session.answer("ann", [answer(card.face_id, word, f"c{number}")])
    found = figures(session, "ann")["consistency"]
    assert found["count"] >= 500
    assert found["value"] == pytest.approx(0.97, abs=0.015)
    assert found["low"] <= 0.97 <= found["high"]
    assert session.store.labels() == {f: first[f] for f in first}
