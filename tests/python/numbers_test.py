"""An offloaded step has the bits of the C++ optimizer, and torch's numbers.

Usage: numbers_test.py PACKAGE_FOLDER
"""

import math
import unittest
import warnings

from package import PackageTest, _core, gradients_into, parameters_of, strata, torch

# More than one window, odd tails, less than a block, one element.
SHAPES = [(700, 3000), (130, 7), (64,), (5,), ()]
SMALL = [(300, 300), *SHAPES[1:]]
PRECISIONS = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}
BITS = {2: torch.int16, 4: torch.int32}

RULES = {
    "AdamW": (
        lambda params, **o: strata.AdamW(params, lr=1e-2, weight_decay=0.1, **o),
        lambda params: torch.optim.AdamW(params, lr=1e-2, weight_decay=0.1),
        _core.AdamRule(lr=1e-2, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.1,
                       decoupled_weight_decay=True),
    ),
    "Adam": (
        lambda params, **o: strata.Adam(params, lr=1e-2, weight_decay=0.1, **o),
        lambda params: torch.optim.Adam(params, lr=1e-2, weight_decay=0.1),
        _core.AdamRule(lr=1e-2, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.1,
                       decoupled_weight_decay=False),
    ),
    "SGD": (
        lambda params, **o: strata.SGD(params, lr=1e-2, momentum=0.9, weight_decay=0.1, **o),
        lambda params: torch.optim.SGD(params, lr=1e-2, momentum=0.9, weight_decay=0.1),
        _core.SgdRule(lr=1e-2, momentum=0.9, dampening=0.0, weight_decay=0.1, nesterov=False),
    ),
    "SGD without momentum": (
        lambda params, **o: strata.SGD(params, lr=1e-2, **o),
        lambda params: torch.optim.SGD(params, lr=1e-2),
        _core.SgdRule(lr=1e-2, momentum=0.0, dampening=0.0, weight_decay=0.0, nesterov=False),
    ),
    "Adagrad": (
        lambda params, **o: strata.Adagrad(params, lr=1e-2, lr_decay=0.01, **o),
        lambda params: torch.optim.Adagrad(params, lr=1e-2, lr_decay=0.01),
        _core.AdagradRule(lr=1e-2, lr_decay=0.01, eps=1e-10, weight_decay=0.0),
    ),
    "Lion": (
        lambda params, **o: strata.Lion(params, lr=1e-2, weight_decay=0.1, **o),
        None,
        _core.LionRule(lr=1e-2, beta1=0.9, beta2=0.99, weight_decay=0.1),
    ),
}


class InMemory:
    """The C++ optimizer on plain memory, whole blocks, one parameter at a time."""

    def __init__(self, parameters, rule, keeps, moments="fp32", master="fp32"):
        self.rule, self.moments, self.master = rule, moments, master
        self.kept = []
        moment_bytes = {"fp32": 4, "bf16": 2, "int8": 1}[moments]
        for parameter in parameters:
            count = math.ceil(parameter.numel() / 64) * 64
            weight = torch.zeros(count, dtype=parameter.dtype)
            weight[: parameter.numel()] = parameter.detach().flatten()
            remainder = {"fp32": 0, "bf16": 1 if master == "24bit" else 2, "fp16": 4}
            states = {"weight": weight}
            states["master"] = torch.zeros(
                count * remainder[PRECISIONS[parameter.dtype]], dtype=torch.uint8
            )
            if parameter.dtype == torch.float16:
                states["master"] = weight.float()
            for moment in "mv":
                size = count * moment_bytes if moment in keeps else 0
                states[moment] = torch.zeros(size, dtype=torch.uint8)
            self.kept.append(states)

    def step(self, number, gradients, scale=1.0):
        for sequence, (states, gradient) in enumerate(zip(self.kept, gradients)):
            padded = torch.zeros(states["weight"].numel(), dtype=gradient.dtype)
            padded[: gradient.numel()] = gradient.flatten()
            _core.update_in_memory(
                self.rule, PRECISIONS[states["weight"].dtype], self.moments, self.master, number,
                padded.numel(), [each.data_ptr() for each in states.values()], padded.data_ptr(),
                PRECISIONS[gradient.dtype], scale, sequence,
            )

    def weights(self, parameters):
        return [
            states["weight"][: parameter.numel()].view(parameter.shape)
            for states, parameter in zip(self.kept, parameters)
        ]


def keeps(name):
    return {"Adagrad": "v", "Lion": "m", "SGD": "m", "SGD without momentum": ""}.get(name, "mv")


class Bits(PackageTest):
    def compare(self, name, dtype, moments="fp32", master="fp32", steps=2, **places):
        make, _, rule = RULES[name]
        parameters = parameters_of(SHAPES, dtype)
        reference = InMemory(parameters, rule, keeps(name), moments,
                             "24bit" if master == "24bit" else "fp32")
        with self.made(make, parameters, moments=moments, master=master, **places) as optimizer:
            if places.get("nvme"):
                expected = 0 if name == "SGD without momentum" and dtype == torch.float32 else 1
                self.assertGreaterEqual(optimizer.usage().states_on_nvme, expected)
            for step in range(1, steps + 1):
                gradients_into(parameters, step)
                reference.step(step, [parameter.grad for parameter in parameters])
                optimizer.step()
                for own, other in zip(parameters, reference.weights(parameters)):
                    self.assert_same_bits(own, other, f"{name} {dtype} step {step}")
            self.assertLessEqual(
                optimizer.usage().host_peak, _core.parse_bytes(places["host_budget"])
            )

    def test_are_those_of_the_cpp_optimizer_for_every_rule(self):
        for name in RULES:
            with self.subTest(name):
                self.compare(name, torch.float32, **self.on_nvme(host_budget="4MiB"))

    def test_are_those_of_the_cpp_optimizer_in_every_format(self):
        for dtype, masters in (
            (torch.float32, ["fp32", "none"]),
            (torch.bfloat16, ["fp32", "24bit"]),
            (torch.float16, ["fp32"]),
        ):
            for master in masters:
                for moments in ("fp32", "bf16", "int8"):
                    with self.subTest(dtype=dtype, master=master, moments=moments):
                        places = self.on_nvme(host_budget="4MiB")
                        self.compare("AdamW", dtype, moments, master, **places)

    def test_are_the_same_in_host_memory_alone(self):
        for moments in ("fp32", "int8"):
            self.compare("AdamW", torch.bfloat16, moments, host_budget="32MiB")

    def test_are_the_same_with_gradients_in_fp32(self):
        parameters = parameters_of([(3, 70)], torch.bfloat16)
        reference = InMemory(parameters, RULES["AdamW"][2], "mv")
        gradient = torch.randn(3, 70)
        reference.step(1, [gradient])
        with self.made(RULES["AdamW"][0], parameters) as optimizer:
            parameters[0].grad = None
            parameters[0].grad_dtype = None  # the parameter takes gradients of any dtype
            parameters[0].grad = gradient
            optimizer.step()
        self.assert_same_bits(parameters[0], reference.weights(parameters)[0])

    def test_are_the_same_for_parameters_that_are_not_contiguous(self):
        values = torch.randn(40, 90)
        straight = [torch.nn.Parameter(values.clone())]
        turned = [torch.nn.Parameter(values.t().contiguous().t())]
        self.assertFalse(turned[0].is_contiguous())
        with self.made(strata.AdamW, straight) as one, self.made(strata.AdamW, turned) as other:
            for step in range(3):
                gradients_into(straight, step)
                gradients_into(turned, step)
                one.step()
                other.step()
        self.assert_same_bits(straight[0], turned[0])

    def test_are_the_same_for_parameters_whose_values_are_copied_a_few_at_a_time(self):
        from strata import _optimizer

        parameters = parameters_of(SMALL)
        twins = parameters_of(SMALL)
        host_values = _optimizer._host_values
        with self.made(strata.AdamW, parameters) as one, self.made(
            strata.AdamW, twins, **self.on_nvme()
        ) as other:
            try:
                for step in range(2):
                    gradients_into(parameters, step)
                    one.step()
                    # As where they are on an accelerator.
                    _optimizer._host_values = lambda tensor: host_values(tensor).clone()
                    _optimizer.LENT_BYTES, before = 1000, _optimizer.LENT_BYTES
                    gradients_into(twins, step)
                    other.step()
                    _optimizer._host_values = host_values
                    _optimizer.LENT_BYTES = before
            finally:
                _optimizer._host_values = host_values
        for own, twin in zip(parameters, twins):
            self.assert_same_bits(own, twin)


class AgainstTorch(PackageTest):
    STEPS = 20

    def test_fp32_stays_within_one_ulp_per_step(self):
        for name, (make, make_torch, _) in RULES.items():
            if make_torch is None:
                continue
            with self.subTest(name):
                own, theirs = parameters_of(SMALL), parameters_of(SMALL)
                other = make_torch(theirs)
                with self.made(make, own, **self.on_nvme(host_budget="4MiB")) as optimizer:
                    for step in range(1, self.STEPS + 1):
                        gradients_into(own, step)
                        gradients_into(theirs, step)
                        optimizer.step()
                        other.step()
                        for one, two in zip(own, theirs):
                            difference = (one - two).abs().detach()
                            ulp = torch.maximum(one.abs(), two.abs()).detach() * 2.0**-23
                            # The lr bounds what a sum that crosses zero may differ by.
                            bound = step * torch.maximum(ulp, torch.tensor(1e-2 * 2.0**-20))
                            self.assertTrue(bool((difference <= bound).all()))


class Places(PackageTest):
    def test_fill_the_host_budget_and_never_more(self):
        # Sizes around those at which small states begin to share memory.
        shapes = [(count,) for count in (1, 63, 64, 1000, 5000, 13000, 13500, 16000, 16384, 17000)] * 6
        for moments in ("fp32", "int8"):
            for mebibytes in (4, 5, 7, 9):
                with self.subTest(moments=moments, mebibytes=mebibytes):
                    parameters = parameters_of(shapes, torch.bfloat16)
                    places = self.on_nvme(host_budget=mebibytes << 20, moments=moments)
                    with self.made(strata.AdamW, parameters, **places) as optimizer:
                        gradients_into(parameters, 1)
                        optimizer.step()
                        usage = optimizer.usage()
                    self.assertLessEqual(usage.host_peak, mebibytes << 20)
                    if usage.states_on_nvme:
                        self.assertGreater(usage.host_peak, (mebibytes << 20) - (1 << 20))


class Clipping(PackageTest):
    def test_scales_all_gradients_by_the_exact_norm(self):
        for dtype in PRECISIONS:
            with self.subTest(dtype):
                parameters = parameters_of(SMALL, dtype)
                reference = InMemory(parameters, RULES["AdamW"][2], "mv")
                gradients_into(parameters, 3)
                before = [parameter.grad.clone() for parameter in parameters]
                squares = sum(float(g.double().square().sum()) for g in before)
                scale = 0.5 / (math.sqrt(squares) + 1e-6)
                reference.step(1, before, scale)
                places = self.on_nvme(max_grad_norm=0.5)
                with self.made(RULES["AdamW"][0], parameters, **places) as optimizer:
                    optimizer.step()
                    report = optimizer.last_step
                self.assertAlmostEqual(report.grad_norm, math.sqrt(squares), delta=1e-11 * squares)
                self.assertEqual((report.updated, report.skipped), (len(parameters), False))
                for own, other in zip(parameters, reference.weights(parameters)):
                    self.assert_same_bits(own, other)
                for parameter, gradient in zip(parameters, before):
                    self.assert_same_bits(parameter.grad, gradient)

    def test_leaves_short_gradients_as_they_are(self):
        one, two = parameters_of([(50,)]), parameters_of([(50,)])
        with self.made(strata.AdamW, one, max_grad_norm=1e9) as clipping, self.made(
            strata.AdamW, two
        ) as plain:
            gradients_into(one, 1)
            gradients_into(two, 1)
            clipping.step()
            plain.step()
        self.assert_same_bits(one[0], two[0])

    def test_skips_a_step_with_a_gradient_that_is_not_finite(self):
        for bad in (math.inf, math.nan):
            parameters = parameters_of([(50,), (20,)])
            before = [parameter.detach().clone() for parameter in parameters]
            with self.made(strata.AdamW, parameters, max_grad_norm=1.0) as optimizer:
                gradients_into(parameters, 1)
                parameters[1].grad[7] = bad
                with warnings.catch_warnings(record=True) as caught:
                    warnings.simplefilter("always")
                    optimizer.step()
                self.assertIn("not finite", str(caught[0].message))
                self.assertTrue(optimizer.last_step.skipped)
                self.assertEqual(optimizer.state_dict()["state"], {})
            for parameter, values in zip(parameters, before):
                self.assert_same_bits(parameter, values)


class AsTorch(PackageTest):
    """What programs do with an optimizer between steps."""

    def trained(self, make, schedule=None, **offload):
        torch.manual_seed(3)
        model = torch.nn.Sequential(
            torch.nn.Linear(40, 300), torch.nn.Tanh(), torch.nn.Linear(300, 5)
        )
        groups = [
            {"params": [p for p in model.parameters() if p.dim() > 1], "weight_decay": 0.2},
            {"params": [p for p in model.parameters() if p.dim() == 1], "lr": 5e-3},
        ]
        optimizer = make(groups, lr=1e-2, weight_decay=0.0, **offload)
        scheduler = schedule(optimizer) if schedule else None
        for _ in range(8):
            def closure():
                optimizer.zero_grad()
                loss = model(torch.randn(16, 40)).square().mean()
                loss.backward()
                return loss

            optimizer.step(closure)
            if scheduler:
                scheduler.step()
        if hasattr(optimizer, "close"):
            optimizer.close()
        return [parameter.detach() for parameter in model.parameters()]

    def test_groups_closures_and_schedulers_train_as_with_torch(self):
        schedules = {
            "none": None,
            "cosine": lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 8),
            "one cycle": lambda o: torch.optim.lr_scheduler.OneCycleLR(o, 1e-2, total_steps=9),
        }
        for name, schedule in schedules.items():
            with self.subTest(name):
                own = self.trained(strata.AdamW, schedule, **self.on_nvme())
                theirs = self.trained(torch.optim.AdamW, schedule)
                for one, other in zip(own, theirs):
                    torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)

    def test_overlap_has_the_same_bits_and_releases_gradients(self):
        plain = self.trained(strata.AdamW, **self.on_nvme(moments="int8"))
        overlapped = self.trained(strata.AdamW, **self.on_nvme(moments="int8", overlap=True))
        for one, other in zip(plain, overlapped):
            self.assert_same_bits(one, other)

        model = torch.nn.Linear(30, 20).to(torch.bfloat16)
        with self.made(strata.AdamW, model.parameters(), overlap=True) as optimizer:
            model(torch.randn(4, 30, dtype=torch.bfloat16)).sum().backward()
            self.assertTrue(all(parameter.grad is None for parameter in model.parameters()))
            optimizer.step()
            self.assertEqual(optimizer.last_step.updated, 2)

    def test_overlap_keeps_few_gradients_when_the_disk_is_slow(self):
        from strata import _optimizer

        parameters = parameters_of([(700, 300)] * 6)
        places = self.on_nvme(host_budget="4MiB", overlap=True)
        before, _optimizer.LENT_BYTES = _optimizer.LENT_BYTES, 1000000
        try:
            with self.made(strata.AdamW, parameters, **places) as optimizer:
                sum((parameter * 2.0).sum() for parameter in parameters).backward()
                self.assertLessEqual(len(optimizer._lent), 1)
                optimizer.step()
                self.assertEqual(optimizer.last_step.updated, 6)
        finally:
            _optimizer.LENT_BYTES = before

    def test_overlap_refuses_a_second_backward_before_the_step(self):
        model = torch.nn.Linear(30, 20)
        with self.made(strata.AdamW, model.parameters(), overlap=True) as optimizer:
            model(torch.randn(4, 30)).sum().backward()
            once = [parameter.detach().clone() for parameter in model.parameters()]
            with self.assertRaisesRegex(strata.UsageError, "one backward for each step"):
                model(torch.randn(4, 30)).sum().backward()
            optimizer.zero_grad()
            optimizer.step()
            for parameter, values in zip(model.parameters(), once):
                self.assert_same_bits(parameter, values)
            model(torch.randn(4, 30)).sum().backward()
            optimizer.step()

    def test_parameters_without_a_gradient_rest_and_count_no_step(self):
        own, theirs = parameters_of([(30,), (20,)]), parameters_of([(30,), (20,)])
        other = torch.optim.AdamW(theirs)
        with self.made(strata.AdamW, own, **self.on_nvme()) as optimizer:
            for step in range(6):
                gradients_into(own, step)
                gradients_into(theirs, step)
                if step % 2 == 0:
                    own[1].grad = theirs[1].grad = None
                optimizer.step()
                other.step()
            self.assertEqual(float(optimizer.state_of(own[1])["step"]), 3.0)
        for one, two in zip(own, theirs):
            torch.testing.assert_close(one, two, rtol=1e-6, atol=1e-7)

    def test_a_group_may_be_added_between_steps(self):
        own = parameters_of([(300, 300), (200, 200)])
        theirs = parameters_of([(300, 300), (200, 200)])
        other = torch.optim.AdamW(theirs[:1])
        with self.made(strata.AdamW, own[:1], **self.on_nvme()) as optimizer:
            for step in range(4):
                if step == 2:
                    optimizer.add_param_group({"params": own[1:], "lr": 0.1})
                    other.add_param_group({"params": theirs[1:], "lr": 0.1})
                gradients_into(own, step)
                gradients_into(theirs, step)
                optimizer.step()
                other.step()
        for one, two in zip(own, theirs):
            torch.testing.assert_close(one, two, rtol=1e-6, atol=1e-6)

    def test_what_a_program_writes_to_a_parameter_becomes_its_master(self):
        for dtype in (torch.bfloat16, torch.float16):
            with self.subTest(dtype):
                (parameter,) = parameters_of([(300, 300)], dtype)
                with self.made(strata.SGD, [parameter], lr=1e-4, **self.on_nvme()) as optimizer:
                    gradients_into([parameter], 1)
                    optimizer.step()
                    with torch.no_grad():
                        parameter.fill_(2.0)
                    parameter.grad = torch.ones_like(parameter)
                    for _ in range(100):  # each is too small to show in the weight
                        optimizer.step()
                self.assertLess(float((parameter.detach().float() - 1.99).abs().max()), 0.005)

    def test_autograd_notices_an_update_of_what_it_saved(self):
        weight = torch.nn.Parameter(torch.randn(10))
        with self.made(strata.SGD, [weight], lr=0.1) as optimizer:
            loss = weight.square().sum()
            weight.grad = torch.ones(10)
            optimizer.step()
            with self.assertRaisesRegex(RuntimeError, "modified by an inplace operation"):
                loss.backward()


if __name__ == "__main__":
    unittest.main()
