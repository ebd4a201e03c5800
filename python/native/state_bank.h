#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "strata/base/counters.h"
#include "strata/base/io_backend.h"
#include "strata/base/log.h"
#include "strata/base/number_format.h"
#include "strata/optim_cpu/compute_threads.h"
#include "strata/optim_cpu/shard_states.h"
#include "strata/optim_cpu/window_pipeline.h"
#include "strata/tiering/budget.h"
#include "strata/tiering/tiers.h"

namespace strata::python {

/// Where states may rest, and their formats.
struct BankOptions {
  std::vector<std::filesystem::path> directories;  ///< nvme; none: all states in host memory
  std::uint64_t host_bytes = tiering::Budget::kUnlimited;
  std::uint64_t nvme_bytes = tiering::Budget::kUnlimited;
  MomentFormat moments = MomentFormat::kFp32;
  MasterFormat master = MasterFormat::kFp32;  ///< of bf16 parameters; others have fp32 masters
  bool has_m = true, has_v = true;            ///< moments that the optimizer keeps
  int threads = 0;                            ///< as ComputeThreads takes them
  IoBackend io = IoBackend::kAuto;
  std::uint64_t window_elements = 0;  ///< 0: a fitting number for the host budget
};

/// A parameter as it is introduced.
struct NewParameter {
  std::string name;  ///< appears in messages and files
  std::vector<std::int64_t> shape;
  Precision precision = Precision::kFp32;
  std::uint32_t group = 0;  ///< index of its hyperparameters in a step
};

/// A parameter's states. Its weight and gradient are memory of the caller's, lent for each step.
struct BankParameter {
  std::string name;
  std::vector<std::int64_t> shape;
  std::uint64_t count = 0;  ///< elements, at least one
  std::uint32_t group = 0;
  std::int64_t steps = 0;         ///< updates made
  bool has_blank_master = true;   ///< all bytes of the master are zeros, as at first
  bool has_blank_moments = true;  ///< those of the moments are
  /// Whole blocks of moments; with other formats than int8, all elements.
  std::optional<optim_cpu::ShardStates> body{};
  /// The last elements of int8 moments, padded to a block; all of its states are in memory here.
  std::optional<optim_cpu::ShardStates> tail{};
  std::uint64_t tail_count = 0;  ///< those of its elements that are the parameter's

  [[nodiscard]] const StateFormat& format() const { return body ? body->format : tail->format; }
};

/// Bytes and places of all states, for reports.
struct BankUsage {
  std::uint64_t host_bytes = 0, host_peak = 0;  ///< held of the host budget: windows and states
  std::uint64_t nvme_bytes = 0;                 ///< held of the nvme budget
  std::uint64_t states_in_host = 0, states_on_nvme = 0;  ///< bytes of masters and moments
  std::uint64_t bytes_fetched = 0, bytes_flushed = 0;    ///< since the bank was made
  std::string io;                                        ///< the I/O backend, "" without nvme
};

/// The states of an optimizer's parameters in host memory and on nvme, and what updates them. All
/// memory but the caller's is from the budgets. Parameters may be added at any time between steps.
/// Thread: one at a time.
class StateBank {
 public:
  /// Throws what Tiers and ComputeThreads throw, and ConfigError when the host budget has no room
  /// for windows.
  explicit StateBank(const BankOptions& options);
  StateBank(const StateBank&) = delete;
  StateBank& operator=(const StateBank&) = delete;

  /// Gives the states of new parameters a home: with nvme, the smallest ones in host memory for as
  /// long as that has room, all others on nvme. Masters and moments are zeros. Throws BudgetError,
  /// IoError; ConfigError for a parameter without elements. None is added then; what was taken of
  /// the budgets stays taken.
  void add(const std::vector<NewParameter>& parameters);

  [[nodiscard]] std::deque<BankParameter>& parameters() { return parameters_; }
  [[nodiscard]] const BankOptions& options() const { return options_; }
  [[nodiscard]] optim_cpu::ComputeThreads& threads() { return threads_; }
  [[nodiscard]] optim_cpu::WindowPipeline& pipeline() { return *pipeline_; }
  [[nodiscard]] tiering::ShardStore* store() { return tiers_.store(); }
  [[nodiscard]] BankUsage usage();

  // ---- states, between steps ----

  /// Bytes of a master or moment as it is read and written: count elements; with int8 moments whole
  /// blocks. 0 for a state that is not kept.
  [[nodiscard]] static std::uint64_t bytes_of(const BankParameter& parameter, StateKind kind);
  /// Calls `take` with the bytes of a state from first to last, in pieces.
  void read(const BankParameter& parameter, StateKind kind,
            const std::function<void(std::span<const std::byte>)>& take);
  /// Calls `give` to fill the bytes of a state from first to last, in pieces.
  void write(BankParameter& parameter, StateKind kind,
             const std::function<void(std::span<std::byte>)>& give);
  /// Makes `weight`, count elements, the parameter's master: what the weight lacks of it is zero.
  void adopt(BankParameter& parameter, const std::byte* weight);
  /// Makes the moments zeros, and the count of steps 0.
  void forget(BankParameter& parameter);

 private:
  struct Piece;

  [[nodiscard]] std::vector<Piece> pieces_of(const BankParameter& parameter, StateKind kind) const;
  void make_pipeline();
  [[nodiscard]] bool has_room(std::span<const std::uint64_t> states, std::uint64_t kept_free);
  [[nodiscard]] BankParameter make_parameter(const NewParameter& parameter, std::size_t index,
                                             tiering::Tier tier);
  [[nodiscard]] tiering::StateHome take_home(tiering::Tier tier, std::uint64_t bytes,
                                             const std::string& what);
  [[nodiscard]] std::span<std::byte> take_host(std::uint64_t bytes, std::string_view what);
  [[nodiscard]] std::uint64_t staging_bytes() const;

  /// Says what is wrong, and no more: a program's output is its own.
  struct QuietLogger : Logger {
    QuietLogger() { set_level(LogLevel::kWarning); }
  };

  const BankOptions options_;
  QuietLogger log_;
  Counters counters_;
  optim_cpu::ComputeThreads threads_;
  tiering::Tiers tiers_;
  std::unique_ptr<optim_cpu::WindowPipeline> pipeline_;
  std::span<std::byte> slab_;             // what is left of the memory that small states share
  std::deque<BankParameter> parameters_;  // lent to the pipeline: they stay where they are
  std::uint64_t states_in_host_ = 0, states_on_nvme_ = 0;
};

}  // namespace strata::python
