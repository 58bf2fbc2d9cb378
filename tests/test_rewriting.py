"""A language model rewrites captions: what keeps the facts is taken, all else is refused."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from annotate.grammar.compose import Grammar
from annotate.grammar.facts import Facts
from annotate.grammar.paraphrase import paraphrase
from annotate.grammar.statistics import flesch, mtld, statistics
from annotate.rewrite import Rewrite
from annotate.rewriting.endpoint import KEY, Endpoint
from annotate.rewriting.rewrite import faults, rewrite
from sfhq.errors import SfhqError, UsageError
from sfhq.parts.part import Part
from sfhq.parts.records import FaceRecord

FACTS: Facts = {"Male": True, "age": "older", "Gray_Hair": True, "Eyeglasses": True}


class Server(ThreadingHTTPServer):
    """Speaks the protocol; answers what it is given, in turn, the last one for ever."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: list[Any] = []
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(body)
        self.server.keys.append(self.headers.get("Authorization"))
        answers = self.server.answers
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if callable(answer):
            answer = answer(body["messages"][-1]["content"])
        if isinstance(answer, int):
            self.send_response(answer)
            if answer == 302:
                self.send_header("Location", "http://127.0.0.1:1/elsewhere")
            data = b""
        else:
            self.send_response(200)
            if isinstance(answer, bytes):
                data = answer
            else:
                data = json.dumps({"choices": [{"message": {"content": answer}}]}).encode()
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def endpoint(server: Server, **changes: Any) -> Endpoint:
    return Endpoint(server.url, "toy", sleep=lambda _: None, **changes)


GOOD = "An older man with gray hair, who also wears eyeglasses."


def test_a_good_answer_is_taken(server: Server) -> None:
    caption = Grammar().caption(FACTS, 1)
    server.answers = [f'  "{GOOD}"\n']
    done = rewrite(caption.text, caption.said, endpoint(server).ask)
    assert done.text == GOOD and done.changed and done.refused == ()
    assert server.asked[0]["model"] == "toy" and server.asked[0]["messages"][1]["content"] == (
        caption.text
    )


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ("An older man with gray hair.", "Eyeglasses True is missing"),
        ("An older man with gray hair and blue eyes wears eyeglasses.", "'blue' says nothing"),
        ("An older smiling man with gray hair wears eyeglasses.", "Smiling True is added"),
        ("An older woman with gray hair wears eyeglasses.", "Male True is missing"),
        ("", "empty"),
        ("gray " * 70, "70 words"),
        ("Sure! Here is the paragraph: an older man", "says nothing that is known"),
    ],
)
def test_other_answers_are_refused_and_asked_for_again(
    server: Server, answer: str, why: str
) -> None:
    caption = Grammar().caption(FACTS, 1)
    server.answers = [answer]
    done = rewrite(caption.text, caption.said, endpoint(server).ask)
    assert done.text == caption.text and not done.changed
    assert len(done.refused) == 3 == len(server.asked) and all(why in r for r in done.refused)
    assert len({body["seed"] for body in server.asked}) == 3
    server.answers = [answer, GOOD]
    done = rewrite(caption.text, caption.said, endpoint(server).ask)
    assert done.text == GOOD and len(done.refused) == 1


def test_answers_are_kept(server: Server, tmp_path: Path) -> None:
    server.answers = ["one", "two"]
    cache = tmp_path / "audit" / "rewrite.sqlite"
    chat = [{"role": "user", "content": "hello"}]
    assert endpoint(server, cache=cache).ask(chat, 0) == "one"
    assert endpoint(server, cache=cache).ask(chat, 0) == "one"
    assert len(server.asked) == 1
    assert endpoint(server, cache=cache).ask(chat, 1) == "two"  # another seed is another question


def test_a_server_that_is_busy_is_asked_again(server: Server) -> None:
    server.answers = [429, 503, b"not JSON", b'{"error": 1}', "done"]
    waited: list[float] = []
    asking = Endpoint(server.url, "toy", sleep=waited.append)
    assert asking.ask([], 0) == "done"
    assert len(server.asked) == 5 and waited == [1.0, 4.0, 15.0, 60.0]


@pytest.mark.parametrize(("answer", "asked"), [(401, 1), (404, 1), (302, 1), (500, 5)])
def test_a_server_that_refuses_is_named(server: Server, answer: int, asked: int) -> None:
    server.answers = [answer]
    with pytest.raises(SfhqError, match=rf"no answer from the model toy \(HTTP {answer}\)"):
        endpoint(server).ask([], 0)
    assert len(server.asked) == asked


def test_a_server_that_is_not_there() -> None:
    asking = Endpoint("http://127.0.0.1:1/v1", "toy", sleep=lambda _: None)
    with pytest.raises(SfhqError, match="run the same command again: answers so far are kept"):
        asking.ask([], 0)
    for url in ("localhost:8000", "file:///etc/passwd", "http://"):
        with pytest.raises(UsageError, match="wanted an address such as"):
            Endpoint(url, "toy")


def test_the_key_is_sent(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.answers = ["x"]
    monkeypatch.delenv(KEY, raising=False)
    endpoint(server).ask([], 0)
    monkeypatch.setenv(KEY, "secret")
    endpoint(server).ask([], 0)
    assert server.keys == [None, "Bearer secret"]


def test_the_limit_of_requests_is_kept(server: Server) -> None:
    server.answers = ["x"]
    waited: list[float] = []
    asking = Endpoint(server.url, "toy", per_minute=60, sleep=waited.append)
    for seed in range(4):
        asking.ask([], seed)
    assert len(waited) == 3 and waited == sorted(waited) and 2.0 < waited[-1] <= 3.0


def test_a_run_that_ends_early_asks_nothing_more(tmp_path: Path) -> None:
    """Of 12 faces with 4 at a time: after an error only what is under way is waited for."""
    caption = Grammar().caption(FACTS, 1)
    about = {"caption": caption.text, "caption_facts": json.dumps(caption.said)}
    faces = [FaceRecord(str(i), about=about) for i in range(12)]
    numbers, asked = count(), []
    failed, others = threading.Event(), threading.Barrier(4)

    def ask(messages: list[dict[str, str]], seed: int) -> str:
        number = next(numbers)
        asked.append(number)
        if number < 4:
            others.wait(30)  # all four are under way
        if number == 4:
            failed.set()
            raise SfhqError("no answer")
        if number > 4:  # beside the one that fails; the first face is among those, or waits longer
            assert failed.wait(30)
            time.sleep(0.2)
        return "This is no caption."

    with pytest.raises(SfhqError, match="no answer"):
        list(Rewrite(ask, "toy", parallel=4)(faces, Part.create(tmp_path / "part")))
    assert len(asked) <= 8, "four, the one that failed, and three that were under way"


def test_paraphrases_keep_the_facts() -> None:
    grammar = Grammar()
    for seed in range(50):
        caption = grammar.caption(FACTS | {"Bushy_Eyebrows": True}, seed)
        again = paraphrase(caption.text, seed)
        assert again.text != caption.text and again == paraphrase(caption.text, seed)
        assert not faults(again.text, caption.said)
    with pytest.raises(UsageError, match="cannot be read: 'blue' says nothing"):
        paraphrase("A man has blue hair.", 0)
    with pytest.raises(UsageError, match="nothing to say"):
        paraphrase("", 0)


class TestStatistics:
    def test_figures_of_known_texts(self) -> None:
        found = statistics(["A man has big lips.", "A man has big lips.", "She smiles. He waits."])
        assert found.captions == 3 and found.words == pytest.approx(14 / 3)
        assert found.sentences == pytest.approx(4 / 3) and found.types == 9
        assert found.distinct_1 == pytest.approx(9 / 14)
        assert found.distinct_4 == pytest.approx(3 / 5) and found.unique_4grams["1"] == 3
        assert found.repeated == pytest.approx(1 / 3)
        assert found.groups["features"] == pytest.approx(2 / 3)
        with pytest.raises(ValueError, match="no captions"):
            statistics([])

    def test_mtld_of_known_words(self) -> None:
        assert mtld(["a"] * 100) == pytest.approx(2.0)  # each second word ends a stretch
        assert mtld([str(i) for i in range(100)]) == 100.0
        assert mtld([]) == 0.0

    def test_flesch_of_a_known_sentence(self) -> None:
        # 6 words, 1 sentence, 6 syllables
        assert flesch(["The cat sat on the mat."]) == pytest.approx(206.835 - 1.015 * 6 - 84.6)
        assert flesch(["Internationalisation necessitates deliberation."]) < 0
