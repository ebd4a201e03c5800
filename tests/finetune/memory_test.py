"""A model is loaded, trained and saved in memory that does not grow with its number of layers.

Usage: memory_test.py PROGRAM
"""

import json
import pathlib
import unittest

import program

BUDGET = "host=48MiB,device=24MiB"
WIDTH = 256
BYTES_PER_LAYER = 12 * WIDTH * WIDTH * 4  # of the weights, fp32


def model_with(layers: int) -> dict:
    return {**program.TINY_MODEL, "n_embd": WIDTH, "n_layer": layers}


class Memory(program.WorkspaceTest):
    def setUp(self) -> None:
        super().setUp()
        config = {key: value for key, value in program.EVERYTHING_ON_NVME.items()
                  if key not in ("bf16", "strata")}
        config.update(train_batch_size=1, train_micro_batch_size_per_gpu=1)
        self.space.write("ds.json", config)

    def peak_bytes(self, output: pathlib.Path, changes: dict) -> int:
        """Of the whole process, for one step."""
        result = self.space.finetune({"--output": output, "--budget": BUDGET, **changes})
        self.assertEqual(result.returncode, 0, result.stderr)
        return json.loads((output / "train_results.json").read_text())["rss_bytes_peak"]

    def test_the_peak_does_not_depend_on_the_size_of_the_model(self) -> None:
        made = {}
        loaded = {}
        for layers in (8, 48):  # both fill the budgets
            self.space.write("model.json", model_with(layers))
            directory = self.space.path / f"random_{layers}"
            made[layers] = self.peak_bytes(directory, {})
            loaded[layers] = self.peak_bytes(
                self.space.path / f"loaded_{layers}",
                {"--model-config": None, "--model": directory})
        added = 40 * BYTES_PER_LAYER
        self.assertLess(made[48] - made[8], added / 8, "made from random weights")
        self.assertLess(loaded[48] - loaded[8], added / 8, "loaded from a directory")


if __name__ == "__main__":
    unittest.main()
