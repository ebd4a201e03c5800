#include "trainer.h"

#include <algorithm>
#include <array>
#include <span>
#include <string>
#include <utility>

#include "strata/base/clock.h"

namespace strata::tool {
namespace {

static_assert(kNoLoss == models::kNoTarget);

models::TokenBatch token_batch_of(const Batch& batch, std::optional<double> divisor) {
  const auto tensor_of = [&](const std::vector<std::int64_t>& values) {
    return torch::tensor(values, torch::kInt64).view({batch.rows, batch.length});
  };
  return {.tokens = tensor_of(batch.tokens),
          .targets = tensor_of(batch.targets),
          .positions = batch.positions.empty() ? torch::Tensor() : tensor_of(batch.positions),
          .divisor = divisor};
}

}  // namespace

Trainer::Trainer(Engine& engine, models::CausalLm& model, Data data,
                 const Interruption& interruption, StepTrace& trace)
    : engine_(engine),
      model_(model),
      sequence_(model.sequence()),
      data_(std::move(data)),
      interruption_(interruption),
      trace_(trace),
      last_(now()) {}

StepRecord Trainer::step() {
  trace_.before_step(steps_ + 1, engine_);  // which waits for the last step
  StepRecord record = make_step();
  const Moment end = now();
  const Interval made = record.interval;
  record.interval = interval_of(end.counters - last_.counters, end.time - last_.time, made.tokens,
                                end.disk_busy - last_.disk_busy);
  record.interval.gathered_bytes = made.gathered_bytes;
  record.interval.reduced_bytes = made.reduced_bytes;
  last_ = end;
  record.is_last = interruption_.noted() != nullptr;
  if (data_.ranks > 1) add_other_ranks(record);
  trace_.after_step(record.step, engine_);
  return record;
}

Trainer::Moment Trainer::now() const {
  return {kSystemClock.now(), engine_.counters(), engine_.disk_busy()};
}

void Trainer::add_other_ranks(StepRecord& record) {
  Interval& interval = record.interval;
  std::array<double, 5> sums = {
      record.loss, interval.seconds, static_cast<double>(interval.read_bytes),
      static_cast<double>(interval.written_bytes), record.is_last ? 1.0 : 0.0};
  engine_.sum_over_ranks(sums);
  record.loss = sums[0] / data_.ranks;
  interval.seconds = sums[1] / data_.ranks;
  interval.read_bytes = static_cast<std::uint64_t>(sums[2]);
  interval.written_bytes = static_cast<std::uint64_t>(sums[3]);
  record.is_last = sums[4] > 0;
  interval.tokens *= static_cast<std::uint64_t>(data_.ranks);
}

StepRecord Trainer::make_step() {
  const PhaseScope phase(trace_.timeline(), "step " + std::to_string(steps_ + 1));
  const std::int64_t micro_batches = engine_.config().gradient_accumulation_steps;
  const std::optional<double> number = divisor();
  std::vector<models::TokenBatch> batches;
  std::uint64_t tokens = 0;
  for (std::int64_t micro = 0; micro < micro_batches; ++micro) {
    const std::int64_t of_all = (steps_ * micro_batches + micro) * data_.ranks + data_.rank;
    const Batch batch = data_.training.batch(static_cast<std::uint64_t>(of_all));
    batches.push_back(token_batch_of(batch, number));
    tokens += batch.tokens.size();
  }
  interruption_.check();
  const bool is_batch = batches.size() > 1 || engine_.config().strata.step_under_backward;
  const BatchReport report = is_batch ? train_on(batches) : train_on(batches.front());
  ++steps_;
  double loss_sum = 0;
  for (const double loss : report.losses) loss_sum += loss;
  return {.step = steps_,
          .epoch = epoch(),
          .loss = loss_sum / static_cast<double>(micro_batches),
          .lr = report.step.lr,
          .grad_norm = report.step.grad_norm,
          .loss_scale = report.step.loss_scale,
          .overflow = report.step.overflow,
          .interval = {.tokens = tokens,
                       .gathered_bytes = report.step.gathered_bytes,
                       .reduced_bytes = report.step.reduced_bytes},
          .memory = memory()};
}

std::optional<double> Trainer::divisor() const {
  const auto batches = static_cast<std::uint64_t>(engine_.config().gradient_accumulation_steps) *
                       static_cast<std::uint64_t>(data_.ranks);
  const std::optional<std::uint64_t> bearing =
      data_.training.bearing(static_cast<std::uint64_t>(steps_) * batches, batches);
  if (!bearing) return std::nullopt;
  // The engine takes the mean over the micro-batches of all ranks.
  return static_cast<double>(std::max<std::uint64_t>(*bearing, 1)) / static_cast<double>(batches);
}

BatchReport Trainer::train_on(const models::TokenBatch& batch) {
  const torch::Tensor loss = [&] {
    const PhaseScope forward(trace_.timeline(), "forward");
    return loss_of(batch);
  }();
  BatchReport report{.step = {}, .losses = {loss.item<double>()}};
  {
    const PhaseScope backward(trace_.timeline(), "backward");
    engine_.backward(loss);
  }
  const PhaseScope update(trace_.timeline(), "update");
  report.step = engine_.step();
  return report;
}

BatchReport Trainer::train_on(const std::vector<models::TokenBatch>& batches) {
  std::vector<UnitSequence::Tensors> micro_batches;
  for (const models::TokenBatch& batch : batches) micro_batches.push_back(batch.micro_batch());
  return engine_.train_batch(sequence_, micro_batches);
}

std::optional<EvaluationRecord> Trainer::evaluate() {
  if (!data_.evaluation) return std::nullopt;
  const Time start = kSystemClock.now();
  const torch::NoGradGuard no_gradients;
  model_.eval();
  // The sum of losses by their tokens, or their batches where these are all alike.
  std::array<double, 2> sums{};
  for (std::int64_t first = 0; first < data_.evaluation_batches; first += data_.ranks) {
    interruption_.check();
    // A rank without a batch of its own makes the last one too, since others wait for its weights.
    const std::int64_t own = first + data_.rank, last = data_.evaluation_batches - 1;
    const auto index = static_cast<std::uint64_t>(std::min(own, last));
    const double loss =
        loss_of(token_batch_of(data_.evaluation->batch(index), std::nullopt)).item<double>();
    const std::optional<std::uint64_t> bearing = data_.evaluation->bearing(index, 1);
    const double weight = bearing ? static_cast<double>(*bearing) : 1.0;
    if (own > last) continue;
    sums[0] += loss * weight;
    sums[1] += weight;
  }
  engine_.sum_over_ranks(sums);
  model_.train();
  last_ = now();
  return EvaluationRecord{
      .step = steps_, .epoch = epoch(), .loss = sums[0] / sums[1], .seconds = seconds_since(start)};
}

torch::Tensor Trainer::loss_of(const models::TokenBatch& batch) { return model_.loss(batch); }

double Trainer::epoch() const {
  if (const std::optional<std::uint64_t> rows = data_.training.epoch_rows()) {
    return static_cast<double>(steps_ * engine_.config().train_batch_size) /
           static_cast<double>(*rows);
  }
  const std::int64_t step_tokens = engine_.config().train_batch_size * data_.training.length();
  return static_cast<double>(steps_ * step_tokens) / static_cast<double>(data_.training_tokens);
}

MemoryReading Trainer::memory() const {
  MemoryReading reading;
  for (const tiering::Tier tier : tiering::kTiers) {
    const TierUse use = engine_.use(tier);
    reading.used.of(tier) = use.used;
    reading.peak.of(tier) = use.peak;
    reading.budget.of(tier) = use.budget;
  }
  return reading;
}

}  // namespace strata::tool
