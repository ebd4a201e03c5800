#include "finetune.h"

#include <algorithm>
#include <cstdio>
#include <limits>
#include <memory>
#include <optional>
#include <ostream>
#include <span>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "batch_sampler.h"
#include "dataset.h"
#include "disk_space.h"
#include "freed_blocks.h"
#include "interruption.h"
#include "model_card.h"
#include "model_source.h"
#include "plural.h"
#include "progress.h"
#include "readable_text.h"
#include "recompute_choice.h"
#include "run_checkpoints.h"
#include "run_config.h"
#include "run_facts.h"
#include "run_metrics.h"
#include "run_ranks.h"
#include "show_batch.h"
#include "step_trace.h"
#include "strata/base/clock.h"
#include "strata/base/machine_memory.h"
#include "strata/base/number_format.h"
#include "strata/base/units.h"
#include "strata/formats/crc32.h"
#include "strata/formats/output_directory.h"
#include "strata/models/adapter_checkpoint.h"
#include "strata/models/causal_lm.h"
#include "strata/models/checkpoint.h"
#include "strata/models/generate.h"
#include "strata/models/lora.h"
#include "strata/models/model_layout.h"
#include "strata/zero3/engine.h"
#include "strata/zero3/frozen_parameters.h"
#include "strata/zero3/tensor_pool.h"
#include "summary.h"
#include "tile_lines.h"
#include "tokenizer_process.h"
#include "trainer.h"
#include "training_run.h"

namespace strata::tool {
namespace {

constexpr std::int64_t kDefaultStepsPerPrint = 10;

constexpr std::size_t kReturnedInTraining = 1_MiB;  // where speed matters more

/// All parts that a run is made from, checked.
struct RunInput {
  formats::DsConfig config;
  ModelSource model;
  std::int64_t seq_len;
  Dataset data;
  BatchSampler training;
  std::optional<std::uint64_t> epochs;  ///< behind which nothing bears loss
  std::int64_t steps;
};

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

/// The sequences to train on, `rows` in a batch, in their order.
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

/// Bytes of what is written in the end, at most.
std::uint64_t output_bytes(const RunInput& run) {
  if (models::lora_of(run.model.config)) {
    return zero3::trainable_elements(models::unit_layouts(run.model.config)) * sizeof(float);
  }
  return models::parameter_count(run.model.config) * weight_bytes(run.config.precision());
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

std::uint64_t parameters_in(const std::vector<zero3::UnitLayout>& units) {
  std::uint64_t count = 0;
  for (const zero3::UnitLayout& unit : units) {
    for (const zero3::ParameterLayout& parameter : unit.parameters) count += parameter.count;
  }
  return count;
}

/// Refuses patterns that match nothing, and says what of the model is trained where that is not
/// all.
void check_parameters(const formats::DsConfig& config, const std::vector<zero3::UnitLayout>& units,
                      Logger& log) {
  zero3::check_parameter_patterns(config, units);
  const std::uint64_t trained = zero3::trainable_elements(units);
  if (trained == 0) {
    throw ConfigError(config.name +
                      ": strata.freeze: all parameters of the model match, and nothing is left to "
                      "train; name fewer");
  }
  if (trained == parameters_in(units)) return;
  log.info("trained: " + with_separators(trained) + " parameters; the others are frozen");
}

// The engine makes the same plan again once it is built; here it costs nothing when it fails.
void check_plan(const RunInput& run, const RunRanks& ranks, const HostMemoryBound& memory,
                const std::filesystem::path& output, Logger& log) {
  zero3::PlanInput input =
      zero3::plan_input_from(run.config, {}, {.world_size = ranks.size(), .host_memory = memory});
  const models::ModelTiles tiles = models::tiles_of(run.model.config, run.config, input);
  input.units =
      zero3::with_frozen(models::unit_layouts(run.model.config, run.config.fp32_patterns(), tiles),
                         run.config.strata.freeze);
  check_parameters(run.config, input.units, log);
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

// A record that cannot be written is not worth the model.
void write_record(const std::filesystem::path& path, const std::string& text, Logger& log) {
  try {
    formats::write_text(path, text);
  } catch (const IoError& error) {
    std::error_code ignored;  // a piece of it may stay
    std::filesystem::remove(path, ignored);
    log.warning(std::string(error.what()) + "; the model is published without it");
  }
}

void log_placement(Time start, Logger& log) {
  char text[64];
  std::snprintf(text, sizeof text, "initial values: placed in %.1f s", seconds_since(start));
  log.info(text);
}

Trainer::Data trainer_data(const RunInput& run, const RunRanks& ranks,
                           const FinetuneOptions& options) {
  const std::int64_t rows = run.config.train_micro_batch_size_per_gpu;
  Trainer::Data data{.training = run.training,
                     .evaluation = std::nullopt,
                     .evaluation_batches = options.eval_batches,
                     .training_tokens = run.data.train_tokens(),
                     .rank = ranks.rank(),
                     .ranks = ranks.size()};
  if (run.data.validation()) {
    data.evaluation =
        BatchSampler::even(*run.data.validation(), rows, run.seq_len, options.eval_batches);
  } else if (const auto& held_out = run.data.validation_rows()) {
    const auto places = static_cast<std::uint64_t>(options.eval_batches * rows);
    data.evaluation = BatchSampler::of_rows(held_out, rows, run.seq_len,
                                            RowOrder::even(held_out->count(), places));
  }
  return data;
}

// The prompt that the sample continues. Text starts after a line's end, as nanoGPT's does; token
// ids with the data's first one.
std::vector<std::int64_t> prompt_of(const RunInput& run, const FinetuneOptions& options,
                                    TokenizerProcess* tokenizer) {
  std::vector<std::int64_t> prompt{'\n'};
  if (options.prompt && tokenizer != nullptr) {
    prompt = tokenizer->encode(std::span(&*options.prompt, 1)).front();
    if (prompt.empty()) throw ConfigError("--prompt has no token; give another, or leave it out");
  } else if (options.prompt) {
    const std::string& text = *options.prompt;
    prompt.resize(text.size());
    std::ranges::transform(text, prompt.begin(), [](unsigned char byte) { return byte; });
  } else if (!run.data.is_text()) {
    prompt = {run.data.first_token()};
  }
  return prompt;
}

void write_sample(models::CausalLm& model, const RunInput& run, const FinetuneOptions& options,
                  const Interruption& interruption, std::ostream& out) {
  std::unique_ptr<TokenizerProcess> tokenizer;
  if (run.data.is_tokenized()) {
    tokenizer =
        std::make_unique<TokenizerProcess>(*options.model, interruption, "leave --sample out");
  }
  const std::vector<std::int64_t> prompt = prompt_of(run, options, tokenizer.get());
  const std::vector<std::int64_t> tokens = models::generate(
      model, prompt,
      {.count = options.sample, .temperature = options.temperature, .seed = options.seed},
      [&](std::int64_t) { interruption.check(); });
  if (options.prompt) {
    out << "\nPrompt\n"
        << (tokenizer ? *options.prompt : readable_text(prompt))
        << (options.prompt->ends_with('\n') ? "" : "\n");
  }
  out << "\nSample\n"
      << (tokenizer            ? tokenizer->continuation(prompt, tokens)
          : run.data.is_text() ? readable_text(tokens)
                               : id_list(tokens))
      << '\n';
}

/// How the data goes, where that is not as it always was; ranks and resumed runs have it in common.
std::string order_text(const RunInput& run, const FinetuneOptions& options) {
  const bool has_documents = run.data.has_documents();
  std::string text = options.order_of(has_documents) == DataOrder::kRandom ? "random" : "epochs";
  if (text == "epochs") {
    text += run.epochs ? ", " + std::to_string(*run.epochs) : ", as many as there are steps";
  }
  if (has_documents) text += options.pack.value_or(true) ? ", packed" : ", not packed";
  return text;
}

/// The adapters of a run, for comparisons.
std::string lora_text(const RunInput& run) {
  const std::optional<models::LoraConfig> lora = models::lora_of(run.model.config);
  return lora ? lora->to_json("") : "none";
}

/// What ranks have in common beside the config and the model, which the engine compares.
void require_same_run(Engine& engine, const RunInput& run, const FinetuneOptions& options,
                      const std::string& training_tokens, const Interruption& interruption) {
  engine.require_agreement(
      "the run",
      {{"the number of steps", std::to_string(run.steps)},
       {"the length of a sequence", std::to_string(run.seq_len)},
       {"--seed", std::to_string(options.seed)},
       {"--lora", lora_text(run)},
       {"--max-minutes", options.max_minutes ? std::to_string(*options.max_minutes) : "none"},
       {"--eval-every", std::to_string(options.eval_every)},
       {"--eval-batches", std::to_string(options.eval_batches)},
       {"--sample", std::to_string(options.sample)},
       {"--save-every", options.save_every ? std::to_string(*options.save_every) : "none"},
       {"--save-minutes", options.save_minutes ? std::to_string(*options.save_minutes) : "none"},
       {"--resume", options.resume ? "given" : "not given"},
       {"the data to train on", training_tokens},
       {"the order of the data", order_text(run, options)},
       {"the data held out", run.data.validation_identity(interruption)}});
}

/// Writes the model into `output`. Ranks that write none (null) visit its weights all the same:
/// each is made of what all ranks hold.
void write_model(models::CausalLm& model, const RunInput& run,
                 const formats::OutputDirectory* output, const Interruption& interruption) {
  if (output == nullptr) {
    model.visit_parameter_rows(
        [&](const std::string&, const torch::Tensor&) { interruption.check(); });
    return;
  }
  if (models::lora_of(run.model.config)) {
    const std::string base = run.model.directory
                                 ? std::filesystem::absolute(run.model.directory->path()).string()
                                 : run.model.name;
    models::write_adapter(model, output->path(), base, [&] { interruption.check(); });
    return;
  }
  models::write_pretrained(model, output->path(),
                           {.original_config = run.model.config_text,
                            .files_of = run.model.directory.get(),
                            .before_each_piece = [&] { interruption.check(); }});
}

/// The adapters of a run, for people; empty: it has none.
std::string adapter_text(const RunInput& run) {
  const std::optional<models::LoraConfig> lora = models::lora_of(run.model.config);
  if (!lora) return {};
  std::ostringstream text;
  text << "LoRA, rank " << lora->rank << ", alpha " << lora->alpha << ", dropout " << lora->dropout
       << ", of";
  for (const std::string& target : lora->targets) text << ' ' << target;
  return text.str();
}

CardFacts card_facts(const RunInput& run, const FinetuneOptions& options) {
  const std::string model = std::filesystem::path(run.model.name).filename().string();
  return {.name = options.output->filename().string(),
          .model_config =
              models::without_lora(run.model.config).to_json("float32", run.model.config_text),
          .adapter = adapter_text(run),
          .base = run.model.directory ? "the model `" + model + "`"
                                      : "random weights of the shape `" + model + "`",
          .data = run.data.path().filename().string() + ": " + run.data.description(),
          .steps = steps_text(run),
          .seed = options.seed,
          .config = run.config.resolved_json()};
}

/// The output as a run finds it: the config in effect, and what the model's directory has.
std::unique_ptr<formats::OutputDirectory> begin_output(const RunInput& run,
                                                       const FinetuneOptions& options) {
  auto output = std::make_unique<formats::OutputDirectory>(*options.output);
  formats::write_text(output->path() / "ds_config.json", run.config.resolved_json());
  if (run.model.directory) models::copy_model_files(*run.model.directory, output->path());
  return output;
}

/// What has to be the same for a run to go on with the same numbers.
RunFacts facts_of_run(const RunInput& run, const FinetuneOptions& options,
                      const std::string& training_tokens) {
  RunFacts facts = facts_of(run.config);
  formats::Crc32 config;
  config.add(std::as_bytes(std::span(run.model.config_text)));
  facts["the model"] = run.model.config_text.empty() ? run.model.name
                                                     : "that of a config.json with checksum " +
                                                           formats::crc_text(config.value());
  facts["the head"] = run.model.has_own_head ? "of its own" : "as config.json says";
  if (const std::string lora = lora_text(run); lora != "none") {
    facts["the adapters (--lora, --adapter)"] = lora;
  }
  facts["the length of a sequence"] = std::to_string(run.seq_len);
  facts["--seed"] = std::to_string(options.seed);
  facts["the data to train on"] = training_tokens;
  if (const std::string order = order_text(run, options); order != "random") {
    facts["the order of the data (--order, --epochs, --pack)"] = order;
  }
  return facts;
}

std::unique_ptr<RunCheckpoints> open_checkpoints(const RunInput& run, const RunRanks& ranks,
                                                 const FinetuneOptions& options,
                                                 const std::string& training_tokens,
                                                 const Interruption& interruption, Logger& log) {
  if (!options.uses_checkpoints()) return nullptr;
  auto checkpoints = std::make_unique<RunCheckpoints>(
      options, facts_of_run(run, options, training_tokens), interruption, log);
  if (ranks.is_first()) checkpoints->make_directory();
  return checkpoints;
}

/// Copies a file, or a directory with all that is in it, unless it cannot.
void copy_beside_model(const std::filesystem::path& from, const formats::OutputDirectory& output,
                       Logger& log) {
  const std::filesystem::path target = output.path() / from.filename();
  std::error_code code;
  std::filesystem::copy(from, target, std::filesystem::copy_options::recursive, code);
  if (!code) return;
  std::error_code ignored;  // a piece of it may stay
  std::filesystem::remove_all(target, ignored);
  log.warning(system_error("copy " + from.string() + " to", target.string(), code.value()).what() +
              std::string("; the model is published without it"));
}

/// The metrics of the run so far beside its model; they stay where they are, too.
void copy_metrics(const std::filesystem::path& lines, const formats::OutputDirectory& output,
                  Logger& log) {
  copy_beside_model(lines, output, log);
  if (const auto events = RunMetrics::events_of(lines); std::filesystem::is_directory(events)) {
    copy_beside_model(events, output, log);
  }
}

void run_training(const RunInput& run, const RunRanks& ranks, const HostMemoryBound& memory,
                  const FinetuneOptions& options, Interruption& interruption, std::ostream& out,
                  bool terminal, Logger& log) {
  const bool is_compared = ranks.size() > 1 || options.uses_checkpoints();
  const std::string training_tokens =
      is_compared ? run.data.train_identity(interruption) : std::string();
  const std::unique_ptr<RunCheckpoints> checkpoints =
      open_checkpoints(run, ranks, options, training_tokens, interruption, log);
  const RunPlace place = checkpoints ? checkpoints->place() : RunPlace{};
  std::unique_ptr<formats::OutputDirectory> output;  // of the first rank
  std::unique_ptr<RunMetrics> metrics;
  if (ranks.is_first()) {
    output = begin_output(run, options);
    const std::filesystem::path path =
        checkpoints ? checkpoints->metrics_path() : output->path() / "metrics.jsonl";
    metrics = std::make_unique<RunMetrics>(
        path, log, RunMetrics::Before{.steps = place.steps, .bytes = place.metrics_bytes});
    log.info("metrics while it runs: " + path.string());
  }

  const TensorPool pool;  // activations and gradients, from one step to the next
  torch::manual_seed(options.seed + static_cast<std::uint64_t>(ranks.rank()));
  return_freed_blocks_from(kReturnedWhileBuilding);
  formats::DsConfig config = run.config;
  config.notes.clear();  // log_run has shown them
  StepTrace trace(output && options.trace ? &*options.trace : nullptr,
                  output ? output->path() / "trace.json.gz" : std::filesystem::path(), log);
  Engine engine(std::move(config), EnginePlace{.ranks = ranks.end(), .host_memory = memory}, &log);
  engine.before_each_unit([&, is_told = false]() mutable {
    if (is_told) {
      interruption.check();
    } else if (interruption.noted() != nullptr) {
      is_told = true;
      log.info(std::string(interruption.noted()) +
               ": this step is finished and saved; a second signal ends the run at once");
    }
    trace.sample_tiers(engine);
  });
  if (ranks.size() > 1) require_same_run(engine, run, options, training_tokens, interruption);
  const Time start = kSystemClock.now();
  const std::unique_ptr<models::CausalLm> model =
      models::make_causal_lm(run.model.config, engine, run.model.initializer);
  log_placement(start, log);
  engine.prepare();  // takes its space on disk, which may be the output's disk
  if (output) output->require_space(output_bytes(run));
  if (checkpoints) checkpoints->load(engine);
  return_freed_blocks_from(kReturnedInTraining);

  Trainer trainer(engine, *model, trainer_data(run, ranks, options), interruption, trace);
  trainer.go_on_behind(place.steps);
  const std::int64_t printed = run.config.steps_per_print;
  Progress progress(out, terminal, run.steps, printed > 0 ? printed : kDefaultStepsPerPrint,
                    place.steps);
  Summary summary{.model = run.model.name,
                  .parameters = models::parameter_count(run.model.config),
                  .output = output ? output->final_path().string() : std::string()};
  const RunOutcome outcome = TrainingRun({run.steps, options, engine, trainer, interruption,
                                          progress, metrics.get(), checkpoints.get(), log})
                                 .train(place, summary);
  for (const std::string& warning : outcome.warnings()) log.warning(warning);

  write_model(*model, run, output.get(), interruption);
  if (output) {
    summary.rss_peak_bytes = rss_peak_bytes();
    write_record(output->path() / "train_results.json", to_json(summary), log);
    write_record(output->path() / "README.md", model_card(card_facts(run, options), summary), log);
    if (checkpoints) copy_metrics(checkpoints->metrics_path(), *output, log);
    output->publish();
    print(out, summary);
  }
  if (options.sample == 0) return;
  log.info("generating " + counted(options.sample, "token"));
  write_sample(*model, run, options, interruption, out);
}

/// What makes text of the tokens that a run is trained on.
TextOfTokens text_of_tokens(const FinetuneOptions& options, const Dataset& data,
                            const Interruption& interruption) {
  const bool has_tokenizer = options.model && options.tokenizer == TextTokens::kModel &&
                             TokenizerProcess::is_in(*options.model);
  if (!data.is_text() && has_tokenizer) {
    return [tokenizer = std::make_shared<TokenizerProcess>(*options.model, interruption,
                                                           "see token ids with --tokenizer bytes")](
               const std::vector<std::vector<std::int64_t>>& ids) { return tokenizer->texts(ids); };
  }
  return [is_text = data.is_text()](const std::vector<std::vector<std::int64_t>>& ids) {
    std::vector<std::string> texts;
    for (const std::vector<std::int64_t>& tokens : ids) {
      texts.push_back(is_text ? readable_text(tokens) : id_list(tokens));
    }
    return texts;
  };
}

/// --show-batch.
void show_data(const FinetuneOptions& options, const RunRanks& ranks,
               const Interruption& interruption, std::ostream& out, Logger& log) {
  const formats::DsConfig config = run_config(options, ranks.size());
  const ModelSource model = open_model(options, interruption);
  const std::int64_t seq_len = sequence_length(options, model.config.context());
  const Dataset data(options, model.config.vocab_size(), seq_len, interruption, &log);
  log.info("data " + data.path().string() + ": " + data.description());
  const BatchSampler sampler = training_sampler(options, config, data, seq_len, /*rows=*/1);
  const auto shown = static_cast<std::int64_t>(
      std::min(static_cast<std::uint64_t>(*options.show_batch),
               sampler.epoch_rows().value_or(std::numeric_limits<std::uint64_t>::max())));
  show_batch(sampler, shown, text_of_tokens(options, data, interruption), out);
}

}  // namespace

void finetune(const FinetuneOptions& options, std::ostream& out, bool terminal, Logger& log) {
  require_complete(options);
  if (options.print_config) {
    formats::DsConfig config = run_config(options);
    if (options.steps) config.set_total_steps(*options.steps);
    log_notes(config, log);
    if (options.names_model()) {
      const Interruption interruption;
      const ModelSource model = open_model(options, interruption);
      for (const std::string& line : tile_lines(model.config, config)) log.info(line);
    }
    out << config.resolved_json();
    return;
  }
  Interruption interruption;
  const RunRanks ranks;
  std::ostream nowhere(nullptr);
  std::ostream& shown = ranks.is_first() ? out : nowhere;
  if (!ranks.is_first()) log.set_level(LogLevel::kError);
  try {
    if (options.show_batch) {
      show_data(options, ranks, interruption, shown, log);
      return;
    }
    RunInput run = open_input(options, ranks, interruption, log);
    log_run(run, ranks, log);
    const HostMemoryBound memory = host_memory_bound();
    const HostMemoryBound part = memory.part_of(static_cast<std::uint64_t>(ranks.on_this_host()));
    size_room_for_activations(run);
    settle_recompute(run, part, log);
    check_plan(run, ranks, part, *options.output, log);
    run_training(run, ranks, memory, options, interruption, shown, terminal && ranks.is_first(),
                 log);
  } catch (const RankFailure&) {
    interruption.check();  // ranks that are interrupted leave one after the other
    throw;
  }
}

}  // namespace strata::tool
