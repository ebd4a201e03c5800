#include "contestant.h"

#include <malloc.h>
#include <torch/torch.h>

#include <algorithm>
#include <utility>

#include "strata/base/error.h"
#include "strata/base/units.h"
#include "strata/models/gpt2.h"
#include "strata/zero3/engine.h"
#include "strata/zero3/tensor_pool.h"

namespace strata::bench {

namespace {

constexpr std::uint64_t kSeed = 1;
constexpr double kLearningRate = 3e-4;
constexpr double kWeightDecay = 0.1;
constexpr double kClip = 1.0;

models::Gpt2Config model_config(const Job& job) {
  models::Gpt2Config config = models::Gpt2Config::preset(job.preset);
  config.vocab_size = static_cast<std::int64_t>(
      round_up(static_cast<std::uint64_t>(config.vocab_size), 64));  // padded as training codes do
  config.resid_pdrop = config.embd_pdrop = config.attn_pdrop = 0.0;
  return config;
}

/// Random tokens, another batch every time, the same ones for every contestant.
class Batches {
 public:
  Batches(const Job& job, const models::Gpt2Config& config)
      : length_(std::min(job.tokens, config.n_positions)), vocab_size_(config.vocab_size) {}

  std::pair<torch::Tensor, torch::Tensor> next() {
    auto generator = at::make_generator<at::CPUGeneratorImpl>(kSeed + count_++);
    const torch::Tensor tokens =
        torch::randint(0, vocab_size_, {1, length_ + 1}, generator, torch::kInt64);
    return {tokens.slice(1, 0, length_).contiguous(), tokens.slice(1, 1).contiguous()};
  }

 private:
  std::int64_t length_, vocab_size_;
  std::uint64_t count_ = 0;
};

/// The model in memory, bf16 weights, plain autograd. How it is optimized is the derived classes'.
class InMemory : public Contestant {
 public:
  explicit InMemory(const Job& job) : InMemory(job, model_config(job)) {}

  double step() final {
    double value = 0;
    for (std::int64_t micro = 0; micro < micro_batches_; ++micro) {
      const auto [tokens, targets] = batches_.next();
      before_forward(tokens);
      const torch::Tensor loss = model_.loss(tokens, targets);
      value = loss.item<double>();
      (micro_batches_ == 1 ? loss : loss / static_cast<double>(micro_batches_)).backward();
    }
    update();
    return value;
  }

 protected:
  InMemory(const Job& job, const models::Gpt2Config& config)
      : model_(config, Precision::kBf16, models::random_initializer(config, kSeed)),
        batches_(job, config),
        micro_batches_(job.micro_batches),
        weights_(model_.parameters()) {}

  [[nodiscard]] std::vector<torch::Tensor>& weights() { return weights_; }
  [[nodiscard]] models::Gpt2& model() { return model_; }

 private:
  virtual void update() = 0;
  virtual void before_forward(const torch::Tensor& /*tokens*/) {}

  models::Gpt2 model_;
  Batches batches_;
  std::int64_t micro_batches_;
  std::vector<torch::Tensor> weights_;
};

torch::optim::AdamWOptions adamw_options() {
  return torch::optim::AdamWOptions(kLearningRate).weight_decay(kWeightDecay);
}

/// The usual mixed-precision loop: fp32 masters beside the bf16 weights, gradients copied to fp32,
/// clipped, and the masters copied back.
class MasterWeights : public InMemory {
 public:
  explicit MasterWeights(const Job& job) : InMemory(job) {
    for (const torch::Tensor& weight : weights()) {
      masters_.push_back(weight.detach().to(torch::kFloat32).set_requires_grad(true));
      masters_.back().mutable_grad() = torch::zeros_like(masters_.back());
    }
  }

 protected:
  [[nodiscard]] std::vector<torch::Tensor>& masters() { return masters_; }

 private:
  void update() final {
    for (std::size_t i = 0; i < masters_.size(); ++i) {
      masters_[i].mutable_grad().copy_(weights()[i].grad());
      weights()[i].mutable_grad().reset();
    }
    torch::nn::utils::clip_grad_norm_(masters_, kClip);
    const torch::NoGradGuard no_gradients;
    update_masters();
    for (std::size_t i = 0; i < masters_.size(); ++i) weights()[i].copy_(masters_[i]);
  }

  virtual void update_masters() = 0;

  std::vector<torch::Tensor> masters_;
};

class PlainAdamW final : public MasterWeights {
 public:
  explicit PlainAdamW(const Job& job)
      : MasterWeights(job), optimizer_(masters(), adamw_options()) {}

 private:
  void update_masters() override { optimizer_.step(); }

  torch::optim::AdamW optimizer_;
};

/// LibTorch's fused kernel, which its C++ optimizer does not use: the fastest loop in memory.
class FusedAdamW final : public MasterWeights {
 public:
  explicit FusedAdamW(const Job& job) : MasterWeights(job) {
    for (const torch::Tensor& master : masters()) {
      m_.push_back(torch::zeros_like(master, torch::requires_grad(false)));
      v_.push_back(torch::zeros_like(master, torch::requires_grad(false)));
      steps_.push_back(torch::zeros({}));
      gradients_.push_back(master.grad());
    }
  }

 private:
  void update_masters() override {
    for (torch::Tensor& step : steps_) step += 1;
    at::_fused_adamw_(masters(), gradients_, m_, v_, /*max_exp_avg_sqs=*/{}, steps_, kLearningRate,
                      0.9, 0.999, kWeightDecay, 1e-8, /*amsgrad=*/false, /*maximize=*/false);
  }

  std::vector<torch::Tensor> gradients_, m_, v_, steps_;
};

/// The leanest loop: no masters, states in bf16. It forgets updates smaller than bf16 can hold.
class PureBf16 final : public InMemory {
 public:
  explicit PureBf16(const Job& job) : InMemory(job), optimizer_(weights(), adamw_options()) {}

 private:
  void update() override {
    torch::nn::utils::clip_grad_norm_(weights(), kClip);
    optimizer_.step();
    optimizer_.zero_grad();
  }

  torch::optim::AdamW optimizer_;
};

/// Forward and backward alone: what no way to keep states can be faster than.
class Arithmetic : public InMemory {
 public:
  explicit Arithmetic(const Job& job) : InMemory(job) {}

 private:
  void update() override {
    for (torch::Tensor& weight : weights()) weight.mutable_grad().reset();
  }
};

/// What a run that recomputes activations cannot be faster than: the blocks' forward twice. The
/// head is not recomputed; a single row of it comes along here.
class RecomputingArithmetic final : public Arithmetic {
 public:
  explicit RecomputingArithmetic(const Job& job) : Arithmetic(job) {}

 private:
  void before_forward(const torch::Tensor& tokens) override {
    const torch::NoGradGuard no_gradients;
    (void)model().next_token_logits(tokens);
  }
};

/// How a step's micro-batches go through the units.
enum class Loop { kMicroBatchByMicroBatch, kUnitByUnit };

class InStrata final : public Contestant {
 public:
  /// `pool`: where tensors come from; null: from glibc.
  InStrata(const Job& job, formats::DsConfig config, std::unique_ptr<TensorPool> pool, Logger& log,
           Loop loop = Loop::kMicroBatchByMicroBatch)
      : loop_(loop),
        micro_batches_(job.micro_batches),
        pool_(std::move(pool)),
        engine_(std::move(config), &log),
        model_(model_config(job), engine_, models::random_initializer(model_config(job), kSeed)),
        batches_(job, model_.config()) {
    engine_.prepare();
    log.info("plan:\n" + zero3::describe(engine_.plan(), engine_.plan_input()));
    log.info("I/O: " + engine_.io_description());
  }

  double step() override {
    return loop_ == Loop::kUnitByUnit ? step_unit_by_unit() : step_micro_batch_by_micro_batch();
  }

  void finish() override { engine_.finish_step(); }

  [[nodiscard]] CounterReading counters() const override { return engine_.counters(); }

 private:
  double step_micro_batch_by_micro_batch() {
    double value = 0;
    for (std::int64_t micro = 0; micro < micro_batches_; ++micro) {
      const auto [tokens, targets] = batches_.next();
      const torch::Tensor loss = model_.loss(tokens, targets);
      value = loss.item<double>();
      engine_.backward(loss);
      engine_.step();
    }
    return value;
  }

  double step_unit_by_unit() {
    std::vector<UnitSequence::Tensors> micro_batches;
    for (std::int64_t micro = 0; micro < micro_batches_; ++micro) {
      const auto [tokens, targets] = batches_.next();
      micro_batches.push_back({tokens, targets});
    }
    return engine_.train_batch(model_.sequence(), micro_batches).losses.back();
  }

  Loop loop_;
  std::int64_t micro_batches_;
  std::unique_ptr<TensorPool> pool_;
  Engine engine_;
  models::Gpt2 model_;
  Batches batches_;
};

formats::DsConfig strata_config(const Job& job, formats::OffloadDevice device) {
  formats::DsConfig config;
  config.name = "step_benchmark";
  config.train_micro_batch_size_per_gpu = 1;
  config.gradient_accumulation_steps = job.micro_batches;
  config.gradient_clipping = kClip;
  config.optimizer.lr = kLearningRate;
  config.optimizer.weight_decay = kWeightDecay;
  config.bf16.enabled = true;
  config.zero.offload_param.device = device;
  config.zero.offload_optimizer.device = device;
  config.strata.threads = job.threads;
  return config;
}

std::unique_ptr<Contestant> in_host_memory(const Job& job, Logger& log) {
  formats::DsConfig config = strata_config(job, formats::OffloadDevice::kCpu);
  config.strata.recompute = false;  // like the loops in memory
  return std::make_unique<InStrata>(job, std::move(config), std::make_unique<TensorPool>(), log);
}

/// glibc keeps freed blocks of up to 32 MiB for itself; with activations and gradients of many
/// sizes that comes to some 150 MiB of holes. Where memory is what is scarce, they go back.
void give_freed_memory_back() {
  constexpr int kReturnedAtOnce = 1 << 20;
  mallopt(M_MMAP_THRESHOLD, kReturnedAtOnce);
  mallopt(M_TRIM_THRESHOLD, kReturnedAtOnce);
}

formats::DsConfig nvme_config(const Job& job) {
  formats::DsConfig config = strata_config(job, formats::OffloadDevice::kNvme);
  config.strata.nvme_directories = {job.nvme.string()};
  config.strata.host_budget_bytes = job.host_budget_bytes;
  config.strata.device_budget_bytes = job.device_budget_bytes;
  return config;
}

std::unique_ptr<Contestant> on_nvme(const Job& job, Logger& log) {
  give_freed_memory_back();
  return std::make_unique<InStrata>(job, nvme_config(job), std::make_unique<TensorPool>(), log);
}

std::unique_ptr<Contestant> serial_on_nvme(const Job& job, Logger& log) {
  give_freed_memory_back();
  formats::DsConfig config = nvme_config(job);
  config.strata.overlap_step = false;
  return std::make_unique<InStrata>(job, std::move(config), std::make_unique<TensorPool>(), log);
}

std::unique_ptr<Contestant> unit_by_unit(const Job& job, formats::DsConfig config, Logger& log) {
  give_freed_memory_back();
  return std::make_unique<InStrata>(job, std::move(config), std::make_unique<TensorPool>(), log,
                                    Loop::kUnitByUnit);
}

/// Activations are kept, as the loops in memory keep them.
formats::DsConfig without_recomputation(formats::DsConfig config) {
  config.strata.recompute = false;
  return config;
}

formats::DsConfig early_config(const Job& job) {
  formats::DsConfig config = nvme_config(job);
  config.gradient_clipping = 0.0;
  config.strata.step_under_backward = true;
  return config;
}

std::unique_ptr<Contestant> unit_by_unit_on_nvme(const Job& job, Logger& log) {
  return unit_by_unit(job, nvme_config(job), log);
}

std::unique_ptr<Contestant> under_backward_on_nvme(const Job& job, Logger& log) {
  return unit_by_unit(job, early_config(job), log);
}

std::unique_ptr<Contestant> unit_by_unit_keeping(const Job& job, Logger& log) {
  return unit_by_unit(job, without_recomputation(nvme_config(job)), log);
}

std::unique_ptr<Contestant> under_backward_keeping(const Job& job, Logger& log) {
  return unit_by_unit(job, without_recomputation(early_config(job)), log);
}

std::unique_ptr<Contestant> unpooled_on_nvme(const Job& job, Logger& log) {
  give_freed_memory_back();
  return std::make_unique<InStrata>(job, nvme_config(job), nullptr, log);
}

/// The memory of LibTorch itself: its libraries, and the set-up of its first matrix product.
class Empty final : public Contestant {
 public:
  double step() override {
    const torch::Tensor one = torch::ones({64, 64}, torch::kBFloat16);
    return torch::mm(one, one)[0][0].item<double>();
  }
};

template <class Kind>
std::unique_ptr<Contestant> make_in_memory(const Job& job, Logger& /*log*/) {
  return std::make_unique<Kind>(job);
}

std::unique_ptr<Contestant> make_empty(const Job& /*job*/, Logger& /*log*/) {
  return std::make_unique<Empty>();
}

}  // namespace

const std::vector<ContestantKind>& contestant_kinds() {
  static const std::vector<ContestantKind> kinds = {
      {"memory", "LibTorch, torch::optim::AdamW on fp32 masters", make_in_memory<PlainAdamW>},
      {"memory-fused", "LibTorch, fused AdamW on fp32 masters", make_in_memory<FusedAdamW>},
      {"memory-bf16", "LibTorch, torch::optim::AdamW on bf16", make_in_memory<PureBf16>},
      {"arithmetic", "LibTorch, forward and backward alone", make_in_memory<Arithmetic>},
      {"arithmetic-twice", "the same, with the blocks' forward once more, as recomputation has it",
       make_in_memory<RecomputingArithmetic>},
      {"host", "Strata, everything in host memory", in_host_memory},
      {"nvme", "Strata, everything on NVMe", on_nvme},
      {"nvme-serial", "the same, each step over before the next forward", serial_on_nvme},
      {"nvme-batch", "the same, all micro-batches through one unit before the next",
       unit_by_unit_on_nvme},
      {"nvme-early", "as nvme-batch, without clipping, steps under backward",
       under_backward_on_nvme},
      {"nvme-batch-kept", "as nvme-batch, without recomputation", unit_by_unit_keeping},
      {"nvme-early-kept", "as nvme-early, without recomputation", under_backward_keeping},
      {"nvme-glibc", "Strata, everything on NVMe, without a pool for tensors", unpooled_on_nvme},
      {"empty", "LibTorch, one small matrix product", make_empty},
  };
  return kinds;
}

const ContestantKind& contestant_kind(std::string_view name) {
  for (const ContestantKind& kind : contestant_kinds()) {
    if (kind.name == name) return kind;
  }
  throw UsageError("there is no contestant '" + std::string(name) + "'");
}

}  // namespace strata::bench
