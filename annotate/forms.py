"""Captions of one form as a table: of a part's faces, or of CelebA's attributes.

For experiments on which captions train best; see `sfhq flip caption-ablate`. CelebA's own files,
`list_attr_celeba.txt` and `list_eval_partition.txt`, give the captions of its test images, so that
retrieval can be measured as others did.

Source: Liu et al. 2015, "Deep Learning Face Attributes in the Wild", for the files and the split.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from annotate.grammar.compose import Grammar
from annotate.grammar.facts import Facts, without_contradictions, worth_saying
from annotate.grammar.known import from_looks, from_truth
from annotate.grammar.paraphrase import paraphrase
from annotate.grammar.parse import Parser
from annotate.grammar.templates import dialog_style, single_template
from sfhq.errors import IntegrityError, UsageError
from sfhq.images import write_atomic
from sfhq.networks.names import ATTRIBUTES
from sfhq.parts.part import Part

PROBABILITIES = "attribute_probabilities"
FORMS = ("grammar", "template", "dialog", "paraphrase")
SPLITS = {"train": "0", "validation": "1", "test": "2"}


@dataclass(frozen=True)
class Written:
    """What a table holds.

    Attributes:
        faces, captions: how many.
        silent: faces of which nothing can be said.
        missing, added: captions that lack a fact worth saying, or state one that is not known.
    """

    faces: int
    captions: int
    silent: int
    missing: int
    added: int


def _grammar(facts: Facts, seed: str, count: int) -> list[str]:
    return [c.text for c in Grammar().captions(facts, seed, count)]


def _paraphrase(facts: Facts, seed: str, count: int) -> list[str]:
    found = []
    for text in _grammar(facts, seed, count):
        try:
            found.append(paraphrase(text, f"{seed}:{text}").text)
        except UsageError:  # there is no other way to say it
            found.append(text)
    return list(dict.fromkeys(found))


def _template(facts: Facts, seed: str, count: int) -> list[str]:
    del seed, count  # there is but one
    return [single_template(facts, 0)]


def _dialog(facts: Facts, seed: str, count: int) -> list[str]:
    return list(dict.fromkeys(dialog_style(facts, f"{seed}:{i}") for i in range(count)))


MAKERS: dict[str, Callable[[Facts, str, int], list[str]]] = {
    "grammar": _grammar,
    "template": _template,
    "dialog": _dialog,
    "paraphrase": _paraphrase,
}


def faces_of(source: Path, split: str | None = None) -> Iterator[tuple[str, Facts]]:
    """Names and facts of faces, without contradictions.

    Args:
        source: a part that has attributes, or CelebA's list_attr_celeba.txt.
        split: of CelebA, "train", "validation" or "test" by the list_eval_partition.txt beside it;
            None for all.

    Raises:
        UsageError: it is neither, or a part has no attributes, or the partition is missing.
        IntegrityError: a file is damaged.
    """
    if source.is_file():
        yield from _celeba(source, split)
        return
    if split is not None:
        raise UsageError(f"--split is for CelebA's list_attr_celeba.txt; {source} is a part")
    part = Part.open(source)
    if not {"attribute", "render"} & set(part.stages()):
        raise UsageError(f"{source}: has no attributes yet; run: sfhq attribute {source}")
    for record in part.faces():
        if isinstance(record.params.get("attributes"), dict):
            facts, certain = from_truth(record.params), dict[str, float]()
        elif PROBABILITIES in record.rows:
            row = part.row(PROBABILITIES, record).tolist()
            facts, certain = from_looks(record.about, dict(zip(ATTRIBUTES, row, strict=False)))
        else:
            facts, certain = {}, {}
        yield record.face_id, without_contradictions(facts, certain)[0]


def _celeba(path: Path, split: str | None) -> Iterator[tuple[str, Facts]]:
    wanted: set[str] | None = None
    if split is not None:
        beside = path.with_name("list_eval_partition.txt")
        if not beside.is_file():
            raise UsageError(f"{beside}: missing; CelebA's partition lies beside its attributes")
        rows = (line.split() for line in beside.read_text().splitlines())
        wanted = {row[0] for row in rows if len(row) == 2 and row[1] == SPLITS[split]}
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    if len(lines) < 3 or not lines[0].strip().isdigit() or "Male" not in lines[1].split():
        raise UsageError(f"{path}: wanted a part, or CelebA's list_attr_celeba.txt")
    names = lines[1].split()
    for number, line in enumerate(lines[2:], 3):
        file, *values = line.split() or [""]
        if wanted is not None and file not in wanted:
            continue
        if len(values) != len(names) or not {*values} <= {"1", "-1"}:
            raise IntegrityError(
                f"{path}, line {number}: wanted a file and {len(names)} times 1 or -1"
            )
        facts: Facts = {n: v == "1" for n, v in zip(names, values, strict=True)}
        yield file, without_contradictions(facts, {})[0]


def write_captions(
    faces: Iterable[tuple[str, Facts]], out: Path, form: str, count: int = 5, seed: int = 0
) -> Written:
    """Write a table with the columns face, file and text, one caption a row.

    Args:
        faces: names and facts.
        out: the .csv to write; replaced whole.
        form: one of `FORMS`.
        count: captions per face, no two alike; a template has one.
        seed: of all choices, together with the face's name.

    Raises:
        UsageError: an unknown form, or nothing can be said of any face.
    """
    if form not in MAKERS:
        raise UsageError(f"form {form!r}; wanted {', '.join(FORMS)}")
    parser = Parser()
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(("face", "file", "text"))
    several = captions = silent = missing = added = 0
    for name, facts in faces:
        said = worth_saying(facts, negations=False)
        if not said:
            silent += 1
            continue
        several += 1
        for text in MAKERS[form](facts, f"{seed}:{name}", count):
            read = parser.read(text).facts
            missing += any(read.get(n) != v for n, v in said.items())
            added += any({**facts, **said}.get(n) != v for n, v in read.items())
            writer.writerow((name, name, text))
            captions += 1
    if not several:
        raise UsageError("nothing can be said of any face; run: sfhq attribute")
    write_atomic(out, buffer.getvalue().encode())
    return Written(several, captions, silent, missing, added)
