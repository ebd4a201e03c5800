"""What `strata report` makes of a run, read by a parser of HTML and compared with the metrics.

Usage: report_test.py PROGRAM
"""

import html.parser
import json
import pathlib
import subprocess
import unittest

import program

UNCLOSED = {"meta", "br", "hr", "img", "input", "link"}


class Page(html.parser.HTMLParser):
    """Collects what a page shows, and refuses elements that are not closed in their turn."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list = []
        self.tooltips: list = []
        self.figures: dict = {}
        self.headings: list = []
        self.rows: list = []
        self.addresses: list = []
        self.feed(text)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag: str, attributes: list) -> None:
        self.addresses += [value for key, value in attributes if key in ("src", "href", "xlink:href")]
        if tag not in UNCLOSED:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_startendtag(self, tag: str, attributes: list) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, (tag, self.open)
        self.open.pop()

    def handle_data(self, data: str) -> None:
        inside = self.open[-1] if self.open else ""
        if inside in ("td", "th"):
            self.rows[-1][-1] += data
        elif inside == "title" and "svg" in self.open:
            self.tooltips.append(data)
        elif inside == "span":
            self.figures[data] = ""
        elif inside == "b":
            self.figures[list(self.figures)[-1]] = data
        elif inside == "h2":
            self.headings.append(data)

    def table(self, first_head: str, second_head: str) -> dict:
        """The rows below a head that begins so, by their first cell."""
        begin = next(i for i, row in enumerate(self.rows) if row[:2] == [first_head, second_head])
        heads = self.rows[begin]
        rows = {}
        for row in self.rows[begin + 1:]:
            if len(row) != len(heads) or row[0] == "hop":
                break
            rows[row[0]] = dict(zip(heads, row))
        return rows


class Report(program.WorkspaceTest):
    def report(self, *arguments) -> subprocess.CompletedProcess:
        return subprocess.run([program.PROGRAM, "report", *map(str, arguments)], cwd=self.space.path,
                              capture_output=True, text=True, check=False, timeout=60)

    def train(self, **changes) -> None:
        result = self.space.finetune({f"--{key}": value for key, value in changes.items()})
        self.assertEqual(result.returncode, 0, result.stderr)

    def steps(self) -> list:
        lines = (self.space.output / "metrics.jsonl").read_text().splitlines()
        return [line for line in map(json.loads, lines) if "loss" in line]

    def test_a_page_shows_the_numbers_of_the_metrics_and_of_the_trace(self) -> None:
        self.train(**{"steps": 5, "val-fraction": 0.2, "trace": "steps=3-4"})
        result = self.report("output")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(result.stdout, "output/report.html\n")
        text = (self.space.output / "report.html").read_text(encoding="utf-8")
        page = Page(text)
        self.assertEqual(page.addresses, [], "the page needs something else")
        self.assertNotIn("http", text)
        steps = self.steps()
        self.check_steps(page, steps)
        self.check_hops(page, steps)
        self.check_trace(page)

    def check_steps(self, page: Page, steps: list) -> None:
        first, last = (f"{steps[i]['loss']:.4f}" for i in (0, -1))
        self.assertEqual(page.figures["training loss"], f"{first} → {last}")
        seconds = sum(step["step_seconds"] for step in steps)
        tokens = sum(step["step_seconds"] * step["tokens_per_second"] for step in steps)
        self.assertEqual(page.figures["tokens/s"], f"{tokens / seconds:.1f}")
        rows = page.table("step", "loss")
        self.assertEqual(len(rows), len(steps))
        for step in steps:
            self.assertIn(f"step {step['step']}: {step['loss']:.4f}", page.tooltips)
            self.assertIn(f"step {step['step']}: {step['tokens_per_second']:.1f}", page.tooltips)
            for tier in ("device", "host", "nvme"):
                self.assertIn(f"step {step['step']}: {step[tier + '_bytes']:,} bytes", page.tooltips)
            row = rows[str(step["step"])]
            self.assertEqual(row["loss"], f"{step['loss']:.4f}")
            self.assertEqual(row["read bytes"], f"{step['read_bytes']:,}")
            self.assertEqual(row["seconds"], f"{step['step_seconds']:.4f}")

    def check_hops(self, page: Page, steps: list) -> None:
        rows = page.table("hop", "bytes")
        seconds = sum(step["step_seconds"] for step in steps)
        for number, hop in enumerate(steps[0]["hops"], start=1):
            row = rows[f"{number} {hop}"]
            moved = sum(step["hops"][hop]["bytes"] for step in steps)
            waited = sum(step["hops"][hop]["wait_seconds"] for step in steps)
            self.assertEqual(row["bytes"], f"{moved:,}")
            self.assertEqual(row["GB/s"], f"{moved / seconds / 1e9:.3f}" if moved else "")
            self.assertEqual(row["exposed s"], f"{waited:.3f}")
        self.assertEqual(rows["1 fetch"]["bytes"], f"{sum(s['read_bytes'] for s in steps):,}")

    def check_trace(self, page: Page) -> None:
        self.assertIn("A traced step", page.headings)
        self.assertIn("Hops in the traced steps", page.headings)
        shown = [tooltip for tooltip in page.tooltips if "4 compute: work" in tooltip]
        self.assertEqual(len(shown), 1)
        stalls = page.table("unit", "hop")
        self.assertTrue(any("transformer" in unit for unit in stalls), stalls)

    def test_without_a_trace_the_page_has_what_there_is(self) -> None:
        self.train(steps=2)
        page_file = self.space.path / "elsewhere.html"
        result = self.report(self.space.output, "--output", page_file)
        self.assertEqual(result.returncode, 0, result.stderr)
        page = Page(page_file.read_text(encoding="utf-8"))
        self.assertFalse([heading for heading in page.headings if "trace" in heading])
        self.assertFalse((self.space.output / "report.html").exists())

    def test_what_is_no_run_or_damaged_is_refused_and_no_page_is_left(self) -> None:
        self.train(steps=2, trace="steps=1")
        metrics = self.space.output / "metrics.jsonl"
        whole = metrics.read_text()
        self.refused(2, ["nvme", "metrics.jsonl"], "nvme")
        self.refused(2, ["none", "metrics.jsonl"], "none")
        self.refused(2, ["RUN"])
        self.refused(2, ["--outputt"], "output", "--outputt", "x")
        self.refused(1, ["missing"], "output", "--output", "missing/page.html")
        metrics.write_text(whole[:-20])
        self.refused(1, ["metrics.jsonl:2"], "output")
        metrics.write_text("\n" + whole)
        self.refused(1, ["metrics.jsonl:1"], "output")
        metrics.write_text(whole)
        trace = self.space.output / "trace.json.gz"
        trace.write_bytes(trace.read_bytes()[:100])
        self.refused(1, ["trace.json.gz"], "output")

    def refused(self, code: int, words: list, *arguments: str) -> None:
        result = self.report(*arguments)
        self.assertEqual(result.returncode, code, result.stderr)
        self.assertEqual(len(result.stderr.splitlines()), 1, result.stderr)
        for word in words:
            self.assertIn(word, result.stderr)
        pages = [path for path in pathlib.Path(self.space.path).rglob("*report.html*")]
        self.assertEqual(pages, [])


if __name__ == "__main__":
    unittest.main(verbosity=2)
