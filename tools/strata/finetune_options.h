#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "trace_steps.h"

namespace CLI {
class App;
}

namespace strata::tool {

/// What bears loss of examples that have answers.
enum class LossOn : std::uint8_t { kAnswers, kEverything };
/// The order in which sequences come.
enum class DataOrder : std::uint8_t {
  kEpochs,  ///< each once in an epoch
  kRandom,  ///< any at any time
};
/// What makes tokens of text.
enum class TextTokens : std::uint8_t {
  kModel,  ///< the model's tokenizer, where it has one
  kBytes,
};

/// The command line of `strata finetune`, as it was given.
struct FinetuneOptions {
  // The model: exactly one of these.
  std::optional<std::filesystem::path> model;         ///< Hugging Face directory
  std::optional<std::filesystem::path> model_config;  ///< config.json; random weights
  std::optional<std::string> preset;                  ///< name of a shape; random weights

  // Adapters in place of the whole model: at most one of these.
  std::optional<std::string> lora;               ///< new ones: "r=16,alpha=32"
  std::optional<std::filesystem::path> adapter;  ///< PEFT's directory, to go on from

  std::optional<std::filesystem::path> data;
  std::optional<std::filesystem::path> config;  ///< ds_config.json
  std::optional<std::filesystem::path> output;

  std::optional<std::int64_t> steps;
  std::optional<std::int64_t> epochs;
  std::optional<double> max_minutes;  ///< time of training
  std::optional<std::int64_t> seq_len;
  TextTokens tokenizer = TextTokens::kModel;
  std::optional<LossOn> loss_on;   ///< of JSON lines; answers
  std::optional<bool> pack;        ///< of JSON lines; on
  std::optional<DataOrder> order;  ///< of JSON lines, and with `epochs`, epochs; else random
  std::optional<std::int64_t> show_batch;  ///< sequences to show, and nothing else
  std::optional<std::filesystem::path> val_data;
  double val_fraction = 0.0;
  std::int64_t eval_every = 0;  ///< optimizer steps; 0: only before and after
  std::int64_t eval_batches = 20;
  std::uint64_t seed = 1337;
  std::optional<std::string> budget;
  std::vector<std::filesystem::path> nvme;
  std::int64_t sample = 0;            ///< tokens to generate at the end
  std::optional<std::string> prompt;  ///< text that they continue; its bytes are the tokens
  double temperature = 0.8;           ///< temperature of their choice; 0: the most likely
  std::optional<TraceSteps> trace;    ///< steps to trace
  bool print_config = false;

  // Checkpoints of the run.
  std::optional<std::int64_t> save_every;            ///< optimizer steps
  std::optional<double> save_minutes;                ///< time of training
  std::int64_t keep = 2;                             ///< as many stay
  std::optional<std::filesystem::path> checkpoints;  ///< where; else OUTPUT.checkpoints
  bool resume = false;                               ///< go on from the newest one, if there is

  [[nodiscard]] bool saves() const { return save_every || save_minutes; }
  /// Whether it has a directory of checkpoints.
  [[nodiscard]] bool uses_checkpoints() const { return saves() || resume; }
  /// That directory. Needs `output` or `checkpoints`.
  [[nodiscard]] std::filesystem::path checkpoint_directory() const;

  /// The order of data that has documents or not.
  [[nodiscard]] DataOrder order_of(bool has_documents) const;

  [[nodiscard]] bool names_model() const { return model || model_config || preset; }
};

/// Adds the subcommand `finetune` to `app`; parsing fills `options`, which must live as long.
CLI::App* add_finetune_command(CLI::App& app, FinetuneOptions& options);

/// Throws ConfigError, naming every missing option, unless the options make a whole run (or, with
/// --print-config, name a config).
void require_complete(const FinetuneOptions& options);

}  // namespace strata::tool
