#include "strata/zero3/chosen_units.h"

#include <cstddef>

#include "strata/zero3/sharded.h"
#include "zero3/entrance.h"
#include "zero3/unit.h"

namespace strata::zero3 {

std::vector<bool> chosen_by_any_rank(const UnitHandle& unit, const std::vector<bool>& chosen) {
  Ranks& ranks = unit_of(unit)->entrance().ranks();
  if (ranks.size() == 1) return chosen;
  std::vector<double> counts(chosen.begin(), chosen.end());
  ranks.sum(counts);
  std::vector<bool> by_any(chosen.size());
  for (std::size_t i = 0; i < by_any.size(); ++i) by_any[i] = counts[i] > 0;
  return by_any;
}

}  // namespace strata::zero3
