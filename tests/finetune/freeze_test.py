"""Parameters that `strata finetune` freezes or trains at rates of their own, by patterns of their names.

Usage: freeze_test.py PROGRAM
"""

import json
import pathlib
import struct
import subprocess
import unittest

import program

PATTERNS = ["wte.*", "wpe.*", "h.[0-0].*", "*.bias"]


def tensors_of(path: pathlib.Path) -> dict[str, bytes]:
    data = (path / "model.safetensors").read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8:8 + length])
    header.pop("__metadata__")
    body = data[8 + length:]
    return {name: body[slice(*tensor["data_offsets"])] for name, tensor in header.items()}


class Freeze(program.WorkspaceTest):
    def configure(self, **strata) -> None:
        self.space.write("ds.json", {**program.EVERYTHING_ON_NVME, "strata": {"host_cache": False, **strata}})

    def changed(self, **strata) -> dict[str, bool]:
        """Which tensors four steps change; of the same beginning every time."""
        before = self.space.path / "before"
        if not before.exists():
            self.configure(parameter_groups=[{"params": ["*"], "lr": 0.0}])
            self.finetune({"--output": before})
        self.configure(**strata)
        self.result = self.finetune({"--output": "after", "--steps": 4})
        after = self.space.path / "after"
        first, second = tensors_of(before), tensors_of(after)
        self.written = sum(json.loads(line).get("written_bytes", 0)
                           for line in (after / "metrics.jsonl").read_text().splitlines())
        subprocess.run(["rm", "-r", str(after)], check=True)
        self.assertEqual(first.keys(), second.keys())
        return {name: first[name] != second[name] for name in first}

    def test_what_is_frozen_is_written_as_it_was_and_the_others_are_trained(self) -> None:
        self.assertTrue(all(self.changed().values()))
        written_by_all = self.written
        changed = self.changed(freeze=PATTERNS)
        for name, is_changed in changed.items():
            is_trained = (".h.1." in name or ".ln_f." in name) and not name.endswith(".bias")
            self.assertEqual(is_changed, is_trained, name)
        self.assertIn("parameters; the others are frozen", self.result.stderr)
        self.assertLess(self.written, 0.6 * written_by_all)

    def test_groups_have_their_own_rates(self) -> None:
        changed = self.changed(parameter_groups=[{"params": ["*"], "lr": 0.0}, {"params": ["h.1.*"], "lr_scale": 2}])
        for name, is_changed in changed.items():
            self.assertEqual(is_changed, ".h.1." in name, name)

    def test_what_matches_nothing_or_leaves_nothing_is_refused(self) -> None:
        for strata, words in (
                ({"freeze": ["wte.*", "layers.0.*"]}, 'strata.freeze: the pattern "layers.0.*" matches no parameter'),
                ({"freeze": ["*"]}, "strata.freeze: all parameters of the model match"),
                ({"parameter_groups": [{"params": ["x.*"], "lr": 1}]},
                 'strata.parameter_groups[0].params: the pattern "x.*" matches no parameter'),
                ({"parameter_groups": [{"params": ["*"], "lr": 1, "lr_scale": 2}]}, "has both lr"),
                ({"parameter_groups": [{"lr": 1}]}, "names no parameters"),
                ({"parameter_groups": [{"params": ["*"], "betas": [0, 0]}]}, "betas: is no key of a group"),
                ({"parameter_groups": [{"params": ["*"], "weight_decay": -1}]}, "weight_decay: -1 is too small")):
            with self.subTest(words):
                self.configure(**strata)
                refused = self.space.finetune({})
                self.assertEqual(refused.returncode, 2, refused.stderr)
                self.assertIn(words, refused.stderr)
                self.assertFalse(self.space.output.exists())

    def test_a_plan_has_no_room_for_what_frozen_ones_do_not_need(self) -> None:
        machine = pathlib.Path(__file__).parents[2] / "configs/machines/workstation_24gb.json"

        def plan(**strata) -> subprocess.CompletedProcess:
            self.configure(**strata)
            return subprocess.run(
                [program.PROGRAM, "plan", "--preset", "gpt2", "--config", "ds.json", "--machine", machine, "--json"],
                cwd=self.space.path, capture_output=True, text=True, timeout=60, check=False)

        whole, part = (json.dumps(json.loads(plan(**strata).stdout)) for strata in ({}, {"freeze": PATTERNS}))
        self.assertNotEqual(whole, part)
        refused = plan(freeze=["layers.*"])
        self.assertEqual(refused.returncode, 2, refused.stderr)
        self.assertIn('"layers.*" matches no parameter', refused.stderr)


if __name__ == "__main__":
    unittest.main()
