#include "generate.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <memory>
#include <optional>
#include <ostream>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "disk_space.h"
#include "freed_blocks.h"
#include "generate_config.h"
#include "generated_text.h"
#include "generation_config.h"
#include "interruption.h"
#include "model_source.h"
#include "plural.h"
#include "prompts.h"
#include "readable_text.h"
#include "run_config.h"
#include "step_line.h"
#include "strata/base/clock.h"
#include "strata/base/error.h"
#include "strata/base/machine_memory.h"
#include "strata/base/units.h"
#include "strata/models/causal_lm.h"
#include "strata/models/generate.h"
#include "strata/models/key_value_cache.h"
#include "strata/models/model_layout.h"
#include "strata/tiering/budget.h"
#include "strata/zero3/engine.h"
#include "strata/zero3/frozen_parameters.h"
#include "strata/zero3/world.h"
#include "tile_lines.h"
#include "tokenizer_process.h"

namespace strata::tool {
namespace {

using Tokens = std::vector<std::int64_t>;

constexpr std::string_view kReasons[] = {"length", "eos", "context"};  // by models::Completion

/// All that a run is made from, checked.
struct Run {
  std::vector<Prompt> prompts;
  ModelSource model;
  formats::DsConfig config;
  std::unique_ptr<TokenizerProcess> tokenizer;  ///< null: ids in, ids out
  models::SamplingOptions sampling;

  /// Prompts [begin, end) of a turn, and the bytes of their keys and values.
  struct Turn {
    std::size_t begin, end;
    std::uint64_t bytes;
  };
  std::vector<Turn> turns;
};

std::vector<Prompt> read_prompts(const GenerateOptions& options) {
  if (options.tokens) return read_token_prompts(*options.tokens);
  if (options.prompt_file) return read_text_prompts(*options.prompt_file);
  return {{.where = "--prompt", .text = *options.prompt, .tokens = {}}};
}

void make_tokens(std::vector<Prompt>& prompts, TokenizerProcess& tokenizer) {
  std::vector<std::string> texts;
  for (const Prompt& prompt : prompts) texts.push_back(prompt.text);
  const std::vector<Tokens> ids = tokenizer.encode(texts);
  for (std::size_t i = 0; i < prompts.size(); ++i) prompts[i].tokens = ids.at(i);
}

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : ", ") + word;
  return text;
}

models::SamplingOptions sampling_of(const GenerateOptions& options,
                                    const GenerationConfig& of_model, Logger& log) {
  if (!of_model.not_followed.empty()) {
    log.warning("generation_config.json has keys that are not followed here: " +
                joined(of_model.not_followed));
  }
  if (!of_model.proposed.empty() && options.temperature == 0) {
    log.info("generation_config.json proposes draws (" + joined(of_model.proposed) +
             "); without --temperature the likeliest token is taken");
  }
  return {.count = options.max_new_tokens,
          .temperature = options.temperature,
          .top_k = options.top_k,
          .top_p = options.top_p,
          .seed = options.seed,
          .stop_tokens = options.ignore_eos ? Tokens() : of_model.stop_tokens};
}

Run open_run(const GenerateOptions& options, const Interruption& interruption, Logger& log) {
  std::vector<Prompt> prompts = read_prompts(options);
  (void)kv_budget(options);
  ModelSource model = open_model_directory(*options.model, interruption);
  if (options.adapter) add_adapter(model, *options.adapter);
  formats::DsConfig config = generate_config(options, model.config_text);
  check_nvme_directories(config);
  std::unique_ptr<TokenizerProcess> tokenizer;
  if (!options.tokens) {
    tokenizer = std::make_unique<TokenizerProcess>(*options.model, interruption);
    make_tokens(prompts, *tokenizer);
  }
  check_prompts(prompts, model.config.vocab_size(), model.config.context());
  models::SamplingOptions sampling =
      sampling_of(options, read_generation_config(*model.directory), log);
  return {.prompts = std::move(prompts),
          .model = std::move(model),
          .config = std::move(config),
          .tokenizer = std::move(tokenizer),
          .sampling = std::move(sampling),
          .turns = {}};
}

// ---- memory ----

std::uint64_t kept_bytes(const Run& run, std::size_t rows, std::size_t longest) {
  const models::ModelConfig& model = run.model.config;
  return models::KeyValueCache::bytes(
      model, run.config.precision(), static_cast<std::int64_t>(rows),
      models::kept_positions(longest, run.sampling.count, model.context()));
}

/// Deals the prompts, in their order, to turns whose keys and values have room.
void deal(Run& run, std::uint64_t budget) {
  for (std::size_t begin = 0; begin < run.prompts.size();) {
    std::size_t end = begin, longest = 0;
    std::uint64_t bytes = 0;
    while (end < run.prompts.size()) {
      const std::size_t longer = std::max(longest, run.prompts[end].tokens.size());
      const std::uint64_t more = kept_bytes(run, end + 1 - begin, longer);
      if (more > budget) break;
      longest = longer;
      bytes = more;
      ++end;
    }
    if (end == begin) {
      const std::uint64_t least = kept_bytes(run, 1, run.prompts[begin].tokens.size());
      throw BudgetError(run.prompts[begin].where + ": the keys and values of this prompt and " +
                        counted(run.sampling.count, "token") + " take " + format_bytes(least) +
                        " (" + std::to_string(least) + " bytes), and there are " +
                        format_bytes(budget) +
                        " for them; raise --kv-budget, free memory, or ask for fewer tokens "
                        "(--max-new-tokens)");
    }
    run.turns.push_back({begin, end, bytes});
    begin = end;
  }
}

/// What keys and values may take where no budget is named for them.
std::uint64_t room_beside(const zero3::PlanInput& input, const HostMemoryBound& memory) {
  const zero3::TierBytes least = zero3::smallest_budgets(input);
  const std::uint64_t host = input.budgets.host == tiering::Budget::kUnlimited
                                 ? least.host
                                 : std::max(least.host, input.budgets.host);
  const std::uint64_t device = input.budgets.device == tiering::Budget::kUnlimited
                                   ? least.device
                                   : std::max(least.device, input.budgets.device);
  const std::uint64_t taken = host + device;  // the device tier is host memory too
  return taken < memory.bytes() ? (memory.bytes() - taken) / 2 : 0;
}

/// Divides memory between keys and values and the tiers; returns what bounds the tiers.
HostMemoryBound plan_memory(Run& run, const GenerateOptions& options, Logger& log) {
  HostMemoryBound memory = host_memory_bound();
  zero3::PlanInput input = zero3::plan_input_from(run.config, {}, {.host_memory = memory});
  const models::ModelTiles tiles = models::tiles_of(run.model.config, run.config, input);
  const std::string all = "*";
  input.units =
      zero3::with_frozen(models::unit_layouts(run.model.config, run.config.fp32_patterns(), tiles),
                         std::span(&all, 1));
  for (const std::string& line : tile_lines(tiles, run.config)) log.info(line);
  const std::optional<std::uint64_t> named = kv_budget(options);
  deal(run, named ? *named : room_beside(input, memory));
  std::uint64_t kept = 0;
  for (const Run::Turn& turn : run.turns) kept = std::max(kept, turn.bytes);

  memory.available -= std::min(kept, memory.bytes());
  if (input.host_memory) input.host_memory = memory;
  const zero3::Plan plan = zero3::make_plan(input);
  log.info("plan:\n" + zero3::describe(plan, input));
  require_machine_memory(plan.total.device + plan.total.host + kept);
  const std::vector<std::string> directories = run.config.nvme_directories();
  require_disk_space({.nvme_bytes = plan.total.nvme,
                      .nvme_directories = {directories.begin(), directories.end()}});
  log.info("keys and values: " + format_bytes(kept) + " for " +
           counted(run.turns.front().end, "prompt") + " at a time" +
           (named ? " of a budget of " + format_bytes(*named) : "") +
           (run.turns.size() > 1
                ? "; all " + std::to_string(run.prompts.size()) + " in " +
                      counted(run.turns.size(), "turn") + ", each with its passes over the weights"
                : ""));
  return memory;
}

// ---- the run ----

/// Shows texts: a single one as it is made, several when they are complete.
class Display {
 public:
  Display(Run& run, bool json, std::ostream& out)
      : run_(run), out_(out), json_(json), streams_(!json && run.prompts.size() == 1) {}

  void token(std::int64_t token) {
    if (!streams_) return;
    tokens_.push_back(token);
    if (!run_.tokenizer) {
      out_ << (tokens_.size() > 1 ? " " : "") << token << std::flush;
      return;
    }
    const std::string text = text_of(run_.prompts.front(), tokens_);
    const std::string_view part = new_part(text, shown_);
    out_ << part << std::flush;
    shown_ += part.size();
  }

  void complete(const Prompt& prompt, std::size_t number, const models::Continuation& made) {
    const std::string text = run_.tokenizer ? text_of(prompt, made.tokens) : std::string();
    if (streams_) {
      out_ << text.substr(std::min(shown_, text.size())) << '\n';
    } else if (json_) {
      const auto reason = kReasons[static_cast<std::size_t>(made.completion)];
      out_ << json_line({prompt, made.tokens, text, reason}, run_.tokenizer != nullptr);
    } else if (run_.tokenizer) {
      out_ << "[" << number + 1 << "] " << prompt.text << '\n' << text << "\n\n";
    } else {
      out_ << id_list(made.tokens) << '\n';
    }
    out_ << std::flush;
  }

 private:
  std::string text_of(const Prompt& prompt, const Tokens& tokens) {
    return run_.tokenizer->continuation(prompt.tokens, tokens);
  }

  Run& run_;
  std::ostream& out_;
  bool json_, streams_;
  Tokens tokens_;
  std::size_t shown_ = 0;  // bytes
};

struct Totals {
  std::uint64_t tokens = 0, passes = 0;
  double seconds = 0;
};

void log_totals(const Totals& totals, const Run& run, const CounterReading& read, Logger& log) {
  char speed[96];
  std::snprintf(speed, sizeof speed, " in %.1f s: %.3g tokens/s", totals.seconds,
                static_cast<double>(totals.tokens) / std::max(totals.seconds, 1e-9));
  // Weights from nvme are counted as they are read; some of them are copied on from staging.
  const bool on_nvme = run.config.zero.offload_param.device == formats::OffloadDevice::kNvme;
  const std::uint64_t bytes = read[on_nvme ? Hop::kFetch : Hop::kUpload].bytes;
  char rate[48];
  std::snprintf(rate, sizeof rate, " (%.2f GB/s)",
                static_cast<double>(bytes) / std::max(totals.seconds, 1e-9) / 1e9);
  const std::string weights =
      format_bytes(bytes) + " of weights read from " + (on_nvme ? "nvme" : "host memory") + rate;
  log.info("generated " + counted(totals.tokens, "token") + " for " +
           counted(run.prompts.size(), "prompt") + speed + "; " + weights + " in " +
           std::to_string(totals.passes) + (totals.passes == 1 ? " pass" : " passes"));
}

void generate_all(Run& run, const HostMemoryBound& memory, const GenerateOptions& options,
                  const Interruption& interruption, std::ostream& out, Logger& log) {
  return_freed_blocks_from(kReturnedWhileBuilding);
  Engine engine(run.config, EnginePlace{.host_memory = memory}, &log);
  engine.before_each_unit([&] { interruption.check(); });
  Time start = kSystemClock.now();
  const auto model = models::make_causal_lm(run.model.config, engine, run.model.initializer,
                                            models::ParameterUse::kRead);
  engine.prepare();
  char placed[64];
  std::snprintf(placed, sizeof placed, "weights: placed in %.1f s", seconds_since(start));
  log.info(placed);

  const auto end_pass = [&engine] {
    engine.skip_micro_batch();
    (void)engine.step();
  };
  end_pass();  // from here on the order of units is learnt
  Display display(run, options.json, out);
  Totals totals;
  const CounterReading before = engine.counters();
  start = kSystemClock.now();
  for (const Run::Turn& turn : run.turns) {
    std::vector<Tokens> prompts;
    for (std::size_t i = turn.begin; i < turn.end; ++i) prompts.push_back(run.prompts[i].tokens);
    const std::vector<models::Continuation> made =
        models::generate_batch(*model, prompts, run.sampling, turn.begin,
                               {.on_token =
                                    [&](std::size_t, std::int64_t token) {
                                      ++totals.tokens;
                                      display.token(token);
                                    },
                                .after_pass =
                                    [&] {
                                      ++totals.passes;
                                      end_pass();
                                    }});
    totals.seconds = seconds_since(start);
    for (std::size_t i = 0; i < made.size(); ++i) {
      display.complete(run.prompts[turn.begin + i], turn.begin + i, made[i]);
    }
  }
  log_totals(totals, run, engine.counters() - before, log);
}

}  // namespace

void generate(const GenerateOptions& options, std::ostream& out, Logger& log) {
  require_complete(options);
  if (const World world = World::of_this_process(); world.size > 1) {
    throw ConfigError("generate runs in one process, and a launcher has started " +
                      std::to_string(world.size) + "; start it by itself");
  }
  const Interruption interruption;
  Run run = open_run(options, interruption, log);
  for (const std::string& note : run.config.notes) log.warning(run.config.name + ": " + note);
  log.info("model " + run.model.name + ": " +
           with_separators(models::parameter_count(run.model.config)) + " parameters, " +
           std::string(name_of(run.config.precision())));
  const HostMemoryBound memory = plan_memory(run, options, log);
  run.config.notes.clear();
  generate_all(run, memory, options, interruption, out, log);
}

}  // namespace strata::tool
