#include "offloaded_optimizer.h"

#include <cstring>
#include <exception>

#include "strata/base/error.h"

namespace strata::python {

OffloadedOptimizer::OffloadedOptimizer(const BankOptions& options)
    : bank_(std::make_unique<StateBank>(options)), step_(std::make_unique<BankStep>(*bank_)) {}

void OffloadedOptimizer::drop() noexcept {
  if (getpid() == process_) {
    step_.reset();
    bank_.reset();
    return;
  }
  // Its threads exist in the parent alone: waiting for them would take forever.
  static_cast<void>(step_.release());
  static_cast<void>(bank_.release());
}

void OffloadedOptimizer::require_usable(bool also_failed) const {
  if (getpid() != process_) {
    throw UsageError("this optimizer was made in process " + std::to_string(process_) +
                     ", and this is its child " + std::to_string(getpid()) +
                     ", which has none of its threads; make an optimizer after the fork");
  }
  if (bank_ == nullptr) throw UsageError("this optimizer has been closed; make another one");
  if (!failure_.empty() && !also_failed) {
    throw UsageError("a step of this optimizer failed half way (" + failure_ +
                     "), so that parameters and states are those of half a step; load both from a "
                     "checkpoint");
  }
}

BankParameter& OffloadedOptimizer::parameter(std::size_t index) {
  if (index < bank_->parameters().size()) return bank_->parameters()[index];
  throw UsageError("there is no parameter " + std::to_string(index));
}

void OffloadedOptimizer::close() {
  const std::lock_guard lock(mutex_);
  if (getpid() != process_) require_usable();
  step_.reset();
  bank_.reset();
}

void OffloadedOptimizer::add(const std::vector<NewParameter>& parameters) {
  const std::lock_guard lock(mutex_);
  require_usable();
  if (step_->is_open()) throw UsageError("parameters were added while a step is open; finish it");
  bank_->add(parameters);
}

BankUsage OffloadedOptimizer::usage() {
  const std::lock_guard lock(mutex_);
  require_usable(/*also_failed=*/true);
  return bank_->usage();
}

// ---- step ---------------------------------------------------------------------------------------

/// Does `work`; an exception from it means that the step is half done.
template <class Work>
auto OffloadedOptimizer::in_step(Work work) {
  try {
    return work();
  } catch (const std::exception& error) {
    failure_ = error.what();
    step_->abandon();
    throw;
  }
}

std::optional<double> OffloadedOptimizer::norm(const std::vector<LentGradient>& gradients) {
  const std::lock_guard lock(mutex_);
  require_usable();
  return gradient_norm(bank_->threads(), gradients);
}

void OffloadedOptimizer::begin(const std::vector<optim::OptimizerOptions>& groups,
                               double gradient_scale) {
  const std::lock_guard lock(mutex_);
  require_usable();
  step_->begin(groups, static_cast<float>(gradient_scale));
}

std::size_t OffloadedOptimizer::submit(const std::vector<LentParameter>& parameters) {
  const std::lock_guard lock(mutex_);
  require_usable();
  step_->check(parameters);
  return in_step([&] { return step_->submit(parameters); });
}

std::size_t OffloadedOptimizer::wait_for(std::size_t complete) {
  const std::lock_guard lock(mutex_);
  require_usable();
  return in_step([&] { return step_->wait_for(complete); });
}

std::size_t OffloadedOptimizer::finish() {
  const std::lock_guard lock(mutex_);
  require_usable();
  return in_step([&] { return step_->finish(); });
}

bool OffloadedOptimizer::is_open() {
  const std::lock_guard lock(mutex_);
  require_usable(/*also_failed=*/true);
  return step_->is_open();
}

// ---- states -------------------------------------------------------------------------------------

std::int64_t OffloadedOptimizer::steps(std::size_t index) {
  const std::lock_guard lock(mutex_);
  require_usable(/*also_failed=*/true);
  return parameter(index).steps;
}

void OffloadedOptimizer::set_steps(std::size_t index, std::int64_t steps) {
  const std::lock_guard lock(mutex_);
  require_usable(/*also_failed=*/true);
  if (steps < 0)
    throw DataError("a parameter cannot have made " + std::to_string(steps) + " steps");
  parameter(index).steps = steps;
}

std::uint64_t OffloadedOptimizer::state_size(std::size_t index, StateKind kind) {
  const std::lock_guard lock(mutex_);
  require_usable(/*also_failed=*/true);
  return StateBank::bytes_of(parameter(index), kind);
}

void OffloadedOptimizer::read(std::size_t index, StateKind kind, std::byte* target) {
  const std::lock_guard lock(mutex_);
  require_usable();
  if (step_->is_open())
    throw UsageError("states were read while a step is open; call step() first");
  bank_->read(parameter(index), kind, [&](std::span<const std::byte> piece) {
    std::memcpy(target, piece.data(), piece.size());
    target += piece.size();
  });
}

void OffloadedOptimizer::write(std::size_t index, StateKind kind, const std::byte* source) {
  const std::lock_guard lock(mutex_);
  require_usable(/*also_failed=*/true);
  bank_->write(parameter(index), kind, [&](std::span<std::byte> piece) {
    std::memcpy(piece.data(), source, piece.size());
    source += piece.size();
  });
}

void OffloadedOptimizer::adopt(std::size_t index, const std::byte* weight) {
  const std::lock_guard lock(mutex_);
  require_usable();
  if (step_->is_open()) throw UsageError("a weight was adopted while a step is open");
  bank_->adopt(parameter(index), weight);
}

void OffloadedOptimizer::forget(std::size_t index) {
  const std::lock_guard lock(mutex_);
  require_usable(/*also_failed=*/true);
  bank_->forget(parameter(index));
}

void OffloadedOptimizer::save(const std::filesystem::path& directory,
                              const std::vector<SavedTensor>& tensors, std::uint64_t file_bytes,
                              const std::string& manifest_name, const std::string& manifest) {
  const std::lock_guard lock(mutex_);
  require_usable();
  if (step_->is_open())
    throw UsageError("states were saved while a step is open; call step() first");
  save_states(*bank_, directory, tensors, file_bytes, manifest_name, manifest);
}

void OffloadedOptimizer::check(const std::filesystem::path& directory,
                               const std::vector<SavedTensor>& tensors) {
  const std::lock_guard lock(mutex_);
  require_usable(/*also_failed=*/true);
  check_states(*bank_, directory, tensors);
}

void OffloadedOptimizer::load(const std::filesystem::path& directory,
                              const std::vector<SavedTensor>& tensors) {
  const std::lock_guard lock(mutex_);
  require_usable(/*also_failed=*/true);
  load_states(*bank_, directory, tensors);
}

void OffloadedOptimizer::abandon(const std::string& why) {
  const std::lock_guard lock(mutex_);
  require_usable(/*also_failed=*/true);
  step_->abandon();
  failure_ = why;
}

void OffloadedOptimizer::recover() {
  const std::lock_guard lock(mutex_);
  require_usable(/*also_failed=*/true);
  failure_.clear();
}

}  // namespace strata::python
