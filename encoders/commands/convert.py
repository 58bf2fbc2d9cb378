"""The command `models convert`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from sfhq.console import FOLDER, say
from sfhq.errors import UsageError


@click.command("convert")
@click.argument("source", metavar="SOURCE")
@click.argument("out", metavar="OUT", type=FOLDER)
@click.option(
    "--generator-out", type=FOLDER, help="Also write the generator inside an e4e checkpoint."
)
@click.option("--force", is_flag=True, help="Replace OUT where it exists.")
def models_convert(source: str, out: Path, generator_out: Path | None, force: bool) -> None:
    """Write a published generator or e4e as safetensors; nothing in SOURCE is run.

    SOURCE is a file, or the name of weights in the cache. Read by content: StyleGAN2 pickles of
    the PyTorch and the TensorFlow release, their state dicts, rosinality's checkpoints, e4e
    checkpoints. Notes say what the file cannot tell.

    \b
    Examples:
      sfhq models convert ffhq.pkl stylegan2-ffhq.safetensors
      sfhq models convert e4e-ffhq e4e.safetensors --generator-out stylegan2-ffhq.safetensors
    """
    import torch

    from encoders.e4e.convert import read_e4e
    from encoders.e4e.network import save_e4e_state
    from sfhq.errors import IntegrityError
    from sfhq.weights.checkpoints import require_fit
    from stylegan2_ops.foreign.convert import GeneratorSource, holds_encoder, read_generator
    from stylegan2_ops.foreign.inert import BadCheckpoint
    from stylegan2_ops.foreign.safetensors_files import write_safetensors
    from stylegan2_ops.foreign.torch_files import read_weights
    from stylegan2_ops.generator import Generator

    path = _weights_file(source)
    if generator_out is not None and generator_out.resolve() == out.resolve():
        raise UsageError(f"{out}: OUT and --generator-out are the same file; give two names")
    for target in (out, generator_out):
        if target is not None and target.exists() and not force:
            raise UsageError(f"{target}: exists; give another name, or --force to replace it")

    def tell(notes: dict[str, str], *names: str) -> None:
        for name in names:
            if name in notes:
                click.echo(f"note: {notes[name]}", err=True)

    def write_generator(found: GeneratorSource, target: Path) -> None:
        config, notes = found.config, found.notes
        with torch.device("meta"):
            require_fit(Generator(config), found.state)
        architecture = json.dumps(config.to_dict(), sort_keys=True)
        header = {"kind": "generator", "architecture": architecture, **notes}
        write_safetensors(target, found.state, header)
        click.echo(
            f"{target}: generator, {notes['format']}, {config.resolution} pixels, "
            f"{config.mapping_layers} mapping layers, channel base {config.channel_base}, "
            f"fingerprint {notes['fingerprint'][:16]}"
        )
        tell(notes, "noise", "w_avg", "conv_clamp")
        say(f"next: sfhq sample PART --count 10 --generator {target} --e4e FILE", err=True)

    try:
        value = read_weights(path)
        if not holds_encoder(value):
            if generator_out is not None:
                raise UsageError(f"{path}: holds no encoder; leave --generator-out out")
            write_generator(read_generator(path, value), out)
            return
        encoder = read_e4e(path, value)
    except BadCheckpoint as error:
        raise IntegrityError(str(error)) from None
    if generator_out is not None and encoder.generator is None:
        raise IntegrityError(f"{path}: has no generator inside; leave --generator-out out")
    save_e4e_state(out, encoder.config, encoder.state, encoder.notes)
    mark = encoder.notes.get("fingerprint", "")[:16] or "unknown"
    say(f"{out}: e4e, {encoder.config.num_ws} layers, for the generator {mark}")
    tell(encoder.notes, "encoder", "latent_avg")
    if generator_out is not None and encoder.generator is not None:
        write_generator(encoder.generator, generator_out)


def _weights_file(source: str) -> Path:
    """A file, or that of a name in the table of models."""
    from sfhq.weights.store import status
    from sfhq.weights.table import ROWS

    path = Path(source)
    row = next((row for row in ROWS if row.name == source), None)
    if path.is_file() or row is None:
        if not path.is_file():
            raise UsageError(f"{source}: no such file, nor a name that sfhq models list knows")
        return path
    found = status(row)
    if not found.usable:
        raise UsageError(f"{source}: {found.state}; see: sfhq models info {source}")
    return found.path
