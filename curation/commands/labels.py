"""Commands by which labels are made, brought in and taken out: curate, and the group `labels`."""

from __future__ import annotations

from pathlib import Path

import click

from sfhq.commands.numbers import SEED, Finite, not_blank
from sfhq.console import FOLDER, Command, say

SHARE = Finite(0, 1)


@click.command()
@click.argument("part", type=FOLDER)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    show_default="one that belongs to PART, or the next free one",
    help="Port on the loopback address; 0 for any free one.",
)
@click.option(
    "--model", "model_file", type=FOLDER, help="Taste to start with, a file of sfhq taste fit."
)
@click.option(
    "--everything", is_flag=True, help="Also faces that scores or near-duplicates removed."
)
@click.option(
    "--random-share",
    type=SHARE,
    default=0.08,
    show_default=True,
    help="Share of faces that are drawn at random.",
)
@click.option(
    "--repeat-share",
    type=SHARE,
    default=0.03,
    show_default=True,
    help="Share of faces that are shown twice, unannounced.",
)
@click.option(
    "--overlap",
    type=SHARE,
    default=0.1,
    show_default=True,
    help="Share of faces that every person gets.",
)
@click.option(
    "--retrain",
    type=click.IntRange(1),
    default=25,
    show_default=True,
    help="Number of labels between two trainings of the model.",
)
@click.option("--blind", is_flag=True, help="Never show scores to the person who labels.")
@click.option("--seed", type=SEED, default=0, show_default=True, help="Seed of the order of faces.")
def curate(
    part: Path,
    port: int | None,
    model_file: Path | None,
    everything: bool,
    random_share: float,
    repeat_share: float,
    overlap: float,
    retrain: int,
    blind: bool,
    seed: int,
) -> None:
    """Label the faces of PART in a web page: keep or reject, while a model learns from you.

    Labels go to PART/labels.sqlite as they are made. Images are never moved.

    \b
    Example:
      sfhq curate part-05
    """
    from curation.faces import Faces
    from curation.labels.store import FILE, LabelStore
    from curation.page.server import free_port, new_token, page_address, port_of, serve
    from curation.page.session import Session, SessionSettings
    from curation.taste.model import TasteModel
    from sfhq.lock import folder_lock
    from sfhq.parts.part import Part

    settings = SessionSettings(
        random_share=random_share,
        repeat_share=repeat_share,
        overlap=overlap,
        retrain_every=retrain,
        seed=seed,
    )
    faces = Faces.of(Part.open(part), everything)
    model = TasteModel.load(model_file) if model_file else None
    folder = part / "curation"
    folder.mkdir(exist_ok=True)
    with (
        folder_lock(folder),
        LabelStore(part / FILE) as store,
        port_of(part) if port is None else free_port(port) as sock,
    ):
        session = Session(faces, store, settings, model)
        token = new_token()
        click.echo(page_address(sock.getsockname()[1], token))
        click.echo(f"{len(faces)} faces; stop with Ctrl-C, nothing is lost", err=True)
        try:
            serve(session, sock, token, blind)
        finally:
            session.close()


@click.group(cls=Command)
def labels() -> None:
    """Import and export labels."""


@labels.command("export")
@click.argument("part", type=FOLDER)
@click.argument("target", type=FOLDER)
@click.option(
    "--events", is_flag=True, help="Export every event instead of the labels that count now."
)
def labels_export(part: Path, target: Path, events: bool) -> None:
    """Write the labels of PART to TARGET (.csv, .jsonl or .parquet).

    \b
    Example:
      sfhq labels export part-05 labels.csv
    """
    from curation.labels.exchange import export_labels
    from curation.labels.store import FILE, LabelStore

    with LabelStore(part / FILE, readonly=True) as store:
        say(f"{export_labels(store, target, current=not events)} rows in {target}")


@labels.command("import")
@click.argument("part", type=FOLDER)
@click.argument("source", type=FOLDER)
@click.option(
    "--annotator",
    default="import",
    show_default=True,
    callback=not_blank,
    help="Name of the person who made the labels.",
)
def labels_import(part: Path, source: Path, annotator: str) -> None:
    """Store the labels of SOURCE in PART that differ from those that count now.

    SOURCE is a .csv, .jsonl, .json or .parquet file with face_id, image_hash or file and with
    action or label, or a folder with positively_labeled and negatively_labeled. A file is found by
    its path below the source of PART, or by its name where only one face has it.

    \b
    Example:
      sfhq labels import part-05 taste/ --annotator david
    """
    from curation.faces import Faces
    from curation.labels.exchange import import_labels
    from curation.labels.store import FILE, LabelStore
    from sfhq.parts.part import Part

    faces = Faces.of(Part.open(part), everything=True)
    hashes = {r.face_id: faces.hash_of(i) for i, r in enumerate(faces.records)}
    sources = {r.face_id: r.source for r in faces.records if r.source and not r.parent_id}
    with LabelStore(part / FILE) as store:
        done = import_labels(store, source, hashes, annotator, sources)
    line = f"{done.new} {'label' if done.new == 1 else 'labels'} stored"
    if done.known:
        line += f", {done.known} known before"
    if done.unmatched:
        line += f", {done.unmatched} name{'s' if done.unmatched == 1 else ''} no face here"
    click.echo(line)
