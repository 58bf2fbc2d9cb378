"""Which kind of captions trains best: each kind trained, and tested with the texts of every kind.

A network that saw one style finds texts of that style more easily, whatever they say. Testing with
all styles tells the style from the content.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from encoders.flip.data import Captioned
from encoders.flip.network import Flip
from encoders.flip.recipe import FlipRecipe
from encoders.flip.studies.arms import (
    MIXED,
    Arm,
    Floats,
    common,
    difference,
    digest_of,
    interval,
    searched,
    table,
    together,
    trained,
)
from encoders.flip.studies.facts import FaceFacts
from encoders.flip.studies.probe import probe
from encoders.flip.tokens import Tokens
from encoders.flip.training import stem_features
from sfhq.errors import UsageError

AT = 10  # results among which a hit counts


@dataclass(frozen=True)
class Comparison:
    """Arms trained and tested alike.

    Attributes:
        arms: their names.
        tests: names of the kinds of test texts.
        scores: (arm, test) -> (N,) for each held-out image the share of its texts that find it
            among the first ten, mean over seeds.
        seeds: (arm, test) -> the mean for each seed.
        probes: arm -> mean AUC of a linear probe of attributes for each seed; empty without facts.
        train, held_out: numbers of images.
    """

    arms: tuple[str, ...]
    tests: tuple[str, ...]
    scores: Mapping[tuple[str, str], Floats]
    seeds: Mapping[tuple[str, str], tuple[float, ...]]
    probes: Mapping[str, tuple[float, ...]]
    train: int
    held_out: int

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON: means, deviations over seeds, and paired differences."""
        return {
            "train": self.train,
            "held_out": self.held_out,
            "recall_at_10": {
                arm: {
                    test: {
                        "mean": float(self.scores[arm, test].mean()),
                        "interval": interval(self.scores[arm, test])[1:],
                        "seeds": self.seeds[arm, test],
                    }
                    for test in self.tests
                }
                for arm in self.arms
            },
            "differences": [
                {"test": test, "of": a, "from": b, "mean": mean, "interval": (low, high)}
                for test in self.tests
                for i, a in enumerate(self.arms)
                for b in self.arms[:i]
                for mean, low, high in [difference(self.scores[a, test], self.scores[b, test])]
            ],
            "probe_auc": {arm: list(values) for arm, values in self.probes.items()},
        }

    def lines(self) -> str:
        """Tables in Markdown."""

        def cell(arm: str, test: str) -> str:
            mean, low, high = interval(self.scores[arm, test])
            spread = np.std(self.seeds[arm, test])
            return f"{100 * mean:.1f} ({100 * low:.1f} to {100 * high:.1f}; ± {100 * spread:.1f})"

        rows = [[arm, *(cell(arm, test) for test in self.tests)] for arm in self.arms]
        if self.probes:
            for row in rows:
                values = self.probes[row[0]]
                row.append(f"{np.mean(values):.3f} ± {np.std(values):.3f}")
        probe_head = ["probe AUC"] if self.probes else []
        whole = (
            f"{self.train} images trained on, {self.held_out} held out; R@{AT} of texts in %, with "
            "its 95 % interval over images and its deviation over seeds\n\n"
            + table(["trained on", *(f"tested: {t}" for t in self.tests), *probe_head], rows)
        )
        apart = []
        for test in self.tests:
            for i, a in enumerate(self.arms):
                for b in self.arms[:i]:
                    mean, low, high = difference(self.scores[a, test], self.scores[b, test])
                    sure = "yes" if low > 0 or high < 0 else "no"
                    ends = f"{100 * low:+.1f} to {100 * high:+.1f}"
                    apart.append([test, f"{a} - {b}", f"{100 * mean:+.1f}", ends, sure])
        head = ["tested", "arms", "difference of R@10", "95 % interval, paired", "beyond chance"]
        return f"{whole}\n\n{table(head, apart)}"


def compare(
    arms: Sequence[Arm],
    tests: Mapping[str, Captioned],
    seeds: Sequence[int],
    tokens: Tokens,
    folder: Path,
    facts: FaceFacts | None = None,
    say: Callable[[str], None] = print,
) -> Comparison:
    """Train arms and test them.

    Args:
        arms: what to train; their images may differ, such as in number.
        tests: name -> held-out images with texts; all of the same images.
        seeds: of the runs; the same for every arm.
        tokens: the vocabulary.
        folder: of the runs.
        facts: attributes of the faces, for the linear probe; None leaves it out.
        say: takes progress lines.
    """
    scores: dict[tuple[str, str], Floats] = {}
    by_seed: dict[tuple[str, str], tuple[float, ...]] = {}
    probes: dict[str, tuple[float, ...]] = {}
    first = next(iter(tests.values()))
    stems = _Stems()
    for arm in arms:
        found: dict[str, list[Floats]] = {test: [] for test in tests}
        auc: list[float] = []
        features, shown = stems.of(arm, arm.data, True), stems.of(arm, first, False)
        asked_of = None if shown is None else shown[0]
        for seed in seeds:
            say(f"{arm.name}, seed {seed}: {len(arm.data)} images")
            network = trained(arm, seed, tokens, folder, features, say)
            for test, data in tests.items():
                found[test].append(searched(network, tokens, data, asked_of).by_image(AT))
            if facts is not None:
                try:
                    seen = (None if features is None else features[0], asked_of)
                    told = probe(network, facts, arm.data, first, features=seen)
                    auc.append(told.mean_auc)
                except UsageError as error:  # too few faces have any attribute
                    say(f"no probe: {error}")
                    facts = None
        for test, several in found.items():
            scores[arm.name, test] = np.mean(several, axis=0)
            by_seed[arm.name, test] = tuple(float(s.mean()) for s in several)
        if facts is not None:
            probes[arm.name] = tuple(auc)
    names = tuple(arm.name for arm in arms)
    return Comparison(
        names, tuple(tests), scores, by_seed, probes, max(len(a.data) for a in arms), len(first)
    )


@dataclass
class _Stems:
    """What kept stems see of images; the last set to train on and the last to test with stay."""

    _held: dict[bool, tuple[tuple[int, str], Tensor]] = field(default_factory=dict)

    def of(self, arm: Arm, data: Captioned, mirrors: bool) -> Tensor | None:
        """See `stem_features`; None where an arm has no kept stem."""
        if not arm.recipe.keep_stem or arm.start is None:
            return None
        key = (hash(data.names), arm.start_digest)
        if mirrors not in self._held or self._held[mirrors][0] != key:
            self._held.pop(mirrors, None)  # those of one arm are large enough
            self._held[mirrors] = key, stem_features(arm.start, data, mirrors=mirrors)
        return self._held[mirrors][1]


def caption_arms(
    sets: Mapping[str, Captioned],
    recipe: FlipRecipe,
    start: Flip | None,
    digest: str = "",
    tested: Mapping[str, Captioned] | None = None,
    joined: Mapping[str, Sequence[str]] | None = None,
) -> tuple[list[Arm], dict[str, Captioned]]:
    """An arm for each kind of captions and one for all together, and the tests.

    Args:
        sets: kind -> images with captions of that kind; images that one lacks are left out.
        recipe: of all arms.
        start: the network that all start from, or None.
        digest: sha256 of its file.
        tested: kind -> images to test with; None for the held-out tenth of `sets`. All of `sets` is
            trained on then.
        joined: arm -> kinds whose texts it has together, besides the arm of all of them.

    Raises:
        UsageError: fewer than two kinds, no common image, none that is held out, a face to train on
            among those of the test, or a joined arm of kinds that are unknown or all of them.
    """
    if len(sets) < 2:
        raise UsageError(f"{len(sets)} kind of captions; wanted two or more to compare")
    train = {name: data for name, data in common(sets).items() if name != MIXED}
    if tested is None:
        tests = {name: data.split()[1] for name, data in train.items()}
        train = {name: data.split()[0] for name, data in train.items()}
    else:
        tests = {name: data for name, data in common(tested).items() if name != MIXED}
    first, asked = next(iter(train.values())), next(iter(tests.values()))
    _apart(first, asked)
    if not len(first) or not len(asked):
        raise UsageError(
            f"{len(first)} images to train on, {len(asked)} held out; give more of them"
        )
    for name, kinds in (joined or {}).items():
        if name in (*sets, MIXED) or not 2 <= len({*kinds} & {*sets}) == len(kinds) < len(sets):
            raise UsageError(
                f"arm {name} of {' + '.join(kinds)}: wanted a name of its own and two or more of "
                f"{', '.join(sets)}, but not all, which are the arm {MIXED}"
            )
        train[name] = together([train[kind] for kind in kinds])
    train[MIXED] = together([train[kind] for kind in sets])
    return [Arm(name, recipe, data, start, digest) for name, data in train.items()], tests


def _apart(train: Captioned, test: Captioned) -> None:
    """Refuse faces that are in both."""
    ours = {face.rpartition("/")[2] for face in train.faces}
    both = sorted(ours & {face.rpartition("/")[2] for face in test.faces})
    if both:
        raise UsageError(
            f"{len(both)} faces to test with, such as {both[0]}, are among those to train on; give "
            "--test other faces"
        )


def start_arms(
    data: Captioned, recipe: FlipRecipe, starts: Mapping[str, tuple[Flip, Path | None]]
) -> tuple[list[Arm], dict[str, Captioned]]:
    """An arm for each network to start from, trained on the same images as long, and the test.

    Args:
        data: images with captions.
        recipe: of all arms; its sizes are replaced by those of the start.
        starts: name -> network, and the file it came from.

    Raises:
        UsageError: fewer than two starts, or no held-out image.
    """
    if len(starts) < 2:
        raise UsageError(f"{len(starts)} network to start from; wanted two or more to compare")
    train, held = data.split()
    if not len(train) or not len(held):
        raise UsageError(
            f"{len(train)} images to train on, {len(held)} held out; give more of them"
        )
    arms = []
    for name, (start, path) in starts.items():
        if start.config.vision.size != data.size:
            raise UsageError(
                f"{name}: reads images of {start.config.vision.size} pixels; the others of "
                f"{data.size}: compare networks of one size"
            )
        stem = recipe.keep_stem and start.config.vision.stem is not None
        own = replace(recipe, config=start.config, keep_stem=stem)
        arms.append(Arm(name, own, train, start, digest_of(path)))
    return arms, {"held out": held}


def size_arms(
    data: Captioned, recipe: FlipRecipe, shares: Sequence[float], start: Flip | None, digest: str
) -> tuple[list[Arm], dict[str, Captioned]]:
    """An arm for each share of the images, each with as many steps, and the test.

    The smaller sets lie in the larger ones; which images they hold follows from the names.

    Raises:
        UsageError: a share is not between 0 and 1, or leaves less than a batch.
    """
    train, held = data.split()
    if not len(train) or not len(held):
        raise UsageError(
            f"{len(train)} images to train on, {len(held)} held out; give more of them"
        )
    order = train.face_keys().argsort().tolist()
    arms = []
    for share in sorted({*shares}):
        if not 0 < share <= 1:
            raise UsageError(f"share {share:g}; wanted more than 0, at most 1")
        count = round(share * len(train))
        if count < recipe.batch:
            raise UsageError(
                f"share {share:g} is {count} images, less than a batch of {recipe.batch}; give "
                "more images, or a larger share"
            )
        arms.append(Arm(str(count), recipe, train.select(sorted(order[:count])), start, digest))
    return arms, {"held out": held}


def power_law(counts: Sequence[float], errors: Sequence[float]) -> tuple[float, float, float]:
    """The law error = a * count ^ -b, by least squares of logarithms.

    Args:
        counts: numbers of images.
        errors: above 0, such as 1 - R@10.

    Returns:
        a, b and the coefficient of determination R².

    Raises:
        UsageError: fewer than two counts, or an error of 0.
    """
    if len({*counts}) < 2 or min(errors) <= 0:
        raise UsageError("a law needs two or more sizes with errors above 0")
    x, y = np.log(np.asarray(counts, float)), np.log(np.asarray(errors, float))
    slope, base = np.polyfit(x, y, 1)
    rest = y - (base + slope * x)
    total = ((y - y.mean()) ** 2).sum()
    return float(np.exp(base)), float(-slope), float(1 - (rest**2).sum() / total if total else 1.0)
