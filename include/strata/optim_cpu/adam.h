#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "strata/base/number_format.h"

/// \file
/// Hop 7's arithmetic: Adam and AdamW over spans of numbers, in one pass, for every state format.
///
/// The formulas are those of torch::optim::AdamW (decoupled weight decay; Loshchilov and Hutter,
/// "Decoupled Weight Decay Regularization", algorithm 2) and torch::optim::Adam (L2), in fp32 on
/// the master, with the same order of operations and the same fused multiply-adds as LibTorch's CPU
/// kernels: m and v come out with the same bits, and so do the weights wherever LibTorch's square
/// root is correctly rounded (it is MKL's, off by one unit in the last place in up to a sixth of
/// the cases, depending on the processor).

namespace strata::optim_cpu {

/// Hyperparameters of a group of parameters. Doubles, as in LibTorch.
struct AdamOptions {
  double lr = 1e-3;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double eps = 1e-8;
  double weight_decay = 0.0;
  bool decoupled_weight_decay = true;  ///< AdamW; false: Adam with L2
  bool bias_correction = true;
};

/// Pointers to `count` elements of each state of one shard, plus the gradient.
/// weight, master, gradient: formats by `precision` (see number_format.h); `master` is null for
/// fp32. `gradient` is fp32 when `gradient_fp32`, else in the weight's format. No two ranges
/// overlap. Any alignment that the elements allow.
struct AdamSpan {
  Precision precision;
  bool gradient_fp32;
  std::size_t count;
  void* weight;
  void* master;
  float* m;
  float* v;
  const void* gradient;
};

/// One update of the elements of `span`, on the calling thread, on the best instruction set the
/// machine has. `step` counts from 1. The gradient is multiplied by `gradient_scale` (unscaling and
/// clipping in one) in fp32 before anything else; 1.0f leaves it as it is. Elementwise: splitting a
/// span anywhere gives the same bits. Every instruction set gives the same bits as
/// `adam_update_reference` (of a NaN in fp32, the payload may differ).
void adam_update(const AdamOptions& options, std::int64_t step, float gradient_scale,
                 const AdamSpan& span);

/// The same, one element after the other, as the formula is read. The oracle of every test.
void adam_update_reference(const AdamOptions& options, std::int64_t step, float gradient_scale,
                           const AdamSpan& span);

/// Names of the instruction sets this machine can run the kernels on, best first ("AVX3", "AVX2",
/// "SCALAR").
[[nodiscard]] std::vector<std::string_view> kernel_targets();

/// The one in use: the best, unless the environment variable STRATA_SIMD names another.
/// Throws ConfigError when it names one that this machine lacks.
[[nodiscard]] std::string_view kernel_target();

}  // namespace strata::optim_cpu
