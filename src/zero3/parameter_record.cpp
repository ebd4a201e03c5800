#include "zero3/parameter_record.h"

#include <algorithm>

namespace strata::zero3 {

ParameterRecord::ParameterRecord(const Unit& unit)
    : unit_(&unit), versions_(unit.versions()), hashes_(unit.hashes()) {
  if (!unit.region().empty()) return;
  for (const torch::Tensor& parameter : unit.parameters()) {
    copies_.push_back(parameter.detach().clone());
  }
}

std::vector<std::size_t> ParameterRecord::changed() const {
  std::vector<std::size_t> changed = unit_->changed_since(versions_);
  const std::vector<std::size_t> hashes = unit_->hashes();
  for (std::size_t i = 0; i < hashes.size(); ++i) {
    if (hashes[i] != hashes_[i]) changed.push_back(i);
  }
  std::sort(changed.begin(), changed.end());
  changed.erase(std::unique(changed.begin(), changed.end()), changed.end());
  return changed;
}

void ParameterRecord::restore(std::size_t parameter) const {
  if (copies_.empty()) return;
  const torch::NoGradGuard no_grad;
  unit_->parameters()[parameter].detach().copy_(copies_[parameter]);
}

}  // namespace strata::zero3
