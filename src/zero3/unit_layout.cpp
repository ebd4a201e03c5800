#include "strata/zero3/unit_layout.h"

#include <algorithm>

#include "strata/base/error.h"
#include "strata/base/units.h"

namespace strata::zero3 {
namespace {

constexpr std::uint64_t kElementsMax = std::uint64_t{1} << 62;

}  // namespace

void UnitLayout::add(std::string parameter_name, std::vector<std::int64_t> shape, bool trainable,
                     bool keep_fp32) {
  const auto same_name = [&](const ParameterLayout& p) { return p.name == parameter_name; };
  if (std::any_of(parameters.begin(), parameters.end(), same_name)) {
    throw UsageError("unit '" + name + "' has two parameters named '" + parameter_name + "'");
  }
  std::uint64_t count = 1;
  for (const std::int64_t extent : shape) {
    if (extent < 0) {
      throw UsageError("parameter '" + parameter_name + "' of unit '" + name +
                       "' has a negative dimension (" + std::to_string(extent) + ")");
    }
    if (__builtin_mul_overflow(count, static_cast<std::uint64_t>(extent), &count) ||
        count > kElementsMax) {
      throw UsageError("parameter '" + parameter_name + "' of unit '" + name +
                       "' has more than 2^62 elements");
    }
  }
  std::uint64_t& end = keep_fp32 ? (trainable ? fp32_trainable_count : fp32_frozen_count)
                                 : (trainable ? trainable_count : frozen_count);
  parameters.push_back(
      {std::move(parameter_name), std::move(shape), trainable, count, /*offset=*/end, keep_fp32});
  end = round_up(end + count, kAlignmentElements);
}

std::string UnitLayout::full_name(const ParameterLayout& parameter) const {
  return full_name(parameter.name);
}

std::string UnitLayout::full_name(const std::string& tensor) const {
  return name.empty() ? tensor : name + "." + tensor;
}

}  // namespace strata::zero3
