#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <string>
#include <vector>

#include "promise/training_run.h"
#include "strata/optim_cpu/compute_threads.h"

namespace strata::promise {

/// The training job in memory, with Strata's arithmetic and nothing else of it: plain autograd, a
/// gradient per parameter, the scalar reference of the optimizer over vectors that lie in memory.
/// No tiers, no units at run time, no threads of ours. Slow and obvious. Random rounding depends on
/// where an element lies in its unit, which this loop knows nothing of: formats without it only.
///
/// With a world of N every micro-batch has a batch of each rank, and what they contribute to a
/// gradient is added in rank order in fp32 and rounded once.
class InMemoryLoop {
 public:
  /// How the two uses of a tied weight make one gradient: autograd adds those of each rank, or they
  /// are contributions of their own, that of the head first, because backward comes to it first.
  /// The model of the latter has a head of its own, which is made equal after every step.
  enum class Ties { kByAutograd, kUseByUse };

  InMemoryLoop(const formats::DsConfig& config, const models::Gpt2Config& model, int world_size = 1,
               Ties ties = Ties::kByAutograd);

  /// What is added first: the ranks' gradients of one micro-batch, rounded once where gradients
  /// have 16 bits, or each rank's own of all micro-batches, in fp32.
  enum class Sums { kOfMicroBatchesFirst, kOfRanksFirst };

  /// One optimizer step; returns its mean loss.
  double step(Sums sums = Sums::kOfMicroBatchesFirst);

  [[nodiscard]] Parameters parameters();

 private:
  struct Use {
    torch::Tensor parameter;
    std::vector<std::byte> contributions{};  // those of a micro-batch, rank after rank
  };
  struct ParameterState {
    std::vector<Use> uses;          // in backward's order; all have the same value
    std::vector<std::byte> master;  // remainder of the fp32 master
    std::vector<std::byte> m, v;
    std::vector<std::byte> gradient;
    bool decays;

    [[nodiscard]] const torch::Tensor& parameter() const { return uses.back().parameter; }
    [[nodiscard]] std::size_t count() const {
      return static_cast<std::size_t>(parameter().numel());
    }
  };

  /// Computes the gradients of a batch in the model; returns its loss.
  double run_batch(std::int64_t batch);
  double add_micro_batch_by_micro_batch();
  double add_rank_by_rank();
  void update();
  void add_state(const torch::Tensor& parameter, const torch::Tensor& master, bool decays);
  void take_contribution(int rank);
  void add_contributions(bool first);
  [[nodiscard]] double gradient_norm() const;

  formats::DsConfig config_;
  models::Gpt2Config model_config_;
  bool ties_use_by_use_;
  StateFormat format_;
  Precision precision_;
  int world_size_;
  optim_cpu::ComputeThreads threads_;
  models::Gpt2 model_;
  std::vector<ParameterState> states_;
  std::int64_t batches_ = 0;
  std::int64_t steps_ = 0;
};

/// Promise 1: fails the running test at the first loss or parameter in which steps in an engine of
/// that config differ from steps in memory.
void expect_bits_of_in_memory_loop(const formats::DsConfig& config, const models::Gpt2Config& model,
                                   int steps);

}  // namespace strata::promise
