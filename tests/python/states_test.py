"""States leave and come back: state_dict as torch's, directories of safetensors.

Usage: states_test.py PACKAGE_FOLDER
"""

import copy
import io
import json
import pickle
import unittest

from package import PackageTest, gradients_into, parameters_of, strata, torch

SHAPES = [(700, 300), (130, 7), (5,), ()]
FORMATS = [
    (torch.float32, "fp32", "fp32"),
    (torch.float32, "int8", "fp32"),
    (torch.bfloat16, "bf16", "fp32"),
    (torch.bfloat16, "int8", "24bit"),
    (torch.float16, "fp32", "fp32"),
]


class Resuming(PackageTest):
    def steps(self, optimizer, parameters, numbers):
        for number in numbers:
            gradients_into(parameters, number)
            optimizer.step()

    def check(self, leave, come_back, weights_first=True):
        """Training that is left and taken up again has the bits of training that goes on."""
        for dtype, moments, master in FORMATS:
            formats = {"moments": moments, "master": master, "lr": 1e-2}
            for places in (self.on_nvme(host_budget="4MiB"), {"host_budget": "32MiB"}):
                with self.subTest(dtype=dtype, moments=moments, master=master, **places):
                    parameters = parameters_of(SHAPES, dtype)
                    with self.made(strata.AdamW, parameters, **formats, **places) as optimizer:
                        self.steps(optimizer, parameters[:3], range(3))
                        weights = [parameter.detach().clone() for parameter in parameters]
                        left = leave(optimizer)
                        self.steps(optimizer, parameters, range(3, 6))
                    again = parameters_of(SHAPES, dtype, seed=9)
                    with self.made(strata.AdamW, again, **formats, **places) as optimizer:
                        self.steps(optimizer, again, range(2))
                        if not weights_first:
                            come_back(optimizer, left)
                        with torch.no_grad():
                            for parameter, weight in zip(again, weights):
                                parameter.copy_(weight)
                        if weights_first:
                            come_back(optimizer, left)
                        self.steps(optimizer, again, range(3, 6))
                    for one, other in zip(parameters, again):
                        self.assert_same_bits(one, other)

    def test_from_a_state_dict(self):
        self.check(lambda o: o.state_dict(), lambda o, left: o.load_state_dict(left))

    def test_from_a_state_dict_that_was_loaded_before_the_weights(self):
        self.check(
            lambda o: o.state_dict(), lambda o, left: o.load_state_dict(left), weights_first=False
        )

    def test_from_a_state_dict_that_torch_saved_and_loaded(self):
        def leave(optimizer):
            file = io.BytesIO()
            torch.save(optimizer.state_dict(), file)
            return file

        def come_back(optimizer, file):
            file.seek(0)
            optimizer.load_state_dict(torch.load(file, weights_only=True))

        self.check(leave, come_back)

    def test_from_a_directory(self):
        self.saved = 0

        def leave(optimizer):
            self.saved += 1
            optimizer.save(self.space / f"saved-{self.saved}")
            return self.space / f"saved-{self.saved}"

        self.check(leave, lambda o, directory: o.load(directory))


class StateDicts(PackageTest):
    def test_are_those_of_torch_and_go_both_ways(self):
        own, theirs = parameters_of(SHAPES), parameters_of(SHAPES)
        other = torch.optim.AdamW(theirs, lr=1e-2)
        with self.made(strata.AdamW, own, lr=1e-2, **self.on_nvme()) as optimizer:
            for step in range(2):
                gradients_into(theirs, step)
                other.step()
            with torch.no_grad():
                for one, two in zip(own, theirs):
                    one.copy_(two)
            optimizer.load_state_dict(other.state_dict())
            there, here = other.state_dict(), optimizer.state_dict()
            self.assertEqual(there["state"].keys(), here["state"].keys())
            for index, states in there["state"].items():
                self.assertEqual(states.keys(), here["state"][index].keys())
                for key, values in states.items():
                    self.assert_same_bits(values, here["state"][index][key], key)
            gradients_into(own, 7)
            gradients_into(theirs, 7)
            other.load_state_dict(copy.deepcopy(here))
            other.step()
            optimizer.step()
            for one, two in zip(own, theirs):
                torch.testing.assert_close(one, two, rtol=1e-6, atol=1e-8)

    def test_of_the_other_rules_come_from_torch_too(self):
        for kind, arguments in (("SGD", {"momentum": 0.9}), ("Adagrad", {}), ("Adam", {})):
            with self.subTest(kind):
                own, theirs = parameters_of(SHAPES), parameters_of(SHAPES)
                other = getattr(torch.optim, kind)(theirs, lr=1e-2, **arguments)
                for step in range(2):
                    gradients_into(theirs, step)
                    other.step()
                with torch.no_grad():
                    for one, two in zip(own, theirs):
                        one.copy_(two)
                with self.made(getattr(strata, kind), own, **arguments) as optimizer:
                    optimizer.load_state_dict(other.state_dict())
                    gradients_into(own, 7)
                    gradients_into(theirs, 7)
                    other.step()
                    optimizer.step()
                for one, two in zip(own, theirs):
                    torch.testing.assert_close(one, two, rtol=1e-6, atol=1e-7)

    def test_keep_their_values_when_training_goes_on_and_take_no_room_when_dropped(self):
        parameters = parameters_of([(700, 300)])
        with self.made(strata.AdamW, parameters, **self.on_nvme(host_budget="4MiB")) as optimizer:
            gradients_into(parameters, 1)
            optimizer.step()
            self.assertGreater(optimizer.usage().states_on_nvme, 0)
            left = optimizer.state_dict()
            before = left["state"][0]["exp_avg"].clone()
            names = {path.name for path in self.disk.iterdir()}
            self.assertFalse([name for name in names if name.startswith("strata-state-dict")])
            gradients_into(parameters, 2)
            optimizer.step()
            self.assert_same_bits(left["state"][0]["exp_avg"], before)

    def test_that_do_not_match_change_nothing(self):
        parameters = parameters_of([(300, 300), (64,)])
        with self.made(strata.AdamW, parameters, moments="int8") as optimizer:
            gradients_into(parameters, 1)
            optimizer.step()
            good = copy.deepcopy(optimizer.state_dict())
            for name, spoil in {
                "groups": lambda d: d["param_groups"].append(d["param_groups"][0]),
                "parameters": lambda d: d["param_groups"][0]["params"].pop(),
                "amsgrad": lambda d: d["param_groups"][0].update(amsgrad=True),
                "lr": lambda d: d["param_groups"][0].update(lr=-1.0),
                "exp_avg": lambda d: d["state"][0].update(exp_avg=torch.zeros(300, 300)),
                "exp_avg_sq": lambda d: d["state"][1].pop("exp_avg_sq"),
                "5": lambda d: d["state"].update({5: {}}),
            }.items():
                with self.subTest(name):
                    bad = copy.deepcopy(good)
                    spoil(bad)
                    with self.assertRaises(ValueError):
                        optimizer.load_state_dict(bad)
                    now = optimizer.state_dict()
                    self.assertEqual(now["param_groups"], good["param_groups"])
                    for index, states in good["state"].items():
                        for key, values in states.items():
                            self.assertTrue(torch.equal(now["state"][index][key], values))

    def test_hooks_of_torch_are_called(self):
        called = []
        with self.made(strata.AdamW, parameters_of([(5,)])) as optimizer:
            optimizer.register_state_dict_post_hook(lambda o, d: called.append("saved"))
            optimizer.register_load_state_dict_pre_hook(lambda o, d: called.append("before"))
            optimizer.register_load_state_dict_post_hook(lambda o: called.append("after"))
            optimizer.register_step_post_hook(lambda o, args, kwargs: called.append("step"))
            optimizer.step()
            optimizer.load_state_dict(optimizer.state_dict())
        self.assertEqual(called, ["step", "saved", "before", "after"])

    def test_stand_in_for_pickling_which_is_refused(self):
        with self.made(strata.AdamW, parameters_of([(5,)])) as optimizer:
            for attempt in (pickle.dumps, copy.deepcopy):
                with self.assertRaisesRegex(strata.UsageError, "save"):
                    attempt(optimizer)


class Directories(PackageTest):
    def saved(self, **offload):
        parameters = parameters_of([(700, 300), (64,), (3,)])
        optimizer = strata.AdamW(parameters, **offload)
        self.addCleanup(optimizer.close)
        gradients_into(parameters[:2], 1)
        optimizer.step()
        optimizer.save(self.space / "saved")
        return parameters, optimizer

    def test_are_safetensors_that_others_read(self):
        from safetensors.torch import load_file

        parameters, optimizer = self.saved(**self.on_nvme(host_budget="4MiB"))
        tensors = load_file(self.space / "saved" / "states-00001.safetensors")
        expected = {f"{i}.{key}" for i in (0, 1) for key in ("exp_avg", "exp_avg_sq")}
        self.assertEqual(tensors.keys(), expected)
        states = optimizer.state_of(parameters[0])
        self.assert_same_bits(tensors["0.exp_avg"], states["exp_avg"])
        manifest = json.loads((self.space / "saved" / "optimizer.json").read_text())
        self.assertEqual([entry["steps"] for entry in manifest["parameters"]], [1, 1, 0])
        optimizer.close()

    def test_are_divided_among_files(self):
        from strata import _optimizer

        before, _optimizer.FILE_BYTES = _optimizer.FILE_BYTES, 1000000
        try:
            parameters, optimizer = self.saved()
        finally:
            _optimizer.FILE_BYTES = before
        self.assertEqual(len(list((self.space / "saved").glob("*.safetensors"))), 3 - 1 + 0)
        states = optimizer.state_of(parameters[1])
        optimizer.load(self.space / "saved")
        self.assert_same_bits(optimizer.state_of(parameters[1])["exp_avg"], states["exp_avg"])

    def test_that_exist_are_not_overwritten(self):
        _, optimizer = self.saved()
        with self.assertRaises(strata.ConfigError):
            optimizer.save(self.space / "saved")

    def test_that_are_damaged_or_of_another_optimizer_change_nothing(self):
        parameters, optimizer = self.saved()
        before = optimizer.state_of(parameters[0])
        saved = self.space / "saved"
        manifest = (saved / "optimizer.json").read_text()

        def refused(error, taker=optimizer):
            with self.assertRaises(error):
                taker.load(saved)
            now = optimizer.state_of(parameters[0])
            self.assertTrue(all(torch.equal(before[key], now[key]) for key in before))

        for text in ("", "[]", "{}", manifest.replace("AdamW", "Lion"),
                     manifest.replace("700", "701"), manifest.replace('"steps": 0', '"steps": 1')):
            (saved / "optimizer.json").write_text(text)
            with self.subTest(text=text[:30]):
                refused(strata.DataError)
        (saved / "optimizer.json").write_text(manifest)
        with self.made(strata.AdamW, parameters_of([(700, 300), (64,), (3,)]), moments="int8") as o:
            refused(strata.DataError, o)
        file = saved / "states-00001.safetensors"
        content = file.read_bytes()
        file.write_bytes(content[:-8])
        refused(strata.DataError)
        file.unlink()
        refused(strata.DataError)
        file.write_bytes(content)
        optimizer.load(saved)
        (saved / "optimizer.json").unlink()
        refused(OSError)


if __name__ == "__main__":
    unittest.main()
