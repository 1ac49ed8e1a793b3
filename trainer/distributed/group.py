"""The processes that train one run together: what they agree on, and what they add up.

Two ways lead from rank to rank. Tensors are reduced by torch's process group, in microseconds, and
every rank must take part within its time limit. Decisions of rank 0 are read from its store, where
the others wait as long as it takes. One process alone loads no torch here.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from itertools import count
from typing import TYPE_CHECKING, Any, TypeVar

from shared.errors import ExitCode, RunError, UserError
from trainer.distributed.watch import Failure, Watch
from trainer.distributed.world import ONE_PROCESS, World

#: Until the first step has been made: data is read, kernels are compiled.
START_TIMEOUT = timedelta(minutes=30)
_LOOK = timedelta(seconds=1)

if TYPE_CHECKING:
    from torch import Tensor
    from torch._C._distributed_c10d import Store

T = TypeVar("T")


class RankError(UserError):
    """This rank ends because another one does, which tells the reason."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.exit_code = code


class Group:
    """All ranks of a run. Every method but `share` is called by all of them, in the same order."""

    def __init__(
        self,
        world: World = ONE_PROCESS,
        store: Store | None = None,
        memory: Store | None = None,
        watch: Watch | None = None,
    ) -> None:
        """`memory` outlives a restart by torchrun, if there is such a thing."""
        self.world = world
        self.store = store
        #: Whether there is only this process, so that nothing is exchanged.
        self.alone = store is None
        self.memory = memory
        self.watch = watch
        self._numbers = count()
        self._entered = 0.0
        #: Called each second while this rank waits for a decision.
        self.meanwhile: Callable[[], None] = lambda: None

    @property
    def writes(self) -> bool:
        """Whether this rank writes the run directory."""
        return self.world.writes

    def share(self, total: int) -> tuple[int, int]:
        """The part of `total` things that is this rank's: the first one's number, and how many."""
        return self.world.share(total)

    def agree(self, *values: float) -> tuple[float, ...]:
        """The largest of all ranks' values, each by itself."""
        if self.alone:
            return values
        return self._reduced(values, largest=True)

    def smallest(self, value: int) -> int:
        """The smallest of all ranks' values."""
        return -int(self.agree(-value)[0])

    def add(self, *values: float) -> tuple[float, ...]:
        """The sums over all ranks, each by itself."""
        if self.alone:
            return values
        return self._reduced(values, largest=False)

    def _reduced(self, values: Sequence[float], *, largest: bool) -> tuple[float, ...]:
        import torch
        import torch.distributed as dist

        self._enter()
        together = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(together, dist.ReduceOp.MAX if largest else dist.ReduceOp.SUM)
        return tuple(together.tolist())

    def total(self, tensor: Tensor) -> Tensor:
        """The sum over all ranks, in place; the host does not wait for a GPU."""
        if not self.alone:
            import torch.distributed as dist

            self._enter()
            dist.all_reduce(tensor)
        return tensor

    def decided(self, decide: Callable[[], T]) -> T:
        """What rank 0 decides, for all: anything that JSON can tell.

        `decide` is called by rank 0 only, and may take its time. If it raises a UserError there,
        the others raise a RankError.
        """
        if self.alone:
            return decide()
        self._enter()
        key = f"decided/{next(self._numbers)}"
        if not self.writes:
            return _read(self._wait(key, 0))
        try:
            decision = decide()
        except UserError as error:
            self._set(key, {"error": str(error), "code": int(error.exit_code)})
            raise
        except BaseException as error:
            reason = f"{type(error).__name__} on rank 0"
            self._set(key, {"error": reason, "code": int(ExitCode.FAILURE)})
            raise
        self._set(key, {"value": decision})
        return decision

    def decided_here(self, act: Callable[[], list[T]]) -> list[T]:
        """What `act` returns on rank 0, which keeps it; nothing on the others. Errors are alike."""
        kept: list[T] = []
        self.decided(lambda: kept.extend(act()))
        return kept

    def all_well(self, act: Callable[[], T]) -> T:
        """What `act` returns on this rank, unless it raises a UserError on one of them.

        Rank 0 raises the first rank's error, with its rank; the others raise a RankError.
        """
        if self.alone:
            return act()
        problem, result = None, None
        try:
            result = act()
        except UserError as error:
            problem = error
        told = {"error": str(problem), "code": int(problem.exit_code)} if problem else {}
        every = self.gather(json.dumps(told).encode())
        first = self.decided(lambda: _first_error(every))
        if first is None:
            return result  # type: ignore[return-value]
        if self.writes and problem is not None:
            raise problem
        if self.writes:
            kind = UserError if first["code"] == ExitCode.USAGE else RunError
            raise kind(f"Rank {first['rank']}: {first['error']}")
        raise RankError(first["error"], first["code"])

    def gather(self, data: bytes) -> Sequence[bytes]:
        """The data of all ranks in their order; on rank 0 only, the others get nothing."""
        if self.alone:
            return [data]
        self._enter()
        number = next(self._numbers)
        if not self.writes:
            self._set_bytes(f"gathered/{number}/{self.world.rank}", data)
            return []
        found = [data]
        for rank in range(1, self.world.size):
            key = f"gathered/{number}/{rank}"
            found.append(self._wait(key, rank))
            self._store.delete_key(key)
        return found

    def remember(self, key: str, value: str, *, from_any_rank: bool = False) -> None:
        """Keep a fact of rank 0's, or of this rank's, for the ranks that torchrun starts next."""
        if self.memory is not None and (self.writes or from_any_rank):
            self.memory.set(f"trainer/{key}", value)

    def remembered(self, key: str) -> str:
        """A fact of the ranks that were there before; empty if there is none."""
        name = f"trainer/{key}"
        if self.memory is None or not self.world.restarts or not self.memory.check([name]):
            return ""
        return self.memory.get(name).decode()

    def raise_signal(self, name: str) -> None:
        """Tell the rank that writes of a signal to this one, while it decides."""
        if self.store is not None:
            self.store.set("signal", name)

    def raised_signal(self) -> str:
        """The signal that another rank got meanwhile; empty if there was none."""
        if self.store is None or not self.store.check(["signal"]):
            return ""
        return self.store.get("signal").decode()

    def at(self, step: int, lines: Sequence[str] | None = None) -> None:
        """Where this rank is, as the others learn it if it fails: its step, its last lines."""
        if self.watch is not None:
            self.watch.position.step = step
            if lines is not None:
                self.watch.position.lines = lines

    def limit(self, seconds: float) -> None:
        """Wait no longer than this for a rank that hangs. The first step may take longer."""
        if self.alone:
            return
        import torch
        import torch.distributed as dist

        everyone: Any = dist.distributed_c10d._get_default_group()
        for device in everyone._device_types:
            # On a GPU a little more: what is exchanged on the CPU finds out first, and can tell.
            more = 60.0 if device.type == "cuda" else 0.0
            backend = everyone._get_backend(torch.device(device.type))
            backend._set_default_timeout(timedelta(seconds=seconds + more))

    def find_failed(self, error: BaseException) -> Failure | None:
        """The rank for which an exchange failed with `error`; None if that was no exchange."""
        if self.watch is None or not _is_of_exchange(error):
            return None
        return self.watch.find_failed(time.monotonic() - self._entered)

    def _enter(self) -> None:
        """Note that this rank is about to wait for the others."""
        self._entered = time.monotonic()
        if self.watch is not None:
            self.watch.position.exchanges += 1

    @property
    def _store(self) -> Store:
        assert self.store is not None
        return self.store

    def _set(self, key: str, value: object) -> None:
        self._set_bytes(key, json.dumps(value).encode())

    def _set_bytes(self, key: str, value: bytes) -> None:
        # The store takes text: bytes one to one as Latin-1 would become two where they are large.
        self._store.set(key, value.hex())

    def _wait(self, key: str, rank: int) -> bytes:
        """What `rank` sets. As long as it gives signs of life, it may take its time."""
        import torch.distributed as dist

        while True:
            try:
                self._store.wait([key], _LOOK)
            except dist.DistStoreError:
                failure = self.watch and (self.watch.told() or self.watch.silent(rank))
                if failure:
                    raise RankError(str(failure), ExitCode.FAILURE) from None
                self.meanwhile()
                continue
            value = bytes.fromhex(self._store.get(key).decode())
            if key.startswith("decided/"):
                self._forget(key)
            return value

    def _forget(self, key: str) -> None:
        """Remove a decision that every rank has read."""
        if self._store.add(f"{key}/read", 1) == self.world.size - 1:
            self._store.delete_key(key)
            self._store.delete_key(f"{key}/read")


ALONE = Group()


def expected(world: World) -> Group:
    """The group that those ranks will be, for a process that plans alone: nothing is exchanged."""
    return Group(world)


@contextlib.contextmanager
def joined(world: World, device: str, lost: Callable[[], bool]) -> Iterator[Group]:
    """The group of all ranks, once every one of them is here. Needs torchrun's environment.

    `device` is the run's, from which follows what tensors are reduced by. `lost` says whether what
    started the ranks is gone.
    """
    if world.alone:
        yield ALONE
        return
    import torch
    import torch.distributed as dist
    from torch._C._distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    cuda = device.startswith("cuda") or (device == "auto" and torch.cuda.is_available())
    try:
        store, rank, size = next(iter(rendezvous("env://", timeout=START_TIMEOUT)))
    except (ValueError, RuntimeError, TimeoutError) as error:
        raise RunError(f"{world} cannot reach the others: {error}") from error
    if cuda and world.local_rank < torch.cuda.device_count():  # if not, `pick_device` tells it
        torch.cuda.set_device(world.local_rank)
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if cuda else "gloo",
        store=PrefixStore("torch", store),
        rank=rank,
        world_size=size,
        timeout=START_TIMEOUT,
    )
    memory = store.underlying_store if isinstance(store, PrefixStore) else None
    own: Any = PrefixStore("trainer", store)
    watch = Watch(world, own.clone(), lost)
    try:
        yield Group(world, own, memory, watch)
    finally:
        watch.close()
    # Not after an error: the others may be gone, and it would wait for them.
    dist.destroy_process_group()


def _read(data: bytes) -> T:  # type: ignore[type-var]
    told = json.loads(data)
    if "error" in told:
        raise RankError(told["error"], told["code"])
    return told["value"]


#: What torch says of an exchange that failed; gloo has no class of exceptions for it.
_OF_EXCHANGES = (
    *("gloo", "nccl", "timed out"),
    *("connection closed", "connection reset", "broken pipe"),
)


def _is_of_exchange(error: BaseException) -> bool:
    told = str(error).lower()
    known = type(error).__name__.startswith("Dist") or any(x in told for x in _OF_EXCHANGES)
    return isinstance(error, RuntimeError) and known


def _first_error(every: Sequence[bytes]) -> dict[str, Any] | None:
    """The first rank's error, with its rank."""
    for rank, data in enumerate(every):
        told = json.loads(data)
        if told:
            return {**told, "rank": rank}
    return None
