#include "strata/zero3/engine.h"

#include <cmath>
#include <utility>

#include "strata/base/error.h"
#include "zero3/engine_impl.h"
#include "zero3/optimizer_groups.h"

namespace strata {

using tiering::Tier;

Engine Engine::from_config(const std::filesystem::path& ds_config, Logger* log) {
  return Engine(formats::DsConfig::from_file(ds_config), log);
}

Engine::Engine(formats::DsConfig config, Logger* log)
    : impl_(std::make_unique<Impl>(std::move(config), log)) {}
Engine::Engine(Engine&&) noexcept = default;
Engine& Engine::operator=(Engine&&) noexcept = default;
Engine::~Engine() = default;

zero3::Unit& Engine::make_unit(torch::nn::Module& module, ShardOptions options) {
  return impl_->make_unit(module, std::move(options));
}

void Engine::prepare() { impl_->prepare(); }
void Engine::backward(const torch::Tensor& loss) { impl_->backward(loss); }
StepReport Engine::step() { return impl_->step(); }
const formats::DsConfig& Engine::config() const { return impl_->config_; }
CounterReading Engine::counters() const { return impl_->counters_.read(); }
const zero3::PlanInput& Engine::plan_input() const { return impl_->plan_input_; }

const zero3::Plan& Engine::plan() const {
  if (!impl_->plan_) throw UsageError("there is no plan before prepare() or the first forward");
  return *impl_->plan_;
}

TierUse Engine::use(Tier tier) const {
  const tiering::Budget& budget = impl_->budget(tier);
  return {budget.used(), budget.peak(), budget.limit()};
}

std::string Engine::io_description() const {
  return impl_->queue_ ? impl_->queue_->description() : "none";
}

void Engine::Impl::backward(const torch::Tensor& loss) {
  if (!plan_) throw UsageError("backward() before any forward of a sharded module");
  if (micro_steps_ == config_.gradient_accumulation_steps) {
    throw UsageError("backward() was called " + std::to_string(micro_steps_ + 1) +
                     " times for gradient_accumulation_steps = " + std::to_string(micro_steps_) +
                     "; call step() after every backward()");
  }
  if (loss.numel() != 1) {
    throw UsageError("backward() needs a loss of one element, not " + std::to_string(loss.numel()));
  }
  const double factor = scaler_.scale() / static_cast<double>(config_.gradient_accumulation_steps);
  (factor == 1.0 ? loss : loss * factor).backward();
  anchor_.mutable_grad().reset();
  ++micro_steps_;
  parameters_->end_cycle();
  // The next micro-batch is the step's last one if it completes the accumulation.
  parameters_->set_last_micro_batch(micro_steps_ + 1 >= config_.gradient_accumulation_steps);
}

StepReport Engine::Impl::step() {
  if (micro_steps_ == 0) throw UsageError("step() without a backward() since the last step");
  StepReport report{.step = step_, .lr = schedule_.at(step_ + 1), .loss_scale = scaler_.scale()};
  if (micro_steps_ < config_.gradient_accumulation_steps) return report;

  micro_steps_ = 0;
  parameters_->set_last_micro_batch(config_.gradient_accumulation_steps == 1);
  if (!gradients_) return report;
  gradients_->settle();
  const std::optional<double> norm = gradient_norm();
  report.overflow = !norm;
  if (norm) {
    report.grad_norm = *norm;
    double scale = 1.0 / scaler_.scale();
    const double clip = config_.gradient_clipping;
    // As torch.nn.utils.clip_grad_norm_ limits it.
    if (clip > 0.0) scale *= std::min(1.0, clip / (*norm + 1e-6));
    std::vector<optim_cpu::ShardStates> shards;
    for (const auto& unit : units_) {
      if (!unit->gradient_empty) shards.push_back(unit->states);
    }
    parameters_->invalidate();
    const optim_cpu::UpdateStep update{.step = step_ + 1,
                                       .gradient_scale = static_cast<float>(scale)};
    std::vector<optim_cpu::UpdateGroup> groups;
    for (const auto& options : zero3::optimizer_groups(config_.optimizer, report.lr)) {
      groups.push_back({options, update});
    }
    pipeline_->run(shards, groups);
    report.step = ++step_;
    report.updated = true;
  }
  forget_gradients();
  scaler_.update(report.overflow);
  parameters_->prefetch_first();
  return report;
}

std::optional<double> Engine::Impl::gradient_norm() {
  double sum_of_squares = 0.0;
  for (const auto& unit : units_) {
    if (unit->gradient_empty) continue;
    if (!unit->gradient_finite) {
      log_.warning("step " + std::to_string(step_ + 1) + ": the gradient of unit '" + unit->name() +
                   "' is not finite at loss scale " + std::to_string(scaler_.scale()) +
                   "; the step is skipped");
      return std::nullopt;
    }
    sum_of_squares += unit->gradient_sum_of_squares;
  }
  return std::sqrt(sum_of_squares) / scaler_.scale();
}

void Engine::Impl::forget_gradients() {
  for (const auto& unit : units_) unit->gradient_empty = true;
}

}  // namespace strata
