"""What a validation found, as lines and as a page that needs no other file."""

from __future__ import annotations

from typing import Any

from sfhq.publish.checks.result import Result
from sfhq.publish.validate import LEFT_OUT, Report

SHOWN = 3  # findings of a check that the text lists
WIDTH, ROW, LEFT, RIGHT = 560, 22, 150, 110  # pixels of a chart
WORDS = {"passed": "ok", "failed": "FAILED", "told": "told", "not checked": "-"}


def as_text(report: Report, most: int = SHOWN) -> list[str]:
    """Lines: one a check, and below it what it found."""
    lines = [f"{report.part}: {count_of(report)}"]
    for result in report.results:
        if result.note == LEFT_OUT:
            continue
        word = WORDS[result.state]
        if result.state == "failed" and result.severity != "integrity":
            word = "doubt"
        lines.append(f"{word:<8}{result.name:<14}{result.said}")
        for finding in result.findings[:most]:
            lines.append(f"{'':<22}{finding.where}: {finding.what}")
        if result.count > most and result.findings:
            lines.append(f"{'':<22}and {result.count - min(most, len(result.findings))} more")
    lines.append(_verdict(report))
    return lines


def count_of(report: Report) -> str:
    """How many photos were looked at, in words."""
    unread = not report.faces and report.result("records").state == "failed"
    return "no photos, for records cannot be read" if unread else f"{report.faces:,} photos"


def _verdict(report: Report) -> str:
    failed = [r for r in report.results if r.state == "failed"]
    unchecked = sum(r.state == "not checked" and r.note != LEFT_OUT for r in report.results)
    integrity = [r.name for r in failed if r.severity == "integrity"]
    doubts = [r.name for r in failed if r.severity != "integrity"]
    words = []
    if integrity:
        words.append(f"DAMAGED: {', '.join(integrity)}")
    if doubts:
        words.append(f"to look at: {', '.join(doubts)}")
    if not failed:
        words.append("nothing found")
    if unchecked:
        words.append(f"{unchecked} not checked")
    return "; ".join(words)


def as_page(report: Report) -> str:
    """The page, as HTML."""
    from sfhq.web.shell import render

    balance = report.result("balance").figures.get("groups") or {}
    return render(
        "sfhq.publish",
        "validate.html",
        report=report,
        count=count_of(report),
        verdict=_verdict(report),
        words=WORDS,
        charts=[_chart(name, words) for name, words in balance.items()],
        small=report.result("balance").figures.get("small_cells") or [],
        figures=[(r, _figures(r)) for r in report.results if _figures(r)],
    )


def _figures(result: Result) -> list[tuple[str, str]]:
    """Figures of a check that are not drawn, as names and texts."""
    left_out = ("groups", "small_cells")
    found = []
    for name, value in result.figures.items():
        if name not in left_out and value not in (None, [], {}):
            found.append((name.replace("_", " "), _text(value)))
    return found


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{k.replace('_', ' ')}: {_text(v)}" for k, v in value.items())
    if isinstance(value, list):
        return ", ".join(_text(v) for v in value)
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)


def _chart(name: str, words: dict[str, dict[str, float]]) -> dict[str, Any]:
    """Bars of shares with their intervals."""
    from sfhq.web.shell import mark

    marks = []
    top = max((w["high"] for w in words.values()), default=1.0) or 1.0
    scale = (WIDTH - LEFT - RIGHT) / top
    for place, (word, said) in enumerate(words.items()):
        y = place * ROW
        middle = y + ROW / 2
        few = said["count"] < 30
        marks += [
            mark("text", word, x=LEFT - 8.0, y=middle + 4, text_anchor="end"),
            mark(
                "rect",
                class_="reject" if few else "keep",
                x=float(LEFT),
                y=y + 4.0,
                width=max(said["share"] * scale, 1.0),
                height=ROW - 8.0,
            ),
            mark(
                "line",
                class_="axis",
                x1=LEFT + said["low"] * scale,
                x2=LEFT + said["high"] * scale,
                y1=middle,
                y2=middle,
            ),
            mark(
                "text",
                f"{100 * said['share']:.1f} % ({said['count']})",
                x=LEFT + said["high"] * scale + 6,
                y=middle + 4,
            ),
        ]
    return {"title": name, "marks": marks, "width": WIDTH, "height": ROW * len(words)}
