"""Sign image files for C2PA: copies with a manifest, their pixels and XMP packets untouched."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from sfhq.errors import UsageError
from sfhq.images import BadImage, read_marked, write_atomic
from sfhq.marks.signature import MIME, Signer, may_have_manifest
from sfhq.marks.xmp import SYNTHETIC, read_packet
from sfhq.parts.files import read_file, why
from sfhq.publish.verify import MOST_FILE, image_files


def planned(paths: Sequence[Path], out: Path) -> list[tuple[Path, Path]]:
    """Each file and where its signed copy goes: folders keep what is below them.

    Raises:
        UsageError: no images, two copies would have one name, or one is there already.
    """
    plan: dict[Path, Path] = {}
    for path in paths:
        for file in image_files([path]):
            inside = file.relative_to(path) if path.is_dir() else Path(file.name)
            target = out / inside
            if target in plan:
                raise UsageError(f"{file}: {plan[target]} has the same name; sign them apart")
            if target.exists() or target.is_symlink():
                raise UsageError(f"{target}: there already; give a new folder with --out")
            plan[target] = file
    if not plan:
        raise UsageError(f"{paths[0]}: no images in it; give images or folders of them")
    return [(file, target) for target, file in plan.items()]


def sign_files(plan: Sequence[tuple[Path, Path]], signer: Signer) -> Iterator[tuple[Path, str]]:
    """Write signed copies.

    Only files whose XMP packet says that they are synthetic are signed, because the manifest says
    so as well.

    Args:
        plan: of `planned`.
        signer: whose certificate vouches.

    Yields:
        Each file, and why it was not signed; "" where it was.

    Raises:
        UsageError: the certificate is not one that C2PA allows.
    """
    for file, target in plan:
        try:
            data = read_file(file, MOST_FILE)
            decoded = read_marked(data)
        except (OSError, BadImage) as error:
            yield file, error.reason if isinstance(error, BadImage) else why(error)
            continue
        origin = read_packet(decoded.packet) if decoded.packet else None
        if decoded.file_format not in MIME:
            yield file, f"{decoded.file_format}; wanted PNG, JPEG or WebP"
        elif may_have_manifest(data):
            yield file, "has a manifest already"
        elif origin is None or origin.source_type not in SYNTHETIC:
            yield file, "its XMP does not say that it is synthetic"
        else:
            signed = signer.sign(data, decoded.file_format, origin)
            target.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(target, signed)
            yield file, ""
