"""Errors, threads, signals, forks and ends of an optimizer.

Usage: life_test.py PACKAGE_FOLDER
"""

import errno
import gc
import os
import pathlib
import signal
import subprocess
import sys
import textwrap
import threading
import time
import unittest

from package import PackageTest, gradients_into, parameters_of, strata, torch

PACKAGE = str(pathlib.Path(strata.__file__).parent.parent)


def threads_alive():
    return len(os.listdir("/proc/self/task"))


class Errors(PackageTest):
    def test_are_python_exceptions_with_the_words_of_cpp(self):
        (parameter,) = parameters_of([(700, 1000)])
        cases = [
            (strata.ConfigError, ValueError, {"moments": "fp64"}, "'fp32', 'bf16', 'int8'"),
            (strata.ConfigError, ValueError, {"master": "half"}, "'24bit'"),
            (strata.ConfigError, ValueError, {"lr": -1.0}, "lr"),
            (strata.ConfigError, ValueError, {"host_budget": "much"}, "much"),
            (strata.ConfigError, ValueError, {"io": "magic"}, "io_uring"),
            (strata.ConfigError, ValueError, {"max_grad_norm": 0.0}, "max_grad_norm"),
            (strata.ConfigError, ValueError, {"max_grad_norm": 1.0, "overlap": True}, "norm of all"),
            (strata.ConfigError, ValueError, {"eps": 0.0, "moments": "int8"}, "eps"),
            (strata.ConfigError, ValueError, {"nvme": self.disk, "window_elements": 1000}, "65536"),
            (strata.BudgetError, MemoryError, {"host_budget": "64KiB"}, "host"),
            (strata.BudgetError, MemoryError,
             {"nvme": self.disk, "host_budget": "4MiB", "window_elements": 65536,
              "nvme_budget": 4096}, "nvme"),
            (strata.IoError, OSError, {"nvme": self.disk / "no" / "such"}, "no/such"),
            (TypeError, TypeError, {"colour": "red"}, "colour"),
        ]
        for error, base, arguments, word in cases:
            with self.subTest(**arguments):
                with self.assertRaises(error) as caught:
                    strata.AdamW([parameter], **{"lr": 1e-3, **arguments})
                self.assertIsInstance(caught.exception, base)
                self.assertIn(word, str(caught.exception))
        self.assertTrue(issubclass(strata.ConfigError, strata.Error))

    def test_of_the_system_have_their_number(self):
        (self.space / "file").write_text("mine")
        with self.assertRaises(OSError) as caught:
            strata.AdamW(parameters_of([(3,)]), nvme=self.space / "file")
        self.assertIn(caught.exception.errno, (errno.ENOTDIR, errno.EEXIST))

    def test_name_parameters_that_cannot_be_trained_so(self):
        for dtype, arguments, word in (
            (torch.float64, {}, "float64"),
            (torch.bfloat16, {"master": "none"}, "lost in rounding"),
            (torch.float16, {"master": "24bit"}, "bfloat16"),
        ):
            with self.assertRaisesRegex(strata.ConfigError, word):
                strata.AdamW(parameters_of([(3,)], dtype), **arguments)
        with self.assertRaisesRegex(strata.ConfigError, "memory of its own"):
            strata.AdamW([torch.nn.Parameter(torch.zeros(3, device="meta"))])
        with self.assertRaisesRegex(strata.ConfigError, "no elements"):
            strata.AdamW(parameters_of([(3, 0)]))

    def test_before_a_step_change_nothing(self):
        parameters = parameters_of([(30,), (20,)])
        before = [parameter.detach().clone() for parameter in parameters]
        with self.made(strata.AdamW, parameters) as optimizer:
            gradients_into(parameters, 1)
            optimizer.param_groups[0]["lr"] = float("nan")
            with self.assertRaisesRegex(strata.ConfigError, "lr"):
                optimizer.step()
            optimizer.param_groups[0]["lr"] = 1e-3
            parameters[1].grad = torch.zeros(20).to_sparse()
            with self.assertRaisesRegex(TypeError, "sparse"):
                optimizer.step()
            for parameter, values in zip(parameters, before):
                self.assert_same_bits(parameter, values)
            with self.assertRaises(strata.ConfigError):
                optimizer.add_param_group({"params": parameters_of([(3,)]), "lr": -1.0})
            self.assertEqual(len(optimizer.param_groups), 1)
            gradients_into(parameters, 1)
            optimizer.step()

    def test_say_that_a_parameter_is_another_one_now(self):
        layer = torch.nn.Linear(30, 20)
        with self.made(strata.AdamW, layer.parameters()) as optimizer:
            layer.to(torch.bfloat16)
            for parameter in layer.parameters():
                parameter.grad = torch.zeros_like(parameter)
            with self.assertRaisesRegex(strata.UsageError, "bfloat16.*float32"):
                optimizer.step()
            layer.to(torch.float32)
            layer.weight.data = torch.zeros(3, 3)
            with self.assertRaisesRegex(strata.UsageError, "make the optimizer after"):
                optimizer.state_dict()

    def test_name_rules_that_are_not_there(self):
        with self.assertRaisesRegex(strata.ConfigError, "amsgrad"):
            strata.AdamW([{"params": parameters_of([(3,)]), "amsgrad": True}])

    def test_in_the_middle_of_a_step_are_not_taken_for_its_end(self):
        parameters = parameters_of([(30,), (20,)])
        with self.made(strata.AdamW, parameters) as optimizer:
            optimizer.save(self.space / "saved")
            gradients_into(parameters, 1)
            collect = optimizer._collect
            optimizer._collect = lambda complete: exec("raise SystemExit(3)")
            with self.assertRaises(SystemExit):
                optimizer.step()
            optimizer._collect = collect
            with self.assertRaisesRegex(strata.UsageError, "SystemExit"):
                optimizer.step()
            optimizer.load(self.space / "saved")
            optimizer.step()

    def test_in_a_step_are_thrown_until_states_are_loaded(self):
        # Bytes that change on the disk are found by their checksum.
        parameters = parameters_of([(700, 300)])
        places = self.on_nvme(host_budget="4MiB", io="threads")
        with self.made(strata.AdamW, parameters, **places) as optimizer:
            gradients_into(parameters, 1)
            optimizer.step()
            optimizer.save(self.space / "saved")
            self.assertGreater(optimizer.usage().states_on_nvme, 0)
            with spoiled_scratch_files(self.disk):
                with self.assertRaises(strata.CorruptData):
                    optimizer.step()
            with self.assertRaisesRegex(strata.UsageError, "half way"):
                optimizer.step()
            with self.assertRaisesRegex(strata.UsageError, "half way"):
                optimizer.state_dict()
            optimizer.load(self.space / "saved")
            optimizer.step()


class spoiled_scratch_files:
    """Overwrites the scratch files of this process in `directory`, whether they have names or not."""

    def __init__(self, directory):
        self.directory = str(directory)

    def __enter__(self):
        for link in pathlib.Path("/proc/self/fd").iterdir():
            try:
                target = os.readlink(link)
            except OSError:
                continue
            if target.startswith(self.directory):
                with open(link, "r+b") as file:
                    size = os.fstat(file.fileno()).st_size
                    file.seek(0)
                    file.write(b"\xa5" * size)

    def __exit__(self, *_):
        return False


class Threads(PackageTest):
    def test_run_while_a_step_waits(self):
        parameters = parameters_of([(3000, 1000)])
        counted = [0]
        stop = threading.Event()

        def count():
            while not stop.is_set():
                counted[0] += 1
                time.sleep(0)

        with self.made(strata.AdamW, parameters, **self.on_nvme(host_budget="4MiB")) as optimizer:
            gradients_into(parameters, 1)
            core = optimizer._core
            thread = threading.Thread(target=count)
            thread.start()
            core.begin([optimizer._rule(optimizer.param_groups[0])], 1.0)
            (parameter,) = parameters
            before = counted[0]
            core.submit([(0, parameter.data_ptr(), parameter.grad.data_ptr(), True)])
            core.finish()
            during = counted[0] - before
            stop.set()
            thread.join()
        self.assertGreater(during, 10)

    def test_may_use_two_optimizers_at_once(self):
        def train(parameters, optimizer):
            for step in range(5):
                gradients_into(parameters, step)
                optimizer.step()

        sets = [parameters_of([(300, 500)]) for _ in range(2)]
        alone = parameters_of([(300, 500)])
        with self.made(strata.AdamW, alone) as optimizer:
            train(alone, optimizer)
        with self.made(strata.AdamW, sets[0], **self.on_nvme(host_budget="4MiB")) as one, self.made(
            strata.AdamW, sets[1], **self.on_nvme(host_budget="4MiB")
        ) as other:
            threads = [
                threading.Thread(target=train, args=each) for each in zip(sets, (one, other))
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        for (parameter,) in sets:
            self.assert_same_bits(parameter, alone[0])


class ScriptTest(PackageTest):
    """A test whose program is a process of its own."""

    def run_script(self, text, code=0):
        script = f"""
import os, signal, sys, time
sys.path.insert(0, {PACKAGE!r})
import torch, strata
torch.set_num_threads(1)  # its own threads do not survive a fork
disk = {str(self.disk)!r}
parameter = torch.nn.Parameter(torch.ones(700, 300))
{textwrap.dedent(text)}
"""
        result = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, timeout=60
        )
        self.assertEqual(result.returncode, code, result.stderr)
        return result.stdout


class Ends(ScriptTest):
    def test_a_dropped_optimizer_frees_threads_and_files(self):
        for arguments in ({}, {"overlap": True}):
            parameters = parameters_of([(700, 300)])
            before = threads_alive()
            optimizer = strata.AdamW(parameters, **self.on_nvme(host_budget="4MiB", **arguments))
            (parameters[0] * 1.0).sum().backward()
            optimizer.step()
            during = threads_alive()
            del optimizer
            gc.collect()
            self.assertLess(threads_alive(), during)
            self.assertLessEqual(threads_alive(), before + 2)  # those of the arithmetic may stay
            self.assertEqual(list(self.disk.iterdir()), [])
            (parameters[0] * 1.0).sum().backward()  # a hook that is left does nothing
            self.assertIsNotNone(parameters[0].grad)

    def test_an_optimizer_dropped_in_the_middle_of_a_step_ends_it_first(self):
        parameters = parameters_of([(700, 300)])
        optimizer = strata.AdamW(parameters, **self.on_nvme(host_budget="4MiB", overlap=True))
        (parameters[0] * 1.0).sum().backward()
        del optimizer
        gc.collect()

    def test_a_closed_optimizer_says_so(self):
        optimizer = strata.AdamW(parameters_of([(3,)]))
        optimizer.close()
        optimizer.close()
        for call in (optimizer.step, optimizer.state_dict, optimizer.usage):
            with self.assertRaisesRegex(strata.UsageError, "closed"):
                call()

    def test_a_process_may_end_with_an_optimizer_in_use(self):
        self.run_script("""
            optimizer = strata.AdamW([parameter], nvme=disk, host_budget="4MiB", overlap=True)
            (parameter * 1.0).sum().backward()
        """)


class Signals(ScriptTest):
    def test_ctrl_c_in_a_step_comes_after_a_whole_step(self):
        self.run_script("""
            optimizer = strata.AdamW([parameter], lr=0.1, nvme=disk, host_budget="4MiB")
            parameter.grad = torch.ones_like(parameter)
            core, begin = optimizer._core, strata.OffloadedOptimizer._begin
            def begin_and_interrupt(self, *arguments):
                begin(self, *arguments)
                os.kill(os.getpid(), signal.SIGINT)
            strata.OffloadedOptimizer._begin = begin_and_interrupt
            try:
                optimizer.step()
                sys.exit("not interrupted")
            except KeyboardInterrupt:
                pass
            assert optimizer.last_step.updated == 1
            assert float(optimizer.state_of(parameter)["step"]) == 1
            assert bool((parameter < 1).all())
            strata.OffloadedOptimizer._begin = begin
            optimizer.step()
            assert float(optimizer.state_of(parameter)["step"]) == 2
        """)


class Forks(ScriptTest):
    def test_a_child_makes_its_own_after_an_import(self):
        self.run_script("""
            child = os.fork()
            optimizer = strata.AdamW([parameter], nvme=disk, host_budget="4MiB")
            parameter.grad = torch.ones_like(parameter)
            optimizer.step()
            optimizer.close()
            if child:
                assert os.waitpid(child, 0)[1] == 0
        """)

    def test_a_child_is_refused_its_parents_optimizer_and_leaves_it_alone(self):
        self.run_script("""
            optimizer = strata.AdamW([parameter], nvme=disk, host_budget="4MiB")
            parameter.grad = torch.ones_like(parameter)
            optimizer.step()
            child = os.fork()
            if not child:
                try:
                    optimizer.step()
                except strata.UsageError as error:
                    assert "after the fork" in str(error)
                    del optimizer, error
                    sys.exit(0)
                sys.exit(1)
            assert os.waitpid(child, 0)[1] == 0
            optimizer.step()
            assert float(optimizer.state_of(parameter)["step"]) == 2
        """)


if __name__ == "__main__":
    unittest.main()
