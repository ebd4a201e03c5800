#include "finetune_options.h"

#include <CLI/CLI.hpp>
#include <charconv>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "option_checks.h"
#include "strata/base/error.h"
#include "strata/models/model_config.h"
#include "tier_options.h"

namespace strata::tool {
namespace {

constexpr const char* kFinetuneDescription =
    "Trains a language model whose parameters, gradients and optimizer states live in the tiers "
    "that have room: device, host memory, NVMe. Everything stays within the budgets.";

constexpr const char* kFinetuneFooter = R"(Examples:
  A full fine-tune of a Hugging Face checkpoint with 4 GiB of host memory:
    strata finetune --model ./gpt2 --data notes.txt --config configs/ds_config_nvme_bf16.json \
        --output ./gpt2-notes --steps 500 --val-fraction 0.05 \
        --nvme /mnt/disk/scratch --budget host=4GiB,nvme=60GiB
  From random weights, bytes as tokens, and a text at the end:
    strata finetune --preset gpt-lite --data book.txt --config configs/demo.json \
        --output ./book-model --steps 100 --nvme /mnt/disk/scratch --sample 200
  Three times through a file of chats, with loss on the answers; first a look at what that is:
    strata finetune --model ./llama --data chats.jsonl --show-batch 2
    strata finetune --model ./llama --data chats.jsonl --config ds.json --output ./mine --epochs 3
  Adapters alone (LoRA), with the model read from NVMe and never written:
    strata finetune --model ./llama --lora r=16,alpha=32 --data chats.jsonl --config ds.json \
        --output ./mine-adapter --epochs 3 --nvme /mnt/disk/scratch
    strata export ./mine-adapter --merge --model ./llama --output ./mine
  What a config comes to:
    strata finetune --config configs/demo.json --steps 100 --print-config

OUTPUT is made at the end, by one rename: a Hugging Face directory with, beside the model (with
--lora: the adapter alone, as PEFT has it), metrics.jsonl (a line per step and evaluation), runs/
(the same for TensorBoard), train_results.json, ds_config.json (in effect) and README.md (the model
card).
strata report OUTPUT makes a page of it.

A run that can be stopped and goes on bit for bit: add --save-every 500 --resume to its command and
give that command again whenever it has ended before OUTPUT is there. SIGINT, SIGTERM and SIGHUP let
it finish its step and save; a second one ends it at once. Budgets, places of states, I/O and --steps
may change in between; what would change the numbers is refused.

Exit codes: 0 done; 1 a failed read, write or step, or a malformed input file; 2 a command line or
config that cannot be used; 3 a budget (the message names the smallest), or the memory of the
machine or cgroup, too small; 130 ended by a signal, whether a checkpoint was saved or not.)";

void add_model_options(CLI::App& command, FinetuneOptions& options) {
  constexpr const char* kGroup = "Model (exactly one)";
  std::string types;
  for (const std::string_view type : models::ModelConfig::model_types()) {
    types.append(types.empty() ? "" : ", ").append(type);
  }
  auto* model = command.add_option(
      "--model", options.model,
      "Hugging Face directory: config.json (model_type " + types + ") and safetensors");
  auto* config = command.add_option("--model-config", options.model_config,
                                    "config.json of a shape to start from random weights");
  auto* preset = command.add_option("--preset", options.preset,
                                    "Name of a shape to start from random weights: gpt-lite, "
                                    "nanogpt-cpu, gpt2, gpt2-medium, gpt2-large, gpt2-xl");
  model->type_name("DIR")->group(kGroup)->check(path_name())->excludes(config)->excludes(preset);
  config->type_name("FILE")->group(kGroup)->check(path_name())->excludes(preset);
  preset->type_name("NAME")->group(kGroup);
}

void add_adapter_options(CLI::App& command, FinetuneOptions& options) {
  constexpr const char* kGroup = "Adapters";
  auto* lora = command.add_option(
      "--lora", options.lora,
      "Freeze the model and train low-rank adapters beside its linear layers: r=N, and with commas "
      "alpha=A [r], dropout=P [0], targets=NAME+NAME or all-linear [queries and values]; OUTPUT is "
      "PEFT's adapter directory");
  auto* adapter = command.add_option("--adapter", options.adapter,
                                     "Go on training the adapter in this directory of PEFT's");
  lora->type_name("r=N[,...]")->group(kGroup)->excludes(adapter);
  adapter->type_name("DIR")->group(kGroup)->check(path_name());
}

/// The number of --show-batch, which may be left out.
std::int64_t shown_count(const std::string& text) {
  if (text.empty() || text == "true" || text == "{}") return 1;
  std::int64_t count = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), count);
  if (error != std::errc() || end != text.data() + text.size() || count < 1) {
    throw CLI::ValidationError("--show-batch", "\"" + text + "\" is no whole number above 0");
  }
  return count;
}

void add_data_options(CLI::App& command, FinetuneOptions& options) {
  constexpr const char* kGroup = "Data";
  command
      .add_option(
          "--data", options.data,
          "JSON lines ({text}, {prompt, completion}, {messages}, ShareGPT's {conversations} or "
          "Alpaca's {instruction, input, output}), text, or token ids: NumPy's .npy, llm.c's "
          "files, "
          "*.bin with uint16 or *.u32.bin with uint32")
      ->type_name("FILE")
      ->check(path_name())
      ->group(kGroup);
  command
      .add_option("--seq-len", options.seq_len,
                  "Tokens per sequence [the model's context, 1024 at most]")
      ->type_name("N")
      ->check(whole_number())
      ->group(kGroup);
  const auto add_choice = [&]<class Value>(
                              const char* name, std::optional<Value>& value,
                              const std::vector<std::pair<std::string, Value>>& choices,
                              const char* help) {
    std::string type;
    std::map<std::string, Value> values;
    for (const auto& [word, choice] : choices) {
      type += (type.empty() ? "" : "|") + word;
      values.emplace(word, choice);
    }
    command
        .add_option_function<std::string>(
            name, [values, &value](const std::string& word) { value = values.at(word); }, help)
        ->check(CLI::IsMember(values).description(""))
        ->type_name(type)
        ->group(kGroup);
  };
  command
      .add_option_function<std::string>(
          "--tokenizer",
          [&options](const std::string& word) {
            options.tokenizer = word == "bytes" ? TextTokens::kBytes : TextTokens::kModel;
          },
          "What makes tokens of text: the model's tokenizer where it has one, in a Python process, "
          "or its bytes [model]")
      ->check(CLI::IsMember({"model", "bytes"}).description(""))
      ->type_name("model|bytes")
      ->group(kGroup);
  add_choice("--loss-on", options.loss_on,
             std::vector<std::pair<std::string, LossOn>>{{"answers", LossOn::kAnswers},
                                                         {"everything", LossOn::kEverything}},
             "Tokens of JSON lines that bear loss: completions and what assistants say, or all; of "
             "{text} all do [answers]");
  add_choice(
      "--pack", options.pack,
      std::vector<std::pair<std::string, bool>>{{"on", true}, {"off", false}},
      "Pack several examples of JSON lines into a sequence, each by itself, or fill up to the "
      "longest of a batch [on]");
  add_choice(
      "--order", options.order,
      std::vector<std::pair<std::string, DataOrder>>{{"epochs", DataOrder::kEpochs},
                                                     {"random", DataOrder::kRandom}},
      "Each sequence once in an epoch, shuffled, or any at any time, windows of text and ids "
      "at any place [epochs for JSON lines and with --epochs, else random]");
  command
      .add_option_function<std::string>(
          "--show-batch",
          [&options](const std::string& text) { options.show_batch = shown_count(text); },
          "Print the first N sequences [1] as text, what bears loss between marks, and stop; "
          "nothing is trained or written")
      ->expected(0, 1)
      ->type_name("[N]")
      ->group(kGroup);
  auto* val_data =
      command.add_option("--val-data", options.val_data, "Held-out data to evaluate on");
  auto* val_fraction = command.add_option("--val-fraction", options.val_fraction,
                                          "Hold out this last part of --data to evaluate on");
  val_data->type_name("FILE")->group(kGroup)->check(path_name())->excludes(val_fraction);
  val_fraction->type_name("F")->group(kGroup)->check(fraction());
  command
      .add_option("--eval-every", options.eval_every,
                  "Evaluate every N steps as well, not only before and after training")
      ->type_name("N")
      ->check(whole_number())
      ->group(kGroup);
  command
      .add_option("--eval-batches", options.eval_batches,
                  "Micro-batches per evaluation, spread evenly over the held-out data")
      ->type_name("N")
      ->check(whole_number())
      ->capture_default_str()
      ->group(kGroup);
}

void add_run_options(CLI::App& command, FinetuneOptions& options) {
  constexpr const char* kGroup = "Run";
  command.add_option("--config", options.config, "DeepSpeed's JSON config, \"auto\" included")
      ->type_name("FILE")
      ->check(path_name())
      ->group(kGroup);
  command.add_option("--output", options.output, "Directory to make; must not hold anything yet")
      ->type_name("DIR")
      ->check(path_name())
      ->group(kGroup);
  command
      .add_option("--steps", options.steps,
                  "Optimizer steps [the schedule's total_num_steps, else one pass over the data]")
      ->type_name("N")
      ->check(whole_number())
      ->group(kGroup);
  command
      .add_option("--epochs", options.epochs,
                  "Go through the data N times, each sequence once a time")
      ->type_name("N")
      ->check(whole_number())
      ->excludes("--steps")
      ->group(kGroup);
  command
      .add_option("--max-minutes", options.max_minutes,
                  "End training early, after the step in which this time is up")
      ->type_name("M")
      ->check(positive_number())
      ->group(kGroup);
  command
      .add_option("--seed", options.seed, "Of random weights, of dropout and of the order of data")
      ->type_name("N")
      ->check(seed_number())
      ->capture_default_str()
      ->group(kGroup);
  command
      .add_option("--sample", options.sample,
                  "Write N tokens of the trained model's own at the end")
      ->type_name("N")
      ->check(whole_number())
      ->group(kGroup);
  command
      .add_option("--prompt", options.prompt,
                  "Text that the tokens of --sample go on from, for data that is text [a new line]")
      ->type_name("TEXT")
      ->group(kGroup);
  command
      .add_option("--temperature", options.temperature,
                  "Of --sample: below 1 likely tokens are likelier still; 0: always the likeliest")
      ->type_name("T")
      ->check(number_from_0())
      ->capture_default_str()
      ->group(kGroup);
  command
      .add_option_function<std::string>(
          "--trace",
          [&options](const std::string& text) { options.trace = parse_trace_option(text); },
          "Trace these steps into OUTPUT/trace.json.gz, for https://ui.perfetto.dev")
      ->type_name("steps=N[-M]")
      ->group(kGroup);
  command
      .add_flag("--print-config", options.print_config,
                "Print the config in effect as JSON and stop; with a model, say what of it is cut "
                "into tiles")
      ->group(kGroup);
}

void add_tier_options(CLI::App& command, FinetuneOptions& options) {
  constexpr const char* kGroup = "Tiers";
  add_budget_option(command, options.budget)->group(kGroup);
  add_nvme_option(command, options.nvme)->group(kGroup);
}

void add_checkpoint_options(CLI::App& command, FinetuneOptions& options) {
  constexpr const char* kGroup = "Checkpoints";
  auto* every = command.add_option("--save-every", options.save_every,
                                   "Save a checkpoint every N steps, to go on from");
  auto* minutes = command.add_option("--save-minutes", options.save_minutes,
                                     "Save one after the step in which M minutes have passed");
  every->type_name("N")->check(whole_number())->group(kGroup)->excludes(minutes);
  minutes->type_name("M")->check(positive_number())->group(kGroup);
  command.add_option("--keep", options.keep, "Checkpoints that stay, the newest ones")
      ->type_name("K")
      ->check(whole_number())
      ->capture_default_str()
      ->group(kGroup);
  command
      .add_option("--checkpoints", options.checkpoints,
                  "Directory of the run's checkpoints and, while it runs, its metrics.jsonl "
                  "[OUTPUT.checkpoints]")
      ->type_name("DIR")
      ->check(path_name())
      ->group(kGroup);
  command
      .add_flag("--resume", options.resume,
                "Go on from the newest checkpoint; where there is none, begin afresh")
      ->group(kGroup);
}

void append_missing(std::string& missing, bool given, const char* option) {
  if (!given) missing += missing.empty() ? option : std::string(", ") + option;
}

}  // namespace

CLI::App* add_finetune_command(CLI::App& app, FinetuneOptions& options) {
  CLI::App* command = app.add_subcommand("finetune", kFinetuneDescription);
  command->footer(kFinetuneFooter);
  add_model_options(*command, options);
  add_adapter_options(*command, options);
  add_data_options(*command, options);
  add_run_options(*command, options);
  add_tier_options(*command, options);
  add_checkpoint_options(*command, options);
  return command;
}

DataOrder FinetuneOptions::order_of(bool has_documents) const {
  if (order) return *order;
  return has_documents || epochs ? DataOrder::kEpochs : DataOrder::kRandom;
}

std::filesystem::path FinetuneOptions::checkpoint_directory() const {
  if (checkpoints) return *checkpoints;
  std::filesystem::path path = output->lexically_normal();
  if (!path.has_filename()) path = path.parent_path();  // "runs/gpt2/"
  path += ".checkpoints";
  return path;
}

void require_complete(const FinetuneOptions& options) {
  std::string missing;
  append_missing(missing, options.config.has_value() || options.show_batch, "--config");
  if (!options.print_config) {
    append_missing(missing, options.names_model(), "--model (or --model-config, or --preset)");
    append_missing(missing, options.data.has_value(), "--data");
    append_missing(missing, options.output.has_value() || options.show_batch, "--output");
  }
  if (!missing.empty()) {
    throw ConfigError("finetune needs " + missing + "; see strata finetune --help");
  }
  if (options.eval_every > 0 && !options.val_data && options.val_fraction == 0) {
    throw ConfigError("--eval-every has nothing to evaluate on; give --val-data or --val-fraction");
  }
  if (options.epochs && options.order == DataOrder::kRandom) {
    throw ConfigError(
        "--order random has no epochs; leave --order out, or give --steps in the place of "
        "--epochs");
  }
  if (options.checkpoints && !options.uses_checkpoints()) {
    throw ConfigError(
        "--checkpoints has nothing to hold; give --save-every or --save-minutes, or --resume");
  }
  if (options.prompt && options.sample == 0) {
    throw ConfigError("--prompt has nothing to begin; say with --sample how many tokens follow it");
  }
  if (options.prompt && options.prompt->empty()) {
    throw ConfigError(
        "--prompt is empty; leave it out, or give the text that --sample goes on from");
  }
}

}  // namespace strata::tool
