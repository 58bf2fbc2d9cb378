"""The group `flip`: train on images with captions, evaluate retrieval, write files to share."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sfhq.commands.numbers import Finite
from sfhq.commands.train import DEVICE, batch_option, check_device, run_of
from sfhq.console import FOLDER, Command, options, say
from sfhq.errors import UsageError

if TYPE_CHECKING:
    from encoders.flip.network import Flip, FlipConfig
    from encoders.flip.processes import Processes
    from encoders.flip.tokens import Tokens

DEFAULT = "flip.safetensors"


@click.group(cls=Command)
def flip() -> None:
    """Train and measure FLIP, which finds faces by words.

    SOURCES are parts with captions, tables (.csv or .tsv) with the columns file and text, or
    folders of images with a .txt of the same name each.
    """


source_options = options(
    click.argument("sources", type=FOLDER, nargs=-1, required=True),
    click.option(
        "--column", default="text", show_default=True, help="Column of the texts in tables."
    ),
    click.option(
        "--separator", default="", help="What stands between several texts of one cell of a table."
    ),
)


@flip.command("train")
@source_options
@run_of("fp32", "bf16", "fp16")
@DEVICE
@batch_option(64, "Images, of all processes together,")
@click.option(
    "--config",
    "size",
    type=click.Choice(["tiny", "hybrid", "small", "paper"]),
    default="tiny",
    show_default=True,
    help="Sizes of the network: 6, 10 or 35 million numbers, or those of the paper. hybrid reads "
    "what the label network sees, and learns from few images.",
)
@click.option(
    "--images",
    type=click.IntRange(1),
    default=200_000,
    show_default=True,
    help="Number of images to see in all.",
)
@click.option(
    "--slices",
    type=click.IntRange(1, 4096),
    default=1,
    show_default=True,
    help="Parts of a batch done one after the other: less memory, the same contrastive loss.",
)
@click.option(
    "--queue",
    type=click.IntRange(0, 2**20),
    default=4096,
    show_default=True,
    help="Keys of earlier steps to compare with.",
)
@click.option(
    "--lr", type=Finite(0, 1), default=3e-4, show_default=True, help="Learning rate at its highest."
)
@click.option(
    "--warm-up",
    type=click.IntRange(0),
    default=5000,
    show_default=True,
    help="Images over which the learning rate rises.",
)
@click.option(
    "--schedule",
    type=click.Choice(["cosine", "step"]),
    default="cosine",
    show_default=True,
    help="How the learning rate falls; step: x 0.9 per epoch.",
)
@click.option(
    "--matching/--no-matching", default=True, show_default=True, help="With the matching loss."
)
@click.option(
    "--momentum",
    type=Finite(0, 1),
    default=0.995,
    show_default=True,
    help="Share that the momentum networks keep in each step.",
)
@click.option(
    "--alpha",
    type=Finite(0, 1),
    default=0.4,
    show_default=True,
    help="Share of the momentum networks in the targets; it rises over two epochs.",
)
@click.option(
    "--validate",
    type=click.IntRange(0),
    default=0,
    help="Images between validations on the held-out tenth; the best network is written. 0: none.",
)
@click.option("--vocabulary", type=FOLDER, help="Tokens, one a line, such as BERT's vocab.txt.")
@click.option(
    "--from", "start", type=FOLDER, help="Weights of a FLIP of these sizes to start from."
)
@click.option(
    "--stem",
    type=FOLDER,
    help="Label network that a hybrid reads; default: embedded pack.",
)
@click.option(
    "--train-stem", is_flag=True, help="Train the label network as well: many times slower."
)
@click.option(
    "--left-out",
    type=Finite(0, 0.95),
    default=0.0,
    show_default=True,
    help="Share of an image's places that a step does not look at, others each time.",
)
@click.option("--vision", type=FOLDER, help="Weights of CLIP's image network to start from.")
@click.option(
    "--text", type=FOLDER, help="Weights of a BERT to start from; needs its --vocabulary."
)
@click.option(
    "--on-disk",
    is_flag=True,
    help="Keep decoded images in a file in OUT instead of in memory: for more than fit there.",
)
@click.option(
    "--checkpointing", is_flag=True, help="Compute layers twice: slower, with less memory."
)
def flip_train(
    sources: tuple[Path, ...],
    column: str,
    separator: str,
    out: Path,
    size: str,
    images: int,
    batch: int,
    slices: int,
    queue: int,
    lr: float,
    warm_up: int,
    schedule: str,
    matching: bool,
    momentum: float,
    alpha: float,
    validate: int,
    vocabulary: Path | None,
    start: Path | None,
    stem: Path | None,
    train_stem: bool,
    left_out: float,
    vision: Path | None,
    text: Path | None,
    on_disk: bool,
    checkpointing: bool,
    seed: int,
    minutes: float | None,
    device: str,
    precision: str,
) -> None:
    """Train a FLIP on SOURCES of images with captions; writes OUT/flip.safetensors.

    A tenth of the faces, chosen by the hash of their names, is never trained on. A run that
    --minutes ends writes the weights as well; run the same command again to go on. Several
    processes train as one: torchrun --nproc-per-node 2 -m cli flip train ...

    \b
    Example:
      sfhq flip train part-05 --out runs/flip --images 400000 --validate 20000
    """
    from dataclasses import asdict

    import torch

    from encoders.flip.data import TableForm, load_captioned
    from encoders.flip.network import flip_config, load_flip, save_flip
    from encoders.flip.recipe import FlipRecipe
    from encoders.flip.tokens import load_tokens, vocabulary_of
    from encoders.flip.training import FlipTraining, follow_training
    from sfhq.training.run import run_training
    from sfhq.training.state import load_state
    from sfhq.weights.checkpoints import file_digest

    torch.set_flush_denormal(True)
    check_device(device)
    if start is not None and (vision or text):
        raise UsageError("--from gives both networks; leave --vision and --text out")
    if stem is not None and (size != "hybrid" or start or vision):
        raise UsageError("--stem is for --config hybrid, without --from and --vision")
    first: Flip | None = None
    if start is not None:
        loaded = load_flip(start)
        tokens, first = vocabulary_of(loaded.notes, vocabulary), loaded.network
        config = first.config
    else:
        tokens = load_tokens(vocabulary)
        config = flip_config(size, len(tokens))
        if config.vision.stem is not None and vision is None:
            first = started_on_stem(config, stem, seed)
            config = first.config
        if vision or text:
            first = _started(config, tokens, vision, text, seed)
            config = first.config
    form = TableForm(column, separator)
    data = load_captioned(
        sources, config.vision.size, form, out / "pixels.npy" if on_disk else None
    )
    train, held_out = data.split()
    if not len(train):
        raise UsageError("all faces are held out; give more images")
    if validate and not len(held_out):
        raise UsageError("--validate: no face is held out; give more images, or leave it out")
    recipe = FlipRecipe(
        config,
        images=images,
        batch=batch,
        slices=slices,
        queue=queue,
        lr=lr,
        warm_up=warm_up,
        schedule=schedule,
        matching=float(matching),
        momentum=momentum,
        alpha=alpha,
        alpha_images=2 * len(train),
        validate=validate,
        left_out=left_out,
        keep_stem=config.vision.stem is not None and not train_stem,
        checkpointing=checkpointing,
        precision=precision,
        seed=seed,
    )
    processes, device = _joined(device)
    training = FlipTraining(recipe, train, tokens, held_out, device, first, processes)
    if processes.rank:
        follow_training(training, lambda: load_state(out))
        processes.leave()
        return
    said = ", ".join(f"{n} x {reason}" for reason, n in sorted(data.skipped.items()))
    say(f"{len(train)} images, {len(held_out)} held out; left out: {said or 'none'}", err=True)
    settings: dict[str, Any] = {
        **asdict(recipe),
        "names": list(train.names),
        "vocabulary": len(tokens),
        **{
            name: file_digest(path)
            for name, path in (("from", start), ("stem", stem), ("vision", vision), ("text", text))
            if path is not None
        },
    }
    limit = None if minutes is None else minutes * 60
    ended = run_training(training, out, settings, limit_seconds=limit, say=click.echo)
    processes.goes_on(False, training.device)
    processes.leave()
    if not ended:
        say(f"stopped at {training.images} images; run again to go on", err=True)
    for row in training.validations:
        click.echo(json.dumps({"validation": row}))
    notes = {"images": str(training.images), "vocabulary": tokens.to_text()}
    save_flip(out / DEFAULT, training.chosen(), notes)
    say(out / DEFAULT)


def started_on_stem(config: FlipConfig, weights: Path | None, seed: int) -> Flip:
    """A new network whose stem is a label network."""
    from dataclasses import replace

    import torch

    from encoders.flip.network import Flip
    from sfhq.networks.labels import LabelConfig
    from sfhq.weights.checkpoints import pack_path, read_checkpoint

    source = read_checkpoint(weights or pack_path("labels"), "labels")
    try:
        sizes = LabelConfig.from_dict(source.architecture)
        vision = replace(config.vision, size=sizes.size, stem=sizes)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = Flip(replace(config, vision=vision))
        network.stem.load_state_dict({n: source.state[n] for n in network.stem.state_dict()})
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise UsageError(
            f"{source.path}: it cannot be read ({error}); wanted a file of sfhq train labels"
        ) from None
    return network


def _joined(device: str) -> tuple[Processes, str]:
    """This process among those that torchrun started, and its device."""
    from encoders.flip.processes import Processes

    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        return Processes(), device
    import torch

    kind = device.partition(":")[0]
    if kind == "cuda":
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
        check_device(device)
        torch.cuda.set_device(torch.device(device))
    torch.distributed.init_process_group("nccl" if kind == "cuda" else "gloo")
    return Processes(torch.distributed.get_rank(), count), device


def _started(
    config: FlipConfig, tokens: Tokens, vision: Path | None, text: Path | None, seed: int
) -> Flip:
    """A network whose towers come from files; its sizes are theirs."""
    from dataclasses import replace

    import torch

    from encoders.flip.foreign import grow_words, read_text, read_vision
    from encoders.flip.network import Flip
    from sfhq.errors import IntegrityError
    from stylegan2_ops.foreign.inert import BadCheckpoint

    try:
        seen = read_vision(vision) if vision else None
        width = seen.config.width if seen else config.vision.width
        said = read_text(text, image_width=width) if text else None
        said = grow_words(said, len(tokens), seed) if said else None
        # What comes from a file keeps the published form, without normed tokens.
        config = replace(
            config,
            vision=seen.config if seen else config.vision,
            text=said.config if said else replace(config.text, image_width=width),
            norm_tokens=config.norm_tokens and seen is None,
        )
    except BadCheckpoint as error:
        raise IntegrityError(str(error)) from None
    except ValueError as error:
        raise UsageError(f"--vision and --text do not fit: {error}") from None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Flip(config)
    for source, tower in ((seen, network.visual_encoder), (said, network.text_encoder)):
        if source is not None:
            tower.load_state_dict(source.state, strict=False)  # a BERT lacks cross-attention
            for note in source.notes:
                say(note, err=True)
    return network


@flip.command("evaluate")
@source_options
@click.option("--flip", "weights", type=FOLDER, help="FLIP weights; default: embedded pack.")
@click.option("--vocabulary", type=FOLDER, help="Tokens, if the weights' file has none.")
@click.option(
    "--pool",
    "pools",
    type=click.IntRange(1),
    multiple=True,
    help="Search among this many images; may be given several times. Default: all.",
)
@click.option(
    "--rerank",
    type=click.IntRange(0, 4096),
    default=0,
    show_default=True,
    help="How many of the best results the matching head orders anew; both tables are shown.",
)
@click.option(
    "--all",
    "everything",
    is_flag=True,
    help="Take all images, not only the tenth that training holds out.",
)
@click.option(
    "--batch", type=click.IntRange(1), default=32, show_default=True, help="Images at a time."
)
@click.option("--device", default="cpu", show_default=True, help="cpu or cuda.")
def flip_evaluate(
    sources: tuple[Path, ...],
    column: str,
    separator: str,
    weights: Path | None,
    vocabulary: Path | None,
    pools: tuple[int, ...],
    rerank: int,
    everything: bool,
    batch: int,
    device: str,
) -> None:
    """Find texts by images and images by texts, among the held-out images of SOURCES.

    Prints a line of JSON per pool: R@1, R@5, R@10, the median and mean rank, and R@10 by chance.
    Equal captions and images of one face are hits; ties count against the network.

    \b
    Example:
      sfhq flip evaluate part-05 --flip runs/flip/flip.safetensors --pool 1000 --rerank 64
    """
    from encoders.flip.data import TableForm, load_captioned
    from encoders.flip.evaluation import evaluate
    from encoders.flip.network import load_flip
    from encoders.flip.tokens import vocabulary_of

    check_device(device)
    loaded = load_flip(weights)
    tokens = vocabulary_of(loaded.notes, vocabulary)
    network = loaded.network.to(device)
    _check_words(network, tokens)
    data = load_captioned(sources, network.config.vision.size, TableForm(column, separator))
    data = data if everything else data.split()[1]
    if not len(data):
        raise UsageError("no face is held out; give more images, or --all for data of its own")
    for row in evaluate(network, tokens, data, pools or (None,), rerank, batch):
        click.echo(json.dumps(row))


def _check_words(network: Flip, tokens: Tokens) -> None:
    if len(tokens) != network.config.text.vocabulary:
        raise UsageError(
            f"a vocabulary of {len(tokens)} tokens; the network has "
            f"{network.config.text.vocabulary}: give its --vocabulary"
        )


@flip.command("export")
@click.argument("weights", type=FOLDER)
@click.argument("out", type=FOLDER)
@click.option("--half", is_flag=True, help="As 16-bit numbers, half the size.")
@click.option("--vocabulary", type=FOLDER, help="Tokens of a published FLIP: BERT's vocab.txt.")
def flip_export(weights: Path, out: Path, half: bool, vocabulary: Path | None) -> None:
    """Write WEIGHTS to OUT as safetensors for sharing; prints the sha256.

    WEIGHTS is what `sfhq flip train` wrote, or a checkpoint of the published FLIP. The file holds
    its vocabulary.

    \b
    Example:
      sfhq flip export runs/flip/flip.safetensors flip-tiny.safetensors --half
    """
    from encoders.flip.network import Flip, load_flip, save_flip
    from encoders.flip.published import read_flip
    from encoders.flip.tokens import vocabulary_of
    from sfhq.errors import IntegrityError
    from sfhq.weights.checkpoints import file_digest
    from stylegan2_ops.foreign.inert import BadCheckpoint
    from stylegan2_ops.foreign.torch_files import sniff

    if not weights.is_file():
        raise UsageError(f"{weights}: no such weights file")
    if sniff(weights) == "safetensors":
        loaded = load_flip(weights)
        network, notes = loaded.network, dict(loaded.notes)
    else:
        try:
            source = read_flip(weights)
        except BadCheckpoint as error:
            raise IntegrityError(str(error)) from None
        network = Flip(source.config)
        network.load_state_dict(source.state)
        notes = {"source": weights.name, "source_sha256": file_digest(weights)}
        for note in source.notes:
            say(note, err=True)
        if vocabulary is None:
            raise UsageError(
                f"{weights}: a published FLIP; give its --vocabulary, BERT's vocab.txt"
            )
    tokens = vocabulary_of(notes, vocabulary)
    _check_words(network, tokens)
    save_flip(out, network, {**notes, "vocabulary": tokens.to_text()}, half)
    say(f"{file_digest(out)}  {out.name}")
