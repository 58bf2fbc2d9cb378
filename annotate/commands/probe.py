"""The command `sfhq annotations probe`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from sfhq.commands.numbers import SEED
from sfhq.console import FOLDER, say
from sfhq.errors import UsageError


@click.command("probe")
@click.argument("part", type=FOLDER)
@click.option("--name", required=True, help="Word for the attribute, such as headscarf.")
@click.option(
    "--vectors",
    "array",
    default="embedding",
    show_default=True,
    help="Array of the part: embedding, features_NAME, attribute_probabilities.",
)
@click.option(
    "--when",
    metavar="SQL",
    help="True of faces that have it, false of those that lack it, null where it is unknown; over "
    "the columns of sfhq table.",
)
@click.option(
    "--words",
    type=FOLDER,
    help="Instead: table (CSV) of words about the sources: columns file, and queries or prompt.",
)
@click.option("--yes", metavar="REGEX", help="Words of faces that have it; needed with --words.")
@click.option(
    "--no", metavar="REGEX", help="Words of faces that lack it.  [default: all other words]"
)
@click.option(
    "--pair",
    nargs=2,
    metavar="TEXT OPPOSITE",
    help="Ask two texts instead of learning; needs vectors of sfhq embed --encoder clip or flip.",
)
@click.option("--encoder-weights", type=FOLDER, help="Weights of the encoder of --pair.")
@click.option("--out", type=FOLDER, required=True, help="File for the probe, .safetensors.")
@click.option("--seed", type=SEED, default=0, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def probe_command(
    part: Path,
    name: str,
    array: str,
    when: str | None,
    words: Path | None,
    yes: str | None,
    no: str | None,
    pair: tuple[str, str] | None,
    encoder_weights: Path | None,
    out: Path,
    seed: int,
    as_json: bool,
) -> None:
    """Make a linear probe of an attribute, on vectors that PART has, and say how good it is.

    It learns from labels (--when) or from words (--words), and is judged by five-fold
    cross-validation in which no source is on both sides. --pair asks texts instead, and is judged
    where there are labels or words. `sfhq probe` writes what a probe says as columns.

    \b
    Examples:
      sfhq embed part-05 --encoder flip
      sfhq annotations probe part-05 --name hat --when "hat <> 'none'" --out hat.safetensors
      sfhq annotations probe part-05 --name headscarf --words words.csv --yes headscarf \\
        --out headscarf.safetensors
      sfhq annotations probe part-05 --name bald --pair "a bald man" "a man with hair" \\
        --out bald.safetensors
      sfhq probe part-05 --probes hat.safetensors --probes headscarf.safetensors
    """
    import numpy as np

    from annotate.probing.fit import fit, require_answers
    from annotate.probing.fit import pair as pair_of
    from annotate.probing.known import by_condition, by_words, vectors_of
    from annotate.probing.probe import Probe, require_name
    from sfhq.parts.part import Part

    require_name(name)
    if (when is not None) + (words is not None) + (pair is not None) == 0:
        raise UsageError("nothing says who has it; give --when, --words with --yes, or --pair")
    if when is not None and words is not None:
        raise UsageError("--when and --words both say who has it; give one of them")
    if (words is None) != (yes is None) or (no is not None and words is None):
        raise UsageError("--words, --yes and --no belong together; give --words and --yes")
    opened = Part.open(part)
    found = vectors_of(opened, array)
    truth = None
    if when is not None:
        truth = by_condition(opened, found.records, when)
    elif words is not None:
        truth = by_words(found.records, words, str(yes), no)
    known = None
    if truth is not None:
        sure = ~np.isnan(truth)
        judged = found.select(sure)
        known = judged.rows, truth[sure] > 0.5
        require_answers(known[1], judged.groups)
    if pair is None:
        assert known is not None
        made = fit(*known, judged.groups, seed)
    else:
        encoder = _words_of(found.encoder, array)(encoder_weights)
        if encoder.digest != found.digest:
            raise UsageError(
                f"{part}: {array} is by other weights of {found.encoder}; give those with "
                "--encoder-weights"
            )
        texts = encoder(pair)
        made = pair_of(texts[0], texts[1], encoder.sharpness, known)
    notes: dict[str, Any] = {
        **{"yes": made.yes, "no": made.no, "auc": _number(made.auc)},
        **{"balanced_accuracy": _number(made.balanced), "seed": seed},
        **{"by_fold": [round(x, 4) for x in made.by_fold]},
        **({"pair": list(pair)} if pair else {}),
    }
    Probe(name, array, found.digest, made.weights, made.bias, made.cut, notes).save(out)
    if as_json:
        click.echo(json.dumps({"name": name, "probe": str(out), **notes}, sort_keys=True))
        return
    if known is None:
        say(f"{name}: two texts, judged by no label")
    else:
        spread = f", folds {min(made.by_fold):.3f} to {max(made.by_fold):.3f}"
        say(
            f"{name}: {made.yes} faces with it, {made.no} without; AUC {made.auc:.3f}, balanced "
            f"accuracy {made.balanced:.3f}{spread if len(made.by_fold) > 1 else ''}"
        )
    say(out)


def _words_of(encoder: str, array: str) -> Any:
    from sfhq import stages

    names = {"flip": "text encoder", "clip": "words of CLIP"}
    if array != "embedding" or encoder not in names:
        raise UsageError(
            f"--pair: {array} is by {encoder}, which knows no words; embed with --encoder flip, or "
            "--encoder clip where its weights are"
        )
    return stages.network(names[encoder])


def _number(value: float) -> float | None:
    return round(value, 4) if value == value else None
