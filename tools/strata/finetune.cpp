#include "finetune.h"

#include <algorithm>
#include <cstdio>
#include <limits>
#include <memory>
#include <optional>
#include <ostream>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "freed_blocks.h"
#include "interruption.h"
#include "model_source.h"
#include "plural.h"
#include "progress.h"
#include "readable_text.h"
#include "run_checkpoints.h"
#include "run_config.h"
#include "run_facts.h"
#include "run_input.h"
#include "run_metrics.h"
#include "run_output.h"
#include "run_ranks.h"
#include "show_batch.h"
#include "step_trace.h"
#include "strata/base/clock.h"
#include "strata/base/machine_memory.h"
#include "strata/base/units.h"
#include "strata/formats/crc32.h"
#include "strata/formats/output_directory.h"
#include "strata/models/causal_lm.h"
#include "strata/models/generate.h"
#include "strata/models/lora.h"
#include "strata/models/model_layout.h"
#include "strata/zero3/engine.h"
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
    write_records(run, options, summary, *output, log);
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
  const formats::DsConfig config = options.config ? run_config(options, ranks.size())
                                                  : formats::DsConfig::from_text("{}", "no config");
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
    settle_activations(run, part, log);
    check_plan(run, ranks, part, *options.output, log);
    run_training(run, ranks, memory, options, interruption, shown, terminal && ranks.is_first(),
                 log);
  } catch (const RankFailure&) {
    interruption.check();  // ranks that are interrupted leave one after the other
    throw;
  }
}

}  // namespace strata::tool
