"""Catmull-Clark subdivision of a coarse mesh as one sparse matrix.

Source: Catmull and Clark 1978, "Recursively generated B-spline surfaces on arbitrary topological
meshes"; boundary edges and corners follow the cubic B-spline of the boundary.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp

from sfhq.render.head.assets import Ints


def subdivide(quads: Ints, vertices: int) -> tuple[Any, Ints]:
    """One level of subdivision.

    Args:
        quads: (Q, 4) corners, counter-clockwise.
        vertices: number of vertices V; each must belong to a quad.

    Returns:
        (V', V) sparse matrix from values at coarse vertices to values at fine ones, and (4 Q, 4)
        fine quads. Fine vertices are the old ones, then one per edge, then one per quad.
    """
    count = len(quads)
    ends = np.stack([quads, np.roll(quads, -1, 1)], 2).reshape(-1, 2)  # (4 Q, 2)
    edges, of = np.unique(np.sort(ends, 1), axis=0, return_inverse=True)
    of = of.reshape(count, 4)  # edge of corner i to corner i + 1
    uses = np.bincount(of.ravel(), minlength=len(edges))
    face = sp.csr_matrix(
        (np.full(4 * count, 0.25), (np.repeat(np.arange(count), 4), quads.ravel())),
        (count, vertices),
    )
    rows = np.repeat(np.arange(len(edges)), 2)
    ends_of = sp.csr_matrix(
        (np.full(len(rows), 0.5), (rows, edges.ravel())), (len(edges), vertices)
    )
    quads_of = sp.csr_matrix(
        (np.full(4 * count, 0.5), (of.ravel(), np.repeat(np.arange(count), 4))),
        (len(edges), count),
    )
    inner = sp.diags((uses == 2).astype(float))
    outer = sp.diags((uses == 1).astype(float))
    edge = inner @ (0.5 * ends_of + 0.5 * quads_of @ face) + outer @ ends_of
    # Inner old vertices: (mean of faces + 2 * mean of edge middles + (n - 3) * itself) / n.
    n = np.bincount(quads.ravel(), minlength=vertices).astype(float)
    touching = sp.csr_matrix(
        (np.ones(4 * count), (quads.ravel(), np.repeat(np.arange(count), 4))), (vertices, count)
    )
    ending = sp.csr_matrix((np.ones(len(rows)), (edges.ravel(), rows)), (vertices, len(edges)))
    degree = np.asarray(ending.sum(1)).ravel()
    rim = np.zeros(vertices, bool)
    rim[edges[uses == 1]] = True
    inside = sp.diags(np.where(rim, 0.0, 1.0))
    smooth = (
        sp.diags(1 / n**2) @ touching @ face
        + sp.diags(2 / (n * degree)) @ ending @ ends_of
        + sp.diags((n - 3) / n)
    )
    border = ending @ outer @ ends_of  # (V, V): sum of the two middles of border edges
    along = np.asarray((ending @ outer).sum(1)).ravel()
    corner = rim & (along != 2)
    bent = sp.diags(np.where(rim & ~corner, 0.25, 0.0)) @ border
    bent = bent + sp.diags(np.where(rim & ~corner, 0.5, 0.0) + corner)
    old = inside @ smooth + bent
    matrix = sp.vstack([old, edge, face]).tocsr().astype(np.float32)
    middle = vertices + of  # (Q, 4)
    centre = np.broadcast_to(vertices + len(edges) + np.arange(count)[:, None], (count, 4))
    fine = np.stack([quads, middle, centre, np.roll(middle, 1, 1)], 2).reshape(-1, 4)
    return matrix, fine.astype(np.int32)


def refine(quads: Ints, vertices: int, levels: int) -> tuple[Any, Ints]:
    """Several levels of `subdivide` as one matrix."""
    matrix: Any = sp.identity(vertices, np.float32, "csr")
    for _ in range(levels):
        step, quads = subdivide(quads, vertices)
        matrix = (step @ matrix).tocsr()
        vertices = step.shape[0]
    return matrix, quads


def triangles(quads: Ints) -> Ints:
    """(2 Q, 3) triangles of (Q, 4) quads, first halves before second halves."""
    return np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]]).astype(np.int32)
