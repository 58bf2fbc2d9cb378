"""What a part keeps of each person who judges it: the keys they chose."""

from __future__ import annotations

import json
import re
from pathlib import Path
from threading import Lock

from sfhq.errors import UsageError
from sfhq.images import write_atomic
from sfhq.parts.records import Json

MOST_PEOPLE = 1000
NAME = re.compile(r"[a-z]{1,20}", re.ASCII)


class People:
    """Own keys of every person, in one file of the part. Threads may share it.

    Kept here and not in the browser, they are the same on another port and in another browser.

    Args:
        path: the file; it need not exist. A damaged one counts as empty.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = Lock()
        try:
            found = json.loads(path.read_bytes())
        except (OSError, ValueError, RecursionError):
            found = {}
        known = found.items() if isinstance(found, dict) else ()
        self._keys: dict[str, dict[str, list[str]]] = {}
        for name, one in known:
            if isinstance(one, dict) and _sound(one.get("keys")):
                self._keys[name] = one["keys"]

    def names(self) -> list[str]:
        """Everybody who has keys of their own."""
        with self._lock:
            return sorted(self._keys)

    def keys(self, name: str) -> dict[str, list[str]]:
        """Action -> its keys, as a person chose them; empty without a choice."""
        with self._lock:
            return self._keys.get(name, {})

    def set_keys(self, name: str, keys: Json) -> None:
        """Keep the keys of a person; they are on the disk when this returns.

        Args:
            name: who, as `person` gives it.
            keys: action -> list of keys, as browsers name them; empty to forget them.

        Raises:
            UsageError: something else than that.
        """
        if not _sound(keys):
            raise UsageError('keys: wanted an object of lists of keys, such as {"keep": ["a"]}')
        with self._lock:
            changed = {**self._keys, name: keys} if keys else {**self._keys}
            if not keys:
                changed.pop(name, None)
            if len(changed) > MOST_PEOPLE:
                raise UsageError(f"keys of more than {MOST_PEOPLE} people")
            data = json.dumps(
                {n: {"keys": k} for n, k in changed.items()}, sort_keys=True, indent=1
            )
            self.path.parent.mkdir(exist_ok=True)
            write_atomic(self.path, f"{data}\n".encode())
            self._keys = changed


def _sound(keys: object) -> bool:
    return (
        isinstance(keys, dict)
        and len(keys) <= 40
        and all(NAME.fullmatch(action) for action in keys)
        and all(isinstance(some, list) and len(some) <= 10 for some in keys.values())
        and all(_key(key) for some in keys.values() for key in some)
    )


def _key(key: object) -> bool:
    return isinstance(key, str) and 0 < len(key) <= 20 and key.isprintable()
