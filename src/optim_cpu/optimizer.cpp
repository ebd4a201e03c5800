#include "strata/optim_cpu/optimizer.h"

#include <algorithm>
#include <string>

#include "optim_cpu/kernel_spans.h"
#include "optim_cpu/kernel_table.h"
#include "strata/base/error.h"
#include "strata/optim_cpu/convert.h"

namespace strata::optim {
namespace {

void check_size(StateKind kind, std::size_t held, std::uint64_t wanted, std::uint64_t count) {
  if (held == wanted) return;
  throw UsageError("optimizer: " + std::string(name_of(kind)) + " has " + std::to_string(held) +
                   " bytes where " + std::to_string(count) + " parameters take " +
                   std::to_string(wanted));
}

void check_states(const Optimizer& optimizer, const States& states, std::uint64_t count) {
  if (optimizer.format().moments == MomentFormat::kInt8 && count % kMomentBlockElements != 0) {
    throw UsageError("optimizer: " + std::to_string(count) +
                     " parameters; with int8 moments it must be a multiple of " +
                     std::to_string(kMomentBlockElements) + ": pad with zeros");
  }
  const auto check = [&](StateKind kind, std::span<const std::byte> state) {
    check_size(kind, state.size(), optimizer.bytes(kind, count), count);
  };
  check(StateKind::kWeight, states.weight);
  check(StateKind::kMaster, states.master);
  check(StateKind::kM, states.m);
  check(StateKind::kV, states.v);
}

void* data_of(std::span<std::byte> state) { return state.empty() ? nullptr : state.data(); }

}  // namespace

Optimizer::Optimizer(const OptimizerOptions& options, StateFormat format,
                     optim_cpu::ComputeThreads& threads)
    : options_(options), format_(format), threads_(threads) {
  check(options);
  if (format.master == MasterFormat::k24Bit && format.precision != Precision::kBf16) {
    throw ConfigError("optimizer: a master of 24 bits goes with bf16 weights only, not with " +
                      std::string(name_of(format.precision)));
  }
  format_.has_m = keeps_m(options);
  format_.has_v = keeps_v(options);
}

std::uint64_t Optimizer::bytes(StateKind kind, std::uint64_t count) const {
  return count * state_bytes(format_, kind);
}

void Optimizer::set_options(const OptimizerOptions& options) {
  if (keeps_m(options) != format_.has_m || options.index() != options_.index()) {
    throw UsageError("optimizer: set_options with another optimizer, or with other moments");
  }
  check(options);
  options_ = options;
}

void Optimizer::initialize(std::span<const float> values, const States& states) const {
  check_states(*this, states, values.size());
  optim_cpu::split_master(format_, values, states.weight.data(), data_of(states.master));
  std::ranges::fill(states.m, std::byte{0});
  std::ranges::fill(states.v, std::byte{0});
}

void Optimizer::step(std::int64_t step, const States& states, std::span<const std::byte> gradient,
                     Precision gradient_format, float gradient_scale,
                     std::uint64_t sequence) const {
  if (step < 1) throw UsageError("optimizer: step " + std::to_string(step) + "; they count from 1");
  const std::uint64_t count = states.weight.size() / weight_bytes(format_.precision);
  check_states(*this, states, count);
  check_size(StateKind::kGradient, gradient.size(), count * weight_bytes(gradient_format), count);

  const optim_cpu::UpdateSpan whole{.format = format_,
                                    .gradient_format = gradient_format,
                                    .count = count,
                                    .weight = states.weight.data(),
                                    .master = data_of(states.master),
                                    .m = data_of(states.m),
                                    .v = data_of(states.v),
                                    .gradient = gradient.data(),
                                    .sequence = sequence};
  const optim_cpu::RuleConstants constants =
      optim_cpu::constants_of(options_, {.step = step, .gradient_scale = gradient_scale});
  const optim_cpu::KernelTable& kernels = threads_.instructions().kernels();
  threads_.for_each_block(count, optim_cpu::kUpdateElementsAtOnce, [&](optim_cpu::Block block) {
    kernels.update(constants, part_of(whole, block.begin, block.end - block.begin));
  });
}

}  // namespace strata::optim
