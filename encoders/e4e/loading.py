"""Load, save and prepare an encoder of any kind.

They are e4e, the person encoder on an e4e, and the hybrid on the label network.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from encoders.e4e.hybrid import HybridConfig, HybridEncoder, PreparedHybrid
from encoders.e4e.inference import PreparedE4e
from encoders.e4e.network import E4e, load_e4e, require_layers, save_e4e
from encoders.e4e.person import PersonConfig, PersonEncoder, PreparedPerson
from sfhq.errors import UsageError
from sfhq.weights.checkpoints import build_network, pack_path, read_checkpoint, save_checkpoint
from stylegan2_ops.inference import Precision

Encoder = E4e | HybridEncoder | PersonEncoder
PreparedEncoder = PreparedE4e | PreparedHybrid | PreparedPerson


def load_encoder(path: Path | None = None, num_ws: int | None = None) -> tuple[Encoder, str]:
    """Load an encoder in eval mode, and the sha256 of its file.

    Args:
        path: a safetensors file; None for the embedded pack.
        num_ws: number of w vectors of the generator, to be checked; None skips the check.

    Raises:
        UsageError: there is no such file.
        IntegrityError: the file is damaged, or was made for a generator of another resolution.
    """
    checkpoint = read_checkpoint(path or pack_path("e4e"), "e4e")
    network: Encoder
    if "base" in checkpoint.architecture:
        network = build_network(
            checkpoint, lambda sizes: PersonEncoder(PersonConfig.from_dict(sizes))
        )
    elif "stem" in checkpoint.architecture:
        network = build_network(
            checkpoint, lambda sizes: HybridEncoder(HybridConfig.from_dict(sizes))
        )
    else:
        return load_e4e(path, num_ws)
    require_layers(checkpoint.path, network.config.num_ws, num_ws)
    return network, checkpoint.digest


def load_base(path: Path | None = None, num_ws: int | None = None) -> tuple[E4e, str]:
    """Load the e4e of a file: the encoder itself, or that on which a person encoder stands.

    Arguments, result and errors are those of `load_encoder`.

    Raises:
        UsageError: the file has a hybrid, which stands on no e4e.
    """
    network, digest = load_encoder(path, num_ws)
    if isinstance(network, PersonEncoder):
        return network.base, digest
    if isinstance(network, HybridEncoder):
        found = path or pack_path("e4e")
        raise UsageError(f"{found}: is a hybrid encoder; wanted an e4e, of sfhq train e4e")
    return network, digest


def load_person(path: Path, num_ws: int | None = None) -> tuple[PersonEncoder, str]:
    """Load a person encoder; arguments, result and errors are those of `load_encoder`.

    Raises:
        UsageError: the file has an encoder of another kind.
    """
    network, digest = load_encoder(path, num_ws)
    if not isinstance(network, PersonEncoder):
        raise UsageError(f"{path}: has no shift by the person; wanted an e4e of sfhq train person")
    return network, digest


def save_encoder(
    path: Path, network: Encoder, notes: Mapping[str, str] | None = None, half: bool = False
) -> None:
    """Write an encoder and its config as safetensors; arguments as of `save_e4e`."""
    if isinstance(network, E4e):
        save_e4e(path, network, notes, half)
        return
    save_checkpoint(path, "e4e", network.config.to_dict(), network.state_dict(), notes, half)


def prepare_encoder(network: Encoder, precision: Precision) -> PreparedEncoder:
    """An encoder as stages call it."""
    if isinstance(network, HybridEncoder):
        return PreparedHybrid(network, precision)
    if isinstance(network, PersonEncoder):
        return PreparedPerson(network, precision)
    return PreparedE4e(network, precision)
