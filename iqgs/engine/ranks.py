# SPDX-License-Identifier: Apache-2.0
"""Several processes on one run: sums over all of them, and failures that all of them hear of.

Every process holds all parameters and does the same with them; only the views of a step are dealt
out. A process alone meets nobody: each method is then the identity.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from utils.errors import IQGSError, RunError
from utils.place import Place

Item = TypeVar("Item")

MEETING_WAIT = datetime.timedelta(minutes=5)  # for the last process to start
# The first process may find the identities of all masks while the others wait. That it has died
# they learn at once, from the connection that closes.
LONGEST_WAIT = datetime.timedelta(hours=12)
# On GPUs all have just met when gradients are summed.
GRADIENT_WAIT = datetime.timedelta(minutes=10)


class Ranks:
    """All processes of a run, seen from one of them."""

    def __init__(self, place: Place, words: Any = None, gradients: Any = None) -> None:
        """Process groups of tensors on the host (`words`) and on the device (`gradients`)."""
        self.place = place
        self.rank, self.world = place.rank, place.world
        self.parted = False  # one of them is known to have failed: nobody waits for anybody
        self._words, self._gradients = words, gradients

    @property
    def first(self) -> bool:
        """Whether this one writes the files and speaks."""
        return self.rank == 0

    def share(self, items: Sequence[Item]) -> Sequence[Item]:
        """Those of `items` that are this process's: item i is of process i modulo their number."""
        return items[self.rank :: self.world]

    def threads(self, wanted: int) -> int:
        """CPU threads of this process; for 0 its part of the machine's cores (alone: 0)."""
        if wanted or self.world == 1:
            return wanted
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
        return max(1, cores // self.place.local_world)

    def sum_(self, tensor: Tensor) -> None:
        """Replace `tensor` by its sum over all processes, the same bits in each."""
        self._reduce(tensor, dist.ReduceOp.SUM)

    def any_(self, mask: Tensor) -> None:
        """Replace `mask` (uint8, 0 or 1) by where any process has 1."""
        self._reduce(mask, dist.ReduceOp.MAX)

    def _reduce(self, tensor: Tensor, operation: Any) -> None:
        if self.world > 1:
            with self._reaching():
                dist.all_reduce(tensor, operation, group=self._gradients)

    def sum_gradients(self, parameters: Sequence[Tensor], beside: Sequence[Tensor] = ()) -> None:
        """Replace all gradients, and the tensors `beside` them, by their sums; one reduction.

        A parameter that no process has a gradient for keeps none: Adam passes over such ones.
        """
        if self.world == 1:
            return
        parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        parts = [part.detach().flatten() for part in (*parts, *beside)]
        there = [float(p.grad is not None) for p in parameters]
        flat = torch.cat([*parts, parts[0].new_tensor(there)])
        self.sum_(flat)
        *sums, there_at_all = flat.split([*(len(part) for part in parts), len(there)])
        present = there_at_all.tolist()
        for parameter, total, has in zip(parameters, sums, present, strict=False):
            parameter.grad = total.view_as(parameter) if has else None
        for tensor, total in zip(beside, sums[len(there) :], strict=True):
            tensor.copy_(total.view_as(tensor))

    def largest(self, number: int) -> int:
        """The largest of the numbers that the processes name."""
        if self.world == 1:
            return number
        told = torch.tensor([number])
        with self._reaching():
            dist.all_reduce(told, dist.ReduceOp.MAX, group=self._words)
        return int(told)

    def gathered(self, value: Item) -> list[Item]:
        """What each process passes, in their order; plain values."""
        if self.world == 1:
            return [value]
        found: list[Any] = [None] * self.world
        with self._reaching():
            dist.all_gather_object(found, value, group=self._words)
        return found

    def from_first(self, value: Item) -> Item:
        """What the first process passes."""
        return self.gathered(value if self.first else None)[0]  # type: ignore[return-value]

    def in_order(self, shared: list[Item], device: torch.device) -> list[Item]:
        """All items whose `share` each process holds, in the order before they were dealt out.

        Items are tensors, None, or dataclasses of such.
        """
        if self.world == 1:
            return shared
        lists = self.gathered([moved(item, torch.device("cpu")) for item in shared])
        count = sum(len(items) for items in lists)
        return [moved(lists[i % self.world][i // self.world], device) for i in range(count)]

    def check_same(self, tensors: Iterable[Tensor], step: int) -> None:
        """RunError in every process where they do not all hold the same bits."""
        if self.world == 1:
            return
        digests = self.gathered(digest(tensors))
        others = [str(rank) for rank, own in enumerate(digests) if own != digests[0]]
        if others:
            self.parted = True
            raise RunError(
                f"the processes have come apart by step {step}: the parameters of process "
                f"{', '.join(others)} are not those of process 0; go on from the last checkpoint "
                "with --resume auto, and with the same software and hardware in all processes"
            )

    def together(self) -> Together:
        """A block that all processes leave together, or none: a failure in one fails in all."""
        return Together(self)

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        """Turn what torch says about a process that is gone into a sentence."""
        try:
            yield
        except RuntimeError as error:
            self.parted = True
            raise RunError(
                f"process {self.rank} of {self.world} has lost another process of this run "
                f"({_reason(error)}), which may have said why it ended; --resume auto goes on from "
                "the last checkpoint"
            ) from None


class Together:
    """The context manager of `Ranks.together`."""

    def __init__(self, ranks: Ranks) -> None:
        self.ranks = ranks

    def __enter__(self) -> None:
        """Nobody waits at the beginning."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        ranks = self.ranks
        if ranks.world == 1 or ranks.parted:
            return
        own = None if error is None else _sentence(error)
        try:
            if not ranks.largest(int(own is not None)):
                return
            told = ranks.gathered(own)
        except RunError:
            if error is None:
                raise
            return  # what went wrong here says more than that the others are gone
        ranks.parted = True
        if error is None:
            rank, said = next((rank, said) for rank, said in enumerate(told) if said is not None)
            raise RunError(f"process {rank} of {ranks.world} stopped: {said}")


def _sentence(error: BaseException) -> str:
    return str(error) if isinstance(error, IQGSError) else f"{type(error).__name__}: {error}"


def _reason(error: Exception) -> str:
    """What torch says, without the place in its source and its advice."""
    lines = str(error).splitlines() or [type(error).__name__]
    return re.sub(r"^\[[^]]*\.\w+:\d+\] ", "", lines[0]).split(". ")[0][:120]


def digest(tensors: Iterable[Tensor]) -> str:
    """sha256 of shapes and bytes."""
    found = hashlib.sha256()
    for tensor in tensors:
        array = tensor.detach().cpu().contiguous().numpy()
        found.update(f"{array.dtype.str} {array.shape}\n".encode())
        found.update(array.data)
    return found.hexdigest()


def moved(item: Any, device: torch.device) -> Any:
    """A tensor, None, or a dataclass of such, on a device."""
    if isinstance(item, Tensor):
        return item.to(device)
    if dataclasses.is_dataclass(item) and not isinstance(item, type):
        values = {f.name: moved(getattr(item, f.name), device) for f in dataclasses.fields(item)}
        return dataclasses.replace(item, **values)
    return item


ALONE = Ranks(Place())


@contextmanager
def joined_ranks(place: Place, device: torch.device) -> Iterator[Ranks]:
    """All processes of the run, once they have met; alone for a world of one.

    Sums of tensors on a GPU go through NCCL, all else through gloo on the host.
    """
    if place.world == 1:
        yield ALONE
        return
    try:
        dist.init_process_group(
            "gloo", rank=place.rank, world_size=place.world, timeout=MEETING_WAIT
        )
        words = dist.new_group(backend="gloo", timeout=LONGEST_WAIT)
        gradients = words
        if device.type == "cuda" and dist.is_nccl_available():
            gradients = dist.new_group(backend="nccl", timeout=GRADIENT_WAIT)
    except (RuntimeError, ValueError) as error:
        where = ":".join(os.environ.get(name, "?") for name in ("MASTER_ADDR", "MASTER_PORT"))
        raise RunError(
            f"process {place.rank} of {place.world} cannot meet the others at {where} "
            f"({_reason(error)}); start all with the same torchrun command"
        ) from None
    ranks = Ranks(place, words, gradients)
    yield ranks
    if not ranks.parted:  # after a failure there may be nobody to take leave of
        dist.destroy_process_group()
