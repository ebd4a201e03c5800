#!/usr/bin/env python3
"""Compares the seconds that `strata plan` forecasts with those that `strata finetune` then takes, for
models, placements, formats and schedules of many kinds, and writes a table as Markdown.

    bench/forecast_check.py --nvme /mnt/nvme --output docs/results/forecast_check.md

Right before each run, and right after it, the machine is measured anew, by `strata plan --machine here`
for the same model and config. Machines that are shared swing: the forecast is the middle of the two. With
--keep DIR each case's machine files and metrics stay, and --again DIR forecasts from them anew without
measuring or running anything.
"""

import argparse
import contextlib
import dataclasses
import json
import pathlib
import shutil
import statistics
import sys
import tempfile
from typing import Any, Dict, List, Optional

import report
from programs import Programs, command_line
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


def parser() -> argparse.ArgumentParser:
    parser = command_line(__doc__)
    parser.add_argument("--steps", type=int, default=8, help="that count, of each run")
    parser.add_argument("--only", action="append", metavar="NAME", help="a case; may be given again")
    parser.add_argument("--keep", type=pathlib.Path, metavar="DIR", help="machine files and metrics of the runs")
    parser.add_argument("--again", type=pathlib.Path, metavar="DIR", help="what --keep kept, in place of this machine")
    return parser


# ---- a case --------------------------------------------------------------------------------------


def write_json(path: pathlib.Path, value: Any) -> pathlib.Path:
    path.write_text(json.dumps(value))
    return path


def plan_of(programs: Programs, case: Case, space: pathlib.Path, *machine_options: object) -> Any:
    return programs.json_of(
        "strata", "plan", "--model-config", write_json(space / "config.json", case.shape.config()),
        "--config", write_json(space / "ds_config.json", case.config(programs.nvme)), *machine_options,
        "--seq-len", case.tokens, "--json",
    )["answer"]  # fmt: skip


def run(programs: Programs, case: Case, steps: int, space: pathlib.Path) -> None:
    """Leaves metrics.jsonl in `space`."""
    text = space / "text.txt"
    text.write_text("All work and no play makes a dull test of forecasts.\n" * 4000)
    with tempfile.TemporaryDirectory() as output:
        programs.output_of(
            "strata", "finetune", "--model-config", write_json(space / "config.json", case.shape.config()),
            "--config", write_json(space / "ds_config.json", case.config(programs.nvme)),
            "--data", text, "--seq-len", case.tokens, "--steps", WARM_UP + steps, "--output", f"{output}/run",
        )  # fmt: skip
        shutil.copy(f"{output}/run/metrics.jsonl", space)


def measured_seconds(space: pathlib.Path) -> List[float]:
    lines = [json.loads(line) for line in (space / "metrics.jsonl").read_text().splitlines()]
    return [line["step_seconds"] for line in lines if "loss" in line][WARM_UP:]


@dataclasses.dataclass(frozen=True)
class Outcome:
    case: Case
    before: float  # forecast from what was measured before the run
    after: float
    measured: float
    fastest: float
    slowest: float
    binds: str
    fraction: float

    @property
    def forecast(self) -> float:
        return (self.before + self.after) / 2

    @property
    def ratio(self) -> float:
        return self.forecast / self.measured


def name_of_files(case: Case) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in case.name)


def check(programs: Programs, case: Case, options: argparse.Namespace) -> Outcome:
    with contextlib.ExitStack() as stack:
        if options.again:
            space = options.again / name_of_files(case)
            files = [path for path in (space / "machine.json", space / "machine_after.json") if path.exists()]
            answers = [plan_of(programs, case, space, "--machine", path) for path in files]
        else:
            space = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
            if options.keep:
                space = options.keep / name_of_files(case)
                space.mkdir(parents=True, exist_ok=True)

            def measured_now(name: str) -> Any:
                return plan_of(programs, case, space, "--machine", "here", "--save-machine", space / name)

            answers = [measured_now("machine.json")]
            run(programs, case, options.steps, space)
            answers.append(measured_now("machine_after.json"))
        seconds = measured_seconds(space)
    overlaps = case.overlap and "nvme" in (case.weights, case.states)
    forecasts = [answer["overlapped" if overlaps else "serial"] for answer in answers]
    # Of overlapped steps each ends what another began: their mean is what a step takes.
    return Outcome(
        case, forecasts[0]["seconds"], forecasts[-1]["seconds"], statistics.mean(seconds), min(seconds),
        max(seconds), forecasts[0]["binds"], forecasts[0]["fraction_of_bound"],
    )  # fmt: skip


def row(outcome: Outcome) -> str:
    shape = outcome.case.shape
    return (
        f"| {outcome.case.name} ({shape.preset}, {outcome.case.tokens} tokens) "
        f"| {outcome.forecast:.3f} ({outcome.before:.3f}, {outcome.after:.3f}) "
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
            "What `strata plan --machine here` says a step takes, and what `strata finetune` took, in bf16 with fp32",
            "masters. The machine is measured right before each run and right after it; the forecast is the middle of the two",
            "that come of it, which stand beside it.",
            "",
            f"**{near} of {len(outcomes)} forecasts are within {WANTED:.0%} of the measured step; the median ratio is "
            f"{ratio:.2f}.**",
            "",
            "| case | forecast, s: middle (before, after) | measured, s: mean (fastest to slowest) | ratio | binds | bound / forecast |",
            "|---|---|---|---|---|---|",
            *map(row, outcomes),
            "",
            *report.origin(where, f"bench/forecast_check.py --nvme DIR --steps {options.steps}"),
        ]
    )


def measured_page(options: argparse.Namespace, programs: Programs, where: str) -> str:
    outcomes = []
    for case in CASES:
        if options.only and case.name not in options.only:
            continue
        outcomes.append(check(programs, case, options))
        print(row(outcomes[-1]), file=sys.stderr, flush=True)
    return page(options, where, outcomes)


if __name__ == "__main__":
    report.run(parser(), measured_page)
