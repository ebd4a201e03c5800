#include "generate_options.h"

#include <CLI/CLI.hpp>

#include "option_checks.h"
#include "strata/base/error.h"
#include "tier_options.h"

namespace strata::tool {
namespace {

constexpr const char* kGenerateDescription =
    "Continues texts with a language model whose weights live in the tiers that have room: one "
    "pass over the weights makes a token of every prompt.";

constexpr const char* kGenerateFooter = R"(Examples:
  A model that is larger than memory, from a disk:
    strata generate --model ./llama-70b --prompt "Once upon a time" --nvme /mnt/disk/scratch \
        --budget host=8GiB,device=8GiB
  Many prompts at once, their draws repeatable, as JSON:
    strata generate --model ./model --prompt-file prompts.txt --temperature 0.8 --top-p 0.95 --seed 7 --json
  Without Python, token ids in and out:
    strata generate --model ./model --tokens prompts.ids --max-new-tokens 20

Texts become tokens by the model's own tokenizer, in a Python that has the package transformers or tokenizers:
python3 on PATH, or the program that the variable STRATA_PYTHON names. --tokens needs no Python.
The text goes to standard output, everything else to standard error.

Exit codes: as of strata finetune.)";

void add_prompt_options(CLI::App& command, GenerateOptions& options) {
  constexpr const char* kGroup = "Prompt (exactly one)";
  auto* prompt = command.add_option("--prompt", options.prompt, "Text to continue");
  auto* file = command.add_option("--prompt-file", options.prompt_file,
                                  "File with a text to continue on every line");
  auto* tokens =
      command.add_option("--tokens", options.tokens,
                         "File with the token ids of a prompt on every line, separated by spaces");
  prompt->type_name("TEXT")->group(kGroup)->excludes(file)->excludes(tokens);
  file->type_name("FILE")->check(path_name())->group(kGroup)->excludes(tokens);
  tokens->type_name("FILE")->check(path_name())->group(kGroup);
}

void add_choice_options(CLI::App& command, GenerateOptions& options) {
  constexpr const char* kGroup = "Tokens";
  command.add_option("--max-new-tokens", options.max_new_tokens, "Most tokens for each prompt")
      ->type_name("N")
      ->check(whole_number())
      ->capture_default_str()
      ->group(kGroup);
  command
      .add_option("--temperature", options.temperature,
                  "Below 1 likely tokens are likelier still; 0: always the likeliest")
      ->type_name("T")
      ->check(number_from_0())
      ->capture_default_str()
      ->group(kGroup);
  command
      .add_option("--top-p", options.top_p,
                  "Draw among the likeliest tokens that have this probability together")
      ->type_name("P")
      ->check(probability())
      ->capture_default_str()
      ->group(kGroup);
  command.add_option("--top-k", options.top_k, "Draw among the K likeliest tokens [all]")
      ->type_name("K")
      ->check(whole_number())
      ->group(kGroup);
  command.add_option("--seed", options.seed, "Of the draws")
      ->type_name("N")
      ->check(seed_number())
      ->capture_default_str()
      ->group(kGroup);
  command
      .add_flag("--ignore-eos", options.ignore_eos,
                "Go on beyond the model's end-of-sequence tokens")
      ->group(kGroup);
  command
      .add_flag("--json", options.json,
                "Write a line of JSON for each prompt: prompt, text, tokens, why it ended")
      ->group(kGroup);
}

void add_tier_options(CLI::App& command, GenerateOptions& options) {
  constexpr const char* kGroup = "Tiers";
  command
      .add_option(
          "--config", options.config,
          "DeepSpeed's JSON config, of which precision, offload_param, aio and strata count "
          "[the format of the model's config.json; weights on nvme with --nvme, else in "
          "host memory]")
      ->type_name("FILE")
      ->check(path_name())
      ->group(kGroup);
  add_budget_option(command, options.budget)->group(kGroup);
  command
      .add_option("--kv-budget", options.kv_budget,
                  "Bytes for keys and values; prompts that it has no room for come in another turn "
                  "[half of the memory that the tiers leave]")
      ->type_name("SIZE")
      ->group(kGroup);
  add_nvme_option(command, options.nvme)->group(kGroup);
}

}  // namespace

CLI::App* add_generate_command(CLI::App& app, GenerateOptions& options) {
  CLI::App* command = app.add_subcommand("generate", kGenerateDescription);
  command->footer(kGenerateFooter);
  command
      ->add_option("--model", options.model, "Hugging Face directory (its types: docs/models.md)")
      ->type_name("DIR")
      ->check(path_name());
  command
      ->add_option("--adapter", options.adapter,
                   "PEFT's directory of low-rank adapters, to go on with beside the model")
      ->type_name("DIR")
      ->check(path_name());
  add_prompt_options(*command, options);
  add_choice_options(*command, options);
  add_tier_options(*command, options);
  return command;
}

void require_complete(const GenerateOptions& options) {
  std::string missing = options.model ? "" : "--model";
  if (!options.prompt && !options.prompt_file && !options.tokens) {
    missing +=
        (missing.empty() ? "" : ", ") + std::string("--prompt (or --prompt-file, or --tokens)");
  }
  if (!missing.empty()) {
    throw ConfigError("generate needs " + missing + "; see strata generate --help");
  }
  if (options.prompt && options.prompt->empty()) {
    throw ConfigError("--prompt is empty; give the text to go on from");
  }
}

}  // namespace strata::tool
