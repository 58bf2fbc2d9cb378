"""How good a taste model is, as one HTML page that opens from the disk and loads no other file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from curation.labels.agreement import Share
from curation.taste.judge import TasteReport
from curation.taste.learners import Labels
from sfhq.parts.records import Array
from sfhq.web.shell import Mark, jpeg_address, mark, points, render

WIDTH, HEIGHT, LEFT, BASE = 400, 240, 46, 204  # of a plot, in pixels
RIGHT = WIDTH - 10
BINS = 25

Row = tuple[str, str, str, int]  # name, value, interval, faces


@dataclass(frozen=True)
class Plot:
    """One plot.

    Attributes:
        title: above it.
        marks: what is drawn, in order.
    """

    title: str
    marks: list[Mark]


def taste_page(found: TasteReport, labels: Labels, disputed: Sequence[bytes], part: str) -> str:
    """The report as HTML.

    Args:
        found: what was measured.
        labels: (N,) what people said.
        disputed: JPEG of each of `found.disputed`.
        part: name of the part.
    """
    auc = found.auc
    rows: list[Row] = [("AUC", f"{auc[0]:.3f}", f"{auc[1]:.3f} to {auc[2]:.3f}", len(labels))]
    for name, share in (
        ("right at 0.5", found.accuracy),
        (f"accepted are kept (asked: {found.precision:.0%})", found.accepted),
        (f"rejected are not (asked: {found.precision:.0%})", found.rejected),
    ):
        rows.append(_share_row(name, share))
    rows.append(("calibration error", f"{found.calibration_error:.3f}", "", len(labels)))
    plots = [
        _histograms(found.scores, labels),
        _precision(found.scores, labels, found.precision),
        _calibration(found),
    ]
    if found.curve:
        plots.append(_curve(found))
    faces = [
        (jpeg_address(data), "kept" if labels[i] else "rejected", float(found.scores[i]))
        for i, data in zip(found.disputed, disputed, strict=True)
    ]
    return render(
        "curation.taste",
        "taste.html",
        part=part,
        kept=found.count[0],
        rejected=found.count[1],
        rows=rows,
        plots=plots,
        faces=faces,
        width=WIDTH,
        height=HEIGHT,
    )


def _share_row(name: str, share: Share) -> Row:
    if share.count == 0:
        return name, "none", "", 0
    return name, f"{share.value:.1%}", f"{share.low:.1%} to {share.high:.1%}", share.count


def _x(value: float) -> float:
    return LEFT + value * (RIGHT - LEFT)


def _y(value: float) -> float:
    return BASE - value * (BASE - 12)


def _x_tick(value: float, text: str) -> Mark:
    return mark("text", text, x=_x(value), y=BASE + 15, text_anchor="middle")


def _y_tick(height: float, text: str) -> Mark:
    return mark("text", text, x=LEFT - 6, y=height + 4, text_anchor="end")


def _grid() -> list[Mark]:
    """Lines and numbers of two axes from 0 to 1."""
    marks = []
    for t in (0.0, 0.25, 0.5, 0.75, 1.0):
        marks += [
            mark("line", class_="grid", x1=LEFT, x2=RIGHT, y1=_y(t), y2=_y(t)),
            _y_tick(_y(t), f"{t:g}"),
            _x_tick(t, f"{t:g}"),
        ]
    return marks


def _plot(title: str, x: str, y: str, marks: Iterable[Mark]) -> Plot:
    """A plot with the names of its axes."""
    middle = (LEFT + WIDTH) / 2
    turned = f"translate(12 {BASE / 2}) rotate(-90)"
    axes = [
        mark("line", class_="axis", x1=LEFT, x2=RIGHT, y1=BASE, y2=BASE),
        mark("text", x, x=middle, y=HEIGHT - 6, text_anchor="middle"),
        mark("text", y, transform=turned, text_anchor="middle"),
    ]
    return Plot(title, [*marks, *axes])


def _histograms(scores: Array, labels: Labels) -> Plot:
    counts = [np.histogram(scores[labels == k], BINS, (0, 1))[0] for k in (True, False)]
    top = max(int(c.max()) for c in counts) or 1
    width = _x(1 / BINS) - _x(0) - 1
    marks = [
        mark(
            "rect",
            class_=kind,
            x=_x(i / BINS),
            y=_y(n / top),
            width=width,
            height=BASE - _y(n / top),
        )
        for kind, values in zip(("keep", "reject"), counts, strict=True)
        for i, n in enumerate(values.tolist())
        if n
    ]
    marks += [_x_tick(t, f"{t:g}") for t in (0.0, 0.5, 1.0)]
    marks.append(_y_tick(_y(1), str(top)))
    # In the middle, where few faces of a good model are.
    words = "kept at the right, rejected at the left"
    marks.append(mark("text", words, x=_x(0.5), y=24, text_anchor="middle"))
    return _plot("Scores by label", "score", "faces", marks)


def _precision(scores: Array, labels: Labels, wanted: float) -> Plot:
    order = np.argsort(-scores)
    kept = np.cumsum(labels[order]) / np.arange(1, len(labels) + 1)
    line = points(
        (_x(s), _y(p)) for s, p in zip(scores[order].tolist(), kept.tolist(), strict=True)
    )
    marks = [
        mark("polyline", class_="line", points=line),
        mark("line", class_="diagonal", x1=LEFT, x2=RIGHT, y1=_y(wanted), y2=_y(wanted)),
    ]
    return _plot("Share kept above a threshold", "threshold", "precision", [*_grid(), *marks])


def _calibration(found: TasteReport) -> Plot:
    marks = [mark("line", class_="diagonal", x1=_x(0), y1=_y(0), x2=_x(1), y2=_y(1))]
    for score, kept, count in found.calibration:
        radius = 2 + 8 * (count / sum(found.count)) ** 0.5
        marks.append(mark("circle", class_="dot", cx=_x(score), cy=_y(kept), r=radius))
    return _plot("Calibration", "mean score", "share kept", [*_grid(), *marks])


def _curve(found: TasteReport) -> Plot:
    most = found.curve[-1][0]

    def y(auc: float) -> float:
        return _y(max((auc - 0.5) * 2, 0.0))

    measured = [(_x(n / most), auc, low, high) for n, auc, low, high in found.curve]
    upper = [(x, y(high)) for x, _, _, high in measured]
    lower = [(x, y(low)) for x, _, low, _ in reversed(measured)]
    marks = [
        mark("polygon", class_="band", points=points(upper + lower)),
        mark("polyline", class_="line", points=points((x, y(auc)) for x, auc, _, _ in measured)),
    ]
    marks += [_y_tick(y(t), f"{t:g}") for t in (0.5, 0.75, 1.0)]
    marks += [_x_tick(n / most, str(n)) for n, *_ in found.curve]
    return _plot("Learning curve", "labels", "AUC", marks)
