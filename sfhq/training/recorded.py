"""Record what a training step does on a GPU, and replay it with one launch.

A step launches thousands of small kernels; on a fast GPU, launching them takes longer than running
them. A CUDA graph launches all of them at once. SFHQ_GRAPHS=0 in the environment launches them one
by one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Iterator
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")
WARM_UP = 3  # calls before recording: libraries choose their kernels, optimisers make their state


class _Recording(NamedTuple):
    graph: torch.cuda.CUDAGraph
    batch: Any
    results: Any


class Recorded:
    """A function that runs as it is on the CPU, and is recorded on a GPU.

    The function reads its batch and whatever it keeps itself, and always launches the same kernels
    for a key. It must not wait for the device or copy from or to it. It may call `backward`, if it
    removes the gradients first, and step optimisers that are `capturable`.

    Args:
        function: takes a batch of tensors on the device.
        device: where it runs.
    """

    def __init__(self, function: Callable[[Any], T], device: torch.device) -> None:
        self.function, self.device = function, device
        self.key: Hashable = None
        self.calls = 0
        self.recording: _Recording | None = None

    def __call__(self, batch: Any, key: Hashable = ()) -> Any:
        """The function's results for a batch.

        On a GPU they are overwritten by the next call.

        Args:
            batch: a tensor, or (named) tuples of tensors and other values, on any device.
            key: what else the function depends on; another key is recorded anew. Values in the
                batch that are no tensors belong to it.
        """
        if self.device.type != "cuda" or os.environ.get("SFHQ_GRAPHS") == "0":
            return self.function(to_device(batch, self.device))
        if key != self.key:
            self.key, self.calls, self.recording = key, 0, None
        self.calls += 1
        if self.calls <= WARM_UP:
            return self.function(to_device(batch, self.device))
        if self.recording is None:
            kept = to_device(batch, self.device)
            torch.cuda.synchronize(self.device)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                results = self.function(kept)
            self.recording = _Recording(graph, kept, results)
        else:
            for ours, theirs in zip(
                tensors_of(self.recording.batch), tensors_of(batch), strict=True
            ):
                ours.copy_(theirs, non_blocking=True)
        self.recording.graph.replay()
        return self.recording.results


def tensors_of(value: object) -> Iterator[Tensor]:
    """The tensors in (named) tuples, in order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple):
        for part in value:
            yield from tensors_of(part)


def to_device(value: T, device: torch.device) -> T:
    """(Named) tuples with their tensors on a device."""
    result: Any = value
    if isinstance(value, Tensor):
        result = value.to(device, non_blocking=True)
    elif isinstance(value, tuple):
        parts = [to_device(part, device) for part in value]
        result = type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    return result  # type: ignore[no-any-return]
