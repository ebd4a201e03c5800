#include "promise/training_run.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <mutex>
#include <stdexcept>

#include "strata/tiering/budget.h"
#include "zero3/ranks/ranks.h"

namespace strata::promise {

ScratchDirectory::ScratchDirectory() {
  std::string name = std::filesystem::current_path() / "promise_XXXXXX";
  if (mkdtemp(name.data()) == nullptr) throw std::runtime_error("cannot make " + name);
  path_ = name;
}

ScratchDirectory::~ScratchDirectory() { std::filesystem::remove_all(path_); }

models::Gpt2Config small_model(bool tied) {
  models::Gpt2Config config;
  config.vocab_size = 67;
  config.n_positions = 16;
  config.n_embd = 48;
  config.n_layer = 3;
  config.n_head = 4;
  config.resid_pdrop = config.embd_pdrop = config.attn_pdrop = 0.1;
  config.tie_word_embeddings = tied;
  return config;
}

models::Gpt2Config without_dropout(models::Gpt2Config model) {
  model.resid_pdrop = model.embd_pdrop = model.attn_pdrop = 0.0;
  return model;
}

models::Gpt2Config model_of_one_order() { return without_dropout(small_model(/*tied=*/false)); }

Batch make_batch(const models::Gpt2Config& model, std::int64_t index) {
  auto generator = at::make_generator<at::CPUGeneratorImpl>(1000 + index);
  const torch::Tensor tokens =
      torch::randint(0, model.vocab_size, {4, model.n_positions + 1}, generator, torch::kInt64);
  return {tokens.slice(1, 0, model.n_positions).contiguous(),
          tokens.slice(1, 1, model.n_positions + 1).contiguous()};
}

formats::DsConfig nvme_config(const std::filesystem::path& scratch, Precision precision,
                              std::int64_t accumulation) {
  formats::DsConfig config;
  config.name = "promise";
  config.train_micro_batch_size_per_gpu = 4;
  config.gradient_accumulation_steps = accumulation;
  config.gradient_clipping = 0.5;
  config.optimizer.lr = 3e-3;
  config.optimizer.weight_decay = 0.1;
  config.bf16.enabled = precision == Precision::kBf16;
  config.fp16.enabled = precision == Precision::kFp16;
  config.zero.offload_param.device = formats::OffloadDevice::kNvme;
  config.zero.offload_optimizer.device = formats::OffloadDevice::kNvme;
  config.strata.nvme_directories = {scratch.string()};
  config.strata.chunk_bytes = 4096;
  return config;
}

void PrintTo(const Training& training, std::ostream* out) { *out << training.name; }

formats::OptimizerConfig optimizer_of(formats::OptimizerType type, double momentum) {
  using Type = formats::OptimizerType;
  formats::OptimizerConfig optimizer{.type = type, .lr = 3e-3, .weight_decay = 0.1};
  if (type == Type::kAdam) optimizer.adam_w_mode = false;
  if (type == Type::kLion) optimizer.lr = 3e-4;
  if (type == Type::kAdagrad) optimizer.lr = 1e-2;
  if (type == Type::kSgd) {
    optimizer.lr = 0.1;
    optimizer.momentum = momentum;
    optimizer.nesterov = momentum > 0.0;
  }
  return optimizer;
}

formats::DsConfig nvme_config(const std::filesystem::path& scratch, const Training& training,
                              std::int64_t accumulation) {
  formats::DsConfig config = nvme_config(scratch, training.precision, accumulation);
  config.strata.states = training.states;
  config.optimizer = training.optimizer;
  config.strata.no_decay = {"*.bias", "ln_*"};
  return config;
}

std::uint64_t host_budget_that_keeps(zero3::PlanInput input, std::uint64_t hundredths) {
  input.host_cache = true;
  input.budgets.host = tiering::Budget::kUnlimited;
  const std::uint64_t without = zero3::make_plan(input).total.host;
  input.budgets.host = tiering::Budget::kUnlimited - 1;
  const std::uint64_t with_all = zero3::make_plan(input).total.host;
  return without + (with_all - without) * hundredths / 100;
}

Parameters parameters_of(models::Gpt2& model) {
  Parameters parameters;
  model.visit_parameters([&](const std::string& name, const torch::Tensor& value) {
    parameters[name] = value.detach().cpu().clone();
  });
  return parameters;
}

namespace {

EnginePlace place_of(TestDevice& device, zero3::Ranks* ranks) {
  EnginePlace place = device.engine_place();
  place.ranks = ranks;
  return place;
}

/// Seeds the generator of one device: torch::manual_seed would reach into those of other ranks.
void seed(const c10::Device& device, std::uint64_t seed) {
  at::Generator generator = at::globalContext().defaultGenerator(device);
  const std::lock_guard lock(generator.mutex());
  generator.set_current_seed(seed);
}

}  // namespace

EngineRun::EngineRun(const formats::DsConfig& config, const models::Gpt2Config& model,
                     zero3::Ranks* ranks)
    : config_(model),
      rank_(ranks == nullptr ? 0 : ranks->rank()),
      world_size_(ranks == nullptr ? 1 : ranks->size()),
      device_(static_cast<int>(rank_)),
      engine_(config, place_of(device_, ranks)),
      model_(model, engine_, models::random_initializer(model, kSeed)) {}

double EngineRun::step() {
  const std::int64_t accumulation = engine_.config().gradient_accumulation_steps;
  double sum = 0.0;
  for (std::int64_t micro = 0; micro < accumulation; ++micro) sum += micro_step();
  return sum / static_cast<double>(accumulation);
}

double EngineRun::micro_step() {
  const Batch batch = next_batch();
  const torch::Tensor loss = model_.loss(batch.tokens, batch.targets);
  engine_.backward(loss);
  report_ = engine_.step();
  return loss.item<double>();
}

double EngineRun::step_by_batch() {
  const std::int64_t accumulation = engine_.config().gradient_accumulation_steps;
  std::vector<UnitSequence::Tensors> micro_batches;
  for (std::int64_t micro = 0; micro < accumulation; ++micro) {
    const Batch batch = next_batch();
    micro_batches.push_back({batch.tokens, batch.targets});
  }
  const BatchReport report = engine_.train_batch(model_.sequence(), micro_batches);
  report_ = report.step;
  double sum = 0.0;
  for (const double loss : report.losses) sum += loss;
  return sum / static_cast<double>(accumulation);
}

Batch EngineRun::next_batch() {
  const std::int64_t index = batches_++ * world_size_ + rank_;
  seed(engine_.device(), static_cast<std::uint64_t>(index));
  const Batch batch = make_batch(config_, index);
  return {batch.tokens.to(engine_.device()), batch.targets.to(engine_.device())};
}

void expect_equal_bits(const Parameters& actual, const Parameters& expected) {
  ASSERT_EQ(actual.size(), expected.size());
  for (const auto& [name, value] : expected) {
    const auto found = actual.find(name);
    ASSERT_NE(found, actual.end()) << name;
    ASSERT_TRUE(torch::equal(found->second, value))
        << name << " differs in " << (found->second != value).sum().item<std::int64_t>() << " of "
        << value.numel() << " elements";
  }
}

}  // namespace strata::promise
