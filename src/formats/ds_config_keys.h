#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "strata/formats/ds_config.h"
#include "strata/formats/json.h"

/// \file
/// The one list of keys: their names, their types, and the fields that they set. Reading, "did you
/// mean", the list of keys without effect and printing all follow it.

namespace strata::formats {

/// A field of the configuration.
template <class Value>
using FieldOf = Value& (*)(DsConfig&);

// The targets of keys: a value's type and the field it sets. Bounds are inclusive.

struct BoolField {
  FieldOf<bool> field;
};

/// The bytes of one element of what a key counts.
using ElementBytes = std::uint64_t (*)(const DsConfig&);

/// A boolean that may be left open, which is not written, or written "auto".
struct OptionalBoolField {
  FieldOf<std::optional<bool>> field;
  bool open_is_auto = false;
};

struct IntegerField {
  FieldOf<std::int64_t> field;
  std::int64_t min;
  std::int64_t max = INT64_MAX;
  std::int64_t multiple_of = 1;
  bool zero_is_auto = false;                 ///< 0 means "auto" and is written so
  bool infinity_is_max = false;              ///< Infinity, which Accelerate writes, means `max`
  ElementBytes bytes_per_element = nullptr;  ///< for counts of elements
};

/// A whole number that may be left open, which is not written.
struct OptionalIntegerField {
  FieldOf<std::optional<std::int64_t>> field;
  std::int64_t min;
  ElementBytes bytes_per_element = nullptr;  ///< for counts of elements
};

struct NumberField {
  FieldOf<double> field;
  double min;
  double max;
};

/// A number that may be left open, which is written "auto".
struct OptionalNumberField {
  FieldOf<std::optional<double>> field;
  double min;
  double max;
};

/// [beta1, beta2]
struct BetasField {};

struct PathField {
  FieldOf<std::string> field;
};

struct PathListField {
  FieldOf<std::vector<std::string>> field;
};

struct TextField {
  FieldOf<std::string> field;
};

struct TextListField {
  FieldOf<std::vector<std::string>> field;
};

/// [{"params": [patterns], "lr": 1e-5, ...}, ...]
struct ParameterGroupsField {};

/// A number of bytes: 4294967296 or "4GiB".
struct BytesField {
  FieldOf<std::uint64_t> field;
  std::uint64_t multiple_of;
};

struct OptionalBytesField {
  FieldOf<std::optional<std::uint64_t>> field;
};

/// One of several words, in the order of an enumeration. An empty word is never read or written.
struct ChoiceField {
  std::span<const std::string_view> words;
  std::size_t (*get)(DsConfig&);
  void (*set)(DsConfig&, std::size_t);
};

/// An older key that means the device "cpu" when it is true.
struct CpuFlag {
  FieldOf<OffloadDevice> field;
};

/// Accepted without effect, because it does not change what is trained. `types` are those of the
/// JSON value, one bit each.
struct WithoutEffect {
  std::uint32_t types;
};

// Features that are missing here and would change what is trained: only the value that asks for
// nothing passes.

struct OnlyFalse {
  std::string_view advice;
};

struct OnlyTrue {
  std::string_view advice;
};

struct OnlyNumber {
  double value;
  std::string_view advice;
};

/// A feature. A section passes when it is null or false, or when `is_off` says that it asks for
/// nothing.
struct Refused {
  std::string_view advice;
  bool (*is_off)(const JsonValue&) = nullptr;
};

using KeyTarget =
    std::variant<BoolField, OptionalBoolField, IntegerField, OptionalIntegerField, NumberField,
                 OptionalNumberField, BetasField, PathField, PathListField, TextField,
                 TextListField, ParameterGroupsField, BytesField, OptionalBytesField, ChoiceField,
                 CpuFlag, WithoutEffect, OnlyFalse, OnlyTrue, OnlyNumber, Refused>;

struct ConfigKey {
  std::string_view path;  ///< "zero_optimization.offload_param.device"
  KeyTarget target;
  bool accepts_auto = false;
  void (*on_auto)(DsConfig&) = nullptr;  ///< what "auto" does; null: it is as if absent
  bool accepts_null = false;             ///< null: it is as if absent
  bool accepts_bool = false;             ///< false is the number 0 and true is 1
  std::string_view alias_of = {};        ///< the current name of an older key
  /// Whether the key means anything beside the others (a parameter of another scheduler does not).
  bool (*applies)(const DsConfig&) = nullptr;

  // The list of keys reads better with these than with all members on every line.

  [[nodiscard]] constexpr ConfigKey or_auto(void (*action)(DsConfig&) = nullptr) const {
    ConfigKey key = *this;
    key.accepts_auto = true;
    key.on_auto = action;
    return key;
  }
  [[nodiscard]] constexpr ConfigKey or_null() const {
    ConfigKey key = *this;
    key.accepts_null = true;
    return key;
  }
  [[nodiscard]] constexpr ConfigKey or_bool() const {
    ConfigKey key = *this;
    key.accepts_bool = true;
    return key;
  }
  [[nodiscard]] constexpr ConfigKey older_name_of(std::string_view current) const {
    ConfigKey key = *this;
    key.alias_of = current;
    return key;
  }
  [[nodiscard]] constexpr ConfigKey only_for(bool (*condition)(const DsConfig&)) const {
    ConfigKey key = *this;
    key.applies = condition;
    return key;
  }
};

/// Every key. The order is that of the resolved configuration.
[[nodiscard]] std::span<const ConfigKey> config_keys();

/// The key at a path, or nullptr. Keys of zero_optimization that begin with stage3_ are found
/// without it as well, as in DeepSpeed.
[[nodiscard]] const ConfigKey* find_config_key(std::string_view path);

/// For a key that counts elements, the bytes of one; else null.
[[nodiscard]] ElementBytes element_bytes_of(const ConfigKey& key);

/// Whether the key asks for a missing feature: it is neither obeyed nor without effect.
[[nodiscard]] bool is_refused(const ConfigKey& key);

/// Stores `value` where the key's target says, after checking its type and range. Throws
/// ConfigError.
void store_value(const ConfigKey& key, const JsonValue& value, DsConfig& config);

/// Ends the name of the byte count that is written beside a count of elements.
inline constexpr std::string_view kByteCountSuffix = "_bytes";

}  // namespace strata::formats
