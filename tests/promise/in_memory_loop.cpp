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

constexpr const char* kHead = "lm_head.weight";
constexpr const char* kEmbedding = "transformer.wte.weight";

/// A model in memory and the fp32 values that its parameters were rounded from; with a head of its
/// own that has the values of the embedding, if that is wanted.
std::pair<models::Gpt2, std::vector<torch::Tensor>> model_with_masters(models::Gpt2Config config,
                                                                       Precision precision,
                                                                       bool doubles_embedding) {
  std::vector<torch::Tensor> masters;
  const ParameterInitializer initialize = models::random_initializer(config, kSeed);
  if (doubles_embedding) config.tie_word_embeddings = false;
  models::Gpt2 model(config, precision, [&](const std::string& name, torch::Tensor& value) {
    initialize(doubles_embedding && name.ends_with(kHead) ? kEmbedding : name, value);
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
                           int world_size, Ties ties)
    : config_(config),
      model_config_(model),
      ties_use_by_use_(model.tie_word_embeddings && ties == Ties::kUseByUse),
      format_(config.state_format()),
      precision_(format_.precision),
      world_size_(world_size),
      model_(model_with_masters(model, precision_, ties_use_by_use_).first) {
  const std::vector<torch::Tensor> masters =
      model_with_masters(model, precision_, ties_use_by_use_).second;
  const std::vector<torch::Tensor> parameters = model_.parameters();
  std::map<void*, std::string> names;
  model_.visit_parameters([&](const std::string& name, const torch::Tensor& value) {
    names[value.unsafeGetTensorImpl()] = name;
  });
  torch::Tensor head;
  std::size_t embedding = 0;
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    const std::string& name = names.at(parameters[i].unsafeGetTensorImpl());
    if (ties_use_by_use_ && name == kHead) {
      head = parameters[i];
    } else {
      add_state(parameters[i], masters[i], config.decays(name));
      if (name == kEmbedding) embedding = states_.size() - 1;
    }
  }
  if (head.defined()) {
    std::vector<Use>& uses = states_[embedding].uses;
    uses.insert(uses.begin(), Use{head, std::vector<std::byte>(uses.front().contributions.size())});
  }
}

void InMemoryLoop::add_state(const torch::Tensor& parameter, const torch::Tensor& master,
                             bool decays) {
  const bool fp32_gradients = config_.gradient_accumulation_steps > 1;
  const auto count = static_cast<std::size_t>(parameter.numel());
  const std::size_t contributed =
      count * weight_bytes(precision_) * static_cast<std::size_t>(world_size_);
  ParameterState state;
  state.uses.push_back({parameter, std::vector<std::byte>(contributed)});
  state.master.resize(count * state_bytes(format_, StateKind::kMaster));
  state.m.resize(count * state_bytes(format_, StateKind::kM));
  state.v.resize(count * state_bytes(format_, StateKind::kV));
  state.gradient.resize(count * state_bytes(precision_, StateKind::kGradient, fp32_gradients));
  state.decays = decays;
  optim_cpu::split_master(precision_, {master.const_data_ptr<float>(), count}, parameter.data_ptr(),
                          data_of(state.master));
  states_.push_back(std::move(state));
}

Parameters InMemoryLoop::parameters() {
  Parameters parameters = parameters_of(model_);
  if (ties_use_by_use_) parameters.erase(kHead);
  return parameters;
}

void InMemoryLoop::take_contribution(int rank) {
  for (ParameterState& state : states_) {
    for (Use& use : state.uses) {
      const torch::Tensor gradient = use.parameter.grad().contiguous();
      const auto* const bytes = static_cast<const std::byte*>(gradient.const_data_ptr());
      std::copy_n(
          bytes, gradient.nbytes(),
          use.contributions.begin() +
              static_cast<std::ptrdiff_t>(static_cast<std::size_t>(rank) * gradient.nbytes()));
      use.parameter.mutable_grad().reset();
    }
  }
}

void InMemoryLoop::add_contributions(bool first) {
  const bool fp32 = config_.gradient_accumulation_steps > 1 || precision_ == Precision::kFp32;
  const auto ranks = static_cast<std::size_t>(world_size_);
  for (ParameterState& state : states_) {
    bool is_first = first;
    for (const Use& use : state.uses) {
      optim_cpu::accumulate_gradient(
          threads_, precision_, fp32, std::exchange(is_first, false), state.count(),
          {use.contributions.data(), ranks, use.contributions.size() / ranks},
          state.gradient.data());
    }
  }
}

double InMemoryLoop::gradient_norm() const {
  const torch::ScalarType type =
      config_.gradient_accumulation_steps > 1 || precision_ == Precision::kFp32
          ? torch::kFloat32
          : states_.front().parameter().scalar_type();
  double sum_of_squares = 0.0;
  for (const ParameterState& state : states_) {
    const torch::Tensor gradient =
        torch::from_blob(const_cast<std::byte*>(state.gradient.data()), {state.parameter().numel()},
                         torch::dtype(type));
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
  using OfRanks = std::vector<torch::Tensor>;
  std::vector<std::vector<OfRanks>> sums;  // of each use of each parameter
  for (const ParameterState& state : states_) sums.emplace_back(state.uses.size());
  for (int rank = 0; rank < world_size_; ++rank) {
    for (std::int64_t micro = 0; micro < accumulation; ++micro) {
      losses += run_batch(batches_ + micro * world_size_ + rank);
      for (std::size_t i = 0; i < states_.size(); ++i) {
        for (std::size_t use = 0; use < sums[i].size(); ++use) {
          torch::Tensor& gradient = states_[i].uses[use].parameter.mutable_grad();
          const torch::Tensor wide = gradient.to(torch::kFloat32).contiguous();
          OfRanks& of_ranks = sums[i][use];
          if (micro == 0) {
            of_ranks.push_back(wide.clone());
          } else {
            of_ranks.back() += wide;
          }
          gradient.reset();
        }
      }
    }
  }
  batches_ += accumulation * world_size_;
  for (std::size_t i = 0; i < states_.size(); ++i) {
    torch::Tensor total;
    for (const OfRanks& of_ranks : sums[i]) {
      torch::Tensor of_use = of_ranks.front();
      for (std::size_t rank = 1; rank < of_ranks.size(); ++rank) of_use = of_use + of_ranks[rank];
      total = total.defined() ? total + of_use : of_use;
    }
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
         .count = state.count(),
         .weight = state.parameter().data_ptr(),
         .master = data_of(state.master),
         .m = data_of(state.m),
         .v = data_of(state.v),
         .gradient = state.gradient.data()});
    for (Use& use : state.uses) {
      if (!use.parameter.is_same(state.parameter())) use.parameter.data().copy_(state.parameter());
    }
  }
}

void expect_bits_of_in_memory_loop(const formats::DsConfig& config, const models::Gpt2Config& model,
                                   int steps) {
  EngineRun offloaded(config, model);
  InMemoryLoop in_memory(config, model);
  for (int step = 0; step < steps; ++step) {
    EXPECT_EQ(offloaded.step(), in_memory.step()) << "loss of step " << step;
  }
  expect_equal_bits(offloaded.parameters(), in_memory.parameters());
}

}  // namespace strata::promise
