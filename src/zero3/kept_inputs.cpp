#include "zero3/kept_inputs.h"

namespace strata::zero3 {

using torch::autograd::variable_list;

namespace {

std::uint32_t version_or_0(const torch::Tensor& tensor) {
  return tensor.defined() ? static_cast<std::uint32_t>(tensor._version()) : 0;
}

variable_list detach_all(const variable_list& inputs) {
  variable_list detached;
  for (const torch::Tensor& input : inputs) {
    if (!input.defined()) {
      detached.emplace_back();
      continue;
    }
    detached.push_back(input.detach());
    detached.back().set_requires_grad(input.requires_grad());
  }
  return detached;
}

}  // namespace

KeptInputs::KeptInputs(const variable_list& inputs) : tensors_(detach_all(inputs)) {
  versions_.reserve(tensors_.size());
  for (const torch::Tensor& tensor : tensors_) versions_.push_back(version_or_0(tensor));
}

std::optional<std::size_t> KeptInputs::changed_from(std::size_t begin) const {
  for (std::size_t i = begin; i < tensors_.size(); ++i) {
    if (version_or_0(tensors_[i]) != versions_[i]) return i;
  }
  return std::nullopt;
}

variable_list KeptInputs::copies() const { return detach_all(tensors_); }

void KeptInputs::put_away(Activations* activations) {
  if (activations == nullptr) return;
  away_.resize(tensors_.size());
  for (std::size_t i = 0; i < tensors_.size(); ++i) {
    torch::Tensor& tensor = tensors_[i];
    away_[i] = activations->put(tensor);
    if (!away_[i]) continue;
    const bool requires_grad = tensor.requires_grad();
    tensor = tensor.detach().set_requires_grad(requires_grad);  // counts versions with the old one
    take_values(tensor);
  }
}

KeptInputs::AtHand::AtHand(KeptInputs& inputs, Activations* activations)
    : inputs_(inputs), without_(inputs.tensors_) {
  for (std::size_t i = 0; i < inputs.away_.size(); ++i) {
    if (!inputs.away_[i]) continue;
    inputs.tensors_[i] = activations->bring(inputs.away_[i], inputs.tensors_[i]);
  }
}

}  // namespace strata::zero3
