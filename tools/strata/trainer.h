#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "batch_sampler.h"
#include "interruption.h"
#include "step_record.h"
#include "step_trace.h"
#include "strata/models/causal_lm.h"
#include "strata/zero3/engine.h"

namespace strata::tool {

/// Trains and evaluates, one step at a time, and measures the time and the bytes.
///
/// Ranks share out the micro-batches of a step and of an evaluation, one each in turn: however many
/// they are, a step of as many sequences has the same ones. The loss of a step, or an evaluation,
/// is the mean over all tokens of all ranks that bear loss, and so is its gradient. A record's
/// losses, tokens, seconds, and bytes read and written are those of all ranks, its hops and tiers
/// those of this one. All ranks make the same calls.
///
/// The engine, the model, the interruption and the trace must outlive it.
class Trainer {
 public:
  struct Data {
    BatchSampler training;
    std::optional<BatchSampler> evaluation;
    std::int64_t evaluation_batches = 0;
    std::uint64_t training_tokens = 0;  ///< of one epoch, where it has no sequences of its own
    int rank = 0, ranks = 1;            ///< which of all batches are this rank's
  };

  Trainer(Engine& engine, models::CausalLm& model, Data data, const Interruption& interruption,
          StepTrace& trace);

  /// Goes on behind so many steps.
  void go_on_behind(std::int64_t steps) { steps_ = steps; }

  /// Makes one optimizer step: as many micro-batches as the config accumulates.
  /// Throws what the engine throws, and Interrupted.
  StepRecord step();

  /// Writes the trace of a run that has ended before the last traced step.
  void end_trace() { trace_.end(engine_); }

  /// Mean loss over the evaluation batches; nullopt when there are none.
  [[nodiscard]] std::optional<EvaluationRecord> evaluate();

 private:
  /// What an interval begins and ends with.
  struct Moment {
    Time time;
    CounterReading counters;
    Time::duration disk_busy;
  };
  [[nodiscard]] Moment now() const;
  [[nodiscard]] double epoch() const;
  [[nodiscard]] MemoryReading memory() const;
  torch::Tensor loss_of(const models::TokenBatch& batch);
  /// A step, and its record; of the interval the tokens, and the bytes from other ranks.
  [[nodiscard]] StepRecord make_step();
  /// Makes this rank's record that of all ranks.
  void add_other_ranks(StepRecord& record);
  [[nodiscard]] BatchReport train_on(const models::TokenBatch& batch);
  /// Runs all micro-batches through one unit before the next.
  [[nodiscard]] BatchReport train_on(const std::vector<models::TokenBatch>& batches);
  /// What the losses of a step's micro-batches are divided by.
  [[nodiscard]] std::optional<double> divisor() const;

  Engine& engine_;
  models::CausalLm& model_;
  UnitSequence sequence_;
  Data data_;
  const Interruption& interruption_;
  StepTrace& trace_;
  std::int64_t steps_ = 0;
  /// Where the next step's interval begins: at the end of the last one's, since an update goes on
  /// between steps too; after an evaluation, which counts for none.
  Moment last_;
};

}  // namespace strata::tool
