"""Processes that take turns at a training step, and what their turns say."""

import dataclasses
import json
import os
import statistics
import subprocess
import tempfile
from typing import Any, Dict, List, Optional

HOPS = ("fetch", "upload", "gather", "compute", "reduce", "drain", "step", "flush")


@dataclasses.dataclass(frozen=True)
class Turn:
    """What a step of a turn took. Strata's say more than others'."""

    answer: Dict[str, Any]

    @property
    def seconds(self) -> float:
        return self.answer["seconds"]

    def busy_seconds(self, hop: str) -> float:
        return self.answer["hops"][HOPS.index(hop)][2] / 1e9

    def wait_seconds(self, hop: str) -> float:
        """How long training stood still for it."""
        return self.answer["hops"][HOPS.index(hop)][3] / 1e9

    @property
    def waits_for_disk(self) -> float:
        """As step_benchmark's report has it: fetch, flush, and an update that is not over yet."""
        return sum(self.wait_seconds(hop) for hop in ("fetch", "flush", "step"))


class Contestant:
    """A process that answers "turn STEPS" and "peak_rss"."""

    def __init__(self, description: str, command: List[object], environment: Dict[str, Optional[str]]) -> None:
        """`environment`: what is set beside this process's; None: what is taken out of it."""
        self.description = description
        self.turns: List[Turn] = []
        self.peak_rss_bytes = 0
        self.failure: Optional[str] = None
        self.log = tempfile.TemporaryFile("w+")
        variables = {**os.environ, **environment}
        self.process = subprocess.Popen(
            [str(word) for word in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True,
            env={name: value for name, value in variables.items() if value is not None},
        )  # fmt: skip

    def ask(self, request: str) -> Any:
        """None once it has ended; `failure` says why then."""
        if self.failure is not None:
            return None
        try:
            self.process.stdin.write(request + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass
        answer = self.process.stdout.readline()
        if answer:
            return json.loads(answer)
        code = self.process.wait()
        self.log.seek(0)
        lines = self.log.read().strip().splitlines()
        self.failure = lines[-1] if lines else f"it ended with {code} and said nothing"
        return None

    def warm_up(self, turns: int) -> None:
        for _ in range(turns):
            self.ask("turn 1")

    def turn(self, steps: int) -> None:
        if answer := self.ask(f"turn {steps}"):
            self.turns.append(Turn(answer))

    def close(self) -> None:
        self.peak_rss_bytes = self.ask("peak_rss") or 0
        self.process.stdin.close()
        self.process.wait()

    @property
    def seconds(self) -> List[float]:
        return [turn.seconds for turn in self.turns]

    @property
    def median_seconds(self) -> float:
        return statistics.median(self.seconds)

    def times(self) -> str:
        """The median, and how far it swings."""
        return f"{self.median_seconds:.3f} ({min(self.seconds):.3f} to {max(self.seconds):.3f})"


def ratio(one: Contestant, other: Contestant) -> float:
    """The median of the rounds' ratios."""
    return statistics.median(a / b for a, b in zip(one.seconds, other.seconds))
