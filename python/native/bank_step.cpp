#include "bank_step.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <mutex>
#include <string>
#include <utility>

#include "strata/base/error.h"
#include "strata/optim_cpu/convert.h"
#include "strata/tiering/start_transfer.h"

namespace strata::python {

std::optional<double> gradient_norm(optim_cpu::ComputeThreads& threads,
                                    std::span<const LentGradient> gradients) {
  constexpr std::uint64_t kElementsAtOnce = 64 * optim_cpu::kGradientBlockElements;
  optim_cpu::SumOfSquares total;
  std::mutex mutex;  // guards `total`, which blocks join in any order
  for (const LentGradient& gradient : gradients) {
    const auto sum_block = [&](optim_cpu::Block block) {
      optim_cpu::SumOfSquares sum;
      // Takes the gradient, exactly; the caller's memory is only read.
      alignas(64) std::array<std::byte, kElementsAtOnce * sizeof(float)> copy;
      for (std::uint64_t at = block.begin; at < block.end; at += kElementsAtOnce) {
        sum.add(optim_cpu::accumulate_gradient(
            threads.instructions(), gradient.format, /*target_fp32=*/true, /*first=*/true,
            std::min(kElementsAtOnce, block.end - at),
            gradient.data + at * weight_bytes(gradient.format), copy.data()));
      }
      const std::lock_guard lock(mutex);
      total.add(sum);
    };
    threads.for_each_block(gradient.count, 16 * kElementsAtOnce, sum_block);
  }
  if (!total.finite()) return std::nullopt;
  return std::sqrt(total.value());
}

std::uint32_t BankStep::update_group_of(const BankParameter& parameter) const {
  return group_indices_.at({parameter.group, parameter.steps + 1});
}

void BankStep::begin(const std::vector<optim::OptimizerOptions>& groups, float gradient_scale) {
  if (is_open_) throw UsageError("optimizer step: begun while another one is open");
  for (const optim::OptimizerOptions& options : groups) optim::check(options);
  group_indices_.clear();
  std::vector<optim_cpu::UpdateGroup> update_groups;
  for (const BankParameter& parameter : bank_.parameters()) {
    const std::int64_t step = parameter.steps + 1;
    const auto [place, is_new] =
        group_indices_.try_emplace({parameter.group, step}, update_groups.size());
    if (!is_new) continue;
    update_groups.push_back(
        {groups.at(parameter.group), {.step = step, .gradient_scale = gradient_scale}});
  }
  bank_.pipeline().begin(update_groups);
  is_open_ = true;
  is_submitted_.assign(bank_.parameters().size(), false);
  under_way_.clear();
  offered_ = 0;
  complete_ = 0;
}

void BankStep::check(std::span<const LentParameter> parameters) const {
  if (!is_open_) throw UsageError("optimizer step: a parameter was submitted to none");
  std::vector<bool> is_submitted = is_submitted_;
  for (const LentParameter& lent : parameters) {
    if (lent.index >= is_submitted.size()) {
      throw UsageError("optimizer step: there is no parameter " + std::to_string(lent.index));
    }
    if (is_submitted[lent.index]) {
      throw UsageError("optimizer step: parameter '" + bank_.parameters()[lent.index].name +
                       "' was updated in this step already");
    }
    is_submitted[lent.index] = true;
  }
}

std::size_t BankStep::submit(std::span<const LentParameter> parameters) {
  for (const LentParameter& lent : parameters) {
    BankParameter& parameter = bank_.parameters()[lent.index];
    const std::uint32_t group = update_group_of(parameter);
    is_submitted_[lent.index] = true;
    const std::uint64_t weight_size = weight_bytes(parameter.format().precision);
    const std::uint64_t gradient_size = lent.gradient_fp32 ? sizeof(float) : weight_size;
    if (parameter.body) {
      optim_cpu::ShardStates& body = *parameter.body;
      body.gradient_fp32 = lent.gradient_fp32;
      body.weight.memory = {lent.weight, body.count * weight_size};
      // The pipeline only reads a gradient.
      body.gradient.memory = {const_cast<std::byte*>(lent.gradient), body.count * gradient_size};
      offer(body, group);
    }
    if (parameter.tail) {
      optim_cpu::ShardStates& tail = *parameter.tail;
      tail.gradient_fp32 = lent.gradient_fp32;
      tail.gradient.memory = {tail.gradient.memory.data(), tail.count * gradient_size};
      const std::uint64_t first = tail.first_element;
      const auto bring = [&](std::span<std::byte> memory, const std::byte* from,
                             std::uint64_t element_bytes) {
        std::ranges::fill(memory, std::byte{0});
        std::memcpy(memory.data(), from + first * element_bytes,
                    parameter.tail_count * element_bytes);
      };
      bring(tail.weight.memory, lent.weight, weight_size);
      bring(tail.gradient.memory, lent.gradient, gradient_size);
      offer(tail, group);
    }
    under_way_.push_back({lent.index, lent.weight, offered_});
  }
  while (bank_.pipeline().pump().made) {
  }
  collect();
  return complete_;
}

void BankStep::offer(optim_cpu::ShardStates& shard, std::uint32_t group) {
  shard.segments.assign(1, {0, shard.count, group});
  while (!bank_.pipeline().offer(shard)) advance();
  ++offered_;
  bank_.pipeline().pump();
}

/// Waits for the next thing that comes about.
void BankStep::advance() {
  if (!bank_.pipeline().advance()) {
    throw DeadlineExceeded("optimizer step: the I/O queue makes no room for the windows",
                           ETIMEDOUT);
  }
}

/// Ends the parameters that are complete.
void BankStep::collect() {
  while (!under_way_.empty() && under_way_.front().shards_until <= bank_.pipeline().completed()) {
    const Submitted& ended = under_way_.front();
    BankParameter& parameter = bank_.parameters()[ended.index];
    if (parameter.tail) {
      const std::uint64_t size = weight_bytes(parameter.format().precision);
      std::memcpy(ended.weight + parameter.tail->first_element * size,
                  parameter.tail->weight.memory.data(), parameter.tail_count * size);
    }
    ++parameter.steps;
    parameter.has_blank_master = parameter.has_blank_moments = false;
    ++complete_;
    under_way_.pop_front();
  }
}

std::size_t BankStep::wait_for(std::size_t complete) {
  while (complete_ < complete && !under_way_.empty()) {
    advance();
    collect();
  }
  return complete_;
}

std::size_t BankStep::finish() {
  if (!is_open_) throw UsageError("optimizer step: finished while none is open");
  while (!bank_.pipeline().finish()) {
    wait_for_room(*bank_.store());
  }
  collect();
  is_open_ = false;
  return complete_;
}

void BankStep::abandon() {
  if (!std::exchange(is_open_, false)) return;
  try {
    while (!bank_.pipeline().finish() &&
           bank_.store()->wait_for_room(tiering::ShardStore::kPatience)) {
    }
    collect();
  } catch (const Error&) {  // the error that it is abandoned for
  }
  under_way_.clear();
}

}  // namespace strata::python
