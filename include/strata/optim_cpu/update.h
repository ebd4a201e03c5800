#pragma once

#include <cstddef>
#include <cstdint>

#include "strata/base/number_format.h"
#include "strata/optim_cpu/instruction_set.h"
#include "strata/optim_cpu/optimizer_options.h"

/// \file
/// Hop 7's arithmetic: one optimizer update of a span of elements, in one pass over memory:
/// unscale, clip, weight decay, moments, new master, and its split into what is stored.
///
/// The formulas are in optimizer_options.h; all arithmetic is fp32 on the master. With fp32 moments
/// Adam, AdamW, SGD and Adagrad have LibTorch's order of operations and its fused multiply-adds: m
/// and v come out with LibTorch's bits, and so do the weights wherever LibTorch's square root is
/// correctly rounded (it is MKL's, off by one unit in the last place in up to a sixth of the cases,
/// depending on the processor).
///
/// Rounding. fp32 masters and moments: as the operations round. An fp16 weight: to nearest, ties to
/// even. A state that rests in fewer bits than it is computed in (k24Bit, kBf16 and kInt8 moments)
/// is rounded stochastically: up with the probability of the part that does not fit. Rounded to
/// nearest, an exponential average would stop moving: v loses at most (1 - beta2) = 0.1 % a step, a
/// quarter of what bf16 can tell apart. The random numbers are a hash of (sequence, step, element),
/// so they are the same whatever the threads, the windows, or the instruction set.

namespace strata::optim_cpu {

using optim::AdagradOptions;
using optim::AdamOptions;
using optim::LionOptions;
using optim::OptimizerOptions;
using optim::SgdOptions;

/// Pointers to `count` elements of each state of one shard, plus the gradient. Formats by `format`
/// (see number_format.h); a state of zero bytes is null. No two ranges overlap. Any alignment that
/// the elements allow. Where rounding is random (`format.is_stochastic()`) `first_element` is a
/// multiple of kMomentBlockElements; with int8 moments `count` is one too.
struct UpdateSpan {
  StateFormat format;
  Precision gradient_format;  ///< widened to fp32 in the kernel
  std::size_t count;
  void* weight;
  void* master;
  void* m;
  void* v;
  const void* gradient;
  std::uint64_t first_element = 0;  ///< index of the first one in its vector, for random rounding
  std::uint64_t sequence = 0;       ///< key of random numbers; each vector has its own
};

/// The `count` elements of `span` from element `begin` on; UpdateSpan says where it may be cut.
[[nodiscard]] UpdateSpan part_of(const UpdateSpan& span, std::size_t begin, std::size_t count);

/// The values that all elements share in one step.
struct UpdateStep {
  std::int64_t step = 1;        ///< counts from 1
  float gradient_scale = 1.0f;  ///< unscaling and clipping in one: multiplies the gradient, in fp32
};

/// The elements to give a thread at a time: states of some 200 KiB, whole blocks of moments.
inline constexpr std::uint64_t kUpdateElementsAtOnce = 16 * 1024;
static_assert(kUpdateElementsAtOnce % kMomentBlockElements == 0);

/// One update of the elements of `span`, on the calling thread. Elementwise: splitting a span
/// anywhere that UpdateSpan allows gives the same bits. Every instruction set gives the same bits
/// as `update_reference` (of a NaN in fp32, the payload may differ). A block of int8 moments with a
/// value that is not finite becomes NaN as a whole. Precondition: `span` has the states that the
/// optimizer keeps.
void update(const OptimizerOptions& options, const UpdateStep& step, const UpdateSpan& span,
            InstructionSet instructions = {});

/// Does what `update` does, one element after the other, as the formula reads. Every test's oracle.
void update_reference(const OptimizerOptions& options, const UpdateStep& step,
                      const UpdateSpan& span);

}  // namespace strata::optim_cpu
