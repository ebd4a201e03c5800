#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "strata/base/error.h"
#include "strata/formats/json.h"

using namespace strata::formats;

namespace {

/// Calls `read`, whose value may be refused.
template <class Read>
void try_read(const Read& read) {
  try {
    (void)read();
  } catch (const strata::DataError&) {
  } catch (const strata::ConfigError&) {
  }
}

/// Reads a value in every way that its type has, and all that is in it.
void walk(const JsonValue& value, std::size_t lines) {
  STRATA_CHECK(value.line() >= 1 && value.line() <= lines, std::to_string(value.line()));
  (void)value.path();
  try_read([&] { return value.as_bool(); });
  try_read([&] { return value.as_int64(); });
  try_read([&] { return value.as_uint64(); });
  try_read([&] { return value.as_string().size(); });
  if (value.is(JsonType::kNumber)) STRATA_CHECK(std::isfinite(value.as_double()), value.path());
  if (value.is(JsonType::kArray)) {
    for (const JsonValue& element : value.elements()) walk(element, lines);
  }
  if (value.is(JsonType::kObject)) {
    for (const JsonValue::Member& member : value.members()) {
      STRATA_CHECK(value.find(member.key).has_value(), std::string(member.key));
      walk(member.value, lines);
    }
  }
}

}  // namespace

/// A text is refused with the error of its role, or every value of it can be read. What passes for
/// strict JSON is JSON to another parser too. The first byte is the role.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  constexpr JsonRole kRoles[] = {JsonRole::kConfig, JsonRole::kData, JsonRole::kHjsonConfig};
  const JsonRole role = kRoles[data[0] % std::size(kRoles)];
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  try {
    const JsonValue root = JsonValue::parse(text, "fuzz.json", role);
    if (role != JsonRole::kHjsonConfig) {
      STRATA_CHECK(nlohmann::json::accept(text), std::string(text));
    }
    walk(root, static_cast<std::size_t>(std::count(text.begin(), text.end(), '\n')) + 1);
  } catch (const strata::DataError&) {
    STRATA_CHECK(role == JsonRole::kData, std::string(text));
  } catch (const strata::ConfigError&) {
    STRATA_CHECK(role != JsonRole::kData, std::string(text));
  }
  return 0;
}
