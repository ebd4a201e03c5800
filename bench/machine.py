"""Describes the machine that a result was measured on. Run as a program, it prints the description."""

import os
import pathlib
import sys


def first_value(path: str, key: str) -> str:
    for line in pathlib.Path(path).read_text().splitlines():
        if line.startswith(key):
            return line.split(":", 1)[1].strip()
    return "unknown"


def disk_of(directory: pathlib.Path) -> str:
    """File system and block device of a directory, from the longest mount point above it."""
    directory = directory.resolve()
    best = ("", "unknown", "unknown")
    for line in pathlib.Path("/proc/mounts").read_text().splitlines():
        device, mount, kind = line.split()[:3]
        inside = pathlib.Path(mount) == directory or pathlib.Path(mount) in directory.parents
        if inside and len(mount) >= len(best[0]):
            best = (mount, device, kind)
    return f"{best[2]} on {best[1]}"


def describe(nvme: pathlib.Path) -> str:
    memory_gib = int(first_value("/proc/meminfo", "MemTotal").split()[0]) / 2**20
    load = os.getloadavg()[0]
    return (
        f"{os.cpu_count()} cores of {first_value('/proc/cpuinfo', 'model name')}, "
        f"{memory_gib:.0f} GiB of memory, nvme tier in {disk_of(nvme)}, Linux {os.uname().release}; "
        f"load average before the run {load:.1f}"
    )


if __name__ == "__main__":
    print(describe(pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ".")))
