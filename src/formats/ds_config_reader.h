#pragma once

#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "formats/ds_config_keys.h"
#include "strata/formats/ds_config.h"
#include "strata/formats/json.h"

namespace strata::formats {

/// Fills a configuration from a parsed file, key by key, then checks keys against each other.
class DsConfigReader {
 public:
  explicit DsConfigReader(DsConfig& config) : config_(config) {}

  /// Throws one ConfigError with everything that is wrong.
  void read(const JsonValue& root);

 private:
  void read_section(const JsonValue& section, const std::string& prefix);
  void read_member(const std::string& path, std::string_view name, const std::string& prefix,
                   const JsonValue& value);
  void read_key(const ConfigKey& key, const JsonValue& value);
  void refuse_unknown(const JsonValue& value, std::string_view name, const std::string& prefix);

  void read_stage();
  void choose_precision();
  void check_fp16() const;
  void check_master() const;
  void check_parameters();
  void complete_optimizer();
  void complete_moments();
  void complete_scheduler();
  void complete_trainers_schedule();
  void check_cycle() const;
  void check_accumulation() const;
  void check_data_types() const;
  void note_defaults();
  void note_unknown_keys();

  /// Runs a step of reading; its error is kept for the end.
  template <class Step>
  void attempt(Step step);
  void throw_errors() const;

  /// The value of a key of the file; nullptr when it is absent or null, or its value was refused.
  [[nodiscard]] const JsonValue* given(std::string_view path) const;
  /// The value of a key that is there, for the place of an error.
  [[nodiscard]] const JsonValue& place_of(std::string_view path) const;
  [[nodiscard]] bool is_auto(std::string_view path) const;
  [[nodiscard]] bool is_null(std::string_view path) const { return nulls_.contains(path); }
  [[nodiscard]] bool accumulates() const;

  DsConfig& config_;
  std::map<std::string_view, JsonValue> given_;  ///< by the current name of the key
  std::set<std::string_view> nulls_;             ///< keys that say null
  std::set<std::string_view> faulty_;            ///< keys whose value was refused
  std::vector<std::string> unknown_keys_;        ///< keys that DeepSpeed does not know either
  bool has_optimizer_ = false;
  const JsonValue* root_ = nullptr;
  std::vector<std::string> errors_;
};

}  // namespace strata::formats
