"""Shows that layers.py catches what it is there to catch, and lets pass what is allowed."""

import contextlib
import io
import pathlib
import sys
import tempfile
import unittest
from unittest import mock

import layers


def reason(path: str, include: str):
    return layers.reason_against(pathlib.PurePosixPath(path), include)


class Arrows(unittest.TestCase):
    def test_a_layer_may_include_itself_and_what_lies_below(self):
        self.assertIsNone(reason("src/aio/io_queue.cpp", "strata/aio/io_queue.h"))
        self.assertIsNone(reason("src/aio/io_queue.cpp", "aio/deadline.h"))
        self.assertIsNone(reason("src/aio/io_queue.cpp", "strata/base/error.h"))
        self.assertIsNone(reason("include/strata/zero3/engine.h", "strata/formats/config.h"))

    def test_a_layer_may_not_include_what_lies_above(self):
        self.assertIn("base to aio", reason("src/base/log.cpp", "strata/aio/io_file.h"))
        self.assertIn("formats to aio", reason("src/formats/json.cpp", "strata/aio/io_file.h"))
        self.assertIn("zero3 to models", reason("include/strata/zero3/unit.h", "strata/models/gpt2.h"))

    def test_the_optimizer_reaches_disks_through_tiering_alone(self):
        self.assertIn("optim_cpu to aio", reason("src/optim_cpu/step.cpp", "strata/aio/io_queue.h"))

    def test_the_optimizer_alone_knows_no_engine(self):
        self.assertIsNone(reason("src/cpu_adam/cpu_adam.cpp", "strata/optim_cpu/update.h"))
        self.assertIsNone(reason("include/strata/cpu_adam/cpu_adam.h", "torch/types.h"))
        self.assertIn("cpu_adam to zero3", reason("src/cpu_adam/cpu_adam.cpp", "strata/zero3/plan.h"))

    def test_models_know_no_tiers(self):
        self.assertIsNone(reason("src/models/gpt2/gpt2.cpp", "strata/zero3/engine.h"))
        self.assertIsNone(reason("src/models/gpt2/gpt2.cpp", "strata/formats/model_config.h"))
        self.assertIn("models to tiering", reason("src/models/gpt2/gpt2.cpp", "strata/tiering/tier.h"))

    def test_tools_and_examples_may_include_every_public_header(self):
        self.assertIsNone(reason("tools/strata/finetune.cpp", "strata/models/gpt2.h"))
        self.assertIsNone(reason("examples/minimal.cpp", "strata/zero3/engine.h"))

    def test_a_private_header_stays_in_its_layer(self):
        self.assertIn("private", reason("src/tiering/fetch.cpp", "aio/deadline.h"))
        self.assertIn("private", reason("tools/strata/plan.cpp", "zero3/schedule.h"))
        self.assertIn("public header", reason("include/strata/aio/io_queue.h", "aio/deadline.h"))

    def test_words_lie_on_the_ground_floor_of_their_layer(self):
        self.assertIsNone(reason("include/strata/aio/submitter.h", "strata/aio/operation.h"))
        self.assertIsNone(reason("include/strata/aio/submitter.h", "strata/base/error.h"))
        self.assertIsNone(reason("include/strata/aio/io_queue.h", "strata/aio/submitter.h"))
        self.assertIn("words", reason("include/strata/aio/submitter.h", "strata/aio/io_queue.h"))
        self.assertIn("words", reason("include/strata/aio/operation.h", "strata/aio/submitter.h"))
        self.assertIsNone(reason("src/zero3/shard_map.h", "zero3/entry.h"))
        self.assertIn("words", reason("src/zero3/shard_map.h", "zero3/schedule.h"))
        self.assertIn("words", reason("src/zero3/shard_map.h", "strata/zero3/engine.h"))

    def test_an_unknown_layer_is_refused(self):
        self.assertIn("no layer", reason("src/aio/io_queue.cpp", "strata/utils/strings.h"))


class Guests(unittest.TestCase):
    def test_libtorch_is_seen_only_from_zero3_upwards(self):
        for header in ["torch/torch.h", "ATen/ATen.h", "c10/util/BFloat16.h"]:
            self.assertIsNone(reason("src/zero3/gather.cpp", header))
            self.assertIsNone(reason("tools/strata/generate.cpp", header))
            self.assertIn("only", reason("src/optim_cpu/step.cpp", header))
            self.assertIn("only", reason("tools/ds_nvme_bench/main.cpp", header))

    def test_cuda_is_seen_only_by_tiering_and_zero3(self):
        self.assertIsNone(reason("src/tiering/upload.cpp", "cuda_runtime.h"))
        self.assertIn("only", reason("src/aio/io_uring_backend.cpp", "cuda_runtime.h"))

    def test_the_kernel_interfaces_and_the_topology_stay_in_aio(self):
        self.assertIsNone(reason("src/aio/io_uring_backend.cpp", "liburing.h"))
        self.assertIn("only aio", reason("src/tiering/fetch.cpp", "liburing.h"))
        self.assertIsNone(reason("src/aio/topology.cpp", "hwloc.h"))
        self.assertIn("only aio", reason("src/tiering/host_arena.cpp", "hwloc.h"))

    def test_fmt_and_spdlog_are_seen_by_nobody(self):
        self.assertIn("nobody", reason("src/base/log.cpp", "spdlog/spdlog.h"))
        self.assertIn("nobody", reason("src/zero3/engine.cpp", "fmt/format.h"))


class WholeRepository(unittest.TestCase):
    def run_on(self, text: str) -> tuple[int, str]:
        with tempfile.TemporaryDirectory() as directory:
            file = pathlib.Path(directory, "src/aio/io_queue.cpp")
            file.parent.mkdir(parents=True)
            file.write_text(text, encoding="utf-8")
            output = io.StringIO()
            with mock.patch.object(sys, "argv", ["layers.py", directory]):
                with contextlib.redirect_stdout(output):
                    status = layers.main()
            return status, output.getvalue()

    def test_a_forbidden_include_fails_the_run_and_names_file_and_line(self):
        status, output = self.run_on('// a queue\n  #  include "strata/tiering/tier.h"\n')
        self.assertEqual(status, 1)
        self.assertIn("src/aio/io_queue.cpp:2: #include of strata/tiering/tier.h", output)

    def test_allowed_includes_pass(self):
        self.assertEqual(self.run_on('#include <vector>\n#include "strata/base/error.h"\n')[0], 0)

    def test_a_run_that_read_nothing_fails(self):
        self.assertEqual(self.run_on("int x;\n")[0], 1)


if __name__ == "__main__":
    unittest.main()
