"""What the machine has, and what its disks give."""

from __future__ import annotations

import os
from typing import Iterable, NamedTuple, Optional, Union

from . import _core

PathLike = Union[str, "os.PathLike[str]"]


class Machine(NamedTuple):
    """What this process may use."""

    instruction_sets: list[str]  #: that the kernels can run on here, best first; all give equal bits
    instruction_set: str  #: the one that they run on: the best, or STRATA_SIMD's
    threads: int  #: of an optimizer, unless it is told otherwise
    memory_bytes: int  #: the most that this process may hold
    available_bytes: int  #: left of it
    memory_bound: str  #: what says so: "this machine", or a cgroup
    io_uring_error: int  #: errno of making a ring; 0: one was made
    io_uring_missing: list[str]  #: what the kernel's io_uring lacks, by the names of its header


class Disk(NamedTuple):
    """The storage under a directory; "" and None where the system does not tell."""

    file_system: str  #: "ext4"
    device: str  #: "nvme0n1"
    model: str
    pci_address: str
    numa_node: Optional[int]
    rotational: Optional[bool]
    total_bytes: int  #: of the file system
    free_bytes: int  #: that this process may use


class DiskSpeeds(NamedTuple):
    """What directories give together, in bytes a second."""

    read: float  #: reading alone
    write: float  #: writing alone
    #: How far reads and writes that go on side by side overlap: 1 is wholly, 0 not at all, and below
    #: they are slower side by side than one after the other.
    overlap: float
    beside_compute: float  #: what is left of them while all cores compute; 1 where not measured
    engine: str  #: what moved the bytes, with the reason where it is not the first choice

    def seconds(self, read_bytes: float, write_bytes: float) -> float:
        """The time of reading and writing so many bytes, both going on all the time."""
        one, other = read_bytes / self.read, write_bytes / self.write
        return max(one, other) + (1 - self.overlap) * min(one, other)


def machine() -> Machine:
    """What this process may use of the machine. Errors: ConfigError for STRATA_SIMD with the name of
    an instruction set that is not there."""
    return Machine(*_core.machine())


def disk(directory: PathLike) -> Disk:
    """The storage under ``directory``. Errors: IoError when it cannot be looked at."""
    return Disk(*_core.describe_disk(os.fspath(directory)))


def bench(
    nvme: Union[PathLike, Iterable[PathLike]],
    *,
    seconds: float = 0.7,
    file_size: Union[str, int] = "1GiB",
    operation_size: Union[str, int] = "1MiB",
    operations: int = 32,
    turn_size: Union[str, int] = "8MiB",
    io: str = "auto",
    beside_compute: bool = False,
) -> DiskSpeeds:
    """Measures what directories give together, one for each disk, as a step uses them.

    In each a scratch file of ``file_size`` is written and read by ``operations`` transfers of
    ``operation_size`` at once: filled first, then both in turns of ``turn_size`` (two seconds before
    they count, since disks begin faster than they go on), with ``beside_compute`` the same while all
    cores compute, then read, and written, each for ``seconds``. The files have no name and are gone
    afterwards. The disks should be idle otherwise. Ctrl-C ends it. ``io`` is that of
    :class:`strata.AdamW`.

    Errors: ConfigError for no directory, or sizes that are no multiples of one another; IoError when
    a directory cannot be written to, has no room, or a transfer fails; DeadlineExceeded when one
    never comes back.
    """
    if isinstance(nvme, (str, os.PathLike)):
        nvme = [nvme]
    if not seconds > 0:
        raise _core.ConfigError(f"seconds is {seconds}; it has to be positive")
    return DiskSpeeds(
        *_core.measure_paths(
            directories=[os.fspath(directory) for directory in nvme],
            io=io,
            file_bytes=_core.parse_bytes(str(file_size)),
            operation_bytes=_core.parse_bytes(str(operation_size)),
            operations=operations,
            turn_bytes=_core.parse_bytes(str(turn_size)),
            beside_compute=beside_compute,
            part_milliseconds=max(1, round(seconds * 1000)),
        )
    )
