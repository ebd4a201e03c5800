#!/usr/bin/env python3
"""Compares the seconds that `strata plan` forecasts with those that `strata finetune` then takes, for
models, placements, formats and schedules of many kinds, and writes a table as Markdown.

    bench/forecast_check.py --nvme /mnt/nvme --output docs/results/forecast_check.md

Right before each run the machine is measured anew, as docs/plan.md says: the disk by ds_nvme_bench
(reading, writing, and both as a step does), the optimizer by adam_benchmark, arithmetic by forward
and backward of the same shape in memory. Machines that are shared swing, and these swing together.
"""

import argparse
import dataclasses
import json
import pathlib
import statistics
import sys
import tempfile
import time
from typing import Any, Dict, List, Optional

import machine
import report
from programs import Programs, add_arguments, disk_speeds
from training import gpt2

WANTED = 0.10
WARM_UP = 3  # steps: the order of units is recorded, then followed


@dataclasses.dataclass(frozen=True)
class Shape:
    """A preset without dropout, which counts as no arithmetic."""

    preset: str
    layers: int
    width: int
    vocabulary: int

    def config(self) -> Dict[str, Any]:
        """As a Hugging Face directory has it."""
        return gpt2(self.layers, self.width, self.vocabulary)


SMALL = Shape("gpt2", 12, 768, 50304)
MEDIUM = Shape("gpt2-medium", 24, 1024, 50304)
LITE = Shape("gpt-lite", 12, 768, 256)


@dataclasses.dataclass(frozen=True)
class Case:
    name: str
    shape: Shape
    tokens: int = 128
    micro_batches: int = 1
    weights: str = "nvme"
    states: str = "nvme"
    moments: str = "fp32"
    clipping: float = 1.0
    recompute: bool = True
    overlap: bool = True
    under_backward: bool = False
    device: Optional[str] = None

    def config(self, nvme: pathlib.Path) -> Dict[str, Any]:
        strata: Dict[str, Any] = {
            "nvme": [str(nvme)], "recompute": self.recompute, "overlap_step": self.overlap,
            "step_under_backward": self.under_backward, "states": {"moments": self.moments},
        }  # fmt: skip
        if self.device:
            strata["budget"] = {"device": self.device}
        return {
            "bf16": {"enabled": True}, "gradient_clipping": self.clipping,
            "train_micro_batch_size_per_gpu": 1, "gradient_accumulation_steps": self.micro_batches,
            "optimizer": {"type": "AdamW", "params": {"lr": 3e-4}},
            "zero_optimization": {
                "stage": 3, "offload_param": {"device": self.weights}, "offload_optimizer": {"device": self.states},
            },
            "strata": strata,
        }  # fmt: skip


CASES = [
    Case("everything on NVMe", SMALL),
    Case("512 tokens", SMALL, tokens=512),
    Case("8-bit moments", SMALL, moments="int8"),
    Case("the step over before the next forward", SMALL, overlap=False),
    Case("4 micro-batches, unit by unit", SMALL, micro_batches=4),
    Case("4 micro-batches, the step under backward", SMALL, micro_batches=4, clipping=0.0, under_backward=True),
    Case("everything in host memory", SMALL, weights="cpu", states="cpu"),
    Case("weights in host memory, states on NVMe", SMALL, weights="cpu"),
    Case("states in host memory, weights on NVMe", SMALL, states="cpu"),
    Case("small vocabulary", LITE),
    Case("small vocabulary, room for two units", LITE, device="40MiB"),
    Case("activations kept", LITE, tokens=256, recompute=False),
    Case("355 M parameters", MEDIUM),
    Case("355 M parameters, 4 micro-batches, unit by unit", MEDIUM, micro_batches=4),
]


def parse_arguments(arguments: List[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--steps", type=int, default=8, help="that count, of each run")
    parser.add_argument("--only", action="append", metavar="NAME", help="a case; may be given again")
    return parser.parse_args(arguments)


# ---- the machine ---------------------------------------------------------------------------------


def arithmetic_seconds(programs: Programs, case: Case, space: pathlib.Path) -> float:
    """Seconds of a micro-batch's forward and backward in memory."""
    result = space / "arithmetic.json"
    programs.output_of(
        "step_benchmark", "--only", "arithmetic", "--preset", case.shape.preset, "--tokens", case.tokens,
        "--rounds", 5, "--steps", 1, "--warm-up", 1, "--json", result,
    )  # fmt: skip
    return statistics.median(step["seconds"] for step in json.loads(result.read_text())[0]["steps"])


def update_speed(programs: Programs, moments: str) -> float:
    """Bytes/s of states that the optimizer reads and writes."""
    result = programs.json_of(
        "adam_benchmark", f"--benchmark_filter=^bf16_{moments}_moments/threads:", "--benchmark_format=json"
    )
    return 1e9 * max(run["GB/s"] for run in result["benchmarks"])


def copy_speed() -> float:
    source, target = bytearray(b"x") * (256 << 20), bytearray(256 << 20)
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        memoryview(target)[:] = source
        seconds.append(time.perf_counter() - start)
    return len(source) / statistics.median(seconds)


def machine_file(programs: Programs, case: Case, update: float, space: pathlib.Path) -> Dict[str, Any]:
    def measured(value: float, how: str) -> Dict[str, Any]:
        return {"value": value, "source": f"measured right before: {how}"}

    flop = plan_of(programs, case, ANY_MACHINE, space, recompute=False)["serial"]["lanes"]["compute"]["amount"]
    seconds = arithmetic_seconds(programs, case, space) * case.micro_batches
    disk = disk_speeds(programs)
    return {
        "name": "this one",
        "device": {"compute": measured(flop / seconds, "a training step in memory")},
        "host": {
            "memory": ANY_MACHINE["host"]["memory"],
            "update": measured(update, "adam_benchmark"),
            "copy": measured(copy_speed(), "256 MiB in memory"),
        },
        "disk": {way: measured(value, "ds_nvme_bench") for way, value in dataclasses.asdict(disk).items()},
    }


ASSUMED = {"value": 1e9, "source": "assumed: to ask for amounts, not for seconds"}
ANY_MACHINE = {
    "name": "any",
    "device": {"compute": ASSUMED},
    "host": {"memory": {"value": 20e9, "source": "assumed"}, "update": ASSUMED, "copy": ASSUMED},
    "disk": {"read": ASSUMED, "write": ASSUMED},
}


# ---- a case --------------------------------------------------------------------------------------


def write_json(path: pathlib.Path, value: Any) -> pathlib.Path:
    path.write_text(json.dumps(value))
    return path


def plan_of(
    programs: Programs, case: Case, speeds: Dict[str, Any], space: pathlib.Path, recompute: Optional[bool] = None
) -> Any:
    if recompute is not None:
        case = dataclasses.replace(case, recompute=recompute)
    return programs.json_of(
        "strata", "plan", "--model-config", write_json(space / "config.json", case.shape.config()),
        "--config", write_json(space / "ds_config.json", case.config(programs.nvme)),
        "--machine", write_json(space / "machine.json", speeds), "--seq-len", case.tokens, "--json",
    )["answer"]  # fmt: skip


def measured_seconds(programs: Programs, case: Case, steps: int, space: pathlib.Path) -> List[float]:
    text = space / "text.txt"
    text.write_text("All work and no play makes a dull test of forecasts.\n" * 4000)
    programs.output_of(
        "strata", "finetune", "--model-config", write_json(space / "config.json", case.shape.config()),
        "--config", write_json(space / "ds_config.json", case.config(programs.nvme)),
        "--data", text, "--seq-len", case.tokens, "--steps", WARM_UP + steps, "--output", space / "run",
    )  # fmt: skip
    lines = [json.loads(line) for line in (space / "run/metrics.jsonl").read_text().splitlines()]
    return [line["step_seconds"] for line in lines if "loss" in line][WARM_UP:]


@dataclasses.dataclass(frozen=True)
class Outcome:
    case: Case
    forecast: float
    measured: float
    fastest: float
    slowest: float
    binds: str
    fraction: float

    @property
    def ratio(self) -> float:
        return self.forecast / self.measured


def check(programs: Programs, case: Case, update: float, steps: int) -> Outcome:
    with tempfile.TemporaryDirectory() as directory:
        space = pathlib.Path(directory)
        answer = plan_of(programs, case, machine_file(programs, case, update, space), space)
        overlaps = case.overlap and "nvme" in (case.weights, case.states)
        forecast = answer["overlapped" if overlaps else "serial"]
        seconds = measured_seconds(programs, case, steps, space)
        # Of overlapped steps each ends what another began: their mean is what a step takes.
        return Outcome(
            case, forecast["seconds"], statistics.mean(seconds), min(seconds), max(seconds),
            forecast["binds"], forecast["fraction_of_bound"],
        )  # fmt: skip


def row(outcome: Outcome) -> str:
    shape = outcome.case.shape
    return (
        f"| {outcome.case.name} ({shape.preset}, {outcome.case.tokens} tokens) | {outcome.forecast:.3f} "
        f"| {outcome.measured:.3f} ({outcome.fastest:.3f} to {outcome.slowest:.3f}) | {outcome.ratio:.2f} "
        f"| {outcome.binds} | {outcome.fraction:.2f} |"
    )


def page(options: argparse.Namespace, where: str, outcomes: List[Outcome]) -> str:
    near = sum(1 for outcome in outcomes if abs(outcome.ratio - 1) <= WANTED)
    ratio = statistics.median(outcome.ratio for outcome in outcomes)
    return "\n".join(
        [
            "# Forecast seconds beside measured ones",
            "",
            "What `strata plan` says a step takes, and what `strata finetune` then took, in bf16 with fp32 masters; the",
            "machine's speeds were measured right before each run, on the same machine.",
            "",
            f"**{near} of {len(outcomes)} forecasts are within {WANTED:.0%} of the measured step; the median ratio is "
            f"{ratio:.2f}.**",
            "",
            "| case | forecast, s | measured, s: mean (fastest to slowest) | ratio | binds | bound / forecast |",
            "|---|---|---|---|---|---|",
            *map(row, outcomes),
            "",
            *report.origin(where, f"bench/forecast_check.py --nvme DIR --steps {options.steps}"),
        ]
    )


def main(arguments: List[str]) -> int:
    options = parse_arguments(arguments)
    programs = Programs(options)
    where = machine.describe(options.nvme)
    chosen = [case for case in CASES if not options.only or case.name in options.only]
    updates = {moments: update_speed(programs, moments) for moments in {case.moments for case in chosen}}
    outcomes = []
    for case in chosen:
        outcomes.append(check(programs, case, updates[case.moments], options.steps))
        print(row(outcomes[-1]), file=sys.stderr, flush=True)
    report.publish(page(options, where, outcomes), options.output)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
