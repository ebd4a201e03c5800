"""Runs `strata finetune` from random weights for a few steps. It is ended then: no model is written, which
would take as long as a step, and space on the disk."""

import dataclasses
import json
import os
import pathlib
import re
import signal
import subprocess
import tempfile
import time
from typing import Any, Callable, Dict, List, Optional

from programs import DiskSpeeds, Programs

METRICS = re.compile(r"metrics while it runs: (.*)")
PLACED = re.compile(r"initial values: placed in ([\d.]+) s")
STEP = re.compile(r"step: *(\d+)/")
INTERRUPTED = 130


@dataclasses.dataclass(frozen=True)
class Training:
    steps: List[Dict[str, Any]]  # lines of metrics.jsonl
    placement_seconds: float  # of all initial values, from their making to their home
    placement_bytes: int  # what the process had written to disks by then
    peak_rss_bytes: int


def gpt2(layers: int, width: int, vocabulary: int = 50304) -> Dict[str, Any]:
    """A config.json without dropout, which counts as no arithmetic."""
    return {
        "model_type": "gpt2", "n_layer": layers, "n_embd": width, "n_head": width // 64,
        "n_positions": 1024, "vocab_size": vocabulary,
        "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0,
    }  # fmt: skip


def all_on_nvme(nvme: pathlib.Path, **strata: Any) -> Dict[str, Any]:
    """A ds_config.json: bf16, clipping, one micro-batch of one sequence."""
    return {
        "bf16": {"enabled": True}, "gradient_clipping": 1.0, "train_micro_batch_size_per_gpu": 1,
        "optimizer": {"type": "AdamW", "params": {"lr": 1e-4}},
        "zero_optimization": {
            "stage": 3, "offload_param": {"device": "nvme"}, "offload_optimizer": {"device": "nvme"},
        },
        "strata": {"nvme": [str(nvme)], **strata},
    }  # fmt: skip


def plan(
    programs: Programs, model: Dict[str, Any], config: Dict[str, Any], disk: DiskSpeeds, *, tokens: int
) -> Dict[str, Any]:
    """What `strata plan` answers for bytes: they follow from budgets and schedule, and its seconds, for which no
    arithmetic is measured here, mean nothing."""
    assumed = {"value": 1e12, "source": "assumed: as much as is needed"}

    def measured(value: float) -> Dict[str, Any]:
        return {"value": value, "source": "measured with ds_nvme_bench"}

    machine = {
        "name": "this machine's disk",
        "device": {"compute": assumed},
        "host": {"memory": assumed, "update": assumed, "copy": assumed},
        "disk": {"read": measured(disk.read), "write": measured(disk.write), "overlap": measured(disk.overlap)},
    }
    with tempfile.TemporaryDirectory() as name:
        files = {"model-config": model, "config": config, "machine": machine}
        options: List[object] = []
        for option, content in files.items():
            file = pathlib.Path(name) / f"{option}.json"
            file.write_text(json.dumps(content))
            options += [f"--{option}", file]
        return programs.json_of("strata", "plan", *options, "--seq-len", tokens, "--json")["answer"]


def written_bytes(process: int) -> int:
    text = pathlib.Path(f"/proc/{process}/io").read_text()
    return int(re.findall(r"^write_bytes: (\d+)", text, re.MULTILINE)[0])


class Follower:
    """Reads what a run prints, and what it leaves in its metrics. After each step but the last one the run stands
    still for `between`, where there is one. That time is taken out of a step's seconds; of its other times it is not."""

    def __init__(self, process: "subprocess.Popen[str]", between: Optional[Callable[[], None]]) -> None:
        self.process = process
        self.between = between
        self.pauses = [0.0]  # before each step, seconds
        self.lines: List[str] = []
        self.metrics: Optional[pathlib.Path] = None
        self.placement_seconds = 0.0
        self.placement_bytes = 0

    def follow(self, steps: int) -> List[Dict[str, Any]]:
        """Ends the process after so many steps, and returns their metrics."""
        for line in self.process.stdout:
            self.lines.append(line)
            if found := METRICS.search(line):
                self.metrics = pathlib.Path(found[1])
            elif found := PLACED.search(line):
                self.placement_seconds = float(found[1])
                self.placement_bytes = written_bytes(self.process.pid)
            elif (found := STEP.match(line)) and int(found[1]) < steps:
                self.pause()
            elif found:
                records = [json.loads(record) for record in self.metrics.read_text().splitlines()]
                self.process.send_signal(signal.SIGINT)
                self.lines.extend(self.process.stdout)
                return [{**record, "step_seconds": record["step_seconds"] - pause}
                        for record, pause in zip(records, self.pauses)]  # fmt: skip
        return []

    def pause(self) -> None:
        if self.between is None:
            self.pauses.append(0.0)
            return
        self.process.send_signal(signal.SIGSTOP)
        start = time.monotonic()
        try:
            self.between()
        finally:
            self.process.send_signal(signal.SIGCONT)
        self.pauses.append(time.monotonic() - start)


def train(
    programs: Programs, model: Dict[str, Any], config: Dict[str, Any], *, tokens: int, steps: int,
    log: Optional[pathlib.Path] = None, between: Optional[Callable[[], None]] = None,
) -> Training:  # fmt: skip
    """Throws CalledProcessError, with what was printed, for a run that ends before its steps."""
    with tempfile.TemporaryDirectory(dir=programs.nvme) as name:
        space = pathlib.Path(name)
        (space / "config.json").write_text(json.dumps(model))
        (space / "ds_config.json").write_text(json.dumps({**config, "steps_per_print": 1}))
        (space / "text.txt").write_text("All work and no play makes a dull benchmark of a step.\n" * 4000)
        command = programs.command(
            "strata", "finetune", "--model-config", space / "config.json", "--config", space / "ds_config.json",
            "--data", space / "text.txt", "--seq-len", tokens, "--steps", steps + 1, "--output", space / "run",
        )  # fmt: skip
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        follower = Follower(process, between)
        records = follower.follow(steps)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        process.stdout.close()
        if log:
            log.write_text("".join(follower.lines))
        if not records or process.returncode != INTERRUPTED:
            raise subprocess.CalledProcessError(process.returncode, command, "".join(follower.lines))
    return Training(records, follower.placement_seconds, follower.placement_bytes, usage.ru_maxrss << 10)
