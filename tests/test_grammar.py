"""Captions say what is known, all of it and nothing else, in good English, with exact odds."""

from __future__ import annotations

import math
import random
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from annotate.grammar.choices import Draw, Repeat, shuffled, table
from annotate.grammar.compose import Grammar, clauses, listed, with_article
from annotate.grammar.english import broken_rules
from annotate.grammar.facts import (
    EXCLUSIVE,
    GROUP_OF,
    STATEMENTS,
    VALUES,
    Facts,
    Statement,
    contradictions,
    without_contradictions,
    worth_saying,
)
from annotate.grammar.known import age_of, from_looks, from_truth
from annotate.grammar.lexicon import RANK, THINGS, WAYS
from annotate.grammar.parse import HARMLESS, Parser, differences
from sfhq.errors import UsageError

PARSER = Parser()
WORDS = (
    *("a", "an", "the", "is", "are", "has", "no", "man", "she", "black", "hair", "eyes", "big"),
    *("wearing", "hat", ",", ".", "and", "photo", "this"),
)


def people(count: int, seed: int = 0) -> list[Facts]:
    """Random facts without contradictions, of which something can be said."""
    rng = random.Random(seed)
    found: list[Facts] = []
    while len(found) < count:
        facts: Facts = {}
        for name in GROUP_OF:
            if rng.random() < {"Male": 0.9, "age": 0.6}.get(name, 0.25):
                facts[name] = rng.choice(VALUES[name]) if name in VALUES else rng.random() < 0.75
        facts, _ = without_contradictions(facts, {n: rng.random() for n in facts})
        if worth_saying(facts, negations=False):
            found.append(facts)
    return found


class TestFacts:
    def test_every_statement_can_be_said(self) -> None:
        nouns: set[Statement] = {("Male", v) for v in (True, False)}
        nouns |= {("age", a) for a in ("baby", "child", "teenager", "young adult")}
        assert set(WAYS) | nouns == STATEMENTS
        for ways in WAYS.values():
            for way in ways:
                assert (way.form == "of") == (way.thing in THINGS)
                assert way.form not in ("of", "adj") or way.words in RANK
                assert (way.form == "verb") == bool(way.plural)

    def test_contradictions(self) -> None:
        facts: Facts = {"Black_Hair": True, "Blond_Hair": True, "age": "older", "Young": True}
        assert len(contradictions(facts)) == 2
        assert not contradictions({"Black_Hair": True, "Blond_Hair": False})
        stay, gone = without_contradictions(facts, {"Blond_Hair": 0.9, "Black_Hair": 0.8})
        assert stay == {"Blond_Hair": True, "Young": True} and gone == ["Black_Hair", "age"]
        assert list(stay) == ["Blond_Hair", "Young"]

    def test_the_surest_fact_stays_and_what_it_excludes_goes(self) -> None:
        for facts in people(200, seed=4):
            assert not contradictions(facts)
        for pair in EXCLUSIVE:
            (a, x), (b, y) = sorted(pair, key=str)
            stay, gone = without_contradictions({a: x, b: y}, {a: 1.0})
            assert stay == {a: x} and gone == [b]

    def test_what_is_not_worth_saying(self) -> None:
        woman: Facts = {"Male": False, "No_Beard": True, "Bangs": False, "Attractive": True}
        assert worth_saying(woman, negations=False) == {"Male": False}
        said = worth_saying(woman, negations=True, judgements=True)
        assert said == {"Male": False, "Bangs": False, "Attractive": True}
        dark: Facts = {"Black_Hair": True, "Blond_Hair": False, "Wavy_Hair": False}
        assert worth_saying(dark, negations=True) == {"Black_Hair": True, "Wavy_Hair": False}
        assert worth_saying({"age": "young adult"}, negations=False) == {"Young": True}

    @pytest.mark.parametrize(
        ("facts", "says"),
        [
            ({"Blue_Hair": True}, "'Blue_Hair' is no attribute"),
            ({"Bangs": "yes"}, "Bangs is 'yes'; wanted one of True, False"),
            ({"Bangs": 1}, "Bangs is 1; wanted one of True, False"),
            ({"age": "ancient"}, "age is 'ancient'; wanted one of baby"),
            ({"Bald": True, "Bangs": True}, "they contradict each other: drop one"),
            ({}, "nothing to say"),
            ({"Attractive": True}, "nothing to say"),
        ],
    )
    def test_bad_facts(self, facts: dict[str, Any], says: str) -> None:
        with pytest.raises(UsageError, match=says):
            Grammar().caption(facts, 0)


class TestGrammar:
    @pytest.mark.parametrize("negations", [False, True])
    def test_captions_say_their_facts_and_nothing_else(self, negations: bool) -> None:
        grammar = Grammar(negations, judgements=True)
        for seed, facts in enumerate(people(1500, seed=int(negations))):
            caption = grammar.caption(facts, seed)
            wrong = differences(caption.said, PARSER.read(caption.text))
            assert not wrong, f"{caption.text} {wrong}"
            assert not broken_rules(caption.text), caption.text
            assert caption.said == worth_saying(facts, negations, judgements=True)

    def test_a_seed_gives_one_caption_and_a_derivation_gives_it_again(self) -> None:
        grammar = Grammar(negations=True)
        for seed, facts in enumerate(people(100, seed=2)):
            made = grammar.caption(facts, seed)
            assert made == grammar.caption(facts, seed) == grammar.repeat(facts, made.derivation)
            assert made.log_probability < 0
        texts = {grammar.caption(facts, s).text for s in range(20)}
        assert len(texts) > 10

    def test_probabilities_are_exact(self) -> None:
        """All derivations of small facts, walked through: they sum to 1, and are drawn as often."""
        grammar = Grammar()
        facts: Facts = {"Male": True, "Smiling": True, "Big_Nose": True}
        found: dict[tuple[int, ...], float] = {}
        waiting: list[tuple[int, ...]] = [()]
        while waiting:
            start = waiting.pop()
            walk = Walk(start)
            made = grammar._compose(facts, walk)
            found[made.derivation] = made.log_probability
            waiting += walk.others
        assert math.fsum(map(math.exp, found.values())) == pytest.approx(1.0, abs=1e-12)
        drawn = Counter(grammar.caption(facts, s).derivation for s in range(4000))
        assert set(drawn) <= set(found)
        likely = max(found, key=found.__getitem__)
        expected = 4000 * math.exp(found[likely])
        assert abs(drawn[likely] - expected) < 5 * math.sqrt(expected)

    def test_several_captions_have_no_repeats(self) -> None:
        grammar = Grammar()
        facts = people(1, seed=9)[0]
        made = grammar.captions(facts, "7:f0001", 50)
        assert len({c.text for c in made}) == len(made) == 50
        few = grammar.captions({"Male": True}, 0, 1000)  # no more than there are
        assert 1 < len(few) == len({c.text for c in few}) < 20

    def test_most_limits_what_is_said(self) -> None:
        for seed, facts in enumerate(people(200, seed=5)):
            caption = Grammar(most=3).caption(facts, seed)
            assert len(caption.said) <= 3
            assert not differences(caption.said, PARSER.read(caption.text))

    @pytest.mark.parametrize("choices", [(99,), (), (0,) * 200])
    def test_a_derivation_of_other_facts_is_refused(self, choices: tuple[int, ...]) -> None:
        with pytest.raises(UsageError, match="derivation: "):
            Grammar().repeat({"Male": True, "Big_Nose": True}, choices)

    def test_lists(self) -> None:
        assert listed(["a"]) == "a" and listed(["a", "b", "c"]) == "a, b and c"
        assert clauses(["has a and b", "is c"]) == "has a and b, and is c"
        assert with_article("older man") == "an older man" and with_article("hat") == "a hat"

    def test_orders_are_even(self) -> None:
        seen = Counter(
            tuple(shuffled(Draw(random.Random(i).random), list("abc"))) for i in range(6000)
        )
        assert len(seen) == 6 and all(800 < n < 1200 for n in seen.values())
        assert table([1, 3]).until == (0.25, 1.0)
        assert Repeat([1]).pick(table([1, 3])) == 1


class Walk:
    """Follows a start and then takes the first of each choice; `others` are the ways not taken."""

    def __init__(self, start: tuple[int, ...]) -> None:
        self.start = start
        self.made: list[int] = []
        self.log_probability = 0.0
        self.others: list[tuple[int, ...]] = []

    def pick(self, weights: Any) -> int:
        place = len(self.made)
        index = self.start[place] if place < len(self.start) else 0
        if place >= len(self.start):
            so_far = tuple(self.made)
            self.others += [(*so_far, other) for other in range(1, len(weights.logs))]
        self.made.append(index)
        self.log_probability += weights.logs[index]
        return index


class TestParser:
    @pytest.mark.parametrize(
        ("text", "facts"),
        [
            (
                "An older man with gray hair, who is smiling.",
                {"Male": True, "age": "older", "Gray_Hair": True, "Smiling": True},
            ),
            (
                "Her brows are thick. She wears no hat.",
                {"Male": False, "Bushy_Eyebrows": True, "Wearing_Hat": False},
            ),
            (
                "This is a blurry photo of a baby boy.",
                {"Blurry": True, "Male": True, "age": "baby"},
            ),
            ("A woman has dark skin and is young.", {"Male": False, "skin": "dark", "Young": True}),
        ],
    )
    def test_reads_sentences(self, text: str, facts: Facts) -> None:
        reading = Parser(HARMLESS).read(text)
        assert reading.problems == [] and reading.facts == facts

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("A man has blue hair.", "'blue' says nothing that is known"),
            ("A man has hair.", "'hair' is named and not described"),
            ("A man has pointy hair.", "'pointy' describes hair"),
            ("A man is bald. She is smiling.", "Male is said to be True and False"),
            ("A man is bushy.", "'bushy' describes person"),
            ("A man has no dog.", "'no' says nothing that is known"),
            ("Un homme porte un chapeau.", "'un' says nothing that is known"),
        ],
    )
    def test_says_what_it_cannot_read(self, text: str, says: str) -> None:
        assert says in PARSER.read(text).problems

    def test_a_changed_caption_is_noticed(self) -> None:
        """A word less, or one of another caption instead, is a difference."""
        rng = random.Random(3)
        grammar = Grammar()
        noticed = total = 0
        for seed, facts in enumerate(people(200, seed=7)):
            caption = grammar.caption(facts, seed)
            other = grammar.caption(facts | {"Chubby": True}, seed)
            if other.said != caption.said:
                total += 1
                noticed += bool(differences(caption.said, PARSER.read(other.text)))
            words = caption.text.split(" ")
            drop = rng.randrange(len(words))
            rest = " ".join(words[:drop] + words[drop + 1 :])
            reading = PARSER.read(rest)
            if not differences(caption.said, reading):
                assert reading.facts == caption.said  # only a function word went
        assert total > 50 and noticed == total

    @settings(
        max_examples=500,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.text(max_size=300) | st.lists(st.sampled_from(WORDS), max_size=40).map(" ".join))
    def test_reads_any_text(self, text: str) -> None:
        for name, value in PARSER.read(text).facts.items():
            assert (name, value) in STATEMENTS

    def test_ten_thousand_words(self) -> None:
        assert PARSER.read("big " * 10_000 + "nose.").facts == {"Big_Nose": True}


def test_the_example_of_the_page_runs() -> None:
    page = (Path(__file__).parent.parent / "docs" / "captions.md").read_text()
    (block,) = re.findall(r"```python\n(.*?)```", page, re.S)
    exec(block, {})
    quoted = " ".join(re.findall(r"^> (.*)$", page, re.M))
    read = PARSER.read(quoted)
    assert not read.problems and len(read.facts) == 9


class TestEnglish:
    @pytest.mark.parametrize(
        ("text", "rule"),
        [
            ("A older man.", "a before a vowel"),
            ("An man.", "an before a consonant"),
            ("She has has bangs.", "a word twice"),
            ("They is bald.", "they with a singular verb"),
            ("She have bangs.", "singular with a plural verb"),
            ("Her eyes is narrow.", "plural thing with is"),
            ("Her nose are big.", "single thing with are"),
            ("She has big nose.", "article missing"),
            ("She has a narrow eyes.", "article of a plural"),
            ("she smiles.", "small letter at the start"),
            ("She smiles", "no period at the end"),
            ("She smiles , and waits.", "spaces"),
            ("A man smiles. She waits.", "pronoun of another noun"),
            ("He smiles. Her nose is big.", "two kinds of pronouns"),
        ],
    )
    def test_rules(self, text: str, rule: str) -> None:
        assert rule in broken_rules(text)


class TestKnown:
    def test_looks_become_facts(self) -> None:
        about = {
            "attributes_present": "Smiling, Cap, Full_Beard, Young, Black_Hair",
            "attributes_absent": "Bangs",
            "male": 0.99,
            "years": 41.0,
            "skin_tone": "brown",
            "hair_length": "short",
            "glasses": "sunglasses",
            "yaw": -40.0,
            "pitch": 3.0,
            "gaze_yaw": 1.0,
            "gaze_pitch": -2.0,
        }
        facts, certain = from_looks(about, {"Smiling": 0.97, "Black_Hair": 0.9})
        assert facts == {
            **{"Smiling": True, "Wearing_Hat": True, "No_Beard": False, "Black_Hair": True},
            **{"Bangs": False, "Male": True, "age": "middle-aged", "skin": "brown"},
            **{"hair_length": "short", "Sunglasses": True, "head": "left", "gaze": "camera"},
        }
        assert certain["Smiling"] == 0.97 and set(certain) == set(facts)

    def test_what_is_not_sure_is_unknown(self) -> None:
        about = {"male": 0.6, "years": None, "skin_tone": "intermediate", "hair_length": "hidden"}
        assert from_looks(about, {}) == ({}, {})
        assert from_looks({"years": math.nan, "male": 0.02}, {})[0] == {"Male": False}

    def test_truth_becomes_facts(self) -> None:
        params = {
            "attributes": {"Male": False, "Young": True, "Attractive": None, "Eyeglasses": True},
            "details": {"years": 8.0, "glasses": "sunglasses", "yaw": 30.0, "pitch": 0.0},
        }
        assert from_truth(params) == {
            **{"Male": False, "Eyeglasses": False, "Sunglasses": True},
            **{"age": "child", "head": "right"},
        }
        for ita, style, length, hat, wanted in (
            (50.0, "bob", 1.0, "none", {"skin": "light", "hair_length": "medium"}),
            (30.0, "bald", 0.0, "none", {}),
            (12.0, "crop", 0.4, "cap", {"skin": "tan"}),
            (-20.0, "wavy", 1.9, "cap", {"skin": "brown", "hair_length": "long"}),
            (-40.0, "swept-back", 0.9, "none", {"skin": "dark", "hair_length": "short"}),
            (35.0, "tied", 1.8, "none", {}),
        ):
            looks = {"ita": ita, "hair_style": style, "hair_length": length, "hat": hat}
            assert from_truth({"attributes": {}, "details": looks}) == wanted
        assert [age_of(y) for y in (0, 2, 12.9, 13, 34, 35, 60, 70)] == [
            *("baby", "child", "child", "teenager", "young adult", "middle-aged", "older"),
            "elderly",
        ]
