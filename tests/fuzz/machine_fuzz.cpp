#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "strata/base/error.h"
#include "strata/zero3/machine.h"

using strata::zero3::Machine;

/// A machine file is refused with ConfigError, or describes ranks with speeds and memory, and is
/// written to a text that means the same.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    const Machine machine = Machine::from_text(text, "fuzz.json");
    STRATA_CHECK(machine.devices() >= 1 && machine.disks() >= 0, machine.name);
    STRATA_CHECK(Machine::from_text(machine.to_text(), "again.json") == machine, machine.to_text());
    (void)rank_bytes(machine);
    STRATA_CHECK(std::isfinite(rank_speeds(machine, 1).update), machine.to_text());
  } catch (const strata::ConfigError&) {
  }
  return 0;
}
