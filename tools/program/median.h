#pragma once

#include <algorithm>
#include <vector>

#include "strata/base/error.h"

namespace strata::tool {

/// The middle one of `values`, which are not empty; of an even number the mean of the middle two.
[[nodiscard]] inline double median(std::vector<double> values) {
  STRATA_CHECK(!values.empty(), "a median of nothing");
  std::ranges::sort(values);
  const std::size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

}  // namespace strata::tool
