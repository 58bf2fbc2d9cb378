"""What a taste is worth, as one page that opens from disk and asks for nothing."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence

import numpy as np

from curation.labels.agreement import Share
from curation.taste.judge import TasteReport
from curation.taste.learners import Labels
from sfhq.parts.records import Array

WIDTH, HEIGHT, LEFT, BASE = 400, 240, 46, 204
BINS = 25

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Taste of {part}</title>
<link rel="icon" href="data:,">
<style>
:root {{ color-scheme: light dark; --paper: light-dark(#fff, #16181d);
  --ink: light-dark(#1d2129, #e8eaed); --faint: light-dark(#555e6b, #a6afbb);
  --keep: light-dark(#0a6b4a, #4cc38a); --reject: light-dark(#a3371b, #f0855c);
  --line: light-dark(#d7dbe0, #3a404a); --mark: light-dark(#2d5f9e, #78aaf0);
  background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }}
main {{ max-width: 900px; margin: 2rem auto; padding: 0 1rem; }}
.plots {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(360px, 1fr));
  gap: 1.2rem; }}
figure {{ margin: 0; }} figcaption {{ font-weight: 600; }}
svg {{ width: 100%; }} svg text {{ fill: var(--faint); font: 11px system-ui, sans-serif; }}
.axis {{ stroke: var(--faint); }} .grid {{ stroke: var(--line); }}
.keep {{ fill: var(--keep); fill-opacity: .55; }}
.reject {{ fill: var(--reject); fill-opacity: .55; }}
.line {{ fill: none; stroke: var(--mark); stroke-width: 2; }} .dot {{ fill: var(--mark); }}
.band {{ fill: var(--mark); fill-opacity: .18; }}
.diagonal {{ stroke: var(--faint); stroke-dasharray: 4 4; }}
table {{ border-collapse: collapse; margin-bottom: 1.2rem; font-variant-numeric: tabular-nums; }}
th, td {{ text-align: right; padding: .25rem .8rem .25rem 0;
  border-bottom: 1px solid var(--line); }}
th:first-child, td:first-child {{ text-align: left; }}
.faces {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(120px, 1fr));
  gap: .7rem; }}
.faces img {{ width: 100%; border-radius: 6px; display: block; }}
.faces p {{ margin: .1rem 0; font-size: 13px; }}
.note {{ color: var(--faint); }}
</style></head><body><main>
<h1>Taste of {part}</h1>
<p>{kept} kept and {rejected} rejected faces. Every figure comes from nested cross-validation: no
face was judged by a model, a calibration or a threshold that had seen its label.</p>
<table><thead><tr><th></th><th>value</th><th>95 % interval</th><th>faces</th></tr></thead><tbody>
{rows}</tbody></table>
<div class="plots">{plots}</div>
<h2>Most disputed</h2>
<p class="note">Where the score contradicts the label most: a slip of the finger, or something the
features cannot see.</p>
<div class="faces">{faces}</div>
</main></body></html>
"""


def taste_page(found: TasteReport, labels: Labels, disputed: Sequence[bytes], part: str) -> str:
    """The page.

    Args:
        found: what was measured.
        labels: (N,) what people said.
        disputed: JPEG of each of `found.disputed`.
        part: name of the part.
    """
    auc = found.auc
    rows = [_row("AUC", f"{auc[0]:.3f}", f"{auc[1]:.3f} to {auc[2]:.3f}", len(labels))]
    for name, share in (
        ("right at 0.5", found.accuracy),
        (f"accepted are kept (asked: {found.precision:.0%})", found.accepted),
        (f"rejected are not (asked: {found.precision:.0%})", found.rejected),
    ):
        rows.append(_share_row(name, share))
    rows.append(_row("calibration error", f"{found.calibration_error:.3f}", "", len(labels)))
    plots = [
        _histograms(found.scores, labels),
        _precision(found.scores, labels, found.precision),
        _calibration(found),
        _curve(found),
    ]
    faces = "".join(
        f'<div><img alt="disputed face" src="data:image/jpeg;base64,'
        f'{base64.b64encode(data).decode()}"><p>{"kept" if labels[i] else "rejected"}, '
        f"score {found.scores[i]:.2f}</p></div>"
        for i, data in zip(found.disputed, disputed, strict=True)
    )
    return PAGE.format(
        part=html.escape(part),
        kept=found.count[0],
        rejected=found.count[1],
        rows="".join(rows),
        plots="".join(plots),
        faces=faces,
    )


def _row(name: str, value: str, interval: str, count: int) -> str:
    return f"<tr><td>{name}</td><td>{value}</td><td>{interval}</td><td>{count}</td></tr>"


def _share_row(name: str, share: Share) -> str:
    if share.count == 0:
        return _row(name, "none", "", 0)
    return _row(name, f"{share.value:.1%}", f"{share.low:.1%} to {share.high:.1%}", share.count)


def _x(value: float) -> float:
    return LEFT + value * (WIDTH - LEFT - 10)


def _y(value: float) -> float:
    return BASE - value * (BASE - 12)


def _frame(title: str, inside: str, x: str, y: str, ticks: bool = True) -> str:
    lines = ""
    if ticks:
        for t in (0.0, 0.25, 0.5, 0.75, 1.0):
            lines += (
                f'<line class="grid" x1="{LEFT}" x2="{WIDTH - 10}" '
                f'y1="{_y(t):.1f}" y2="{_y(t):.1f}"/>'
                f'<text x="{LEFT - 6}" y="{_y(t) + 4:.1f}" text-anchor="end">{t:g}</text>'
                f'<text x="{_x(t):.1f}" y="{BASE + 15}" text-anchor="middle">{t:g}</text>'
            )
    return (
        f'<figure><figcaption>{title}</figcaption><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{title}">{lines}{inside}'
        f'<line class="axis" x1="{LEFT}" x2="{WIDTH - 10}" y1="{BASE}" y2="{BASE}"/>'
        f'<text x="{(LEFT + WIDTH) / 2}" y="{HEIGHT - 6}" text-anchor="middle">{x}</text>'
        f'<text transform="translate(12 {BASE / 2}) rotate(-90)" text-anchor="middle">{y}</text>'
        f"</svg></figure>"
    )


def _histograms(scores: Array, labels: Labels) -> str:
    counts = [np.histogram(scores[labels == k], BINS, (0, 1))[0] for k in (True, False)]
    top = max(int(c.max()) for c in counts) or 1
    bars = ""
    for kind, values in zip(("keep", "reject"), counts, strict=True):
        for i, n in enumerate(values.tolist()):
            if n:
                y = _y(n / top)
                bars += (
                    f'<rect class="{kind}" x="{_x(i / BINS):.1f}" y="{y:.1f}" '
                    f'width="{_x(1 / BINS) - _x(0) - 1:.1f}" height="{BASE - y:.1f}"/>'
                )
    for t in (0.0, 0.5, 1.0):
        bars += f'<text x="{_x(t):.1f}" y="{BASE + 15}" text-anchor="middle">{t:g}</text>'
    bars += f'<text x="{LEFT - 6}" y="{_y(1) + 4:.1f}" text-anchor="end">{top}</text>'
    words = f'<text x="{_x(0.5):.1f}" y="24" text-anchor="middle">kept right, rejected left</text>'
    bars += words  # in the middle, where a good taste has few faces
    return _frame("Scores by label", bars, "score", "faces", ticks=False)


def _precision(scores: Array, labels: Labels, wanted: float) -> str:
    order = np.argsort(-scores)
    kept = np.cumsum(labels[order]) / np.arange(1, len(labels) + 1)
    points = " ".join(
        f"{_x(float(s)):.1f},{_y(float(p)):.1f}" for s, p in zip(scores[order], kept, strict=True)
    )
    line = f'<polyline class="line" points="{points}"/>'
    line += (
        f'<line class="diagonal" x1="{LEFT}" x2="{WIDTH - 10}" y1="{_y(wanted):.1f}" '
        f'y2="{_y(wanted):.1f}"/>'
    )
    return _frame("Share kept above a threshold", line, "threshold", "precision")


def _calibration(found: TasteReport) -> str:
    dots = (
        f'<line class="diagonal" x1="{_x(0)}" y1="{_y(0)}" x2="{_x(1)}" y2="{_y(1)}"/>'
        + "".join(
            f'<circle class="dot" cx="{_x(s):.1f}" cy="{_y(k):.1f}" '
            f'r="{2 + 8 * (n / sum(found.count)) ** 0.5:.1f}" fill-opacity=".75"/>'
            for s, k, n in found.calibration
        )
    )
    return _frame("Calibration", dots, "mean score", "share kept")


def _curve(found: TasteReport) -> str:
    if not found.curve:
        return ""
    most = found.curve[-1][0]

    def y(auc: float) -> float:
        return _y(max((auc - 0.5) * 2, 0.0))

    points = [(_x(n / most), auc, low, high) for n, auc, low, high in found.curve]
    upper = [f"{x:.1f},{y(high):.1f}" for x, _, _, high in points]
    lower = [f"{x:.1f},{y(low):.1f}" for x, _, low, _ in reversed(points)]
    inside = f'<polygon class="band" points="{" ".join(upper + lower)}"/>'
    line = " ".join(f"{x:.1f},{y(auc):.1f}" for x, auc, _, _ in points)
    inside += f'<polyline class="line" points="{line}"/>'
    for t in (0.5, 0.75, 1.0):
        inside += f'<text x="{LEFT - 6}" y="{y(t) + 4:.1f}" text-anchor="end">{t:g}</text>'
    for n, *_ in found.curve:
        inside += f'<text x="{_x(n / most):.1f}" y="{BASE + 15}" text-anchor="middle">{n}</text>'
    return _frame("Learning curve", inside, "labels", "AUC", ticks=False)
