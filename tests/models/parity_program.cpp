// Computes what parity_test.py compares with transformers, and lora_parity_test.py with PEFT, for
// each directory CASE, which has model/, perhaps adapter/, and tokens.bin: int64, first the batches
// S, the sequences B of each and their tokens T, then S x B x (T + 1) tokens.
//
//   parity_program CASE...
//
// Writes into CASE, all in fp32 unless it says otherwise:
//   logits.bin, logits_bf16.bin, loss.bin   of the first batch, in memory
//   gradients.safetensors                   of that loss
//   losses.bin, trained/                    S steps of AdamW in an engine, with everything on nvme
//   trained_logits.bin                      of trained/, read again
// With an adapter all is of the model with it, gradients and trained/ are the adapter's, and
// merged/ is the model with the adapter merged into it.

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "strata/base/error.h"
#include "strata/formats/ds_config.h"
#include "strata/formats/safetensors.h"
#include "strata/models/adapter_checkpoint.h"
#include "strata/models/causal_lm.h"
#include "strata/models/checkpoint.h"
#include "strata/models/lora.h"
#include "strata/models/model_config.h"

namespace {

using namespace strata;
namespace fs = std::filesystem;
using torch::Tensor;

struct Batches {
  Tensor tokens, targets;  // [S, B, T]
  [[nodiscard]] std::int64_t count() const { return tokens.size(0); }
};

Batches read_batches(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::int64_t shape[3];
  file.read(reinterpret_cast<char*>(shape), sizeof shape);
  const Tensor all = torch::empty({shape[0], shape[1], shape[2] + 1}, torch::kInt64);
  file.read(static_cast<char*>(all.mutable_data_ptr()), static_cast<std::streamsize>(all.nbytes()));
  if (!file) throw DataError(path.string() + " is too short");
  return {all.narrow(2, 0, shape[2]).contiguous(), all.narrow(2, 1, shape[2]).contiguous()};
}

void write(const fs::path& path, const Tensor& values) {
  const Tensor written = values.detach().to(torch::kFloat32).contiguous();
  std::ofstream(path, std::ios::binary)
      .write(static_cast<const char*>(written.const_data_ptr()),
             static_cast<std::streamsize>(written.nbytes()));
}

/// A model's directory, with an adapter's or without.
struct Source {
  Source(const fs::path& model, const fs::path& adapter_path)
      : directory(model),
        config(models::checkpoint_config(directory)),
        initializer(models::checkpoint_initializer(config, directory)) {
    if (!fs::exists(adapter_path)) return;
    adapter.emplace(adapter_path);
    config = models::with_lora(config, adapter->config(), adapter->config_path().string());
    adapter->require_adapters_of(config);
    initializer = models::with_adapters_of(*adapter, initializer);
  }
  [[nodiscard]] std::unique_ptr<models::CausalLm> in_memory(Precision precision) const {
    return models::make_causal_lm(config, precision, initializer);
  }

  formats::ModelDirectory directory;
  models::ModelConfig config;
  ParameterInitializer initializer;
  std::optional<models::AdapterDirectory> adapter;
};

void write_logits(const Source& source, Precision precision, const Tensor& tokens,
                  const fs::path& file) {
  const torch::NoGradGuard no_grad;
  write(file, source.in_memory(precision)->forward(tokens));
}

void write_gradients(const Source& source, const fs::path& root, const Batches& batches) {
  const auto model = source.in_memory(Precision::kFp32);
  const Tensor loss = model->loss(batches.tokens[0], batches.targets[0]);
  write(root / "loss.bin", loss);
  loss.backward();
  std::vector<formats::TensorInfo> tensors;
  std::vector<Tensor> values;
  model->visit_parameters([&](const std::string& name, const Tensor& value) {
    // An expert that no token has chosen has no gradient.
    if (!value.requires_grad() || !value.grad().defined()) return;
    tensors.push_back({.name = name, .dtype = formats::DType::kF32, .shape = value.sizes().vec()});
    values.push_back(value.grad());
  });
  formats::SafetensorsWriter out(root / "gradients.safetensors", tensors);
  for (const Tensor& value : values) {
    const Tensor whole = value.contiguous();
    out.append(std::as_bytes(std::span(static_cast<const char*>(whole.const_data_ptr()),
                                       static_cast<std::size_t>(whole.nbytes()))));
  }
  out.finish();
}

formats::DsConfig everything_on_nvme(const fs::path& root, std::int64_t sequences) {
  fs::create_directories(root / "nvme");
  return formats::DsConfig::from_text(R"({"train_batch_size": )" + std::to_string(sequences) +
                                          R"(, "gradient_clipping": 0.0,
          "optimizer": {"type": "AdamW", "params": {"lr": 1e-2, "weight_decay": 0.1}},
          "zero_optimization": {"stage": 3, "offload_param": {"device": "nvme"},
                                "offload_optimizer": {"device": "nvme"}},
          "strata": {"nvme": [")" + (root / "nvme").string() +
                                          R"("], "host_cache": false}})",
                                      "ds_config.json");
}

/// Steps of the loop and of train_batch in turns.
void train(const Source& source, const fs::path& root, const Batches& batches) {
  Engine engine(everything_on_nvme(root, batches.tokens.size(1)));
  const auto model = models::make_causal_lm(source.config, engine, source.initializer);
  const UnitSequence sequence = model->sequence();
  Tensor losses = torch::zeros({batches.count()});
  for (std::int64_t step = 0; step < batches.count(); ++step) {
    const Tensor tokens = batches.tokens[step], targets = batches.targets[step];
    if (step % 2 == 0) {
      const Tensor loss = model->loss(tokens, targets);
      losses[step] = loss.item<float>();
      engine.backward(loss);
      engine.step();
    } else {
      const std::vector<UnitSequence::Tensors> batch = {{tokens, targets}};
      losses[step] = engine.train_batch(sequence, batch).losses.front();
    }
  }
  write(root / "losses.bin", losses);
  if (!source.adapter) {
    models::save_pretrained(*model, root / "trained", {.source = &source.directory});
    return;
  }
  fs::create_directories(root / "trained");
  models::write_adapter(*model, root / "trained", (root / "model").string());
}

void compute(const fs::path& root) {
  const Batches batches = read_batches(root / "tokens.bin");
  const Tensor tokens = batches.tokens[0];
  const Source source(root / "model", root / "adapter");
  write_logits(source, Precision::kFp32, tokens, root / "logits.bin");
  write_logits(source, Precision::kBf16, tokens, root / "logits_bf16.bin");
  write_gradients(source, root, batches);
  train(source, root, batches);
  const fs::path trained = root / "trained";
  const Source again(source.adapter ? root / "model" : trained, source.adapter ? trained : "");
  write_logits(again, Precision::kFp32, tokens, root / "trained_logits.bin");
  if (!source.adapter) return;
  fs::create_directories(root / "merged");
  models::write_merged(source.directory, *source.adapter, Precision::kFp32, root / "merged");
}

}  // namespace

int main(int count, char** arguments) {
  for (int i = 1; i < count; ++i) {
    try {
      compute(arguments[i]);
    } catch (const Error& error) {
      std::cerr << arguments[i] << ": " << error.what() << "\n";
      return 1;
    }
  }
}
