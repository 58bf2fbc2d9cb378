"""What the processes of one training tell each other."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


class _Gather(torch.autograd.Function):
    """The rows of all processes; a row's gradient is the sum of those in all of them."""

    @staticmethod
    def forward(ctx: Any, mine: Tensor) -> Tensor:
        """(n, ...) of each process to (processes * n, ...)."""
        ctx.count = len(mine)
        return _all_rows(mine)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        """The gradient of this process's rows."""
        summed = gradient.contiguous().clone()
        dist.all_reduce(summed)
        start = dist.get_rank() * ctx.count
        return summed[start : start + ctx.count]


def _all_rows(mine: Tensor) -> Tensor:
    rows = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
    dist.all_gather(rows, mine.contiguous())
    return torch.cat(rows)


@dataclass(frozen=True)
class Processes:
    """This process among those that train together.

    Attributes:
        rank: its number, from 0.
        count: how many there are; 1 needs no `torch.distributed`.
    """

    rank: int = 0
    count: int = 1

    def rows(self, mine: Tensor) -> Tensor:
        """(n, ...) of each process to (count * n, ...), without gradients."""
        return mine.detach() if self.count == 1 else _all_rows(mine.detach())

    def rows_with_gradients(self, mine: Tensor) -> Tensor:
        """As `rows`; gradients reach the process that the rows come from."""
        if self.count == 1:
            return mine
        gathered: Tensor = _Gather.apply(mine.float())
        return gathered.to(mine.dtype)

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace gradients by their mean over all processes."""
        if self.count == 1:
            return
        gradients = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([g.flatten() for g in gradients])
        dist.all_reduce(flat)
        flat /= self.count
        for gradient, part in zip(
            gradients, flat.split([g.numel() for g in gradients]), strict=True
        ):
            gradient.copy_(part.view_as(gradient))

    def average(self, values: Tensor) -> Tensor:
        """The mean of a tensor over all processes."""
        if self.count == 1:
            return values
        summed = values.clone()
        dist.all_reduce(summed)
        return summed / self.count

    def goes_on(self, wish: bool, device: torch.device) -> bool:
        """What process 0 wishes; every process calls it before every step."""
        if self.count == 1:
            return wish
        flag = torch.tensor([int(wish)], device=device)
        dist.broadcast(flag, 0)
        return bool(flag.item())

    def leave(self) -> None:
        """End the group of processes."""
        if self.count > 1:
            dist.destroy_process_group()
