"""Several processes as one: what `torchrun` starts, each with its share of every batch."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["add_up", "barrier", "join_workers", "rank", "world_size"]


def rank() -> int:
    """Return the number of this process, 0 for the one that writes files."""
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    """Return the number of processes that train together, 1 without `torchrun`."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def join_workers() -> None:
    """Meet the other processes: NCCL between GPUs, Gloo between CPUs."""
    if world_size() == 1:
        return
    import torch

    if not torch.distributed.is_initialized():
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        torch.distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")


def barrier() -> None:
    """Wait until every process is here."""
    if world_size() > 1:
        import torch

        join_workers()
        torch.distributed.barrier()


def add_up(tensors: Sequence[Tensor]) -> None:
    """Replace each tensor by its sum over all processes."""
    if world_size() == 1:
        return
    import torch

    join_workers()
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    torch.distributed.all_reduce(flat)
    at = 0
    for tensor in tensors:
        tensor.copy_(flat[at : at + tensor.numel()].view_as(tensor))
        at += tensor.numel()
