"""Ask a language model behind an OpenAI-compatible address, with limits, retries and a cache."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sfhq.errors import SfhqError, UsageError

KEY = "SFHQ_LLM_KEY"  # environment variable of the key
LONGEST = 1_000_000  # bytes of an answer
TRIES = 5
WAITS = (1.0, 4.0, 15.0, 60.0)  # seconds before each further try
AGAIN = (408, 409, 425, 429, 500, 502, 503, 504)


@dataclass
class Endpoint:
    """A chat model.

    Attributes:
        url: address up to the version, such as http://localhost:8000/v1.
        model: name of the model there.
        temperature: of its answers.
        per_minute: most requests in a minute; 0 for no limit.
        timeout: seconds to wait for an answer.
        key: sent as a bearer token; None takes `SFHQ_LLM_KEY` of the environment, if it is set.
        cache: file of answers that were given before; None keeps none.
        sleep: waits; tests replace it.
    """

    url: str
    model: str
    temperature: float = 0.7
    per_minute: int = 0
    timeout: float = 120.0
    key: str | None = None
    cache: Path | None = None
    sleep: Callable[[float], None] = time.sleep
    _next: float = field(default=0.0, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(
                f"endpoint is {self.url!r}; wanted an address such as http://localhost:8000/v1"
            )
        if self.key is None:
            self.key = os.environ.get(KEY)
        if self.cache is not None:
            self.cache.parent.mkdir(parents=True, exist_ok=True)
            with closing(self._open()) as database:
                database.execute("CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, text)")

    def ask(self, messages: list[dict[str, str]], seed: int) -> str:
        """The model's answer to a chat; the same question again is answered from the cache.

        Raises:
            SfhqError: the endpoint does not answer, refuses, or answers no chat.
        """
        body = {
            "model": self.model,
            "messages": messages,
            "temperature": self.temperature,
            "seed": seed,
        }
        data = json.dumps(body, sort_keys=True).encode()
        key = hashlib.sha256(data).hexdigest()
        known = self._known(key)
        if known is None:
            known = self._ask(data)
            self._keep(key, known)
        return known

    def _ask(self, data: bytes) -> str:
        failure = ""
        for attempt in range(TRIES):
            if attempt:
                self.sleep(WAITS[min(attempt - 1, len(WAITS) - 1)])
            self._wait_turn()
            try:
                return _text(self._post(data))
            except urllib.error.HTTPError as error:
                failure = f"HTTP {error.code}"
                error.close()
                if error.code not in AGAIN:
                    break
            except (OSError, ValueError) as error:
                failure = str(getattr(error, "reason", error)) or type(error).__name__
        raise SfhqError(
            f"{self.url}: no answer from the model {self.model} ({failure}); look at the server, "
            "then run the same command again: answers so far are kept"
        )

    def _post(self, data: bytes) -> Any:
        headers = {"Content-Type": "application/json"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        request = urllib.request.Request(
            f"{self.url.rstrip('/')}/chat/completions", data, headers, method="POST"
        )
        opener = urllib.request.build_opener(_NoRedirect)
        with opener.open(request, timeout=self.timeout) as answer:
            return json.loads(answer.read(LONGEST))

    def _wait_turn(self) -> None:
        """Keep to the limit of requests in a minute."""
        if not self.per_minute:
            return
        with self._lock:
            now = time.monotonic()
            mine = max(self._next, now)
            self._next = mine + 60.0 / self.per_minute
        if mine > now:
            self.sleep(mine - now)

    def _open(self) -> sqlite3.Connection:
        return sqlite3.connect(str(self.cache), timeout=60.0)

    def _known(self, key: str) -> str | None:
        if self.cache is None:
            return None
        with closing(self._open()) as database:
            row = database.execute("SELECT text FROM answers WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def _keep(self, key: str, text: str) -> None:
        if self.cache is not None:
            with closing(self._open()) as database, database:
                database.execute("INSERT OR REPLACE INTO answers VALUES (?, ?)", (key, text))


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """The key goes to the address that the user named, and to no other."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _text(answer: Any) -> str:
    try:
        text = answer["choices"][0]["message"]["content"]
    except (KeyError, IndexError, TypeError):
        raise ValueError("the answer is no chat completion") from None
    if not isinstance(text, str):
        raise ValueError("the answer has no text")
    return text
