#include "simulated_accelerator/attention_kernels.h"

#include <ATen/Functions.h>
#include <ATen/SDPBackend.h>
#include <ATen/native/transformers/attention.h>
#include <ATen/ops/_fused_sdp_choice_native.h>

#include <array>
#include <tuple>

namespace strata::simulated {
namespace {

using at::Tensor;
using OptionalTensor = std::optional<Tensor>;

/// A tensor of the CPU that looks the same to the function that chooses.
Tensor like_on_cpu(const Tensor& tensor) {
  Tensor like = at::empty_strided(tensor.sizes(), tensor.strides(),
                                  at::TensorOptions().dtype(tensor.dtype()).device(at::kCPU));
  return like.set_requires_grad(tensor.requires_grad());
}

std::int64_t choice(const Tensor& query, const Tensor& key, const Tensor& value,
                    const OptionalTensor& mask, double dropout, bool causal,
                    std::optional<double> scale, bool grouped) {
  const OptionalTensor cpu_mask = mask ? OptionalTensor(like_on_cpu(*mask)) : std::nullopt;
  const std::int64_t on_cpu =
      at::native::_fused_sdp_choice_cpp(like_on_cpu(query), like_on_cpu(key), like_on_cpu(value),
                                        cpu_mask, dropout, causal, scale, grouped);
  const bool is_math = on_cpu == static_cast<std::int64_t>(at::SDPBackend::math);
  // The name under which a backend of its own kind brings a fused kernel.
  return static_cast<std::int64_t>(is_math ? at::SDPBackend::math : at::SDPBackend::overrideable);
}

using Attended =
    std::tuple<Tensor, Tensor, Tensor, Tensor, c10::SymInt, c10::SymInt, Tensor, Tensor, Tensor>;

Attended attend(const Tensor& query, const Tensor& key, const Tensor& value,
                const OptionalTensor& mask, double dropout, bool causal, bool,
                std::optional<double> scale) {
  auto [output, logsumexp] = at::_scaled_dot_product_flash_attention_for_cpu(
      query, key, value, dropout, causal, mask, scale);
  return {output, logsumexp, {}, {}, query.size(2), key.size(2), {}, {}, {}};
}

std::tuple<Tensor, Tensor, Tensor, Tensor> attend_backward(
    const Tensor& gradient, const Tensor& query, const Tensor& key, const Tensor& value,
    const Tensor& mask, std::array<bool, 4>, const Tensor& output, const Tensor& logsumexp,
    const Tensor&, const Tensor&, c10::SymInt, c10::SymInt, double dropout, bool causal,
    const Tensor&, const Tensor&, std::optional<double> scale) {
  const OptionalTensor given_mask = mask.defined() ? OptionalTensor(mask) : std::nullopt;
  auto [of_query, of_key, of_value] = at::_scaled_dot_product_flash_attention_for_cpu_backward(
      gradient, query, key, value, output, logsumexp, dropout, causal, given_mask, scale);
  return {of_query, of_key, of_value, Tensor()};
}

}  // namespace

void register_attention_kernels(torch::Library& aten) {
  aten.impl("_fused_sdp_choice", &choice);
  at::native::_fused_sdp_choice_stub.set_privateuse1_dispatch_ptr(&choice);  // the way it is asked
  aten.impl("_scaled_dot_product_fused_attention_overrideable", &attend);
  aten.impl("_scaled_dot_product_fused_attention_overrideable_backward", &attend_backward);
}

}  // namespace strata::simulated
