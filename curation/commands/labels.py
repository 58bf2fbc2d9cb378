"""Commands by which labels are made, brought in and taken out: curate, and the group `labels`."""

from __future__ import annotations

from pathlib import Path

import click

from sfhq.console import FOLDER, Command, say


@click.command()
@click.argument("part", type=FOLDER)
@click.option("--port", default=0, show_default="a free one", help="Port on the loopback address.")
@click.option(
    "--model", "model_file", type=FOLDER, help="Taste to start with, a file of sfhq taste fit."
)
@click.option(
    "--everything", is_flag=True, help="Also faces that scores or near-duplicates removed."
)
@click.option(
    "--random-share",
    default=0.08,
    show_default=True,
    help="Share of faces that are drawn at random.",
)
@click.option(
    "--repeat-share",
    default=0.03,
    show_default=True,
    help="Share of faces that are shown twice, unannounced.",
)
@click.option(
    "--overlap", default=0.1, show_default=True, help="Share of faces that every person gets."
)
@click.option(
    "--retrain",
    default=25,
    show_default=True,
    help="Number of labels between two trainings of the model.",
)
@click.option("--blind", is_flag=True, help="Never show scores to the person who labels.")
@click.option("--seed", default=0, show_default=True, help="Seed of the order of faces.")
def curate(
    part: Path,
    port: int,
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
    from curation.page.server import free_port, new_token, serve
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
    with folder_lock(folder), LabelStore(part / FILE) as store, free_port(port) as sock:
        session = Session(faces, store, settings, model)
        token = new_token()
        click.echo(f"http://127.0.0.1:{sock.getsockname()[1]}/?token={token}")
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
    help="Name of the person who made the labels.",
)
def labels_import(part: Path, source: Path, annotator: str) -> None:
    """Store the labels of SOURCE in PART.

    SOURCE is a .csv, .jsonl or .parquet file with face_id, image_hash or file and with
    action or label, or a folder with positively_labeled and negatively_labeled.

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
    names = {Path(r.source).name: r.face_id for r in faces.records if r.source and not r.parent_id}
    with LabelStore(part / FILE) as store:
        stored, unknown = import_labels(store, source, hashes, annotator, names)
    click.echo(f"{stored} labels stored" + (f", {unknown} name no face here" if unknown else ""))
