#pragma once

#include <unistd.h>

#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "bank_step.h"
#include "state_bank.h"
#include "state_files.h"

namespace strata::python {

/// A bank and its step for callers that are not careful: any thread, after a fork, after a failure.
///
/// Calls take turns. The process that made it may use it; in a forked child, where its threads are
/// missing, every call throws UsageError and the destructor leaves everything as it is. When a step
/// fails half way, each later call but those that bring back states throws UsageError until
/// `recover`.
class OffloadedOptimizer {
 public:
  explicit OffloadedOptimizer(const BankOptions& options);
  ~OffloadedOptimizer() { drop(); }
  OffloadedOptimizer(const OffloadedOptimizer&) = delete;
  OffloadedOptimizer& operator=(const OffloadedOptimizer&) = delete;

  /// Frees all memory and the scratch files; every later call but this one throws UsageError.
  void close();
  /// What the destructor does: `close`, and in a forked child nothing.
  void drop() noexcept;
  [[nodiscard]] bool is_closed() const { return bank_ == nullptr; }

  void add(const std::vector<NewParameter>& parameters);
  [[nodiscard]] BankUsage usage();

  // ---- a step: see BankStep ----

  [[nodiscard]] std::optional<double> norm(const std::vector<LentGradient>& gradients);
  void begin(const std::vector<optim::OptimizerOptions>& groups, double gradient_scale);
  std::size_t submit(const std::vector<LentParameter>& parameters);
  std::size_t wait_for(std::size_t complete);
  std::size_t finish();
  [[nodiscard]] bool is_open();

  // ---- states: see StateBank and state_files.h ----

  [[nodiscard]] std::int64_t steps(std::size_t parameter);
  void set_steps(std::size_t parameter, std::int64_t steps);
  [[nodiscard]] std::uint64_t state_size(std::size_t parameter, StateKind kind);
  /// Copies all bytes of a state, `state_size` of them.
  void read(std::size_t parameter, StateKind kind, std::byte* target);
  void write(std::size_t parameter, StateKind kind, const std::byte* source);
  void adopt(std::size_t parameter, const std::byte* weight);
  void forget(std::size_t parameter);
  void save(const std::filesystem::path& directory, const std::vector<SavedTensor>& tensors,
            std::uint64_t file_bytes, const std::string& manifest_name,
            const std::string& manifest);
  /// Throws what `load` would refuse.
  void check(const std::filesystem::path& directory, const std::vector<SavedTensor>& tensors);
  void load(const std::filesystem::path& directory, const std::vector<SavedTensor>& tensors);
  /// Ends a step that is open, with what was submitted; until `recover`, the states count as those
  /// of half a step. Call it before states are brought back.
  void abandon(const std::string& why);
  /// Says that all states are good again.
  void recover();

 private:
  /// Throws unless the caller may go on.
  void require_usable(bool also_failed = false) const;
  [[nodiscard]] BankParameter& parameter(std::size_t index);
  template <class Work>
  auto in_step(Work work);

  const pid_t process_ = getpid();
  std::mutex mutex_;
  std::unique_ptr<StateBank> bank_;
  std::unique_ptr<BankStep> step_;
  std::string failure_;  ///< why the last step failed; empty when all is well
};

}  // namespace strata::python
