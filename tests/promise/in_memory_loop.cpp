#include "promise/in_memory_loop.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

#include "strata/optim_cpu/convert.h"
#include "strata/optim_cpu/update.h"

namespace strata::promise {

namespace {

/// A model in memory and the fp32 values that its parameters were rounded from.
std::pair<models::Gpt2, std::vector<torch::Tensor>> model_with_masters(
    const models::Gpt2Config& config, Precision precision) {
  std::vector<torch::Tensor> masters;
  const ParameterInitializer initialize = models::random_initializer(config, kSeed);
  models::Gpt2 model(config, precision, [&](const std::string& name, torch::Tensor& value) {
    initialize(name, value);
    masters.push_back(value.clone());
  });
  return {std::move(model), std::move(masters)};
}

/// nullptr for a state of zero bytes.
void* data_of(std::vector<std::byte>& state) { return state.empty() ? nullptr : state.data(); }

optim::OptimizerOptions options_of(const formats::OptimizerConfig& config, bool decays) {
  const double weight_decay = decays ? config.weight_decay : 0.0;
  switch (config.type) {
    case formats::OptimizerType::kSgd:
      return optim::SgdOptions{config.lr, config.momentum, config.dampening, weight_decay,
                               config.nesterov};
    case formats::OptimizerType::kAdagrad:
      return optim::AdagradOptions{config.lr, config.lr_decay, config.eps, weight_decay};
    case formats::OptimizerType::kLion:
      return optim::LionOptions{config.lr, config.beta1, config.beta2, weight_decay};
    default:
      return optim::AdamOptions{.lr = config.lr,
                                .beta1 = config.beta1,
                                .beta2 = config.beta2,
                                .eps = config.eps,
                                .weight_decay = weight_decay,
                                .decoupled_weight_decay = config.decoupled_weight_decay()};
  }
}

}  // namespace

InMemoryLoop::InMemoryLoop(const formats::DsConfig& config, const models::Gpt2Config& model,
                           int world_size)
    : config_(config),
      model_config_(model),
      format_(config.state_format()),
      precision_(format_.precision),
      world_size_(world_size),
      model_(model_with_masters(model, precision_).first) {
  const std::vector<torch::Tensor> masters = model_with_masters(model, precision_).second;
  const std::vector<torch::Tensor> parameters = model_.parameters();
  const bool fp32_gradients = config.gradient_accumulation_steps > 1;
  std::map<void*, bool> decays;
  model_.visit_parameters([&](const std::string& name, const torch::Tensor& value) {
    decays[value.unsafeGetTensorImpl()] = config.decays(name);
  });
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    const auto count = static_cast<std::size_t>(parameters[i].numel());
    ParameterState state;
    state.parameter = parameters[i];
    state.master.resize(count * state_bytes(format_, StateKind::kMaster));
    state.m.resize(count * state_bytes(format_, StateKind::kM));
    state.v.resize(count * state_bytes(format_, StateKind::kV));
    state.gradient.resize(count * state_bytes(precision_, StateKind::kGradient, fp32_gradients));
    state.contributions.resize(count * weight_bytes(precision_) *
                               static_cast<std::size_t>(world_size));
    state.decays = decays.at(parameters[i].unsafeGetTensorImpl());
    optim_cpu::split_master(precision_, {masters[i].const_data_ptr<float>(), count},
                            parameters[i].data_ptr(), data_of(state.master));
    states_.push_back(std::move(state));
  }
}

void InMemoryLoop::take_contribution(int rank) {
  for (ParameterState& state : states_) {
    const torch::Tensor gradient = state.parameter.grad().contiguous();
    const auto* const bytes = static_cast<const std::byte*>(gradient.const_data_ptr());
    std::copy_n(
        bytes, gradient.nbytes(),
        state.contributions.begin() +
            static_cast<std::ptrdiff_t>(static_cast<std::size_t>(rank) * gradient.nbytes()));
    state.parameter.mutable_grad().reset();
  }
}

void InMemoryLoop::add_contributions(bool first) {
  const bool fp32 = config_.gradient_accumulation_steps > 1;
  const auto ranks = static_cast<std::size_t>(world_size_);
  for (ParameterState& state : states_) {
    optim_cpu::accumulate_gradient(
        threads_, precision_, fp32 || precision_ == Precision::kFp32, first,
        static_cast<std::size_t>(state.parameter.numel()),
        {state.contributions.data(), ranks, state.contributions.size() / ranks},
        state.gradient.data());
  }
}

double InMemoryLoop::gradient_norm() const {
  const torch::ScalarType type =
      config_.gradient_accumulation_steps > 1 || precision_ == Precision::kFp32
          ? torch::kFloat32
          : states_.front().parameter.scalar_type();
  double sum_of_squares = 0.0;
  for (const ParameterState& state : states_) {
    const torch::Tensor gradient = torch::from_blob(const_cast<std::byte*>(state.gradient.data()),
                                                    {state.parameter.numel()}, torch::dtype(type));
    sum_of_squares += gradient.to(torch::kFloat64).square().sum().item<double>();
  }
  return std::sqrt(sum_of_squares) * (1.0 / world_size_);
}

double InMemoryLoop::run_batch(std::int64_t index) {
  const std::int64_t accumulation = config_.gradient_accumulation_steps;
  torch::manual_seed(static_cast<std::uint64_t>(index));
  const Batch batch = make_batch(model_config_, index);
  const torch::Tensor loss = model_.loss(batch.tokens, batch.targets);
  (accumulation == 1 ? loss : loss * (1.0 / static_cast<double>(accumulation))).backward();
  return loss.item<double>();
}

double InMemoryLoop::add_micro_batch_by_micro_batch() {
  double losses = 0.0;
  for (std::int64_t micro = 0; micro < config_.gradient_accumulation_steps; ++micro) {
    for (int rank = 0; rank < world_size_; ++rank) {
      losses += run_batch(batches_++);
      take_contribution(rank);
    }
    add_contributions(/*first=*/micro == 0);
  }
  return losses;
}

double InMemoryLoop::add_rank_by_rank() {
  double losses = 0.0;
  const std::int64_t accumulation = config_.gradient_accumulation_steps;
  std::vector<std::vector<torch::Tensor>> sums(states_.size());  // of each rank
  for (int rank = 0; rank < world_size_; ++rank) {
    for (std::int64_t micro = 0; micro < accumulation; ++micro) {
      losses += run_batch(batches_ + micro * world_size_ + rank);
      for (std::size_t i = 0; i < states_.size(); ++i) {
        torch::Tensor& gradient = states_[i].parameter.mutable_grad();
        const torch::Tensor wide = gradient.to(torch::kFloat32).contiguous();
        if (micro == 0) {
          sums[i].push_back(wide.clone());
        } else {
          sums[i].back() += wide;
        }
        gradient.reset();
      }
    }
  }
  batches_ += accumulation * world_size_;
  for (std::size_t i = 0; i < states_.size(); ++i) {
    torch::Tensor total = sums[i].front();
    for (std::size_t rank = 1; rank < sums[i].size(); ++rank) total = total + sums[i][rank];
    const auto* const bytes = static_cast<const std::byte*>(total.const_data_ptr());
    std::copy_n(bytes, total.nbytes(), states_[i].gradient.begin());
  }
  return losses;
}

double InMemoryLoop::step(Sums sums) {
  const double losses =
      sums == Sums::kOfRanksFirst ? add_rank_by_rank() : add_micro_batch_by_micro_batch();
  update();
  return losses / static_cast<double>(config_.gradient_accumulation_steps * world_size_);
}

void InMemoryLoop::update() {
  const std::int64_t accumulation = config_.gradient_accumulation_steps;
  double scale = 1.0 / world_size_;
  if (config_.gradient_clipping > 0.0) {
    scale *= std::min(1.0, config_.gradient_clipping / (gradient_norm() + 1e-6));
  }
  ++steps_;
  for (ParameterState& state : states_) {
    optim_cpu::update_reference(
        options_of(config_.optimizer, state.decays),
        {.step = steps_, .gradient_scale = static_cast<float>(scale)},
        {.format = format_,
         .gradient_format = accumulation > 1 ? Precision::kFp32 : precision_,
         .count = static_cast<std::size_t>(state.parameter.numel()),
         .weight = state.parameter.data_ptr(),
         .master = data_of(state.master),
         .m = data_of(state.m),
         .v = data_of(state.v),
         .gradient = state.gradient.data()});
  }
}

void expect_bits_of_in_memory_loop(const formats::DsConfig& config, const models::Gpt2Config& model,
                                   int steps) {
  EngineRun offloaded(config, model);
  InMemoryLoop in_memory(config, model);
  for (int step = 0; step < steps; ++step) {
    EXPECT_EQ(offloaded.step(), in_memory.step()) << "loss of step " << step;
  }
  expect_equal_bits(offloaded.parameters(), parameters_of(in_memory.model()));
}

}  // namespace strata::promise
