"""Holds the arrows between the layers: reads every #include of the repository.

    tools, examples ──> models ──> zero3 ──> optim_cpu ──> tiering ──> aio ──> base
              │                      └────> formats ──────────────────────────> base
              └───────> cpu_adam ──────────> optim_cpu

Usage: layers.py REPOSITORY. Prints one line for each include that follows no arrow; exits with 1 if
there is one.
"""

import pathlib
import re
import sys
from typing import Iterator, NamedTuple, Optional

# A layer may include itself and these. Two are stricter than "everything below": optim_cpu reaches
# disks through tiering alone, and models know nothing of tiers, only of units and of file formats.
ARROWS = {
    "base": set(),
    "aio": {"base"},
    "tiering": {"aio", "base"},
    "optim_cpu": {"tiering", "base"},
    "formats": {"base"},
    "zero3": {"optim_cpu", "tiering", "aio", "formats", "base"},
    "models": {"zero3", "optim_cpu", "formats", "base"},
    "cpu_adam": {"optim_cpu", "base"},
}
LAYERS = set(ARROWS)

# Third parties that only the named places may see. A library that is not listed is free to use.
GUESTS = [
    (r"(torch|ATen|c10|caffe2)/", {"zero3", "cpu_adam", "models", "tools/strata", "examples"}),
    (r"(cuda|cuda_\w+|cufile|nccl|driver_types)\.h", {"tiering", "zero3"}),
    (r"(liburing\.h|liburing/.*|libaio\.h)", {"aio"}),
    (r"(hwloc\.h|hwloc/.*|numa\.h|numaif\.h)", {"aio"}),
    (r"zlib\.h", {"formats"}),
    (r"nanobind/", {"python"}),
    (r"(fmt|spdlog)/", set()),
]

# The words of a layer, on its ground floor: of their own layer they include nothing but words that
# stand before them here.
WORDS = {
    "aio": ["operation.h", "lost_memory.h", "submitter.h"],
    "tiering": [
        "tier.h",
        "device_span.h",
        "extent.h",
        "transfer.h",
        "state_home.h",
        "activation_room.h",
    ],
    "optim_cpu": [
        "instruction_set.h",
        "optimizer_options.h",
        "update.h",
        "sum_of_squares.h",
        "shard_states.h",
    ],
    "zero3": [
        "parameter_group.h",
        "unit_layout.h",
        "sharding.h",
        "entry.h",
        "residency.h",
        "shard_map.h",
        "ranks.h",
    ],
}

SOURCES = {".h", ".hpp", ".cpp", ".cc", ".cu", ".cuh", ".inc"}
ROOTS = ["include", "src", "tools", "examples", "python"]
INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]')


class Violation(NamedTuple):
    file: str
    line: int
    include: str
    reason: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: #include of {self.include}: {self.reason}"


def place_of(path: pathlib.PurePosixPath) -> str:
    """The layer of a file, or `tools/<program>`, or `examples`."""
    parts = path.parts
    if parts[:2] == ("include", "strata") and len(parts) > 3:
        return parts[2]
    if parts[0] == "src" and len(parts) > 2:
        return parts[1]
    if parts[0] == "tools" and len(parts) > 2:
        return f"tools/{parts[1]}"
    return parts[0]


def is_public(path: pathlib.PurePosixPath) -> bool:
    return path.parts[0] == "include"


def runs_up_inside(path: pathlib.PurePosixPath, include: str) -> Optional[str]:
    """Why a header of words may not include something of its own layer; None when it may."""
    place = place_of(path)
    words = WORDS.get(place, [])
    if path.suffix != ".h" or path.name not in words:
        return None
    parts = include.removeprefix("strata/").split("/")
    if parts[0] != place or parts[-1] in words[: words.index(path.name)]:
        return None
    return f"{path.name} is of the words of {place}, which lie below {parts[-1]}"


def reason_against(path: pathlib.PurePosixPath, include: str) -> Optional[str]:
    """Why the file at `path` may not include `include`; None when it may."""
    place = place_of(path)
    for pattern, hosts in GUESTS:
        if re.match(pattern, include) and place not in hosts:
            return f"only {', '.join(sorted(hosts)) or 'nobody'} may see it, not {place}"

    parts = include.split("/")
    if parts[0] == "strata" and len(parts) > 2:
        target = parts[1]
        if target not in LAYERS:
            return f"no layer is called '{target}'"
        if place in LAYERS and target != place and target not in ARROWS[place]:
            return f"no arrow leads from {place} to {target}"
        return runs_up_inside(path, include)
    if parts[0] in LAYERS and len(parts) > 1:
        if is_public(path):
            return "a public header may not include a private one"
        if parts[0] != place:
            return f"private header of {parts[0]}; {place} may include only its public ones"
        return runs_up_inside(path, include)
    return None


def includes_of(text: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(text.splitlines(), start=1):
        match = INCLUDE.match(line)
        if match:
            yield number, match.group(1)


def check(repository: pathlib.Path) -> tuple[int, list[Violation]]:
    """The number of includes read, and those that follow no arrow."""
    read = 0
    violations = []
    for root in ROOTS:
        for file in sorted((repository / root).rglob("*")):
            if file.suffix not in SOURCES:
                continue
            path = pathlib.PurePosixPath(file.relative_to(repository).as_posix())
            for number, include in includes_of(file.read_text(encoding="utf-8")):
                read += 1
                reason = reason_against(path, include)
                if reason:
                    violations.append(Violation(str(path), number, include, reason))
    return read, violations


def main() -> int:
    read, violations = check(pathlib.Path(sys.argv[1]))
    for violation in violations:
        print(violation)
    print(f"{read} includes read, {len(violations)} against the arrows")
    return 1 if violations or read == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
