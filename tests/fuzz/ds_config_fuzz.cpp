#include <cstddef>
#include <cstdint>
#include <string_view>

#include "strata/base/error.h"
#include "strata/formats/ds_config.h"

using strata::formats::DsConfig;

/// A configuration is refused with ConfigError, or accepted and then survives a round trip.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  DsConfig config;
  try {
    config = DsConfig::from_text(text, "fuzz.json");
    config.resolve_batch(3);
  } catch (const strata::ConfigError&) {
    return 0;
  }
  (void)config.nvme_directories();
  (void)config.decays("transformer.h.0.ln_1.bias");
  config.ignored_keys.clear();
  const DsConfig again = DsConfig::from_text(config.resolved_json(), "fuzz.json");
  STRATA_CHECK(again == config, config.resolved_json());
  return 0;
}
