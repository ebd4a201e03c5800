"""`strata export`: checkpoints as other programs read them.

Usage: export_test.py PROGRAM
"""

import json
import pathlib
import struct
import subprocess
import sys
import unittest
from typing import Any, Optional

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))
from support.hugging_face import safetensors, torch  # skips the test where they are not there

import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader

import program

Tensors = dict[str, torch.Tensor]


def load(path: pathlib.Path) -> Tensors:
    return safetensors.torch.load_file(path)


def joined(weight: torch.Tensor, low: torch.Tensor) -> torch.Tensor:
    """The fp32 masters of bf16 weights, by the formula of checkpoint.h."""
    shift = 8 if low.dtype == torch.int8 else 0
    high = weight.view(torch.int16).to(torch.int32) << 16
    return (high + (low.to(torch.int32) << shift)).view(torch.float32)


def moments_in_blocks(codes: torch.Tensor, is_v: bool, count: int) -> torch.Tensor:
    """Moments of one byte, block by block, code by code (decision 0015)."""
    values = []
    for block in codes.tolist():
        bits = sum((code & 1) << i for i, code in enumerate(block[:16]))
        (scale,) = struct.unpack("<f", struct.pack("<I", bits << 16))
        unit = torch.tensor(scale) * torch.tensor(1.0 / (254 if is_v else 126))
        for i, code in enumerate(block):
            if i < 16:
                code &= 0xFE
            if is_v:
                values.append((code * unit) ** 2)
            else:
                values.append((code - 256 if code > 127 else code) * unit)
    return torch.stack(values)[:count]


class Export(program.WorkspaceTest):
    def export(self, *words: Any) -> subprocess.CompletedProcess:
        return subprocess.run(
            [program.PROGRAM, "export", *map(str, words)], cwd=self.space.path,
            capture_output=True, text=True, timeout=60, check=False, env=program.environment())

    def exported(self, *words: Any) -> pathlib.Path:
        output = self.space.path / "exported"
        result = self.export("output.checkpoints", "--output", output, *words)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("after 2 steps", result.stdout)
        moved = output.with_name(f"exported_{len(list(self.space.path.iterdir()))}")
        return output.rename(moved)

    def train(self, config: Optional[dict] = None) -> pathlib.Path:
        self.space.write("ds.json", program.EVERYTHING_ON_NVME | (config or {}))
        self.finetune({"--steps": 2, "--save-every": 2})
        return self.space.path / "output.checkpoints" / "step_00000002"

    def read_by_torch(self, path: pathlib.Path, checkpoint: pathlib.Path, states: list[str]) -> dict:
        """Everything, read by PyTorch into a nested dictionary as programs have it."""
        weights = load(checkpoint / "weight.safetensors")
        found: dict = {
            "model": {name: torch.empty(w.shape) for name, w in weights.items()},
            "optim": {"state": {name: {key: torch.empty(() if key == "step" else w.shape) for key in states}
                                for name, w in weights.items()}}}
        dcp.load(found, storage_reader=HuggingFaceStorageReader(str(path)))
        return found

    def test_a_model_is_what_finetune_wrote_and_other_formats_are_its_masters_rounded(self) -> None:
        checkpoint = self.train({"strata": {"tile_bytes": 2048}})  # in tiles: rows and columns
        trained = self.space.output
        exported = self.exported("--to", "huggingface", "--model-config", "model.json")
        for name in ("model.safetensors", "config.json"):
            self.assertEqual((exported / name).read_bytes(), (trained / name).read_bytes(), name)

        (trained / "tokenizer.json").write_text("{}")
        wide = self.exported("--to", "huggingface", "--model", trained, "--dtype", "fp32")
        self.assertEqual((wide / "tokenizer.json").read_text(), "{}")
        self.assertEqual(json.loads((wide / "config.json").read_text())["torch_dtype"], "float32")
        masters = load(wide / "model.safetensors")
        whole = "transformer.h.0.attn.c_attn.weight"
        weights = load(checkpoint / "weight.safetensors")
        low = load(checkpoint / "master.safetensors")
        tiles = [joined(weights[name], low[name]) for name in (f"tile_{i}.{whole}" for i in range(3))]
        self.assertTrue(torch.equal(masters[whole], torch.cat(tiles, dim=1)))
        half = self.exported("--to", "huggingface", "--model", trained, "--dtype", "fp16")
        for name, value in load(half / "model.safetensors").items():
            self.assertTrue(torch.equal(value, masters[name].half()), name)

    def test_pytorch_reads_masters_moments_and_steps(self) -> None:
        checkpoint = self.train()
        exported = self.exported("--to", "dcp")
        found = self.read_by_torch(exported, checkpoint, ["exp_avg", "exp_avg_sq", "step"])
        weights, low, m, v = (load(checkpoint / f"{kind}.safetensors") for kind in ("weight", "master", "m", "v"))
        for name, weight in weights.items():
            self.assertTrue(torch.equal(found["model"][name], joined(weight, low[name])), name)
            state = found["optim"]["state"][name]
            self.assertTrue(torch.equal(state["exp_avg"], m[name]), name)
            self.assertTrue(torch.equal(state["exp_avg_sq"], v[name]), name)
            self.assertEqual(state["step"].item(), 2, name)
        rounded = load(self.exported("--to", "dcp", "--dtype", "bf16") / "model-00001-of-00001.safetensors")
        for name, weight in weights.items():
            self.assertTrue(torch.equal(rounded[f"model.{name}"], weight), name)

    def test_states_of_few_bits_are_widened(self) -> None:
        checkpoint = self.train({"strata": {"states": {"moments": "int8", "master": "24bit"}}})
        exported = self.exported("--to", "dcp")
        found = self.read_by_torch(exported, checkpoint, ["exp_avg", "exp_avg_sq"])
        weights, low, m, v = (load(checkpoint / f"{kind}.safetensors") for kind in ("weight", "master", "m", "v"))
        for name in ("transformer.wpe.weight", "transformer.h.1.ln_2.bias"):
            self.assertTrue(torch.equal(found["model"][name], joined(weights[name], low[name])), name)
            state = found["optim"]["state"][name]
            for key, codes in (("exp_avg", m[name]), ("exp_avg_sq", v[name])):
                slow = moments_in_blocks(codes, key == "exp_avg_sq", weights[name].numel())
                self.assertTrue(torch.equal(state[key].flatten(), slow), (name, key))
                self.assertGreater(state[key].abs().max().item(), 0)

    def test_what_cannot_be_exported_is_refused_by_name_and_leaves_nothing(self) -> None:
        checkpoint = self.train()
        self.space.write("other.json", program.TINY_MODEL | {"n_embd": 64})
        self.space.write("deeper.json", program.TINY_MODEL | {"n_layer": 3})
        self.space.write("shallower.json", program.TINY_MODEL | {"n_layer": 1})
        before = sorted(self.space.path.iterdir())

        def refused(code: int, reason: str, *words: Any, output: str = "exported") -> None:
            result = self.export(checkpoint, "--output", output, *words)
            self.assertEqual(result.returncode, code, result.stderr)
            self.assertIn(reason, result.stderr)
            self.assertEqual(sorted(self.space.path.iterdir()), before)

        refused(2, "--model", "--to", "huggingface")
        refused(2, "--to", "--to", "gguf")
        refused(2, "not empty", "--to", "dcp", output="output")
        for name, reason in (("other", "transformer.wte.weight is"), ("deeper", "has no transformer.h.2"),
                             ("shallower", "transformer.h.1")):
            refused(1, reason, "--to", "huggingface", "--model-config", f"{name}.json")
        for kind in ("v", "weight"):
            file = checkpoint / f"{kind}.safetensors"
            whole = file.read_bytes()
            file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
            refused(1, file.name, "--to", "dcp")
            file.write_bytes(whole)


if __name__ == "__main__":
    unittest.main(verbosity=2)
