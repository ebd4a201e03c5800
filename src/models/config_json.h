#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "strata/base/error.h"
#include "strata/formats/json.h"

/// \file
/// Reading and writing a config.json, whatever the family.

namespace strata::models {

/// Parses the text of a config.json. Labels and other keys that are only carried along can be many.
[[nodiscard]] formats::JsonValue parse_config(std::string_view text, std::string_view where);

/// Reads keys of a config; leaves a value as it is where the key is absent or null.
class KeyReader {
 public:
  explicit KeyReader(formats::JsonValue object);

  /// The value at `key`, or at `alias`, another name that transformers takes for it. ConfigError
  /// where both are there and differ.
  [[nodiscard]] std::optional<formats::JsonValue> find(std::string_view key,
                                                       std::string_view alias = {}) const;
  /// Whether the key is there, also as null.
  [[nodiscard]] bool has(std::string_view key) const { return object_.find(key).has_value(); }

  void read(std::int64_t& value, std::string_view key, std::string_view alias = {}) const;
  void read(std::optional<std::int64_t>& value, std::string_view key) const;
  void read(double& value, std::string_view key) const;
  void read(std::optional<double>& value, std::string_view key) const;
  void read(bool& value, std::string_view key) const;
  /// Reads a key that changes nothing here, if it is a whole number.
  void read_if_integer(std::optional<std::int64_t>& value, std::string_view key) const;

  /// Checks a switch with one supported position.
  void require(std::string_view key, bool supported) const;

 private:
  formats::JsonValue object_;
};

/// Refuses what configs of any family can ask for and no model here has: ConfigError with the key.
void require_plain_decoder(const KeyReader& keys);

/// Throws ConfigError, with `where` and the key, unless `value` is from 1 to `largest`.
void require_extent(std::string_view where, const char* key, std::int64_t value,
                    std::int64_t largest);
inline constexpr std::int64_t kExtentMax = std::int64_t{1} << 31;  // two multiply to below 2^63
inline constexpr std::int64_t kLayersMax = 1 << 16;  // each is a unit that is laid out

/// Throws ConfigError: "`key` must be `rule`, not `value`".
[[noreturn]] void fail_config(std::string_view where, const char* key, const std::string& rule,
                              const std::string& value);

/// A config.json in which only values that differ are written anew, in place.
class ConfigWriter {
 public:
  using Json = nlohmann::ordered_json;

  /// `original` may be empty. Throws ConfigError when it is no JSON object.
  explicit ConfigWriter(std::string_view original);

  void set(const char* key, const Json& value);
  /// The format of the saved weights, under the names that are there.
  void set_dtype(std::string_view dtype);
  [[nodiscard]] bool has(const char* key) const { return json_.contains(key); }
  /// The text at `key`; empty where there is none.
  [[nodiscard]] std::string text(const char* key) const;
  [[nodiscard]] std::string text() const { return json_.dump(2) + "\n"; }

  /// Null where there is none.
  template <class Value>
  [[nodiscard]] static Json json_of(const std::optional<Value>& value) {
    return value ? Json(*value) : Json();
  }

 private:
  Json json_ = Json::object();
};

/// The config.json that a model was read from, with all its keys, for the same model as it is now:
/// its format, and whether the head is tied. Throws ConfigError where it is of another one.
template <class Config>
std::string original_json(const Config& config, std::string_view dtype, std::string_view original) {
  ConfigWriter out(original);
  Config read = Config::from_json(original, "the original config.json");
  const bool was_tied = read.tie_word_embeddings;
  read.tie_word_embeddings = config.tie_word_embeddings;
  if (read != config) {
    throw ConfigError("the original config.json is of another model than the one to be saved");
  }
  if (was_tied != config.tie_word_embeddings) {
    out.set("tie_word_embeddings", config.tie_word_embeddings);
  }
  out.set_dtype(dtype);
  return out.text();
}

}  // namespace strata::models
