#include "zero3/gradient_sum.h"

#include <algorithm>
#include <utility>

#include "strata/optim_cpu/add_in_order.h"

namespace strata::zero3 {

using torch::autograd::variable_list;

namespace {

/// Elements that a thread adds at a time.
constexpr std::uint64_t kSumBlockElements = 1 << 16;

std::uint64_t bytes_of(const variable_list& gradients) {
  std::uint64_t bytes = 0;
  for (const torch::Tensor& gradient : gradients) {
    if (gradient.defined()) bytes += gradient.nbytes();
  }
  return bytes;
}

/// The gradients of parameter `index` that there are, in the order of micro-batches.
variable_list gradients_of(const std::vector<variable_list>& micro_batches, std::size_t index) {
  variable_list gradients;
  for (const variable_list& of_micro_batch : micro_batches) {
    if (index < of_micro_batch.size() && of_micro_batch[index].defined()) {
      gradients.push_back(of_micro_batch[index]);
    }
  }
  return gradients;
}

Precision precision_of(const torch::Tensor& tensor) {
  if (tensor.scalar_type() == torch::kBFloat16) return Precision::kBf16;
  return tensor.scalar_type() == torch::kFloat16 ? Precision::kFp16 : Precision::kFp32;
}

/// One pass for all. LibTorch's own addition would first make an fp32 copy of each.
void add_on_cpu(optim_cpu::ComputeThreads& threads, torch::Tensor& sum,
                const variable_list& gradients) {
  const bool is_first = !sum.defined();
  if (is_first) {
    sum = torch::empty(gradients.front().sizes(),
                       gradients.front().options().dtype(torch::kFloat32).requires_grad(false));
  }
  std::vector<const void*> values;
  for (const torch::Tensor& gradient : gradients) values.push_back(gradient.const_data_ptr());
  float* const target = sum.mutable_data_ptr<float>();
  const Precision precision = precision_of(gradients.front());
  threads.for_each_block(
      static_cast<std::uint64_t>(sum.numel()), kSumBlockElements, [&](optim_cpu::Block block) {
        optim_cpu::add_in_order(threads.instructions(), precision, values, is_first, block, target);
      });
}

void add_on_device(torch::Tensor& sum, const variable_list& gradients) {
  for (const torch::Tensor& gradient : gradients) {
    if (sum.defined()) {
      sum.add_(gradient);
    } else {
      // A copy even of fp32: two parameters may have been given one and the same tensor.
      sum = gradient.to(torch::kFloat32, /*non_blocking=*/false, /*copy=*/true);
    }
  }
}

}  // namespace

void GradientSum::add(variable_list gradients) {
  const std::uint64_t bytes = bytes_of(gradients);
  const bool may_wait = std::ranges::all_of(gradients, [](const torch::Tensor& gradient) {
    return !gradient.defined() || gradient.is_cpu();
  });
  waiting_bytes_ += bytes;
  waiting_.push_back(std::move(gradients));
  if (!may_wait || waiting_bytes_ + bytes > waiting_bytes_max_) catch_up();
}

void GradientSum::catch_up() {
  const torch::NoGradGuard no_grad;
  const std::vector<variable_list> waiting = std::exchange(waiting_, {});
  waiting_bytes_ = 0;
  for (const variable_list& gradients : waiting) {
    sums_.resize(std::max(sums_.size(), gradients.size()));
  }
  for (std::size_t i = 0; i < sums_.size(); ++i) {
    const variable_list gradients = gradients_of(waiting, i);
    if (gradients.empty()) continue;
    if (gradients.front().is_cpu()) {
      add_on_cpu(threads_, sums_[i], gradients);
    } else {
      add_on_device(sums_[i], gradients);
    }
  }
}

variable_list GradientSum::take() {
  catch_up();
  return std::exchange(sums_, {});
}

void GradientSum::drop() noexcept {
  waiting_.clear();
  waiting_bytes_ = 0;
  sums_.clear();
}

}  // namespace strata::zero3
