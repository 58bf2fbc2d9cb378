"""Commands about a part that is published: verify, lineage, licences, validate, card."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sfhq.console import FOLDER, say

if TYPE_CHECKING:
    from sfhq.publish.verify import Checked

EXIT_UNMARKED = 1
EXIT_BROKEN = 4


@click.command()
@click.argument("paths", type=FOLDER, nargs=-1, required=True, metavar="FILE|FOLDER...")
@click.option(
    "--require",
    "required",
    type=click.Choice(["xmp", "watermark", "c2pa"]),
    multiple=True,
    help="A mark that every file must carry. May be repeated.  [default: any one]",
)
@click.option("--name", help="Name of a dataset; its watermarks are then told from others.")
@click.option("--trust", type=FOLDER, help="PEM file of those who may vouch for signers.")
@click.option(
    "--workers",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    help="Number of files that are read at a time.",
)
@click.option("--quiet", is_flag=True, help="Only files that are not marked, and the totals.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON, one line a file.")
def verify(
    paths: tuple[Path, ...],
    required: tuple[str, ...],
    name: str | None,
    trust: Path | None,
    workers: int,
    quiet: bool,
    as_json: bool,
) -> None:
    """Say which marks of synthetic media images carry, and which of them hold.

    XMP: what the file says of itself; gone after most edits. Watermark: in the pixels; survives
    JPEG and scaling. C2PA: a signature, which a changed byte breaks. A mark says that somebody
    called the image synthetic; no mark says nothing. docs/publish.md says what each can prove.

    Exit codes: 0 all are marked, 1 some are not, 4 a signature is broken or a file unreadable.

    \b
    Examples:
      sfhq verify photo.jpg
      sfhq verify SFHQ_part5/images --require xmp --require watermark --name SFHQ_pt5 --quiet
    """
    from sfhq.errors import UsageError
    from sfhq.marks.watermark import payload_of
    from sfhq.publish.verify import image_files, verify_files

    pem = ""
    if trust is not None:
        try:
            pem = trust.read_text(encoding="ascii")
        except (OSError, UnicodeDecodeError):
            raise UsageError(f"{trust}: cannot be read; wanted certificates as PEM") from None
    wanted = None if name is None else payload_of(name)
    counts: Counter[str] = Counter()
    unchecked = 0
    for number, found in enumerate(verify_files(image_files(paths), pem, workers)):
        verdict = found.verdict(required)
        counts[verdict] += 1
        unchecked += found.unchecked
        if quiet and verdict == "marked":
            continue
        if as_json:
            click.echo(json.dumps(found.to_dict(required), sort_keys=True))
            continue
        if number == 0 or (quiet and counts.total() - counts["marked"] == 1):
            say(f"{'verdict':<11}{'xmp':<32}{'watermark':<28}{'c2pa':<20}file")
        say(_line(found, verdict, wanted, name or ""))
    if not counts:
        raise UsageError(f"{paths[0]}: no images in it; give images or folders of them")
    total = ", ".join(f"{n} {word}" for word, n in sorted(counts.items()))
    say(f"{counts.total()} files: {total}", err=as_json)
    if unchecked:
        say(
            f"{unchecked} signed manifests were not checked: pip install 'sfhq[c2pa]'",
            err=as_json,
        )
    if counts["broken"] or counts["unreadable"]:
        sys.exit(EXIT_BROKEN)
    if counts["unmarked"]:
        sys.exit(EXIT_UNMARKED)


def _line(found: Checked, verdict: str, wanted: int | None, name: str) -> str:
    if found.problem:
        return f"{verdict:<11}{found.problem}: {found.path}"
    xmp = "-" if found.origin is None else found.origin.source_type or "no source type"
    seen = found.watermark
    mark = "-"
    if seen is not None and seen.there:
        said = "no payload"
        if seen.payload is not None:
            said = name if seen.payload == wanted else f"{seen.payload:08x}"
        mark = f"{seen.deviations:.1f} sd, {said}" + (", mirrored" if seen.mirrored else "")
    signed = "-"
    if found.unchecked:
        signed = "not checked"
    elif found.manifest is not None:
        signed = f"{found.manifest.state}, {found.manifest.signer or 'nobody'}"
    return f"{verdict:<11}{xmp:<32}{mark:<28}{signed:<20}{found.path}"


weights_option = click.option(
    "--weights",
    type=FOLDER,
    multiple=True,
    help="A weights file that was used; its terms are read from it. May be repeated.",
)


@click.command()
@click.argument("part", type=FOLDER)
@click.argument("face")
@weights_option
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def lineage(part: Path, face: str, weights: tuple[Path, ...], as_json: bool) -> None:
    """Tell where the photo FACE of PART comes from, step by step.

    FACE is a face id, a path of its image, the sha256 of the image, or its name in PART's export.

    \b
    Examples:
      sfhq lineage part-05 cel_0010-strict
      sfhq lineage part-05 SFHQ_pt5_00000012 --json
    """
    from sfhq.parts.part import Part
    from sfhq.publish.lineage import as_text
    from sfhq.publish.lineage import lineage as find
    from sfhq.publish.networks import read_networks

    found = find(Part.open(part), face, read_networks(weights))
    if as_json:
        click.echo(json.dumps(found, sort_keys=True))
        return
    for line in as_text(found):
        say(line)


@click.command()
@click.argument("part", type=FOLDER)
@weights_option
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def licences(part: Path, weights: tuple[Path, ...], as_json: bool) -> None:
    """Say what PART may be used for, and why: terms of its sources and of all networks behind it.

    A reading of the terms and no legal advice.

    \b
    Examples:
      sfhq licences part-05
      sfhq licences part-05 --weights stylegan2.safetensors --weights e4e.safetensors
    """
    from sfhq.parts.part import Part
    from sfhq.publish.licences import as_text, roll_up
    from sfhq.publish.networks import read_networks

    opened = Part.open(part)
    found = roll_up(opened, read_networks(weights))
    if as_json:
        click.echo(json.dumps({"part": opened.name, **found.to_dict()}, sort_keys=True))
        return
    for line in as_text(found, opened.name):
        say(line)


EXIT_DOUBTS = 3


@click.command()
@click.argument("part", type=FOLDER)
@click.option(
    "--with", "earlier", type=FOLDER, multiple=True, help="An earlier part. May be repeated."
)
@click.option("--real", type=FOLDER, help="Folder of photographs of people, for nearest-real.")
@click.option("--targets", type=FOLDER, help="TOML file of shares that were aimed at.")
@click.option("--export", type=FOLDER, help="Folder of an export.  [default: PART/export]")
@click.option(
    "--threshold",
    type=click.FloatRange(-1, 1),
    help="Cosine above which photos are near-duplicates.  [default: dedup's]",
)
@click.option(
    "--rate",
    type=click.FloatRange(1e-4, 1e-1),
    default=1e-3,
    show_default=True,
    help="False-match rate at which identities are counted.",
)
@click.option("--only", metavar="NAMES", help="Comma-separated checks.  [default: all]")
@click.option("--html", type=FOLDER, help="Also write a page.")
@click.option(
    "--workers",
    type=click.IntRange(1, 64),
    default=2,
    show_default=True,
    help="Number of faces that are read at a time.",
)
@click.option("--strict", is_flag=True, help="Exit with 3 where a check of quality failed.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def validate(
    part: Path,
    earlier: tuple[Path, ...],
    real: Path | None,
    targets: Path | None,
    export: Path | None,
    threshold: float | None,
    rate: float,
    only: str | None,
    html: Path | None,
    workers: int,
    strict: bool,
    as_json: bool,
) -> None:
    """Check that PART is whole and what it claims to be.

    Integrity: records, arrays, files, sizes, marks, masks, captions, duplicates, export, splits.
    Quality: strays, landmarks, aligned, split-people, nearest-real, shortcuts, skin, targets.
    Figures: identities, balance. What lacks its columns is "not checked", and the line says what
    to run.

    Exit codes: 0 whole, 4 a check of integrity failed; with --strict 3 where one of quality did.

    \b
    Examples:
      sfhq validate part-05
      sfhq validate part-05 --with part-04 --real ffhq/ --targets targets.toml --html report.html
    """
    from tqdm import tqdm

    from sfhq.console import split_names
    from sfhq.errors import UsageError
    from sfhq.images import write_atomic
    from sfhq.parts.part import Part
    from sfhq.publish import report
    from sfhq.publish.checks.context import Options
    from sfhq.publish.validate import validate as run

    for path, what in ((real, "--real"), (targets, "--targets"), (export, "--export")):
        if path is not None and not path.exists():
            raise UsageError(f"{path}: no such file or folder; {what} wants one that is there")
    options = Options(earlier, real, targets, export, threshold, rate, workers)
    with tqdm(desc="validate  ", unit=" faces", disable=not sys.stderr.isatty()) as bar:
        found = run(
            Part.open(part), options, split_names(only) or (), lambda: bar.update(1) and None
        )
    if html is not None:
        html.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(html, report.as_page(found).encode())
    if as_json:
        click.echo(json.dumps(found.to_dict(), sort_keys=True))
    else:
        for line in report.as_text(found):
            say(line)
    if found.damaged:
        sys.exit(EXIT_BROKEN)
    if strict and found.failed:
        sys.exit(EXIT_DOUBTS)


@click.command()
@click.argument("part", type=FOLDER, required=False)
@click.option("--facts", type=FOLDER, help="TOML file of what only the publisher knows.")
@click.option(
    "--out", type=FOLDER, help="File to write: .md, .html or .json.  [default: Markdown, printed]"
)
@click.option(
    "--with", "earlier", type=FOLDER, multiple=True, help="An earlier part. May be repeated."
)
@click.option("--real", type=FOLDER, help="Folder of photographs of people, for nearest-real.")
@click.option("--targets", type=FOLDER, help="TOML file of shares that were aimed at.")
@weights_option
@click.option("--quick", is_flag=True, help="Leave out the proofs, which read every photo.")
@click.option("--template", is_flag=True, help="Print a TOML file of all facts to fill in.")
def card(
    part: Path | None,
    facts: Path | None,
    out: Path | None,
    earlier: tuple[Path, ...],
    real: Path | None,
    targets: Path | None,
    weights: tuple[Path, ...],
    quick: bool,
    template: bool,
) -> None:
    """Write the data card of PART: what it was made from, terms, uses, counts, proofs, contacts.

    Made anew from the part each time. What only the publisher knows comes from --facts; what is
    missing there is "not stated" in the card.

    \b
    Examples:
      sfhq card --template > card.toml
      sfhq card part-05 --facts card.toml --out README.md
      sfhq card part-05 --facts card.toml --real ffhq/ --out card.html
    """
    from tqdm import tqdm

    from sfhq.errors import UsageError
    from sfhq.images import write_atomic
    from sfhq.parts.part import Part
    from sfhq.publish import facts as stated
    from sfhq.publish.card import make_card
    from sfhq.publish.card_form import as_markdown, as_page
    from sfhq.publish.checks.context import Options
    from sfhq.publish.networks import read_networks
    from sfhq.publish.validate import validate as run

    if template:
        click.echo(stated.template(), nl=False)
        return
    if part is None:
        raise UsageError("no part given; give its folder, or --template")
    kind = ".md" if out is None else out.suffix.lower()
    if kind not in (".md", ".html", ".json"):
        raise UsageError(f"{out}: wanted a name that ends in .md, .html or .json")
    if real is not None and not real.is_dir():
        raise UsageError(f"{real}: no such folder; --real wants photographs of people")
    known, networks = stated.Facts.load(facts), read_networks(weights)
    opened = Part.open(part)
    report = None
    if not quick:
        options = Options(earlier, real, targets)
        bar = tqdm(desc="card      ", unit=" faces", disable=not sys.stderr.isatty())
        with bar:
            report = run(opened, options, (), lambda: bar.update(1) and None)
    made = make_card(opened, known, report, networks)
    if kind == ".html":
        data = as_page(made)
    elif kind == ".json":
        data = json.dumps(made.data, sort_keys=True, indent=1) + "\n"
    else:
        data = as_markdown(made)
    if out is None:
        click.echo(data, nl=False)
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(out, data.encode())
    missing = f"; not stated: {', '.join(made.missing)}" if made.missing else ""
    say(f"{out}: card of {made.data['photos']} photos{missing}")


@click.command()
@click.argument("paths", type=FOLDER, nargs=-1, required=True, metavar="FILE|FOLDER...")
@click.option("--out", type=FOLDER, required=True, help="Folder for the signed copies.")
@click.option("--cert", type=FOLDER, required=True, help="PEM file: your certificate, its chain.")
@click.option("--key", type=FOLDER, required=True, help="PEM file of its private key.")
@click.option(
    "--mining",
    type=click.Choice(["allowed", "notAllowed"]),
    default="allowed",
    show_default=True,
    help="Whether training and data mining are allowed.",
)
def sign(paths: tuple[Path, ...], out: Path, cert: Path, key: Path, mining: str) -> None:
    """Write copies of synthetic images with a signed C2PA manifest; pixels stay as they are.

    Needs: pip install 'sfhq[c2pa]'. Nothing is asked of the network. Exit code 1 where a file was
    not signed, because its XMP does not say that it is synthetic, or it cannot be read.

    \b
    Example:
      sfhq sign SFHQ_part5/images --out signed --cert chain.pem --key key.pem --mining notAllowed
    """
    from sfhq.marks.signature import Signer
    from sfhq.publish.sign import planned, sign_files

    signer = Signer.load(cert, key, "notAllowed" if mining == "notAllowed" else "allowed")
    plan = planned(paths, out)
    done = 0
    for file, problem in sign_files(plan, signer):
        done += not problem
        if problem:
            say(f"{file}: not signed: {problem}", err=True)
    say(f"{done} of {len(plan)} files signed in {out}")
    if done < len(plan):
        sys.exit(EXIT_UNMARKED)
