"""Measure captions: speed, truth, English, and variety beside templates.

    python benchmarks/captions.py speed
    python benchmarks/captions.py truth --count 1000000    # read back by the parser and the rules
    python benchmarks/captions.py variety                  # beside two kinds of templates
    python benchmarks/captions.py variety --texts prompts.csv --column prompt

People are drawn at random: each attribute is known for a quarter of them, sex for nine tenths. A
person is drawn once and described once, so repeats come from the words, not from the people.
"""

from __future__ import annotations

import argparse
import csv
import random
import statistics as numbers
import time
from pathlib import Path

from annotate.grammar.compose import Grammar
from annotate.grammar.english import broken_rules
from annotate.grammar.facts import (
    GROUP_OF,
    JUDGEMENTS,
    VALUES,
    Facts,
    without_contradictions,
    worth_saying,
)
from annotate.grammar.parse import Parser, differences
from annotate.grammar.statistics import statistics
from annotate.grammar.templates import DIALOG, dialog_style, single_template


def people(count: int, seed: int = 0) -> list[Facts]:
    """Random facts of which something can be said."""
    rng = random.Random(seed)
    found: list[Facts] = []
    while len(found) < count:
        facts: Facts = {}
        for name in GROUP_OF:
            if name not in JUDGEMENTS and rng.random() < (0.9 if name == "Male" else 0.25):
                facts[name] = rng.choice(VALUES[name]) if name in VALUES else rng.random() < 0.75
        facts, _ = without_contradictions(facts, {name: rng.random() for name in facts})
        if worth_saying(facts, negations=False):
            found.append(facts)
    return found


def speed(rounds: int) -> None:
    """Captions per second of CPU time on one core, with and without the parser."""
    some, grammar, parser = people(5000), Grammar(), Parser()
    plain, checked, facts = [], [], []
    for turn in range(rounds + 1):
        started = time.process_time()
        made = [grammar.caption(person, f"{turn}:{i}") for i, person in enumerate(some)]
        written = time.process_time()
        wrong = sum(bool(differences(c.said, parser.read(c.text))) for c in made)
        read = time.process_time()
        if turn:
            plain.append(len(made) / (written - started))
            checked.append(len(made) / (read - started))
            facts += [len(c.said) for c in made]
        assert not wrong
    print(f"{numbers.median(plain):.0f} captions/s, {numbers.median(checked):.0f} with the parser")
    print(f"{numbers.mean(facts):.1f} facts per caption; medians of {rounds} rounds")


def truth(count: int) -> None:
    """Captions whose facts the parser does not find, or whose English breaks a rule."""
    parser, wrong, broken, made, missing, added = Parser(), 0, 0, 0, 0, 0
    for block in range(-(-count // 50_000)):
        grammar = Grammar(negations=block % 2 == 1)
        for i, facts in enumerate(people(5000, seed=1000 + block)):
            for turn in range(10):
                if made == count:
                    break
                caption = grammar.caption(facts, f"{block}:{i}:{turn}")
                made += 1
                found = differences(caption.said, parser.read(caption.text))
                missing += any("is missing" in f for f in found)
                added += any("is added" in f for f in found)
                wrong += bool(found)
                broken += bool(broken_rules(caption.text))
    print(f"{made} captions: {wrong} misread ({missing} miss a fact, {added} add one)")
    print(f"{broken} break a rule of English")


def variety(count: int, texts: Path | None, column: str) -> None:
    """Figures of captions of the same people, and of other texts."""
    some, grammar = people(count), Grammar()
    sets = {
        "grammar": [grammar.caption(person, i).text for i, person in enumerate(some)],
        "single template": [single_template(person, i) for i, person in enumerate(some)],
        "CelebA-Dialog's form": [dialog_style(person, i) for i, person in enumerate(some)],
    }
    few = [{n: p[n] for n in ("Male", *DIALOG) if n in p} for p in some]
    few = [p for p in few if worth_saying(p, negations=False)]
    sets["grammar, those five attributes"] = [grammar.caption(p, i).text for i, p in enumerate(few)]
    if texts is not None:
        with open(texts, newline="") as file:
            sets[f"{texts.name}: {column}"] = [row[column] for row in csv.DictReader(file)]
    for name, captions in sets.items():
        found = statistics(captions)
        print(name)
        print(f"  captions {found.captions}, repeated {100 * found.repeated:.1f} %")
        print(f"  words {found.words:.1f}, sentences {found.sentences:.1f}, types {found.types}")
        print(f"  unique 4-grams {found.unique_4grams}")
        distinct = (found.distinct_1, found.distinct_2, found.distinct_4)
        print("  distinct 1, 2, 4:", *(f"{share:.4f}" for share in distinct))
        print(f"  MTLD {found.mtld:.1f}, Flesch {found.flesch:.1f}")


def main() -> None:
    """Run the measurement that was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("what", choices=["speed", "truth", "variety"])
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--texts", type=Path, help="CSV of other texts to compare with")
    parser.add_argument("--column", default="prompt")
    options = parser.parse_args()
    if options.what == "speed":
        speed(options.rounds)
    elif options.what == "truth":
        truth(options.count)
    else:
        variety(options.count, options.texts, options.column)


if __name__ == "__main__":
    main()
