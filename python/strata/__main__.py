"""Shows what the machine gives: python -m strata [DIR ...]"""

from __future__ import annotations

import argparse
import errno
import json
import sys
from typing import Any

from ._core import Error
from ._machine import Disk, DiskSpeeds, Machine, bench, disk, machine


def _size(count: float) -> str:
    return f"{count / (1 << 30):.1f} GiB"


def _lines_of_machine(here: Machine) -> list[str]:
    ring = "there"
    if here.io_uring_error:
        ring = f"refused ({errno.errorcode.get(here.io_uring_error, here.io_uring_error)})"
    elif here.io_uring_missing:
        ring = "lacks " + ", ".join(here.io_uring_missing)
    return [
        f"kernels    {here.instruction_set} of {', '.join(here.instruction_sets)}",
        f"threads    {here.threads}",
        f"memory     {_size(here.memory_bytes)}, {_size(here.available_bytes)} left "
        f"({here.memory_bound})",
        f"io_uring   {ring}",
    ]


def _line_of_disk(directory: str, found: Disk) -> str:
    what = [found.file_system, found.device, found.model]
    if found.numa_node is not None:
        what.append(f"NUMA node {found.numa_node}")
    return f"{directory}: {', '.join(each for each in what if each)}; {_size(found.free_bytes)} free"


def _lines_of_speeds(speeds: DiskSpeeds) -> list[str]:
    # AdamW with fp32 moments: eight bytes each way; with int8 moments a little over two.
    per_billion = [speeds.seconds(8e9, 8e9), speeds.seconds(2.1e9, 2.1e9)]
    return [
        f"read       {speeds.read / 1e9:.2f} GB/s",
        f"write      {speeds.write / 1e9:.2f} GB/s",
        f"overlap    {speeds.overlap:.2f}",
        f"engine     {speeds.engine}",
        f"a step of AdamW on 1e9 fp32 parameters moves its moments in {per_billion[0]:.1f} s, "
        f"int8 ones in {per_billion[1]:.1f} s",
    ]


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m strata", description="Shows what the machine gives to the optimizers."
    )
    parser.add_argument("directories", nargs="*", metavar="DIR",
                        help="for states: measured together, about 5 s; one for each disk")
    parser.add_argument("--seconds", type=float, default=0.7, help="of each part (0.7)")
    parser.add_argument("--file-size", default="1GiB", help="of the scratch file in each (1GiB)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(arguments)
    try:
        here = machine()
        disks = {directory: disk(directory) for directory in options.directories}
        speeds = None
        if disks:
            speeds = bench(disks, seconds=options.seconds, file_size=options.file_size)
    except Error as error:
        print(f"strata: {error}", file=sys.stderr)
        return 1
    if options.json:
        found: dict[str, Any] = {"machine": here._asdict()}
        found["disks"] = {directory: each._asdict() for directory, each in disks.items()}
        found["speeds"] = speeds._asdict() if speeds else None
        print(json.dumps(found, indent=1))
        return 0
    lines = _lines_of_machine(here)
    lines += [_line_of_disk(directory, each) for directory, each in disks.items()]
    lines += _lines_of_speeds(speeds) if speeds else []
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
