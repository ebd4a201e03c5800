#pragma once

#include <nanobind/nanobind.h>

namespace strata::python {

/// Makes the Python classes of Strata's errors in `module`, and has C++ exceptions that leave a
/// bound function raised as them:
///
///     Error(Exception)
///       ConfigError(Error, ValueError)       DataError(Error, ValueError)
///       BudgetError(Error, MemoryError)      UsageError(Error, RuntimeError)
///       IoError(Error, OSError), with errno  CorruptData(Error, RuntimeError)
///       DeadlineExceeded(IoError, TimeoutError)
void bind_errors(nanobind::module_& module);

}  // namespace strata::python
