#include <algorithm>
#include <array>
#include <cctype>
#include <limits>
#include <sstream>

#include "formats/config_scalar.h"
#include "formats/ds_config_keys.h"
#include "formats/nearest_name.h"
#include "formats/quote.h"
#include "strata/base/error.h"
#include "strata/base/units.h"

namespace strata::formats {
namespace {

bool equal_ignoring_case(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](unsigned char x, unsigned char y) {
    return std::tolower(x) == std::tolower(y);
  });
}

std::string text_of(double number) {
  std::ostringstream text;
  text << number;
  return text.str();
}

double number_between(const JsonValue& value, double min, double max) {
  const double number = double_of(value);
  if (number <= 0 && min == std::numeric_limits<double>::denorm_min()) {
    value.fail(text_of(number) + " is too small; it must be above 0");
  }
  if (number < min) value.fail(text_of(number) + " is too small; at least " + text_of(min));
  if (number > max) value.fail(text_of(number) + " is too large; at most " + text_of(max));
  return number;
}

std::uint64_t bytes_of(const JsonValue& value) {
  if (!value.is(JsonType::kString)) return value.as_uint64();
  try {
    return parse_bytes(value.as_string());
  } catch (const ConfigError& error) {
    value.fail(error.what());
  }
}

/// A directory, unexpanded by any shell: a ~ or $ in it would become part of the name of a
/// directory.
const std::string& path_of(const JsonValue& value) {
  const std::string& path = value.as_string();
  if (path.starts_with('~') || path.starts_with('$')) {
    value.fail(quote(path) + " is taken as it stands, and " + quote(path.substr(0, 1)) +
               " is not expanded as a shell does; write the whole path");
  }
  return path;
}

constexpr std::uint32_t bit_of(JsonType type) { return 1u << static_cast<unsigned>(type); }

/// Whether `value` is of one of the types, also as the text of a number or boolean, or as the
/// number of a boolean.
bool has_type(const JsonValue& value, std::uint32_t types) {
  const bool takes_bool = (types & bit_of(JsonType::kBoolean)) != 0;
  const bool takes_number = (types & bit_of(JsonType::kNumber)) != 0;
  if ((types & bit_of(value.type())) != 0) return true;
  if (value.is(JsonType::kString)) {
    return (takes_bool && boolean_in(value.as_string())) ||
           (takes_number && number_in(value.as_string()));
  }
  if (value.is(JsonType::kBoolean)) return takes_number;
  return value.is(JsonType::kInteger) && takes_bool &&
         (value.as_double() == 0 || value.as_double() == 1);
}

/// One overload for each kind of target.
struct Storer {
  const JsonValue& value;
  DsConfig& config;
  bool accepts_bool;

  void operator()(const BoolField& target) const { target.field(config) = bool_of(value); }

  void operator()(const OptionalBoolField& target) const { target.field(config) = bool_of(value); }

  void operator()(const IntegerField& target) const {
    if (target.infinity_is_max && says_infinity(value)) {
      target.field(config) = target.max;
      return;
    }
    const std::int64_t number = whole_number();
    if (number < target.min) {
      value.fail(std::to_string(number) + " is too small; at least " + std::to_string(target.min));
    }
    if (number > target.max) {
      value.fail(std::to_string(number) + " is too large; at most " + std::to_string(target.max));
    }
    if (number % target.multiple_of != 0) {
      value.fail(std::to_string(number) + " is not a multiple of " +
                 std::to_string(target.multiple_of));
    }
    target.field(config) = number;
  }

  void operator()(const OptionalIntegerField& target) const {
    const std::int64_t number = whole_number();
    if (number < target.min) {
      value.fail(std::to_string(number) + " is too small; at least " + std::to_string(target.min));
    }
    target.field(config) = number;
  }

  void operator()(const NumberField& target) const {
    if (accepts_bool && value.is(JsonType::kBoolean)) {
      target.field(config) = value.as_bool() ? 1 : 0;
      return;
    }
    target.field(config) = number_between(value, target.min, target.max);
  }

  void operator()(const OptionalNumberField& target) const {
    target.field(config) = number_between(value, target.min, target.max);
  }

  void operator()(const BetasField&) const {
    const auto betas = value.elements();
    if (betas.size() != 2) {
      value.fail("expected two numbers, found " + std::to_string(betas.size()));
    }
    for (const JsonValue& beta : betas) {
      if (number_between(beta, 0, 1) == 1) beta.fail("must be below 1");
    }
    config.optimizer.beta1 = double_of(betas[0]);
    config.optimizer.beta2 = double_of(betas[1]);
  }

  void operator()(const PathField& target) const { target.field(config) = path_of(value); }

  void operator()(const PathListField& target) const {
    std::vector<std::string> paths;
    for (const JsonValue& element : value.elements()) paths.push_back(path_of(element));
    target.field(config) = std::move(paths);
  }

  void operator()(const TextField& target) const { target.field(config) = value.as_string(); }

  void operator()(const TextListField& target) const {
    std::vector<std::string> texts;
    for (const JsonValue& element : value.elements()) texts.push_back(element.as_string());
    target.field(config) = std::move(texts);
  }

  void operator()(const ParameterGroupsField&) const {
    std::vector<ParameterGroupConfig> groups;
    for (const JsonValue& element : value.elements()) groups.push_back(parameter_group(element));
    config.strata.parameter_groups = std::move(groups);
  }

  void operator()(const BytesField& target) const {
    const std::uint64_t bytes = bytes_of(value);
    if (bytes == 0 || bytes % target.multiple_of != 0) {
      value.fail(std::to_string(bytes) + " bytes are not a positive multiple of " +
                 std::to_string(target.multiple_of));
    }
    target.field(config) = bytes;
  }

  void operator()(const OptionalBytesField& target) const {
    target.field(config) = bytes_of(value);
  }

  void operator()(const ChoiceField& target) const {
    const std::string& word = value.as_string();
    for (std::size_t i = 0; i < target.words.size(); ++i) {
      if (!target.words[i].empty() && equal_ignoring_case(word, target.words[i])) {
        return target.set(config, i);
      }
    }
    std::string known;
    for (const std::string_view candidate : target.words) {
      if (candidate.empty()) continue;
      known.append(known.empty() ? "" : ", ").append(candidate);
    }
    const std::string_view nearest = nearest_name(word, target.words);
    value.fail(quote(word) + " is none of: " + known +
               (nearest.empty() ? "" : "; did you mean " + quote(nearest) + "?"));
  }

  void operator()(const CpuFlag& target) const {
    if (bool_of(value)) target.field(config) = OffloadDevice::kCpu;
  }

  void operator()(const WithoutEffect& target) const {
    if (has_type(value, target.types)) return;
    std::string expected;
    for (unsigned type = 0; type <= static_cast<unsigned>(JsonType::kObject); ++type) {
      if ((target.types >> type & 1) == 0) continue;
      expected.append(expected.empty() ? "" : " or ").append(name_of(static_cast<JsonType>(type)));
    }
    value.fail("expected " + expected + ", found " + std::string(name_of(value.type())));
  }

  void operator()(const OnlyFalse& target) const {
    if (bool_of(value)) value.fail("only false is supported: " + std::string(target.advice));
  }

  void operator()(const OnlyTrue& target) const {
    if (!bool_of(value)) value.fail("only true is supported: " + std::string(target.advice));
  }

  void operator()(const OnlyNumber& target) const {
    if (double_of(value) == target.value) return;
    value.fail("only " + text_of(target.value) + " is supported: " + std::string(target.advice));
  }

  void operator()(const Refused& target) const {
    const bool says_no =
        value.is(JsonType::kNull) || (value.is(JsonType::kBoolean) && !value.as_bool());
    if (says_no || (target.is_off != nullptr && target.is_off(value))) return;
    value.fail("not supported: " + std::string(target.advice));
  }

 private:
  static ParameterGroupConfig parameter_group(const JsonValue& group) {
    constexpr std::array<std::string_view, 4> kNames = {"params", "lr", "lr_scale", "weight_decay"};
    constexpr double kMost = std::numeric_limits<double>::max();
    ParameterGroupConfig read;
    const std::array<std::optional<double>*, 4> numbers = {nullptr, &read.lr, &read.lr_scale,
                                                           &read.weight_decay};
    for (const auto& [name, member] : group.members()) {
      const auto index =
          static_cast<std::size_t>(std::find(kNames.begin(), kNames.end(), name) - kNames.begin());
      if (index == kNames.size()) {
        member.fail("is no key of a group; they are params, lr, lr_scale and weight_decay");
      }
      if (numbers[index] != nullptr) {
        *numbers[index] = number_between(member, 0, kMost);
        continue;
      }
      for (const JsonValue& pattern : member.elements()) read.params.push_back(pattern.as_string());
    }
    if (read.params.empty()) {
      group.fail("names no parameters; write \"params\": [\"h.0.*\"], a list of patterns of names");
    }
    if (read.lr && read.lr_scale) {
      group.fail(
          "has both lr, which no schedule changes, and lr_scale, which multiplies the "
          "schedule's; keep one");
    }
    return read;
  }

  [[nodiscard]] std::int64_t whole_number() const {
    if (accepts_bool && value.is(JsonType::kBoolean)) return value.as_bool() ? 1 : 0;
    return int64_of(value);
  }
};

}  // namespace

void store_value(const ConfigKey& key, const JsonValue& value, DsConfig& config) {
  std::visit(Storer{value, config, key.accepts_bool}, key.target);
}

}  // namespace strata::formats
