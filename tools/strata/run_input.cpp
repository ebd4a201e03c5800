#include "run_input.h"

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "disk_space.h"
#include "plural.h"
#include "recompute_choice.h"
#include "run_config.h"
#include "step_line.h"
#include "step_trace.h"
#include "strata/base/error.h"
#include "strata/models/lora.h"
#include "strata/models/model_layout.h"
#include "strata/zero3/frozen_parameters.h"
#include "strata/zero3/plan.h"
#include "tile_lines.h"

namespace strata::tool {
namespace {

/// Least bytes that a token keeps, with recomputation: the input of every block.
std::uint64_t kept_bytes_per_token(const formats::DsConfig& config,
                                   const models::ModelConfig& model) {
  return static_cast<std::uint64_t>(model.layers() * model.width()) *
         weight_bytes(config.precision());
}

// The bytes of a prompt say nothing to a model of a tokenizer's ids.
void require_prompt_of_the_data(const FinetuneOptions& options, const Dataset& data,
                                std::int64_t vocab_size) {
  if (!options.prompt || data.is_tokenized()) return;
  if (!data.is_text()) {
    throw ConfigError("--prompt is text, and " + data.path().string() +
                      " holds token ids; leave --prompt out, and the sample goes on from the "
                      "data's first token");
  }
  for (const unsigned char byte : *options.prompt) {
    if (byte >= vocab_size) {
      throw ConfigError("--prompt: the byte " + std::to_string(byte) +
                        " is beyond the model's vocabulary of " + std::to_string(vocab_size) +
                        "; leave it out");
    }
  }
}

void settle_recompute(RunInput& run, const HostMemoryBound& memory, Logger& log) {
  if (run.config.strata.recompute) return;
  const RecomputeChoice choice = choose_recompute(
      run.config, run.model.config,
      {.sequences = run.config.train_micro_batch_size_per_gpu, .length = run.seq_len}, memory);
  run.config.strata.recompute = choice.recomputes;
  log.info(choice.why);
}

// DeepSpeed's cpu_checkpointing names no bytes; a run takes no more than its blocks have inputs.
void size_room_for_activations(RunInput& run) {
  formats::DsConfig& config = run.config;
  const std::uint64_t most = config.activation_bytes().host;
  if (!config.activation_checkpointing.cpu_checkpointing || config.strata.activations_host_bytes ||
      config.strata.activations_nvme_bytes) {
    return;
  }
  const std::uint64_t inputs = models::block_input_bytes(
      run.model.config, {.sequences = config.train_micro_batch_size_per_gpu, .length = run.seq_len},
      static_cast<std::uint64_t>(config.gradient_accumulation_steps),
      weight_bytes(config.precision()));
  config.strata.activations_host_bytes = std::min(most, inputs + inputs / 4);  // in whole pages
}

/// Refuses patterns that match nothing, and says what of the model is trained where that is not
/// all.
void check_parameters(const RunInput& run, const std::vector<zero3::UnitLayout>& units,
                      Logger& log) {
  zero3::check_parameter_patterns(run.config, units);
  const std::uint64_t trained = zero3::trainable_elements(units);
  if (trained == 0) {
    throw ConfigError(run.config.name +
                      ": strata.freeze: all parameters of the model match, and nothing is left to "
                      "train; name fewer");
  }
  if (trained == models::parameter_count(run.model.config)) return;
  log.info("trained: " + with_separators(trained) + " parameters; the others are frozen");
}

}  // namespace

BatchSampler training_sampler(const FinetuneOptions& options, const formats::DsConfig& config,
                              const Dataset& data, std::int64_t seq_len, std::int64_t rows) {
  const DataOrder order = options.order_of(data.has_documents());
  if (!data.has_documents() && order == DataOrder::kRandom) {
    return BatchSampler::random(data.train(), rows, seq_len, options.seed);
  }
  std::shared_ptr<const RowSource> source = data.train_rows();
  if (source == nullptr) source = std::make_shared<const WindowRows>(data.train(), seq_len);
  const RowOrder of_rows =
      order == DataOrder::kRandom
          ? RowOrder::random(source->count(), options.seed)
          : RowOrder::epochs(source->count(), options.seed, last_epoch(options, config));
  return BatchSampler::of_rows(std::move(source), rows, seq_len, of_rows);
}

RunInput open_input(const FinetuneOptions& options, const RunRanks& ranks,
                    const Interruption& interruption, Logger& log) {
  formats::DsConfig config = run_config(options, ranks.size());
  check_nvme_directories(config);
  ModelSource model = open_model(options, interruption);
  const std::int64_t seq_len = sequence_length(options, model.config.context());
  check_micro_batch(config, seq_len, kept_bytes_per_token(config, model.config),
                    memory_bytes() / static_cast<std::uint64_t>(ranks.on_this_host()));
  Dataset data(options, model.config.vocab_size(), seq_len, interruption, &log);
  require_prompt_of_the_data(options, data, model.config.vocab_size());
  BatchSampler training =
      training_sampler(options, config, data, seq_len, config.train_micro_batch_size_per_gpu);
  const std::int64_t steps =
      step_count(options, config, data.train_tokens(), seq_len, training.epoch_rows());
  if (options.trace) require_traced_steps(*options.trace, steps);
  const std::optional<std::uint64_t> epochs = last_epoch(options, config);
  config.set_total_steps(steps);
  return {std::move(config),   std::move(model), seq_len, std::move(data),
          std::move(training), epochs,           steps};
}

std::uint64_t output_bytes(const RunInput& run) {
  if (models::lora_of(run.model.config)) {
    return zero3::trainable_elements(models::unit_layouts(run.model.config)) * sizeof(float);
  }
  return models::parameter_count(run.model.config) * weight_bytes(run.config.precision());
}

void settle_activations(RunInput& run, const HostMemoryBound& memory, Logger& log) {
  size_room_for_activations(run);
  settle_recompute(run, memory, log);
}

void check_plan(const RunInput& run, const RunRanks& ranks, const HostMemoryBound& memory,
                const std::filesystem::path& output, Logger& log) {
  zero3::PlanInput input =
      zero3::plan_input_from(run.config, {}, {.world_size = ranks.size(), .host_memory = memory});
  const models::ModelTiles tiles = models::tiles_of(run.model.config, run.config, input);
  input.units = models::units_in_engine(run.model.config, run.config, tiles);
  check_parameters(run, input.units, log);
  for (const std::string& line : tile_lines(tiles, run.config)) log.info(line);
  const zero3::Plan plan = zero3::make_plan(input);
  log.info("plan:\n" + zero3::describe(plan, input));
  const auto on_this_host = static_cast<std::uint64_t>(ranks.on_this_host());
  require_machine_memory((plan.total.device + plan.total.host) *
                         on_this_host);  // without a GPU both are host memory
  const std::vector<std::string> directories = run.config.nvme_directories();
  require_disk_space({.nvme_bytes = plan.total.nvme * on_this_host,
                      .nvme_directories = {directories.begin(), directories.end()},
                      .output_bytes = ranks.is_first() ? output_bytes(run) : 0,
                      .output = output});
}

void log_notes(const formats::DsConfig& config, Logger& log) {
  for (const std::string& note : config.notes) log.warning(config.name + ": " + note);
}

std::string steps_text(const RunInput& run) {
  return counted(run.steps, "step") + " of " + counted(run.config.train_batch_size, "sequence") +
         " of " + counted(run.seq_len, "token");
}

void log_run(const RunInput& run, const RunRanks& ranks, Logger& log) {
  const formats::DsConfig& config = run.config;
  log.info("model " + run.model.name + ": " +
           with_separators(models::parameter_count(run.model.config)) + " parameters, " +
           std::string(name_of(config.precision())) +
           (run.model.directory ? "" : ", from random weights"));
  if (run.model.has_own_head) {
    log.info(
        "the files hold a head (lm_head.weight) that differs from the embedding to which "
        "config.json ties it: it is trained as one of its own");
  }
  log.info("data " + run.data.path().string() + ": " + run.data.description());
  log.info("run: " + steps_text(run) + " (micro-batch " +
           std::to_string(config.train_micro_batch_size_per_gpu) + ", accumulation " +
           std::to_string(config.gradient_accumulation_steps) +
           (ranks.size() > 1 ? ", " + std::to_string(ranks.size()) + " ranks)" : ")"));
  log.info("no GPU is used: the device tier is host memory too, with a budget of its own");
  if (run.data.is_text() && run.model.directory) {
    log.warning(
        "the data is text and its bytes are the tokens, as no tokenizer is used; the model may "
        "have been trained with one: its files belong into the model's directory");
  }
  if (const std::string_view markup = run.data.markup(); !markup.empty()) {
    log.warning(run.data.path().string() + ": is " + std::string(markup) +
                ", and is trained on as it stands, its punctuation and keys too; write the text "
                "alone into a file if that is what the model is to learn");
  }
  if (config.scheduler.type != formats::SchedulerType::kNone &&
      config.scheduler.warmup_num_steps >= run.steps) {
    log.warning("the schedule warms up for " + counted(config.scheduler.warmup_num_steps, "step") +
                " and the run has " + std::to_string(run.steps) +
                ": the learning rate does not reach its full height; lower "
                "scheduler.params.warmup_num_steps or raise --steps");
  }
  log_notes(config, log);
  std::string ignored;
  for (const std::string& key : config.ignored_keys) ignored += (ignored.empty() ? "" : ", ") + key;
  if (!ignored.empty()) log.info("config keys without effect here: " + ignored);
}

}  // namespace strata::tool
