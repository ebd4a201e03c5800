#include "zero3/parameter_record.h"

namespace strata::zero3 {

ParameterRecord::ParameterRecord(const Unit& unit)
    : unit_(&unit), versions_(unit.versions()), hashes_(unit.hashes()) {
  if (!unit.region().empty()) return;
  for (const torch::Tensor& parameter : unit.parameters()) {
    copies_.push_back(parameter.detach().clone());
  }
}

std::vector<std::size_t> ParameterRecord::changed() const {
  return unit_->changed_since(versions_, hashes_);
}

void ParameterRecord::restore(std::size_t parameter) const {
  if (copies_.empty()) return;
  const torch::NoGradGuard no_grad;
  unit_->parameters()[parameter].detach().copy_(copies_[parameter]);
}

}  // namespace strata::zero3
