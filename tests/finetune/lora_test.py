"""Adapters that `strata finetune --lora` trains, and `strata export --merge` merges.

Usage: lora_test.py PROGRAM
"""

import json
import pathlib
import struct
import subprocess
import unittest

import program

LLAMA = {
    "model_type": "llama", "vocab_size": 256, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 32, "tie_word_embeddings": False,
}
USAGE, FAILED = 2, 1


def safetensors_of(path: pathlib.Path) -> dict[str, tuple[dict, bytes]]:
    data = path.read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8:8 + length])
    header.pop("__metadata__")
    body = data[8 + length:]
    return {name: (tensor, body[slice(*tensor["data_offsets"])]) for name, tensor in header.items()}


class Lora(program.WorkspaceTest):
    def setUp(self) -> None:
        super().setUp()
        self.base = self.space.path / "base"
        self.space.write("model.json", LLAMA)
        self.finetune({"--output": self.base, "--steps": 30})
        (self.base / "tokenizer_config.json").write_text("{}")

    def adapt(self, output: str, changes: dict) -> subprocess.CompletedProcess:
        return self.space.finetune({"--model-config": None, "--model": self.base, "--output": output,
                                    "--tokenizer": "bytes", **changes})

    def adapted(self, output: str, changes: dict) -> pathlib.Path:
        self.result = self.adapt(output, changes)
        self.assertEqual(self.result.returncode, 0, self.result.stderr)
        return self.space.path / output

    def metrics(self, path: pathlib.Path, key: str) -> list:
        lines = map(json.loads, (path / "metrics.jsonl").read_text().splitlines())
        return [line[key] for line in lines if key in line]

    def test_writes_the_adapter_alone_as_peft_has_it(self) -> None:
        files = {file: file.read_bytes() for file in self.base.rglob("*") if file.is_file()}
        path = self.adapted("out", {"--lora": "r=4,alpha=8,dropout=0.1", "--steps": 20})
        self.assertEqual({file: file.read_bytes() for file in self.base.rglob("*") if file.is_file()}, files)
        self.assertEqual(
            sorted(file.name for file in path.iterdir()),
            ["README.md", "adapter_config.json", "adapter_model.safetensors", "ds_config.json", "metrics.jsonl",
             "runs", "tokenizer_config.json", "train_results.json"])
        card = (path / "README.md").read_text()
        for words in ("library_name: peft", "beside the model `base`", "LoRA, rank 4, alpha 8, dropout 0.1, of q_proj v_proj"):
            self.assertIn(words, card)
        config = json.loads((path / "adapter_config.json").read_text())
        self.assertEqual((config["peft_type"], config["r"], config["lora_alpha"], config["lora_dropout"]),
                         ("LORA", 4, 8, 0.1))
        self.assertEqual(config["target_modules"], ["q_proj", "v_proj"])
        self.assertEqual(config["base_model_name_or_path"], str(self.base))
        shapes = {name: tuple(tensor["shape"])
                  for name, (tensor, _) in safetensors_of(path / "adapter_model.safetensors").items()}
        self.assertEqual(shapes, {
            f"base_model.model.model.layers.{layer}.self_attn.{name}.weight": shape for layer in range(2)
            for name, shape in (("q_proj.lora_A", (4, 32)), ("q_proj.lora_B", (32, 4)),
                                ("v_proj.lora_A", (4, 32)), ("v_proj.lora_B", (16, 4)))})
        losses = self.metrics(path, "loss")
        self.assertLess(losses[-1], losses[0], "the loss does not fall")
        self.assertIn("trained: 896 parameters; the others are frozen", self.result.stderr)

    def test_no_byte_of_the_base_is_written(self) -> None:
        path = self.adapted("out", {"--lora": "r=1,targets=v_proj", "--steps": 10})
        # 96 trained numbers in vectors that are padded to blocks of 64, in bf16 with AdamW: weight, master, two moments.
        per_step = 2 * 2 * 64 * 12
        self.assertLessEqual(max(self.metrics(path, "written_bytes")), 2 * per_step)

    def test_goes_on_with_an_adapter(self) -> None:
        first = self.adapted("first", {"--lora": "r=4,targets=all-linear", "--steps": 30, "--val-fraction": 0.2})
        again = self.adapted("again", {"--adapter": first, "--steps": 2, "--val-fraction": 0.2})
        self.assertEqual(self.metrics(first, "eval_loss")[-1], self.metrics(again, "eval_loss")[0])
        ours, theirs = (json.loads((path / "adapter_config.json").read_text()) for path in (first, again))
        self.assertEqual(ours, theirs)

    def test_merged_is_the_model_with_the_adapter(self) -> None:
        self.space.write("ds.json", {**program.EVERYTHING_ON_NVME, "bf16": {"enabled": False}})
        first = self.adapted("first", {"--lora": "r=4,targets=all-linear", "--steps": 30, "--val-fraction": 0.2})
        result = self.export("first", "--merge", "--model", self.base, "--output", "merged", "--dtype", "fp32")
        self.assertEqual(result.returncode, 0, result.stderr)
        merged = self.space.path / "merged"
        self.assertEqual(sorted(file.name for file in merged.iterdir()),
                         ["config.json", "model.safetensors", "tokenizer_config.json"])
        base, whole = (safetensors_of(path / "model.safetensors") for path in (self.base, merged))
        self.assertEqual({name: tensor["shape"] for name, (tensor, _) in base.items()},
                         {name: tensor["shape"] for name, (tensor, _) in whole.items()})
        again = self.space.finetune({"--model-config": None, "--model": merged, "--output": "again",
                                     "--tokenizer": "bytes", "--val-fraction": 0.2})
        self.assertEqual(again.returncode, 0, again.stderr)
        self.assertAlmostEqual(self.metrics(first, "eval_loss")[-1],
                               self.metrics(self.space.path / "again", "eval_loss")[0], places=4)
        # So does what is made of them.
        self.space.write("p.ids", "83 104 101\n")
        made = [self.generated("--model", merged), self.generated("--model", self.base, "--adapter", first)]
        self.assertEqual(*made)
        self.assertNotEqual(made[0], self.generated("--model", self.base))
        # In the base's own format what has no adapter stays as it is, bit for bit.
        self.adapted("one", {"--lora": "r=4,targets=q_proj", "--steps": 5})
        result = self.export("one", "--merge", "--model", self.base, "--output", "kept")
        self.assertEqual(result.returncode, 0, result.stderr)
        kept = safetensors_of(self.space.path / "kept" / "model.safetensors")
        for name, (tensor, data) in base.items():
            self.assertEqual(kept[name][0], tensor)
            self.assertEqual(kept[name][1] != data, "q_proj" in name, name)

    def generated(self, *arguments) -> str:
        result = subprocess.run(
            [program.PROGRAM, "generate", "--tokens", "p.ids", "--max-new-tokens", "20", "--config", "ds.json", "--nvme",
             "nvme", *map(str, arguments)], cwd=self.space.path, capture_output=True, text=True, timeout=60, check=False)
        self.assertEqual(result.returncode, 0, result.stderr)
        return result.stdout

    def export(self, *arguments) -> subprocess.CompletedProcess:
        return subprocess.run([program.PROGRAM, "export", *map(str, arguments)], cwd=self.space.path,
                              capture_output=True, text=True, timeout=60, check=False)

    def test_a_run_goes_on_from_its_checkpoint_and_not_with_another_adapter(self) -> None:
        saved = {"--lora": "r=4", "--steps": 4, "--save-every": 2, "--resume": True}
        whole = self.adapted("whole", {**saved, "--steps": 6})
        self.adapted("part", saved)
        subprocess.run(["rm", "-r", "part"], cwd=self.space.path, check=True)
        refused = self.adapt("part", {**saved, "--lora": "r=4,alpha=9", "--steps": 6})
        self.assertEqual(refused.returncode, USAGE, refused.stderr)
        self.assertIn("the adapters (--lora, --adapter)", refused.stderr)
        part = self.adapted("part", {**saved, "--steps": 6})
        self.assertEqual((part / "adapter_model.safetensors").read_bytes(),
                         (whole / "adapter_model.safetensors").read_bytes())

    def test_what_cannot_be_obeyed_is_refused(self) -> None:
        first = self.adapted("first", {"--lora": "r=4"})
        config = json.loads((first / "adapter_config.json").read_text())
        for name, changes in (("dora", {"use_dora": True}), ("wide", {"r": 5}), ("more", {"target_modules": ["q_proj"]})):
            (self.space.path / name).mkdir()
            self.space.write(f"{name}/adapter_config.json", {**config, **changes})
            self.space.write(f"{name}/adapter_model.safetensors", (first / "adapter_model.safetensors").read_bytes())
        self.space.write("gpt2.json", program.TINY_MODEL)
        gpt2 = {"--model": None, "--model-config": "gpt2.json"}
        for changes, code, words in (
                ({"--lora": "alpha=4"}, USAGE, "has no r"),
                ({"--lora": "r=4,targets=c_attn"}, USAGE, "self_attn.q_proj"),
                ({"--lora": "r=4", **gpt2}, USAGE, '"gpt2" takes no adapters'),
                ({"--lora": "r=4", "--adapter": first}, USAGE, "--adapter"),
                ({"--adapter": self.base}, FAILED, "there is no adapter_config.json"),
                ({"--adapter": "dora"}, USAGE, "use_dora"),
                ({"--adapter": "wide"}, FAILED, "does not fit"),
                ({"--adapter": "more"}, FAILED, "unexpected")):
            with self.subTest(words):
                refused = self.adapt("refused", changes)
                self.assertEqual(refused.returncode, code, refused.stderr)
                self.assertIn(words, refused.stderr)
                self.assertFalse((self.space.path / "refused").exists())
        for arguments, code, words in (
                ((first, "--merge", "--output", "refused"), USAGE, "--model"),
                ((first, "--output", "refused"), USAGE, "--to"),
                ((first, "--merge", "--to", "dcp", "--model", self.base, "--output", "refused"), USAGE, "--to dcp"),
                (("wide", "--merge", "--model", self.base, "--output", "refused"), FAILED, "does not fit"),
                ((self.base, "--merge", "--model", self.base, "--output", "refused"), FAILED, "adapter_config.json")):
            with self.subTest(words):
                refused = self.export(*arguments)
                self.assertEqual(refused.returncode, code, refused.stderr)
                self.assertIn(words, refused.stderr)
                self.assertFalse((self.space.path / "refused").exists())


if __name__ == "__main__":
    unittest.main()
