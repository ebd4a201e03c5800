#include "strata/models/gpt2.h"

#include <utility>

#include "models/gpt2_modules.h"
#include "models/model_part.h"
#include "models/unit_names.h"
#include "strata/base/error.h"

namespace strata::models {

namespace {

torch::TensorOptions on_meta() { return torch::TensorOptions(torch::kMeta).dtype(torch::kFloat32); }

torch::TensorOptions in_memory(Precision precision) {
  return precision == Precision::kFp32   ? torch::dtype(torch::kFloat32)
         : precision == Precision::kBf16 ? torch::dtype(torch::kBFloat16)
                                         : torch::dtype(torch::kFloat16);
}

const Gpt2Config& validated(const Gpt2Config& config) {
  config.validate();
  return config;
}

using Tensors = UnitSequence::Tensors;

std::string shape_of(const torch::Tensor& tensor) {
  std::string text;
  for (const std::int64_t extent : tensor.sizes()) {
    text += (text.empty() ? "" : ", ") + std::to_string(extent);
  }
  return "[" + text + "]";
}

void check_tokens(const torch::Tensor& tokens, std::int64_t n_positions) {
  if (tokens.dim() != 2 || tokens.scalar_type() != torch::kInt64 || tokens.numel() == 0 ||
      tokens.size(1) > n_positions) {
    throw UsageError("tokens must be int64 [B, T] with T from 1 to n_positions (" +
                     std::to_string(n_positions) + "), not " + std::string(tokens.dtype().name()) +
                     " " + shape_of(tokens));
  }
}

void check_targets(const torch::Tensor& targets, const torch::Tensor& tokens) {
  if (targets.sizes() == tokens.sizes() && targets.scalar_type() == torch::kInt64) return;
  throw UsageError("targets must be int64 of the shape of the tokens, " + shape_of(tokens) +
                   ", not " + std::string(targets.dtype().name()) + " " + shape_of(targets));
}

}  // namespace

struct Gpt2::Impl {
  /// `home` is the Engine or, in memory, the Precision.
  template <class Home>
  Impl(const Gpt2Config& given, Precision compute, bool sharded,
       const torch::TensorOptions& options, Home& home, const ParameterInitializer& initialize)
      : config(validated(given)),
        precision(compute),
        in_engine(sharded),
        outer(std::string(kOuterName), Gpt2Outer(config, options), home, initialize) {
    for (std::int64_t i = 0; i < config.n_layer; ++i) {
      blocks.emplace_back(block_name(i), Gpt2Block(config, options), home, initialize);
    }
  }

  /// The output of the blocks for the tokens: [B, T, n_embd].
  torch::Tensor hidden(const torch::Tensor& tokens) {
    check_tokens(tokens, config.n_positions);
    torch::Tensor x = outer.run([](Gpt2OuterImpl& m, const torch::Tensor& t) { return m.embed(t); },
                                Recompute::kConfig, tokens);
    for (ModelPart<Gpt2Block>& block : blocks) {
      x = block.run([](Gpt2BlockImpl& m, const torch::Tensor& t) { return m.forward(t); },
                    Recompute::kConfig, x);
    }
    return x;
  }

  /// A whole forward: function(outer module, hidden(tokens)). Its end's backward comes at once.
  template <class Function>
  torch::Tensor finish(const torch::Tensor& tokens, Function function) {
    return outer.run(std::move(function), Recompute::kNever, hidden(tokens));
  }

  Gpt2Config config;
  Precision precision;
  bool in_engine;
  ModelPart<Gpt2Outer> outer;
  std::vector<ModelPart<Gpt2Block>> blocks;
};

Gpt2::Gpt2(const Gpt2Config& config, Engine& engine, const ParameterInitializer& initialize)
    : impl_(std::make_unique<Impl>(config, engine.config().precision(), /*sharded=*/true, on_meta(),
                                   engine, initialize)) {}

Gpt2::Gpt2(const Gpt2Config& config, Precision precision, const ParameterInitializer& initialize)
    : impl_(std::make_unique<Impl>(config, precision, /*sharded=*/false, in_memory(precision),
                                   precision, initialize)) {}

Gpt2::Gpt2(Gpt2&&) noexcept = default;
Gpt2& Gpt2::operator=(Gpt2&&) noexcept = default;
Gpt2::~Gpt2() = default;

torch::Tensor Gpt2::forward(const torch::Tensor& tokens) {
  return impl_->finish(
      tokens, [](Gpt2OuterImpl& outer, const torch::Tensor& x) { return outer.logits(x); });
}

torch::Tensor Gpt2::loss(const torch::Tensor& tokens, const torch::Tensor& targets) {
  check_targets(targets, tokens);
  return impl_->finish(tokens, [targets](Gpt2OuterImpl& outer, const torch::Tensor& x) {
    return outer.loss(x, targets);
  });
}

UnitSequence Gpt2::sequence() const {
  if (!impl_->in_engine) {
    throw UsageError("a model in memory is no sequence of units; call loss() and backward()");
  }
  UnitSequence sequence;
  const auto embed = [n_positions = impl_->config.n_positions](Gpt2OuterImpl& outer,
                                                               const Tensors& tokens_and_targets,
                                                               const Tensors& /*micro_batch*/) {
    if (tokens_and_targets.size() != 2) {
      throw UsageError("a micro-batch is {tokens, targets}, not " +
                       std::to_string(tokens_and_targets.size()) + " tensors");
    }
    check_tokens(tokens_and_targets[0], n_positions);
    check_targets(tokens_and_targets[1], tokens_and_targets[0]);
    return outer.embed(tokens_and_targets[0]);
  };
  impl_->outer.add_to(sequence, embed, Recompute::kConfig);
  for (const ModelPart<Gpt2Block>& block : impl_->blocks) {
    block.add_to(
        sequence,
        [](Gpt2BlockImpl& m, const Tensors& x, const Tensors&) { return m.forward(x[0]); },
        Recompute::kConfig);
  }
  impl_->outer.add_to(
      sequence,
      [](Gpt2OuterImpl& outer, const Tensors& x, const Tensors& micro_batch) {
        return outer.loss(x[0], micro_batch[1]);
      },
      Recompute::kNever);
  return sequence;
}

torch::Tensor Gpt2::next_token_logits(const torch::Tensor& tokens) {
  return impl_->finish(tokens, [](Gpt2OuterImpl& outer, const torch::Tensor& x) {
    return outer.logits(x.select(1, -1));
  });
}

void Gpt2::train(bool on) {
  impl_->outer.module().train(on);
  for (const ModelPart<Gpt2Block>& block : impl_->blocks) block.module().train(on);
}

bool Gpt2::is_training() const { return impl_->outer.module().is_training(); }

void Gpt2::visit_parameters(const ParameterVisitor& visit) {
  const auto visit_as_in_files = [&](const std::string& full_name, const torch::Tensor& value) {
    visit(checkpoint_name(full_name), value);
  };
  impl_->outer.visit_parameters(visit_as_in_files);
  for (ModelPart<Gpt2Block>& block : impl_->blocks) block.visit_parameters(visit_as_in_files);
}

std::vector<torch::Tensor> Gpt2::parameters() const {
  if (impl_->in_engine) {
    throw UsageError(
        "the parameters of a model in an engine have no data outside of a run; "
        "use Engine::step, or visit_parameters to read them");
  }
  std::vector<torch::Tensor> all = impl_->outer.module().parameters();
  for (const ModelPart<Gpt2Block>& block : impl_->blocks) {
    const std::vector<torch::Tensor> own = block.module().parameters();
    all.insert(all.end(), own.begin(), own.end());
  }
  return all;
}

const Gpt2Config& Gpt2::config() const { return impl_->config; }

Precision Gpt2::precision() const { return impl_->precision; }

}  // namespace strata::models
