#pragma once

#include <cstddef>
#include <string>

#include "strata/base/error.h"
#include "strata/base/io_backend.h"

/// \file
/// Words of Python arguments.

namespace strata::python {

/// A value among those that are called `what`.
template <class Value, std::size_t kCount>
Value named(const std::string& name, const char* what, const Value (&values)[kCount]) {
  std::string names;
  for (const Value value : values) {
    if (name_of(value) == name) return value;
    names += (names.empty() ? "'" : ", '") + std::string(name_of(value)) + "'";
  }
  throw ConfigError(std::string(what) + " is '" + name + "'; it has to be one of " + names);
}

inline IoBackend io_named(const std::string& name) {
  return named(name, "io",
               {IoBackend::kAuto, IoBackend::kIoUring, IoBackend::kLibaio, IoBackend::kThreads});
}

}  // namespace strata::python
