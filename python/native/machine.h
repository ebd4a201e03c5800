#pragma once

#include <nanobind/nanobind.h>

namespace strata::python {

/// Binds what a machine has and what its disks give: see strata/_machine.py, the only caller.
void bind_machine(nanobind::module_& module);

}  // namespace strata::python
