"""The command `sfhq train mapping`."""

from __future__ import annotations

from pathlib import Path

import click

from sfhq.commands.train import DEVICE, check_device, of_a_run, run_on
from sfhq.console import FOLDER, say


@click.command("mapping")
@click.argument("folders", type=FOLDER, nargs=-1, required=True)
@of_a_run
@DEVICE
@click.option("--generator", type=FOLDER, help="Generator weights; default: embedded pack.")
@click.option("--e4e", "e4e", type=FOLDER, help="Its e4e weights; default: embedded pack.")
@click.option(
    "--codes",
    type=FOLDER,
    help="codes.pt of the run that made the generator, of the same photos: they are taken instead "
    "of searched for, and no e4e is needed.",
)
@click.option("--labels", type=FOLDER, help="The label network; default: embedded pack.")
def train_mapping(
    folders: tuple[Path, ...],
    out: Path,
    seed: int,
    minutes: float | None,
    device: str,
    generator: Path | None,
    e4e: Path | None,
    codes: Path | None,
    labels: Path | None,
) -> None:
    """Let a generator draw people like those in FOLDERS; writes OUT/generator.safetensors.

    The codes of the photos are found by gradient, from where the e4e sees them, and the mapping
    becomes a mixture of them: it draws between the codes of a few photos. People with glasses,
    hats, beards, grey hair or great age, as the label network sees them in the images of the codes,
    are drawn together, so that these looks survive. The images that a latent shows stay the same,
    so the encoder stays right: put both together with sfhq train pack.

    \b
    Example:
      sfhq train mapping part-05/aligned --out runs/m1 \\
        --generator runs/g1/generator.safetensors --e4e runs/e1/e4e.safetensors
      sfhq train pack --generator runs/m1/generator.safetensors --e4e runs/e1/e4e.safetensors \\
        --out pack
    """
    from dataclasses import asdict

    import torch
    from torch import Tensor

    from encoders.e4e.hybrid import coordinates_of, used_axes
    from encoders.e4e.loading import load_base
    from encoders.e4e.network import require_pair
    from sfhq import stages
    from sfhq.networks.looks import RARE_LOOKS, TOGETHER, rare_looks
    from sfhq.synthesis.latents import activate, unactivate
    from sfhq.training.features import load_feature_pyramid
    from sfhq.training.generator.codes import load_codes
    from sfhq.training.generator.search import CodeSearch, SearchRecipe
    from sfhq.training.photos import load_photos
    from sfhq.training.state import load_state
    from sfhq.weights.checkpoints import (
        load_generator,
        pack_path,
        read_checkpoint,
        save_generator,
    )
    from stylegan2_ops.generator import Generator

    torch.set_flush_denormal(True)
    check_device(device)
    network, digest = load_generator(generator)
    reader, labels_digest = stages.network("label reader")(labels)
    if codes is None:
        base, base_digest = load_base(e4e, network.config.num_ws)
        require_pair(generator, e4e)
    photos, held_out = load_photos(folders, network.config.resolution).split()
    say(f"{len(photos)} photos, {len(held_out)} held out", err=True)
    recipe = SearchRecipe(seed=seed)
    mean, axes = used_axes(network)
    start = None
    if codes is not None:
        known = load_codes(codes, photos.names, network.config.w_dim, mirrored=False)
        start = coordinates_of(known, mean, axes)
    elif load_state(out) is None:
        small, parts = photos.at(base.config.input_size), []
        with torch.no_grad():
            for rows in torch.arange(len(photos)).split(32):
                linear = unactivate(base(small.batch(rows))).mean(dim=1)
                parts.append(coordinates_of(activate(linear), mean, axes))
        start = torch.cat(parts)
    search = CodeSearch(recipe, network, photos, load_feature_pyramid(), mean, axes, start, device)
    if codes is None:
        settings = {
            **asdict(recipe),
            "generator": digest,
            "e4e": base_digest,
            "labels": labels_digest,
            "photos": list(photos.names),
        }
        run_on(search, out, settings, minutes, frozenset())
    else:
        out.mkdir(parents=True, exist_ok=True)
        search.images = search.total

    def told(number: int) -> None:
        if number % 160 == 0 or number == search.images:
            say(f"looks of {number} of {search.images} faces read", err=True)

    def looks(made: Generator, w: Tensor) -> Tensor:
        seen = rare_looks(made, w, reader, told)
        shares = zip(RARE_LOOKS, seen.mean(dim=0).tolist(), strict=True)
        say(", ".join(f"{name} {share:.1%}" for name, share in shares), err=True)
        return seen

    with torch.no_grad():
        found = {"codes": search.to_w(search.found.to(device)).cpu(), "names": list(photos.names)}
    torch.save(found, out / "codes.pt")
    given = read_checkpoint(generator or pack_path("generator"), "generator").notes
    notes = {**given, "codes": str(search.images)}
    made = search.finish(looks, [TOGETHER[name] for name in RARE_LOOKS])
    save_generator(out / "generator.safetensors", made, notes)
    say(out / "generator.safetensors")
