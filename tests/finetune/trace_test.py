"""What `strata finetune --trace` writes, read as any viewer of traces would.

Usage: trace_test.py PROGRAM
"""

import collections
import gzip
import json
import resource
import unittest

import program

HOPS = {"fetch", "upload", "gather", "compute", "reduce", "drain", "step", "flush"}


class Trace(program.WorkspaceTest):
    def finetune(self, **changes):
        options = {f"--{key.replace('_', '-')}": value for key, value in changes.items()}
        return super().finetune(options)

    def events(self) -> list:
        """The file's, by Python's own gzip and JSON."""
        text = gzip.decompress((self.space.output / "trace.json.gz").read_bytes())
        return json.loads(text)["traceEvents"]

    def spans(self) -> list:
        return [event for event in self.events() if event["ph"] == "X"]

    def test_shows_the_traced_steps_alone_in_lanes_with_arrows_and_counters(self) -> None:
        self.finetune(steps=6, trace="steps=3-5")
        spans = self.spans()
        phases = [span["name"] for span in spans if span["cat"] == "phase"]
        self.assertEqual([name for name in phases if name.startswith("step")],
                         ["step 3", "step 4", "step 5"])
        for phase in ("forward", "loss", "backward", "update"):
            self.assertEqual(phases.count(phase), 3, "both micro-batches of a step together")
        self.check_hops(spans)
        self.check_lanes(spans)
        self.check_arrows(spans)
        counters = {event["name"] for event in self.events() if event["ph"] == "C"}
        self.assertEqual(counters, {"device bytes", "host bytes", "nvme bytes",
                                    "nvme bytes under way"})

    def check_hops(self, spans: list) -> None:
        kinds = collections.defaultdict(set)
        names = collections.defaultdict(set)
        for span in spans:
            kinds[span["cat"]].add(span["args"]["kind"])
            names[span["cat"]].add(span["name"])
        # Weights go straight to the device tier here, which is host memory: only what the step beside
        # forward is early enough for is copied there. Gradients go straight from it to their home.
        self.assertEqual(set(kinds) | {"upload"}, HOPS - {"reduce"} | {"phase"})
        self.assertIn("transfer", kinds["fetch"])
        self.assertIn("transfer", kinds["flush"])
        for hop in ("gather", "compute", "drain", "step"):
            self.assertIn("transformer.h.0", names[hop])
        self.assertIn("transformer.h.1 m", names["fetch"])

    def test_transfers_have_the_bytes_that_the_metrics_count(self) -> None:
        first, last = 3, 22
        self.finetune(steps=last + 1, trace=f"steps={first}-{last}")
        moved = collections.Counter()
        for span in self.spans():
            if span["args"]["kind"] == "transfer":
                moved[span["cat"]] += span["args"]["bytes"]
        lines = [json.loads(line) for line in
                 (self.space.output / "metrics.jsonl").read_text().splitlines()]
        traced = [line for line in lines if "loss" in line and first <= line["step"] <= last]
        # A line has what moved since the line before. What a step leaves to be done when it ends,
        # at most all of its bytes, may move between a step and its line: then a line has it, but no
        # traced step. So at each end of the trace one step's bytes may be counted once.
        for hop, key in (("fetch", "read_bytes"), ("flush", "written_bytes")):
            counted = sum(line[key] for line in traced)
            self.assertGreater(counted, 0)
            self.assertLess(abs(moved[hop] - counted), 2.5 / len(traced) * counted, hop)

    def check_lanes(self, spans: list) -> None:
        names = {event["tid"]: event["args"]["name"] for event in self.events()
                 if event["ph"] == "M" and event["name"] == "thread_name"}
        lanes = collections.defaultdict(list)
        for span in spans:
            begin = round(span["ts"] * 1000)
            lanes[span["tid"]].append((begin, -(begin + round(span["dur"] * 1000))))
            hop = "run" if span["cat"] == "phase" else span["cat"]
            self.assertIn(hop, names[span["tid"]])
            if "slot" in span["args"]:
                self.assertIn(f"slot {span['args']['slot']}", names[span["tid"]])
        self.assertEqual(set(lanes), set(names), "a lane without spans")
        for lane, places in lanes.items():
            open_ends: list = []
            for begin, minus_end in sorted(places):
                while open_ends and open_ends[-1] <= begin:
                    open_ends.pop()
                if open_ends:
                    self.assertLessEqual(-minus_end, open_ends[-1], names[lane])
                open_ends.append(-minus_end)

    def check_arrows(self, spans: list) -> None:
        def slices_at(event: dict) -> list:
            return [span for span in spans if span["tid"] == event["tid"]
                    and span["ts"] <= event["ts"] <= span["ts"] + span["dur"]]

        ends = {phase: {event["id"]: event for event in self.events() if event["ph"] == phase}
                for phase in "sf"}
        self.assertEqual(set(ends["s"]), set(ends["f"]))
        uses = collections.Counter()
        for number, leaving in ends["s"].items():
            reaching = ends["f"][number]
            self.assertLessEqual(leaving["ts"], reaching["ts"])
            self.assertTrue(any(span["args"]["kind"] == "transfer" or span["cat"] == "upload"
                                for span in slices_at(leaving)))
            (use,) = slices_at(reaching)[-1:]
            uses[use["cat"]] += 1
        self.assertGreater(uses["compute"], 0)
        self.assertGreater(uses["step"], 0)

    def test_is_there_only_when_asked_for_and_changes_no_loss(self) -> None:
        def losses(output) -> list:
            return [json.loads(line)["loss"] for line in
                    (output / "metrics.jsonl").read_text().splitlines()]

        self.finetune(steps=3, trace="steps=2")
        plain = self.space.path / "plain"
        self.finetune(steps=3, output=plain)
        self.assertEqual(losses(plain), losses(self.space.output))
        self.assertEqual({file.name for file in self.space.output.iterdir()}
                         - {file.name for file in plain.iterdir()}, {"trace.json.gz"})

    def test_a_run_that_ends_early_leaves_what_was_traced(self) -> None:
        self.finetune(steps=1000000, max_minutes=0.003, trace="steps=1-100")
        self.assertIn("step 1", [span["name"] for span in self.spans()])

    def test_a_trace_that_cannot_be_written_costs_neither_run_nor_model(self) -> None:
        limit = 75000  # the model is smaller, the trace of so many steps larger
        self.space.write("ds.json", {**program.EVERYTHING_ON_NVME,
                                     "zero_optimization": {"stage": 3}})
        result = self.space.finetune(
            {"--steps": 100, "--trace": "steps=1-100"},
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("without a trace", result.stderr)
        self.assertIn("trace.json.gz", result.stderr)
        self.assertEqual([file.name for file in self.space.output.iterdir()
                          if "trace" in file.name], [])


if __name__ == "__main__":
    unittest.main(verbosity=2)
