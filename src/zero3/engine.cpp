#include "strata/zero3/engine.h"

#include <utility>

#include "strata/base/error.h"
#include "zero3/engine_impl.h"

namespace strata {

using tiering::Tier;

Engine Engine::from_config(const std::filesystem::path& ds_config, Logger* log) {
  return Engine(formats::DsConfig::from_file(ds_config), log);
}

Engine::Engine(formats::DsConfig config, Logger* log)
    : Engine(std::move(config), EnginePlace{}, log) {}
Engine::Engine(formats::DsConfig config, const EnginePlace& place, Logger* log)
    : impl_(std::make_unique<Impl>(std::move(config), place, log)) {}
Engine::Engine(Engine&&) noexcept = default;
Engine& Engine::operator=(Engine&&) noexcept = default;
Engine::~Engine() = default;

void Engine::add_parameter_group(ParameterGroup group) {
  impl_->add_parameter_group(std::move(group));
}
zero3::UnitHandle Engine::make_unit(torch::nn::Module& module, ShardOptions options) {
  return impl_->make_unit(module, std::move(options));
}
void Engine::prepare() { impl_->prepare(); }
void Engine::before_each_unit(std::function<void()> hook) {
  impl_->before_each_unit_ = std::move(hook);
}

void Engine::backward(const torch::Tensor& loss) { impl_->backward(loss); }
StepReport Engine::step() { return impl_->step(/*now=*/false); }
StepReport Engine::step_now() { return impl_->step(/*now=*/true); }
void Engine::skip_micro_batch() { impl_->skip_micro_batch(); }
void Engine::zero_grad() { impl_->zero_grad(); }

double Engine::lr(std::string_view group) const {
  return impl_->groups_.lr_of(group, impl_->base_lr());
}

void Engine::set_lr(double lr, std::string_view group) {
  zero3::ParameterGroups::check_lr(lr);
  if (group.empty()) {
    impl_->lr_ = lr;
  } else {
    impl_->groups_.set_lr(group, lr);
  }
}

void Engine::follow_schedule(std::string_view group) {
  if (group.empty()) {
    impl_->lr_.reset();
  } else {
    impl_->groups_.set_lr(group, std::nullopt);
  }
}

void Engine::visit_gradients(const ParameterVisitor& visit) { impl_->visit_gradients(visit); }
std::vector<UnitNorm> Engine::gradient_norms() const { return impl_->gradient_norms(); }
void Engine::visit_masters(const ParameterVisitor& visit) { impl_->visit_masters(visit); }
void Engine::edit_masters(const ParameterInitializer& edit) { impl_->edit_masters(edit); }

c10::Device Engine::device() const { return impl_->torch_device_; }
const formats::DsConfig& Engine::config() const { return impl_->config_; }
CounterReading Engine::counters() const { return impl_->counters_.read(); }
const zero3::PlanInput& Engine::plan_input() const { return impl_->plan_input_; }

const zero3::Plan& Engine::plan() const {
  if (!impl_->plan_) throw UsageError("there is no plan before prepare() or the first forward");
  return *impl_->plan_;
}

TierUse Engine::use(Tier tier) const {
  const tiering::Budget& budget = impl_->tiers_.budget(tier);
  return {budget.used(), budget.peak(), budget.limit()};
}

std::string Engine::io_description() const {
  const aio::IoQueue* const queue = impl_->tiers_.queue();
  return queue != nullptr ? queue->description() : "none";
}

}  // namespace strata
