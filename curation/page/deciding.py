"""What becomes of decisions: each is stored or refused, and the sender is told which."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence

from curation.faces import Faces
from curation.labels.events import Action, LabelEvent, StoredEvent, now
from curation.labels.store import LabelStore
from curation.page.dealing import Card, Dealer
from sfhq.errors import UsageError
from sfhq.parts.records import Json

MOST_MS = 3_600_000  # longer reactions count as an hour
CLIENT = re.compile(r"[!-~]{1,80}", re.ASCII)
ACTIONS = (Action.KEEP, Action.REJECT, Action.SKIP, Action.FLAG)


class Reused(UsageError):
    """A client id that is stored already, for another decision."""


class Clerk:
    """Turns what a page sends into events. One thread at a time may use it.

    Args:
        faces: the faces to judge.
        index: face_id -> place of the face in `faces`.
        store: where labels go.
        dealer: knows how a person got a face.
    """

    def __init__(
        self, faces: Faces, index: Mapping[str, int], store: LabelStore, dealer: Dealer
    ) -> None:
        self.faces, self.index, self.store, self.dealer = faces, index, store, dealer

    def decide(
        self, annotator: str, answers: Sequence[dict[str, Json]], tab: str
    ) -> list[dict[str, Json]]:
        """Store what can be stored, in one transaction, in order.

        Args:
            annotator: who, as `person` gives it.
            answers: see `Session.answer`.
            tab: id of the page.

        Returns:
            One for each answer: `client` and the `number` of its event; or `client`, `refused`
            with the reason, and `status`, 409 for a client id of another decision, else 400.

        Raises:
            SfhqError: the file cannot be written; nothing is stored.
        """
        results: list[dict[str, Json]] = []
        stored: list[LabelEvent] = []
        with self.store.batch():
            for one in answers:
                client = one.get("client")
                found: dict[str, Json] = {"client": client if isinstance(client, str) else None}
                try:
                    event, number = self._one(annotator, tab, one)
                    if event is not None:
                        stored.append(event)
                    found["number"] = number
                except UsageError as error:
                    status = 409 if isinstance(error, Reused) else 400
                    found |= {"refused": str(error), "status": status}
                results.append(found)
        for event in stored:  # now it is on the disk
            if event.action != Action.UNDO:
                self.dealer.answered(annotator, event.face_id)
            else:
                self._lay_back(annotator, event, tab)
        return results

    def _one(self, annotator: str, tab: str, one: dict[str, Json]) -> tuple[LabelEvent | None, int]:
        """The new event of one answer, None if it is there already; and its number."""
        client = one.get("client")
        if not isinstance(client, str) or not CLIENT.fullmatch(client):
            raise UsageError("a decision without a client id of 1 to 80 ASCII letters")
        if "undo" in one:
            event, known = self._undo(annotator, tab, one["undo"], client)
        else:
            event, known = self._label(annotator, tab, one, client)
        if known is not None:
            return None, known
        return event, self.store.append([event])[0]

    def _label(
        self, annotator: str, tab: str, one: dict[str, Json], client: str
    ) -> tuple[LabelEvent, int | None]:
        face, word, reaction = one.get("face"), one.get("action"), one.get("reaction")
        if not isinstance(face, str) or face not in self.index:
            raise UsageError(f"face {_said(face)} is not in this part")
        if not isinstance(word, str) or word not in ACTIONS:
            raise UsageError(f"action {_said(word)}; wanted keep, reject, skip or flag")
        card = self.dealer.held(annotator, face, tab) or self.dealer.card(self.index[face], "again")
        event = LabelEvent(
            face_id=face,
            image_hash=self.faces.hash_of(self.index[face]),
            action=Action(word),
            annotator=annotator,
            session=self.dealer.desk(annotator, tab).session,
            client_id=client,
            at=now(),
            score=card.score,
            model=card.model,
            reason="review" if one.get("review") is True else card.reason,
            reaction_ms=_milliseconds(reaction),
        )
        return event, self._known(event)

    def _undo(
        self, annotator: str, tab: str, undone: Json, client: str
    ) -> tuple[LabelEvent, int | None]:
        plain = isinstance(undone, str) and CLIENT.fullmatch(undone)
        found = self.store.by_client(undone) if plain else None
        if found is None or found.event.annotator != annotator or found.event.action == Action.UNDO:
            raise UsageError(f"no event {_said(undone)} of {annotator} to undo")
        event = self._undoing(annotator, tab, found, client)
        known = self._known(event)
        # Undone already: the request came twice, or two pages undid the same.
        return event, known if known is not None else self.store.undo_of(found.number)

    def _undoing(self, annotator: str, tab: str, found: StoredEvent, client: str) -> LabelEvent:
        return LabelEvent(
            face_id=found.event.face_id,
            image_hash=found.event.image_hash,
            action=Action.UNDO,
            annotator=annotator,
            session=self.dealer.desk(annotator, tab).session,
            client_id=client,
            at=now(),
            undoes=found.number,
        )

    def _known(self, event: LabelEvent) -> int | None:
        """The number of the same decision, if it is stored.

        Raises:
            Reused: another decision is stored with its client id.
        """
        stored = self.store.by_client(event.client_id)
        if stored is None:
            return None

        def said(e: LabelEvent) -> tuple[object, ...]:
            return e.face_id, e.action, e.annotator, e.undoes

        if said(stored.event) != said(event):
            raise Reused(f"client id {event.client_id!r} is that of another decision")
        return stored.number

    def undo_last(self, annotator: str, client: str, tab: str) -> list[Card]:
        """Undo the last decision, or the last page of the grid, whole; see `Session.undo`."""
        if not CLIENT.fullmatch(client):
            raise UsageError("an undo without a client id of 1 to 80 ASCII letters")
        with self.store.batch():
            undos = self._done_before(annotator, client)
            if not undos:
                last = self.store.last_to_undo(annotator)
                if last is None:
                    return []
                together = [last]
                page, dot, _ = last.event.client_id.partition(".")
                if dot:
                    standing = self.store.standing(annotator)
                    together = [s for s in standing if s.event.client_id.partition(".")[0] == page]
                names = [
                    f"{client}.{i}" if len(together) > 1 else client for i in range(len(together))
                ]
                undos = [
                    self._undoing(annotator, tab, s, name)
                    for s, name in zip(together, names, strict=True)
                ]
                for undo in undos:
                    self._known(undo)
                self.store.append(undos)
        for undo in undos:
            self._lay_back(annotator, undo, tab)
        dealt = self.dealer.desk(annotator, tab).dealt
        return [dealt[u.face_id] for u in undos if u.face_id in dealt]

    def _done_before(self, annotator: str, client: str) -> list[LabelEvent]:
        """The undos of an earlier request with the same id.

        Raises:
            Reused: the id is that of something else.
        """
        undos: list[LabelEvent] = []
        for name in itertools.chain((client,), (f"{client}.{i}" for i in itertools.count())):
            found = self.store.by_client(name)
            if found is None:
                if name != client:
                    return undos
                continue
            if found.event.action != Action.UNDO or found.event.annotator != annotator:
                raise Reused(f"client id {name!r} is that of another decision")
            undos.append(found.event)
            if name == client:
                return undos
        return undos

    def _lay_back(self, annotator: str, undo: LabelEvent, tab: str) -> None:
        """The face of an undo is open again, as it was dealt."""
        assert undo.undoes is not None
        event = self.store.event(undo.undoes)
        if event.face_id in self.index:
            card = Card(event.face_id, event.reason, event.score, event.model)
            self.dealer.desk(annotator, tab).dealt[event.face_id] = card


def _said(value: Json) -> str:
    """A value as an error names it."""
    return repr(value[:80]) if isinstance(value, str) else f"of type {type(value).__name__}"


def _milliseconds(value: Json) -> int | None:
    """A time that can be, in ms; None for what is no time: the decision counts all the same."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if not (math.isfinite(value) if isinstance(value, float) else True) or value < 0:
        return None
    return int(min(value, MOST_MS))
