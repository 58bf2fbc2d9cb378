"""Validate a part: every check of the table, each photo read once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

from sfhq.errors import SfhqError, UsageError
from sfhq.parts.folders import RENDER_FOLDER, SYNTHETIC_FOLDER
from sfhq.parts.lineage import writer_of
from sfhq.parts.part import Part
from sfhq.parts.records import FaceRecord, Json
from sfhq.publish.checks import audits
from sfhq.publish.checks.context import Context, Face, Options, read_face
from sfhq.publish.checks.result import Result
from sfhq.publish.checks.table import CHECKS, Check

AHEAD = 8  # faces a worker may be ahead
LEFT_OUT = "left out by --only"
FEATURES = "shortcuts"  # the check that needs features of all photos


@dataclass(frozen=True)
class Report:
    """What a validation found.

    Attributes:
        part: name of the part.
        faces: how many faces stayed.
        results: of all checks, in the order of the table.
    """

    part: str
    faces: int
    results: tuple[Result, ...]

    @property
    def damaged(self) -> bool:
        """Whether a check of integrity failed."""
        return any(r.state == "failed" and r.severity == "integrity" for r in self.results)

    @property
    def failed(self) -> bool:
        """Whether any check failed."""
        return any(r.state == "failed" for r in self.results)

    def result(self, name: str) -> Result:
        """The result of a check."""
        return next(r for r in self.results if r.name == name)

    def to_dict(self) -> dict[str, Json]:
        """As JSON can hold it."""
        return {
            "part": self.part,
            "faces": self.faces,
            "damaged": self.damaged,
            "failed": self.failed,
            "checks": [r.to_dict() for r in self.results],
        }


def validate(
    part: Part,
    options: Options | None = None,
    only: Collection[str] = (),
    on_face: Callable[[], None] = lambda: None,
) -> Report:
    """Run the checks.

    Args:
        part: the part.
        options: what it is compared with.
        only: names of the checks to run; all for none.
        on_face: called after each face that was read.

    Raises:
        UsageError: no such check, no faces, or something that it is compared with is not there.
    """
    known = [check.name for check in CHECKS]
    for name in only:
        if name not in known:
            raise UsageError(f"{name}: no such check; wanted {', '.join(known)}")
    context = Context(part, options or Options())
    results = {c.name: Result(c.name, c.title, c.severity) for c in CHECKS}
    chosen = [c for c in CHECKS if not only or c.name in only]
    for check in CHECKS:
        if check not in chosen:
            results[check.name].skip(LEFT_OUT)
    lost = _lost(context)
    if lost:
        for check in chosen:
            if check.name == "records":
                _run(check, context, results[check.name])
                if results[check.name].state != "failed":
                    results[check.name].add("records", lost)
            else:
                results[check.name].skip("records cannot be read")
        return Report(part.name, 0, tuple(results.values()))
    ready = [c for c in chosen if _ready(c, context, results[c.name])]
    _look(context, [c for c in ready if c.of_face], ready, results, on_face)
    for check in ready:
        if check.of_part is not None:
            _run(check, context, results[check.name])
    if "dedup" not in context.stages and results["duplicates"].state == "failed":
        results["duplicates"].severity = "quality"  # nobody has promised anything yet
        results["duplicates"].note += "; run: sfhq dedup"
    return Report(part.name, len(context.alive), tuple(results.values()))


def _lost(context: Context) -> str:
    """Why records cannot be read; empty where they can."""
    try:
        return "" if context.records is not None and context.stages is not None else "none"
    except SfhqError as error:
        if isinstance(error, UsageError) and not context.part.stages():
            raise
        return str(error)


def _ready(check: Check, context: Context, result: Result) -> bool:
    """Whether what a check needs is there; else the result says what to run."""
    if not check.needs or any(context.has(name) for name in check.needs):
        return True
    makers = [writer_of(name) for name in check.needs]
    maker = next((m for m in makers if m and m != "render"), None)
    run = f"run: sfhq {maker} {context.part.root}" if maker else "this part has no such stage"
    result.skip(f"no {' or '.join(check.needs)}; {run}")
    return False


def _run(check: Check, context: Context, result: Result) -> None:
    assert check.of_part is not None
    try:
        check.of_part(context, result)
    except UsageError:
        raise
    except SfhqError as error:
        result.add(check.name, str(error))


def _look(
    context: Context,
    checks: list[Check],
    ready: list[Check],
    results: dict[str, Result],
    on_face: Callable[[], None],
) -> None:
    """Read every face once, and let each check look at it."""
    wanted = any(c.name == FEATURES for c in ready)
    for record, found, numbers in _looked(context, checks, wanted):
        for name, problems in found.items():
            for problem in problems:
                results[name].add(record.face_id, problem)
        face, vector = numbers
        if face.pixels is not None:
            context.sizes[record.face_id] = face.pixels.shape[0], face.pixels.shape[1]
            digest = record.hashes.get(face.folder, record.source_sha256)
            context.digests.setdefault(digest, []).append(record.face_id)
        if vector is not None:
            context.features[record.face_id] = vector
        on_face()
    if "marks" in {c.name for c in checks}:
        _tell_marks(context, results["marks"])


Looked = tuple[FaceRecord, dict[str, list[str]], tuple[Face, audits.Floats | None]]


def _looked(context: Context, checks: list[Check], features: bool) -> Iterator[Looked]:
    def look(record: FaceRecord) -> Looked:
        face = read_face(context, record)
        found = {c.name: list(c.of_face(face, context)) for c in checks if c.of_face}
        vector = audits.features(face) if features and face.pixels is not None else None
        _count_marks(context, face)
        slim = Face(record, face.folder, size=face.size)
        slim.pixels = None if face.pixels is None else face.pixels[:, :, :0]
        return record, found, (slim, vector)

    waiting = iter(context.alive)
    workers = context.options.workers
    with ThreadPoolExecutor(workers) as pool:
        while some := list(islice(waiting, AHEAD * workers)):
            yield from pool.map(look, some)


def _count_marks(context: Context, face: Face) -> None:
    counts = context.marked
    for name, there in (
        ("photos", face.pixels is not None),
        ("xmp", face.origin is not None),
        ("watermark", face.watermark is not None and face.watermark.there),
        ("c2pa", face.manifest is not None and face.manifest.state != "invalid"),
    ):
        if there:
            counts[name].append(face.record.face_id)


def _tell_marks(context: Context, result: Result) -> None:
    counts = {name: len(faces) for name, faces in context.marked.items()}
    made = {SYNTHETIC_FOLDER, RENDER_FOLDER}
    brought = sum(made.isdisjoint(record.hashes) for record in context.alive)
    theirs = f"; marks of the {brought} that were not made here are only counted" if brought else ""
    result.tell(
        {**counts, "written_with_watermark": context.payload},
        f"of {counts['photos']} photos {counts['xmp']} say so in XMP, {counts['watermark']} carry "
        f"the watermark, {counts['c2pa']} are signed{theirs}",
    )
