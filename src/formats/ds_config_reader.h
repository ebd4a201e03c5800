#pragma once

#include <map>
#include <string>
#include <string_view>

#include "formats/ds_config_keys.h"
#include "strata/formats/ds_config.h"
#include "strata/formats/json.h"

namespace strata::formats {

/// Fills a configuration from a parsed file, key by key, then checks what keys say together.
class DsConfigReader {
 public:
  explicit DsConfigReader(DsConfig& config) : config_(config) {}

  void read(const JsonValue& root);

 private:
  void read_section(const JsonValue& section, const std::string& prefix);
  void read_key(const ConfigKey& key, const JsonValue& value);
  [[noreturn]] void fail_unknown(const JsonValue& value, std::string_view name,
                                 std::string_view prefix) const;

  void check_stage() const;
  void choose_precision();
  void check_fp16() const;
  void check_master() const;
  void check_parameters() const;
  void complete_optimizer();
  void complete_scheduler();

  /// The value of a key of the file; nullptr when it is absent or null.
  [[nodiscard]] const JsonValue* given(std::string_view path) const;
  [[nodiscard]] bool is_auto(std::string_view path) const;

  DsConfig& config_;
  std::map<std::string_view, JsonValue> given_;  ///< by the current name of the key
};

}  // namespace strata::formats
