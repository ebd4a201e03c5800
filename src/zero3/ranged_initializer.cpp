#include "strata/zero3/ranged_initializer.h"

#include <utility>

#include "strata/base/error.h"
#include "strata/optim_cpu/compute_threads.h"

namespace strata {

RangedInitializer::RangedInitializer(std::uint64_t block_elements, Fill fill)
    : block_elements_(block_elements), fill_(std::move(fill)) {
  if (block_elements == 0) throw UsageError("an initializer in blocks of no elements");
}

void RangedInitializer::operator()(const std::string& name, torch::Tensor& value) const {
  if (!value.is_cpu() || value.scalar_type() != torch::kFloat32 || !value.is_contiguous()) {
    throw UsageError("parameter '" + name +
                     "' is filled where it is not a contiguous fp32 tensor on the CPU");
  }
  const std::span<float> all(value.mutable_data_ptr<float>(),
                             static_cast<std::size_t>(value.numel()));
  const auto fill = [&](optim_cpu::Block block) {
    fill_(name, block.begin, all.subspan(block.begin, block.end - block.begin));
  };
  if (all.size() <= block_elements_) {
    if (!all.empty()) fill({0, all.size()});
    return;
  }
  optim_cpu::ComputeThreads().for_each_block(all.size(), block_elements_, fill);
}

}  // namespace strata
