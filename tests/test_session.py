"""Whom a session shows, what it stores, and what it learns."""

from __future__ import annotations

import signal
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
from curation.page.figures import conflicts, figures
from curation.page.order import next_faces, spread_out, worth
from curation.page.session import Session, SessionSettings
from sfhq.errors import IntegrityError, UsageError
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
    worker.join(30)
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
    with pytest.raises(UsageError, match="no event 'b' of ann"):
        session.answer("ann", [{"undo": "b", "client": "u3"}])


@pytest.mark.parametrize(
    ("one", "message"),
    [
        ({"face": "../etc", "action": "keep", "client": "c"}, "not in this part"),
        ({"face": "f0000", "action": "undo", "client": "c"}, "wanted keep, reject"),
        ({"face": "f0000", "action": "keep", "client": ""}, "client id"),
        ({"face": "f0000", "action": "keep", "client": "c" * 81}, "client id"),
    ],
)
def test_answers_that_cannot_be(
    template: Part, tmp_path: Path, one: dict[str, Any], message: str
) -> None:
    session = open_session(template, tmp_path)
    with pytest.raises(UsageError, match=message):
        session.answer("ann", [answer("f0001", "keep", "fine"), one])
    assert session.store.events() == []


@pytest.mark.parametrize("name", ["", "  ", "x" * 65, "a\nb"])
def test_names_that_cannot_be(template: Part, tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="wanted a name"):
        open_session(template, tmp_path).sit_down(name)


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
