#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string_view>
#include <type_traits>

#include "formats/config_scalar.h"
#include "formats/ds_config_keys.h"
#include "strata/base/number_format.h"
#include "strata/formats/json.h"

/// \file
/// The words in which the sections of the list of keys are written.

namespace strata::formats {

/// The field at the end of a chain of members.
template <auto... Members>
auto& at(DsConfig& config) {
  return (config.*....*Members);
}

// ---- what a value may be -----------------------------------------------------------------------

constexpr std::uint32_t bit(JsonType type) { return 1u << static_cast<unsigned>(type); }
inline constexpr std::uint32_t kBoolean = bit(JsonType::kBoolean);
inline constexpr std::uint32_t kWhole = bit(JsonType::kInteger) | bit(JsonType::kNumber);
inline constexpr std::uint32_t kNumber = kWhole;
inline constexpr std::uint32_t kText = bit(JsonType::kString);
inline constexpr std::uint32_t kList = bit(JsonType::kArray);
inline constexpr std::uint32_t kObject = bit(JsonType::kObject);
inline constexpr std::uint32_t kNull = bit(JsonType::kNull);

inline constexpr double kInfinity = std::numeric_limits<double>::infinity();
inline constexpr double kBelowOne = 1.0 - std::numeric_limits<double>::epsilon() / 2;
inline constexpr double kAboveZero = std::numeric_limits<double>::denorm_min();

constexpr NumberField not_negative(FieldOf<double> field) { return {field, 0, kInfinity}; }
constexpr NumberField positive(FieldOf<double> field) { return {field, kAboveZero, kInfinity}; }
constexpr NumberField below_one(FieldOf<double> field) { return {field, 0, kBelowOne}; }
constexpr NumberField ratio(FieldOf<double> field) { return {field, 0, 1}; }
constexpr IntegerField whole(FieldOf<std::int64_t> field, std::int64_t min,
                             std::int64_t max = INT64_MAX) {
  return {.field = field, .min = min, .max = max};
}
/// A batch size, bounded so that the product of three fits into 128 bits.
constexpr IntegerField size_or_auto(FieldOf<std::int64_t> field) {
  return {.field = field, .min = 1, .max = INT32_MAX, .zero_is_auto = true};
}
constexpr IntegerField elements(FieldOf<std::int64_t> field, std::int64_t min,
                                ElementBytes bytes_per_element) {
  return {.field = field, .min = min, .bytes_per_element = bytes_per_element};
}
/// One of `words`, which are those of the field's enumeration, in its order.
template <auto... Members>
constexpr ChoiceField choice(std::span<const std::string_view> words) {
  return {words, [](DsConfig& config) { return static_cast<std::size_t>(at<Members...>(config)); },
          [](DsConfig& config, std::size_t index) {
            auto& field = at<Members...>(config);
            field = static_cast<std::remove_reference_t<decltype(field)>>(index);
          }};
}

// ---- what an element takes ---------------------------------------------------------------------

inline std::uint64_t weight_element_bytes(const DsConfig& config) {
  return weight_bytes(config.precision());
}

/// All states of a parameter and its gradient.
inline std::uint64_t window_element_bytes(const DsConfig& config) {
  std::uint64_t bytes = 0;
  for (int kind = 0; kind < kStateKindCount; ++kind) {
    bytes += state_bytes(config.state_format(), static_cast<StateKind>(kind));
  }
  return bytes;
}

// ---- what becomes of a key ---------------------------------------------------------------------

/// Obeyed: its value goes where `target` says.
constexpr ConfigKey key(std::string_view path, const KeyTarget& target) {
  return {.path = path, .target = target};
}
/// Accepted without effect.
constexpr ConfigKey unused(std::string_view path, std::uint32_t types) {
  return key(path, WithoutEffect{types});
}
// Refused, but for the value that asks for nothing.
constexpr ConfigKey only_false(std::string_view path, std::string_view advice) {
  return key(path, OnlyFalse{advice});
}
constexpr ConfigKey only_true(std::string_view path, std::string_view advice) {
  return key(path, OnlyTrue{advice});
}
constexpr ConfigKey only(double value, std::string_view path, std::string_view advice) {
  return key(path, OnlyNumber{value, advice});
}
constexpr ConfigKey refused(std::string_view path, std::string_view advice,
                            bool (*is_off)(const JsonValue&) = nullptr) {
  return key(path, Refused{advice, is_off});
}

}  // namespace strata::formats
