"""Which face of a part somebody means: by id, by the digest of the image, by the file's path."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath

from sfhq.errors import UsageError


class KnownFaces:
    """The faces of a part, found by what a row of labels says.

    Args:
        digests: face_id -> sha256 of its image, or of its source's bytes; may be empty.
        sources: face_id -> path of the file it was made from, below its root.
    """

    def __init__(self, digests: Mapping[str, str], sources: Mapping[str, str]) -> None:
        self.digests = digests
        self._by_digest: dict[str, str] = {}
        for face, digest in digests.items():
            if digest:  # of equal images the first stands for all
                self._by_digest.setdefault(digest, face)
        self._by_path: dict[tuple[str, ...], list[str]] = {}
        self._by_name: dict[str, list[tuple[str, ...]]] = {}
        for face, source in sources.items():
            parts = _parts(source)
            if parts:
                if parts not in self._by_path:
                    self._by_name.setdefault(parts[-1], []).append(parts)
                self._by_path.setdefault(parts, []).append(face)

    def find(self, face_id: str = "", digest: str = "", file: str = "") -> str | None:
        """The face that is meant; None where it is not of this part.

        A face id counts if it shows the image of that digest; else the digest, which survives that
        a file moves; else the face id alone; else the path.

        Args:
            face_id: may be of another part, or of a file that has moved since.
            digest: sha256 of the image or of the source's bytes.
            file: a path. It fits a face's path if the two are the same, or if one is the end of
                the other: a bare name fits every file of that name.

        Raises:
            UsageError: the path fits several faces; the message names them.
        """
        if face_id in self.digests and digest in ("", self.digests[face_id]):
            return face_id
        if digest in self._by_digest:
            return self._by_digest[digest]
        if face_id in self.digests:
            return face_id
        return self._of_path(file) if file else None

    def _of_path(self, file: str) -> str | None:
        wanted = _parts(file)
        if not wanted:
            return None
        fitting = [p for p in self._by_name.get(wanted[-1], ()) if _ends_alike(p, wanted)]
        if wanted in self._by_path:
            fitting = [wanted]
        elif any(len(p) < len(wanted) for p in fitting):  # the longest is the nearest
            longest = max(len(p) for p in fitting)
            fitting = [p for p in fitting if len(p) == longest]
        faces = [(p, face) for p in fitting for face in self._by_path[p]]
        if len(faces) > 1:
            some = " and ".join(f"{'/'.join(p)} (face {face})" for p, face in faces[:4])
            raise UsageError(
                f"{file!r} fits {len(faces)} faces: {some}; give the path, a face_id or an "
                "image_hash"
            )
        return faces[0][1] if faces else None


def _parts(path: str) -> tuple[str, ...]:
    return tuple(p for p in PurePosixPath(path.replace("\\", "/")).parts if p not in ("/", "."))


def _ends_alike(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    shared = min(len(one), len(other))
    return one[-shared:] == other[-shared:]
