"""How long a search by words takes among many faces: the text network, all cosines, the best ten.

    OMP_NUM_THREADS=1 python benchmarks/flip_search.py --rows 425000

The vectors are random and in memory, as after `encoders.search.load_faces`; reading them is not
timed.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from encoders.flip.network import Flip, flip_config, load_flip, save_flip
from encoders.flip.tokens import load_tokens
from encoders.search import Faces, best
from sfhq.parts.part import Part
from sfhq.parts.records import FaceRecord


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=425_000)
    parser.add_argument("--times", type=int, default=9)
    options = parser.parse_args()
    tokens = load_tokens()
    with TemporaryDirectory() as folder:
        path = Path(folder) / "flip.safetensors"
        save_flip(path, Flip(flip_config("tiny", len(tokens))))
        network = load_flip(path).network
        width = network.config.embedding
        vectors = np.random.default_rng(0).standard_normal((options.rows, width), np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        record = FaceRecord("face")
        faces = Faces(Part(Path(folder)), (record,) * options.rows, vectors)
        said, found = [], []
        for _ in range(options.times):
            started = time.perf_counter()
            ids, mask = tokens(["a bald man with glasses"])
            with torch.inference_mode():
                vector = network.text_vectors(ids, mask).numpy()[0]
            said.append(time.perf_counter() - started)
            started = time.perf_counter()
            best(faces, vector, 10)
            found.append(time.perf_counter() - started)
    words, search = (1000 * statistics.median(t) for t in (said, found))
    print(f"{options.rows} rows of {width}: words {words:.1f} ms, search {search:.1f} ms (medians)")


if __name__ == "__main__":
    main()
