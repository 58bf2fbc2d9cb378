"""The data card of a part, made from the part itself and from what its publisher states."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from sfhq.images import RENDERED, TRAINED
from sfhq.parts.folders import IMPORTED, RENDER_FOLDER, SOURCE_TYPE, SYNTHETIC_FOLDER
from sfhq.parts.lineage import about_stages, faces_stage
from sfhq.parts.part import Part
from sfhq.parts.records import FaceRecord
from sfhq.publish.card_form import Card, Section, Table, as_markdown
from sfhq.publish.card_words import INTENDED, LIMITS, OUT_OF_SCOPE, TRAINED_ON
from sfhq.publish.checks import balance
from sfhq.publish.facts import KEYS, NOT_STATED, Facts
from sfhq.publish.licences import RollUp, roll_up
from sfhq.publish.networks import Network, identify, noted
from sfhq.publish.validate import Report

STATED = (TRAINED, RENDERED)  # digital source types of synthetic media


def card_body(
    part: Part,
    facts: Facts | None = None,
    report: Report | None = None,
    weights: Mapping[str, Network] | None = None,
) -> str:
    """The card of a part as Markdown, without front matter: for a README on a host of datasets.

    Args:
        part: the part.
        facts: what the publisher states; what is missing is said to be not stated.
        report: of `sfhq.publish.validate.validate`, for the proofs; None leaves them out.
        weights: networks by their digests, beside those that are known.

    Raises:
        UsageError: nothing has run to its end.
        IntegrityError: damaged records.
    """
    return as_markdown(make_card(part, facts, report, weights))


def make_card(
    part: Part,
    facts: Facts | None = None,
    report: Report | None = None,
    weights: Mapping[str, Network] | None = None,
) -> Card:
    """The card of a part; arguments as in `card_body`."""
    facts = facts or Facts()
    alive = [r for r in part.faces(rejected=True) if r.alive]
    terms = roll_up(part, weights)
    networks = _networks(part, weights)
    counts = balance.counts(alive)
    sections = (
        _summary(part, facts, alive, report),
        _making(part, networks),
        _training(facts, networks),
        Section("Consent", (f"The publisher: {facts['consent']}", _consent(alive, networks))),
        _terms(facts, terms),
        Section("Intended use", (INTENDED, _stated(facts, "intended"))),
        Section("Out of scope", (_stated(facts, "out_of_scope"),), OUT_OF_SCOPE),
        Section("Limits", (_stated(facts, "limits"),), LIMITS),
        _people(alive, counts),
        _proofs(part, report),
        Section("Errors of labels", (_stated(facts, "label_errors"),)),
        Section("Social impact", (facts["social_impact"],)),
        Section(
            "Maintenance and take-down",
            tables=(
                (
                    "",
                    Table(
                        ("what", "who"),
                        tuple(
                            (KEYS[key], facts[key])
                            for key in (
                                "publisher",
                                "contact",
                                "takedown",
                                "maintenance",
                                "citation",
                            )
                        ),
                    ),
                ),
            ),
        ),
        _unstated(facts),
    )
    data = {
        "name": part.name,
        "photos": len(alive),
        "facts": {key: facts[key] for key in KEYS},
        "missing": facts.missing(),
        "terms": terms.to_dict(),
        "networks": [{"stage": stage, "role": role, **n.to_dict()} for stage, role, n in networks],
        "balance": counts,
        "proofs": None if report is None else report.to_dict(),
    }
    title = facts["title"] if "title" in facts.texts else part.name
    return Card(title, sections, tuple(facts.missing()), data)


def _stated(facts: Facts, key: str) -> str:
    return (
        f"The publisher adds: {facts[key]}"
        if key in facts.texts
        else f"From the publisher: {NOT_STATED}."
    )


Networks = list[tuple[str, str, Network]]  # stage, role, network


def _networks(part: Part, weights: Mapping[str, Network] | None) -> Networks:
    faces = faces_stage(part)
    chain = [s for s in part.stages() if part.stage_info(s)["kind"] != "about"]
    return [
        (stage, role, identify(digest, role, weights))
        for stage in (*chain, *about_stages(part, faces))
        for role, digest in noted(part.stage_info(stage)["settings"])
    ]


def _summary(part: Part, facts: Facts, alive: list[FaceRecord], report: Report | None) -> Section:
    sizes = {} if report is None else report.result("sizes").figures.get("sizes", {})
    sources = len({r.source_sha256 or r.parent_id or r.face_id for r in alive})
    candidates = Counter(r.candidate for r in alive if r.candidate)
    named = {n for r in alive[:1] for n in (*r.hashes, *r.rows, *r.about)}
    labels = [word for name, word in _LABELS.items() if name in named]
    rows = (
        ("photos", f"{len(alive):,}"),
        ("sources", f"{sources:,}"),
        ("sizes in pixels", ", ".join(f"{k}: {n:,}" for k, n in sizes.items()) or "not measured"),
        ("candidates", ", ".join(f"{k}: {n:,}" for k, n in candidates.most_common()) or "none"),
        ("labels", ", ".join(labels) or "none"),
        ("version", facts["version"]),
        ("synthetic, by their making", f"{sum(map(is_made, alive)):,}"),
    )
    return Section(
        "Summary",
        (f"Description: {facts['description']}", _synthetic(alive)),
        tables=(("", Table(("what", "how much"), rows)),),
    )


def is_made(record: FaceRecord) -> bool:
    """Whether a generator or the renderer made the photo of a face here."""
    return bool({SYNTHETIC_FOLDER, RENDER_FOLDER} & {*record.hashes})


def _synthetic(alive: Sequence[FaceRecord]) -> str:
    made = sum(map(is_made, alive))
    if made == len(alive):
        return (
            "All photos are synthetic: a program made them, and nobody was photographed for them."
        )
    brought = [r for r in alive if IMPORTED in r.params and not is_made(r)]
    stated = sum(r.params.get(SOURCE_TYPE) in STATED for r in brought)
    crops = len(alive) - made - len(brought)
    words = [f"{made:,} of {len(alive):,} photos were made by a program here."]
    if brought:
        words.append(
            f"{len(brought):,} were imported as they are; the set that they came in states of "
            f"{stated:,} of them that they are synthetic."
        )
    if crops:
        words.append(f"{crops:,} are sources, or crops of them.")
    return " ".join(words) + " Whether the others show people is for the publisher to say."


_LABELS = {
    "segmentations": "masks of 19 classes",
    "landmarks_110": "110 points",
    "render_landmarks": "110 points, exact",
    "landmarks_68": "68 points",
    "years": "attributes and quality",
    "caption": "captions",
    "embedding": "embeddings",
}


def _making(part: Part, networks: Networks) -> Section:
    rows = []
    for stage in part.stages():
        info = part.stage_info(stage)
        used = [f"{n.name} (sha256 {n.digest[:16]})" for s, _, n in networks if s == stage]
        counts = info.get("counts", {})
        rejected = sum(counts.get("rejected", {}).values())
        rows.append(
            (
                stage,
                f"{counts.get('entered', 0):,}",
                f"{counts.get('alive', 0):,}",
                f"{rejected:,}",
                ", ".join(dict.fromkeys(used)) or "none",
            )
        )
    return Section(
        "How it was made",
        ("Made by sfhq, stage after stage; `sfhq lineage PART FACE` tells it of every photo.",),
        tables=(("", Table(("stage", "in", "out", "rejected", "networks"), tuple(rows))),),
    )


def _training(facts: Facts, networks: Networks) -> Section:
    unique = {n.digest: n for _, _, n in networks}
    rows = tuple(
        (
            n.name,
            n.licence or NOT_STATED,
            TRAINED_ON.get(n.name.removesuffix(", converted"), NOT_STATED),
        )
        for n in unique.values()
    )
    return Section(
        "What was in the training data, and under which terms",
        (*(() if rows else ("No network worked on this part.",)), _stated(facts, "generator_data")),
        tables=() if not rows else (("", Table(("network", "licence", "trained on"), rows)),),
    )


def _consent(alive: Sequence[FaceRecord], networks: Networks) -> str:
    drawn = sum(not r.source for r in alive)
    made = sum(map(is_made, alive))
    sat = "No person sat for these photos. " if made == len(alive) else ""
    trained = (
        "Networks that made or labelled them were trained on photographs of people, see above; "
        "sfhq's authors asked none of them. "
    )
    return (
        f"{sat}{trained if networks else ''}"
        f"{drawn:,} photos were drawn from a generator without a source, {len(alive) - drawn:,} "
        "come from a source, whose licence stands under Terms."
    )


def _terms(facts: Facts, terms: RollUp) -> Section:
    words = {"yes": "allowed", "unclear": "unclear", "no": "not allowed"}
    rows = tuple(
        (
            t.layer,
            t.what + ("" if t.faces is None else f" ({t.faces:,} photos)"),
            t.licence or "none",
            words[t.commercial],
            t.terms,
        )
        for t in terms.terms
    )
    layers = ", ".join(f"{name}: {words[terms.commercial(name)]}" for name in terms.layers())
    return Section(
        "Terms",
        (
            f"Licence of the whole: {facts['licence']}.",
            f"Commercial use, by our reading of what it was made from, which is no legal advice: "
            f"{layers}.",
        ),
        tables=(("", Table(("layer", "from", "licence", "commercial use", "terms"), rows)),),
    )


def _people(alive: list[FaceRecord], counts: Mapping[str, Any]) -> Section:
    if not counts:
        return Section(
            "Who the photos show", ("Not counted: no attributes. Run: sfhq attribute PART",)
        )
    tables = []
    for name, words in counts.items():
        rows = tuple(
            (
                word,
                f"{said['count']:,}",
                f"{100 * said['share']:.1f} %",
                f"{100 * said['low']:.1f} to {100 * said['high']:.1f} %"
                + (", few" if said["count"] < balance.FEW else ""),
            )
            for word, said in words.items()
        )
        tables.append((name, Table(("looks", "photos", "share", "95 % interval"), rows)))
    total, few = balance.small_cells(alive)
    empty = sum(cell[-1] == 0 for cell in few)
    return Section(
        "Who the photos show",
        (
            "As a network predicts it of synthetic pictures; it is no fact about people.",
            f"Of {total} cells of sex, age and skin tone, {len(few)} have fewer than {balance.FEW} "
            f"photos ({empty} have none): nothing can be said of those.",
        ),
        tables=tuple(tables),
    )


PROOFS = (
    *("records", "arrays", "files", "marks", "duplicates", "identities", "nearest-real"),
    *("splits", "split-people", "shortcuts", "skin", "targets"),
)


def _proofs(part: Part, report: Report | None) -> Section:
    if report is None:
        return Section("Proofs", ("Not made. Run: sfhq card PART, without --quick",))
    rows = []
    for name in PROOFS:
        result = report.result(name)
        said = result.said.replace(str(part.root), "PART")  # readers have it elsewhere
        rows.append((name, result.state, said))
    return Section(
        "Proofs",
        ("By `sfhq validate`, which anybody who has the part can repeat.",),
        tables=(("", Table(("check", "state", "what"), tuple(rows))),),
    )


def _unstated(facts: Facts) -> Section:
    missing = facts.missing()
    if not missing:
        return Section("Not stated", ("Nothing is missing.",))
    return Section(
        "Not stated",
        ("The publisher did not say; sfhq cannot know it:",),
        tuple(f"{KEYS[key]} ({key})" for key in missing),
    )
