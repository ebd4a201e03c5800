"""The programs of a build, run for what they print, and the machine's speeds as they measure them."""

import argparse
import dataclasses
import json
import pathlib
import subprocess
from typing import Any, List, Optional

BUILD = pathlib.Path(__file__).resolve().parent.parent / "build/release/bin"


def command_line(description: Optional[str]) -> argparse.ArgumentParser:
    """With the options that all scripts have that run programs on a disk; a script adds its own."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--programs", type=pathlib.Path, default=BUILD, metavar="DIR")
    parser.add_argument("--nvme", type=pathlib.Path, default=pathlib.Path("."), metavar="DIR")
    parser.add_argument("--output", type=pathlib.Path, metavar="FILE", help="default: standard output")
    return parser


class Programs:
    def __init__(self, options: argparse.Namespace) -> None:
        self.directory = options.programs
        self.nvme = options.nvme.resolve()

    def command(self, name: str, *arguments: object) -> List[str]:
        return [str(self.directory / name), *map(str, arguments)]

    def output_of(self, name: str, *arguments: object) -> str:
        done = subprocess.run(self.command(name, *arguments), check=True, stdout=subprocess.PIPE, text=True)
        return done.stdout

    def json_of(self, name: str, *arguments: object) -> Any:
        return json.loads(self.output_of(name, *arguments))


@dataclasses.dataclass(frozen=True)
class DiskSpeeds:
    """Bytes/s of a disk that reads, that writes, and how far both go on at once (mu of docs/performance.md:
    0, one after the other; 1, as if each were alone)."""

    read: float
    write: float
    overlap: float

    def seconds(self, read_bytes: float, written_bytes: float) -> float:
        """The least time for so many bytes."""
        reading, writing = read_bytes / self.read, written_bytes / self.write
        return max(reading, writing) + (1 - self.overlap) * min(reading, writing)

    def __str__(self) -> str:
        return f"read {self.read / 1e9:.2f} GB/s, write {self.write / 1e9:.2f} GB/s, overlap {self.overlap:.2f}"


def disk_speeds(programs: Programs, size: str = "1GiB", seconds: int = 2) -> DiskSpeeds:
    """Measured now, by ds_nvme_bench: reading, writing, and both as a step does."""

    def measured(kind: str) -> Any:
        return programs.json_of(
            "ds_nvme_bench", "run", programs.nvme, "--rw", kind, "--bs", "1MiB", "--size", size,
            "--runtime", seconds, "--format", "json",
        )["jobs"][0]  # fmt: skip

    read = measured("read")["read"]["bw_bytes"]
    write = measured("write")["write"]["bw_bytes"]
    both = measured("trainstep")
    # A second of both has read and written for so many seconds each; what overlaps is above 1.
    reading, writing = both["read"]["bw_bytes"] / read, both["write"]["bw_bytes"] / write
    overlap = (reading + writing - 1) / min(reading, writing)
    return DiskSpeeds(read, write, min(1.0, max(0.0, overlap)))
