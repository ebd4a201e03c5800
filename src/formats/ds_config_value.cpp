#include "formats/ds_config_value.h"

#include <algorithm>
#include <cctype>
#include <limits>
#include <sstream>

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
  const double number = value.as_double();
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

/// One overload for each kind of target.
struct Storer {
  const JsonValue& value;
  DsConfig& config;

  void operator()(const BoolField& target) const { target.field(config) = value.as_bool(); }

  void operator()(const IntegerField& target) const {
    const std::int64_t number = value.as_int64();
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

  void operator()(const NumberField& target) const {
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
    config.optimizer.beta1 = betas[0].as_double();
    config.optimizer.beta2 = betas[1].as_double();
  }

  void operator()(const TextField& target) const { target.field(config) = value.as_string(); }

  void operator()(const TextListField& target) const {
    std::vector<std::string> texts;
    for (const JsonValue& element : value.elements()) texts.push_back(element.as_string());
    target.field(config) = std::move(texts);
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

  void operator()(const WithoutEffect& target) const {
    if ((target.types >> static_cast<unsigned>(value.type()) & 1) != 0) return;
    std::string expected;
    for (unsigned type = 0; type <= static_cast<unsigned>(JsonType::kObject); ++type) {
      if ((target.types >> type & 1) == 0) continue;
      expected.append(expected.empty() ? "" : " or ").append(name_of(static_cast<JsonType>(type)));
    }
    value.fail("expected " + expected + ", found " + std::string(name_of(value.type())));
  }

  void operator()(const OnlyFalse& target) const {
    if (value.as_bool()) value.fail("only false is supported: " + std::string(target.advice));
  }

  void operator()(const OnlyZero& target) const {
    if (value.as_double() != 0) value.fail("only 0 is supported: " + std::string(target.advice));
  }

  void operator()(const Refused& target) const {
    value.fail("not supported: " + std::string(target.advice));
  }
};

}  // namespace

void store_value(const KeyTarget& target, const JsonValue& value, DsConfig& config) {
  std::visit(Storer{value, config}, target);
}

}  // namespace strata::formats
