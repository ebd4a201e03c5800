#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "scaled_number.h"
#include "strata/base/error.h"
#include "strata/base/units.h"

/// A size or a number of parameters on a command line is refused with ConfigError, or is within
/// its bounds; a size is what its digits say.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    const std::uint64_t bytes = strata::parse_bytes(text);
    STRATA_CHECK(bytes <= std::uint64_t{1} << 63, std::string(text));
    STRATA_CHECK(strata::parse_bytes(std::to_string(bytes)) == bytes, std::string(text));
    STRATA_CHECK(!strata::format_bytes(bytes).empty(), std::string(text));
  } catch (const strata::ConfigError&) {
  }
  try {
    const double parameters = strata::tool::parse_parameters(text);
    STRATA_CHECK(parameters >= 1 && parameters <= 1e15, std::string(text));
  } catch (const strata::ConfigError&) {
  }
  return 0;
}
