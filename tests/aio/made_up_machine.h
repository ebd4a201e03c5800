#pragma once

#include <cstdlib>
#include <string>

namespace strata::aio {

/// The machine that hwloc sees in one scope: its own variables, see "Environment Variables" in
/// hwloc's manual. Bindings reach this machine's cores.
class MadeUpMachine {
 public:
  /// "HWLOC_SYNTHETIC" with a description, or "HWLOC_XMLFILE" with a path.
  MadeUpMachine(const char* variable, const std::string& value) : variable_(variable) {
    setenv(variable_, value.c_str(), 1);
    setenv("HWLOC_THISSYSTEM", "1", 1);
  }
  ~MadeUpMachine() {
    unsetenv(variable_);
    unsetenv("HWLOC_THISSYSTEM");
  }
  MadeUpMachine(const MadeUpMachine&) = delete;
  MadeUpMachine& operator=(const MadeUpMachine&) = delete;

 private:
  const char* variable_;
};

}  // namespace strata::aio
