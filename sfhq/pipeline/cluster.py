"""The engine that does shards on a Ray cluster.

Each worker is a Ray actor that unpacks the stage once. It reads and writes the part itself, so the
part's folder must lie on a file system that all machines share, under one path. Only numbers of
shards and counts travel; Ray has nothing large to keep, and so nothing to spill.

This process keeps the books. Ray starts a killed worker again and hands it its shard again; when
this process is killed, Ray ends its workers, and the same command goes on.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import os
import pickle
import re
import signal
import socket
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from sfhq.errors import MissingExtra, SfhqError, UsageError
from sfhq.pipeline.workers import Batch, R, T, unpack

RETRIES = 3  # an item that ends its worker more often ends the run
SLOW = 10  # times the longest item so far: then one that idle workers wait for is given to them
SLOW_SECONDS = 120.0  # and not before
LEAVE_SECONDS = 60.0  # that the workers of an earlier, killed run may take to go
ANSWER_SECONDS = 10.0  # that a cluster may take to answer at all
NAMESPACE = "sfhq"


@dataclass(frozen=True)
class Share:
    """What one worker of a stage takes of a machine.

    Attributes:
        cpus: cores, and threads of its libraries.
        gpus: of CUDA devices; Ray shows the worker no others.
    """

    cpus: float = 1.0
    gpus: float = 0.0


@dataclass(frozen=True)
class Ray:
    """Workers on a Ray cluster.

    Attributes:
        workers: how many; those for which there is room begin.
        address: "host:port" of a running cluster, or "auto"; None starts one on this machine,
            which ends with this process.
        shares: stage -> what a worker of it takes; others take one core. Of stages that run
            together the largest counts.
        slow_seconds: before an item has taken so long it is not given to another worker.
    """

    workers: int = 1
    address: str | None = None
    shares: Mapping[str, Share] = field(default_factory=dict)
    slow_seconds: float = SLOW_SECONDS
    spreads: ClassVar[bool] = True

    def __post_init__(self) -> None:
        connect_module()

    def each(self, batch: Batch[T, R]) -> None:
        """As `sfhq.pipeline.workers.Engine.each`."""
        todo = iter(batch.items)
        first = next(todo, None)
        if first is None:
            return
        self._connect()
        shares = [self.shares.get(name, Share()) for name in batch.stages]
        share = Share(max(s.cpus for s in shares), max(s.gpus for s in shares))
        _require_room(share, batch.name)
        lease = hashlib.sha256(str(batch.root.resolve()).encode()).hexdigest()[:16]
        _wait_for_earlier(lease, batch.root)
        run = _Run(batch, share, self, lease)
        try:
            run.all(itertools.chain([first], todo))
        finally:
            run.end()

    def _connect(self) -> None:
        ray = connect_module()
        if ray.is_initialized():
            return
        if self.address is not None and "://" in self.address:
            raise UsageError(
                f"--address is {self.address}; wanted host:port of a cluster that this machine "
                "belongs to, or auto: the workers write the part themselves"
            )
        if self.address is not None and self.address != "auto":
            _require_answer(self.address)
        most = max([s.cpus for s in self.shares.values()] + [1.0])
        cores = max(os.cpu_count() or 1, math.ceil(self.workers * most))
        here = {"num_cpus": cores} if self.address is None else {}
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # ask no other host
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        try:
            with _own_signals():
                ray.init(
                    address=self.address or "local",
                    namespace=NAMESPACE,
                    include_dashboard=False if self.address is None else None,
                    log_to_driver=False,
                    logging_level="ERROR",
                    **here,
                )
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            said = " ".join(str(error).split())[:200]
            raise SfhqError(
                f"{self.address or 'this machine'}: no Ray cluster to work on ({said}); start one "
                "with: ray start --head"
            ) from None


def _require_answer(address: str) -> None:
    """Refuse an address where nobody listens; Ray itself would try for many minutes."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise UsageError(
            f"--address is {address}; wanted host:port, such as 10.0.0.1:6379, or auto"
        )
    try:
        socket.create_connection((host, int(port)), ANSWER_SECONDS).close()
    except OSError as error:
        raise SfhqError(
            f"{address}: no Ray cluster answers ({error.strerror or error}); start one with: "
            "ray start --head"
        ) from None


def connect_module() -> Any:
    """The module `ray`.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        import ray
    except ImportError:
        raise MissingExtra("--engine ray", "ray", "ray") from None
    return ray


def shares_of(texts: Iterable[str], known: Iterable[str]) -> dict[str, Share]:
    """Read "STAGE=CPUS" or "STAGE=CPUS:GPUS".

    Raises:
        UsageError: another form, no such stage, or a number out of its limits.
    """
    found = {}
    for text in texts:
        match = re.fullmatch(r"([a-z]+)=(\d{1,4}(?:\.\d{1,4})?)(?::(\d{1,3}(?:\.\d{1,4})?))?", text)
        if match is None or match[1] not in {*known}:
            raise UsageError(
                f"--share is {text!r}; wanted STAGE=CPUS or STAGE=CPUS:GPUS, such as invert=2:0.5"
            )
        share = Share(float(match[2]), float(match[3] or 0))
        if not (share.cpus or share.gpus) or (share.cpus > 1 and share.cpus % 1):
            raise UsageError(
                f"--share is {text!r}; wanted a part of a core, or a whole number of cores"
            )
        found[match[1]] = share
    return found


@contextmanager
def _own_signals() -> Iterator[None]:
    """Ray takes SIGTERM for itself; afterwards it is heard as before."""
    main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if main and before is not None:
            signal.signal(signal.SIGTERM, before)


def _require_room(share: Share, name: str) -> None:
    """Refuse what could only wait for ever: a worker that no machine has room for."""
    nodes = [n["Resources"] for n in connect_module().nodes() if n["Alive"]]
    for what, wanted in (("CPU", share.cpus), ("GPU", share.gpus)):
        most = max((n.get(what, 0.0) for n in nodes), default=0.0)
        if wanted > most:
            raise UsageError(
                f"a worker of {name} wants {wanted:g} {what}, no machine of the Ray cluster has "
                f"more than {most:g}; give a smaller --share, or add a larger machine"
            )
    if not any(n.get("CPU", 0) >= share.cpus and n.get("GPU", 0) >= share.gpus for n in nodes):
        raise UsageError(
            f"a worker of {name} wants {share.cpus:g} CPU and {share.gpus:g} GPU on one machine, "
            "which none of the Ray cluster has; give a smaller --share"
        )


def _wait_for_earlier(lease: str, root: Path) -> None:
    """Wait until Ray has ended the workers of a run of this part that was killed."""
    import ray.util

    end = time.monotonic() + LEAVE_SECONDS
    while any(n["name"].startswith(lease) for n in ray.util.list_named_actors(True)):
        if time.monotonic() > end:
            raise SfhqError(
                f"{root}: workers of an earlier run are still alive in the Ray cluster; "
                "stop that run, then run this again"
            )
        time.sleep(0.05)


class Worker:
    """What an actor holds: the work, unpacked at the first call.

    Args:
        threads: for the work's libraries.
        folder: the working folder of the run, to which relative paths belong.
    """

    def __init__(self, threads: int, folder: str) -> None:
        with suppress(OSError):
            os.chdir(folder)
        self.threads = threads
        self.work: Any = None

    def ready(self, packed: list[Any], path: str) -> str:
        """Unpack the work; digest of a file, or "" where this machine has none.

        Args:
            packed: reference to (n,) uint8, the pickled work, in a list, so that Ray hands over
                the reference; a machine keeps one copy for all its workers.
            path: of the file.
        """
        # No argument of the constructor: those a worker that is started again might not get again.
        if self.work is None:
            data = memoryview(connect_module().get(packed[0]))
            self.work = unpack(data, self.threads)
        return _digest(Path(path))

    def do(self, packed: list[Any], item: Any) -> Any:
        """Do one item; `packed` as in `ready`, for a worker that was started again."""
        self.ready(packed, "")
        return self.work(item)


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""


@dataclass
class _Task:
    """Something that an actor was asked for; `item` is empty while it starts.

    Attributes:
        moved: whether the item was taken from a slow worker before.
        ended: whether this worker was too slow, and has been told to end.
    """

    actor: Any
    item: tuple[Any, ...]
    moved: bool = False
    ended: bool = False
    began: float = field(default_factory=time.monotonic)


class _Run:
    """The workers of one stage, and who is in which item."""

    def __init__(self, batch: Batch[Any, Any], share: Share, engine: Ray, lease: str) -> None:
        self.ray = connect_module()
        self.batch, self.engine, self.share, self.lease = batch, engine, share, lease
        self.packed = [self.ray.put(np.frombuffer(pickle.dumps(batch.work), dtype=np.uint8))]
        # Its digest shows that a worker sees this part: the run has just written this file.
        self.proof = (batch.root / "records" / f"{batch.stages[0]}.json").absolute()
        self.actors: list[Any] = []
        self.tasks: dict[Any, _Task] = {}
        self.longest = 0.0

    def _start(self) -> None:
        """Start one more worker."""
        options = self.ray.remote(Worker).options(
            name=f"{self.lease} {len(self.actors)}",
            num_cpus=self.share.cpus,
            num_gpus=self.share.gpus,
            max_restarts=-1,
            max_task_retries=RETRIES,
        )
        actor = options.remote(max(1, int(self.share.cpus)), str(Path.cwd()))
        self.actors.append(actor)
        self.tasks[actor.ready.remote(self.packed, str(self.proof))] = _Task(actor, ())

    def all(self, items: Iterator[Any]) -> None:
        """Do all items."""
        for _ in range(self.engine.workers):
            self._start()
        idle: list[Any] = []
        waiting: list[Any] = []  # items that have lost their worker
        while True:
            while idle and waiting:
                self._do(idle.pop(), waiting.pop(), moved=True)
            for item in itertools.islice(items, len(idle)):
                self._do(idle.pop(), item)
            if idle and not any(task.item for task in self.tasks.values()):
                return
            ended, _ = self.ray.wait(list(self.tasks), timeout=min(5, self.engine.slow_seconds))
            for ref in ended:
                task = self.tasks.pop(ref)
                if task.ended and self._lost(ref):
                    waiting.append(task.item[0])
                    continue
                result = self._result(ref)
                if not task.ended:
                    idle.append(task.actor)
                if task.item:
                    self.longest = max(self.longest, time.monotonic() - task.began)
                    self.batch.taken(result)
                elif result != _digest(self.proof):
                    raise SfhqError(
                        f"{self.batch.root}: a machine of the Ray cluster does not see this "
                        "folder; put it on a file system that all share, under the same path"
                    )
            if idle and not ended:
                self._end_slow()

    def _do(self, actor: Any, item: Any, moved: bool = False) -> None:
        self.tasks[actor.do.remote(self.packed, item)] = _Task(actor, (item,), moved)

    def _end_slow(self) -> None:
        """End workers that are far slower than all others; each item moves once.

        What such a worker was in goes to another one when Ray says that it has ended, and not
        before: both would write the same files.
        """
        limit = max(SLOW * self.longest, self.engine.slow_seconds)
        for task in list(self.tasks.values()):
            late = task.item and time.monotonic() - task.began > limit
            if late and self.longest and not task.moved and not task.ended:
                task.ended = True
                self.ray.kill(task.actor, no_restart=True)
                self._start()

    def _lost(self, ref: Any) -> bool:
        """Whether a worker ended before it was done."""
        from ray.exceptions import RayActorError

        try:
            self.ray.get(ref)
        except RayActorError:
            return True
        except Exception:
            return False
        return False

    def _result(self, ref: Any) -> Any:
        from ray.exceptions import RayError, RayTaskError

        try:
            return self.ray.get(ref)
        except RayError as error:
            cause = error.cause if isinstance(error, RayTaskError) else None
            missing = re.search(r"No module named '([\w.]+)'", str(cause or error))
            if missing and (cause is None or isinstance(cause, ModuleNotFoundError)):
                raise SfhqError(
                    f"a machine of the Ray cluster has no module {missing[1]}; install the same "
                    "sfhq there: pip install 'sfhq[ray]'"
                ) from None
            if isinstance(error, RayTaskError):  # what the work raised
                raise (cause if isinstance(cause, Exception) else error) from None
            raise SfhqError(
                f"{self.batch.root}: workers of {self.batch.name} died {RETRIES + 1} times in one "
                f"piece of work ({type(error).__name__}), perhaps because memory ran out; run it "
                "again, with a larger --share"
            ) from None

    def end(self) -> None:
        """End all workers; what they were in is done again."""
        for actor in self.actors:
            self.ray.kill(actor, no_restart=True)
