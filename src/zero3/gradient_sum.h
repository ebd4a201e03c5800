#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <vector>

#include "strata/base/units.h"
#include "strata/optim_cpu/compute_threads.h"

namespace strata::zero3 {

/// The sum of a unit's gradients of several micro-batches, on the device: they are added in fp32 in
/// the order in which they come, as they would be at a home in fp32, and so have the same bits.
/// On the CPU those of several micro-batches wait for one another as far as they are small, so that
/// one pass over the sum, twice as large as a gradient in 16 bits, adds them all. Memory:
/// LibTorch's, an fp32 number for each element that has a gradient, and what waits. Works on
/// LibTorch's current stream; on the CPU, on the caller's thread and the optimizer's.
class GradientSum {
 public:
  /// The most bytes of gradients that wait for one another. A unit whose gradients of two
  /// micro-batches are more has them added at once: the largest unit's set the peak of a run.
  static constexpr std::uint64_t kWaitingBytesMax = 64_MiB;

  explicit GradientSum(optim_cpu::ComputeThreads& threads,
                       std::uint64_t waiting_bytes_max = kWaitingBytesMax)
      : threads_(threads), waiting_bytes_max_(waiting_bytes_max) {}

  /// Adds a gradient for each trainable parameter, contiguous; undefined where there is none. They
  /// are not changed until `take`.
  void add(torch::autograd::variable_list gradients);
  /// The sums, undefined where nothing came; none when nothing was added. It is empty afterwards.
  [[nodiscard]] torch::autograd::variable_list take();
  /// Drops what was added.
  void drop() noexcept;

 private:
  /// Adds what waits.
  void catch_up();

  optim_cpu::ComputeThreads& threads_;
  std::uint64_t waiting_bytes_max_;
  std::vector<torch::autograd::variable_list> waiting_;
  std::uint64_t waiting_bytes_ = 0;
  torch::autograd::variable_list sums_;
};

}  // namespace strata::zero3
