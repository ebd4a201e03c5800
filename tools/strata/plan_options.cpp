#include "plan_options.h"

#include <CLI/CLI.hpp>

#include "option_checks.h"
#include "strata/base/error.h"
#include "tier_options.h"

namespace strata::tool {
namespace {

constexpr const char* kPlanDescription =
    "Says before anything is bought or started: whether a model fits, where everything would live, "
    "how long a step takes and what binds it.";

constexpr const char* kPlanFooter = R"(Examples:
  strata plan --params 70B --machine configs/machines/h200_4_gen5.json
  strata plan --model ./gpt2 --config configs/ds_config_nvme_bf16.json --machine my_machine.json
  strata plan --params 1T --nodes 4 --machine configs/machines/server_8_h100.json --json
  strata plan --preset gpt2 --machine here --nvme /mnt/nvme --save-machine my_machine.json

--machine here measures the machine that this runs on for some seconds, before it answers: the disks of --nvme
or the config (with a scratch file of 1 GiB in each directory, gone afterwards), the optimizer's arithmetic, a
copy, forward and backward of the model. It takes both cores and memory: let nothing else run. A machine file
gives every number with its source; configs/machines/ has examples to copy. Without --config: bf16, AdamW, clipping at 1.0, micro-batches of
8 sequences, everything on nvme (in host memory on a machine without disks).
--params takes GPT's shape: the depth that Brown et al. 2020 (table 2.1) give that size (70B: 80 blocks; above
300B: 128), the width, a multiple of 128, that comes nearest; heads of 128, context 2048, vocabulary 50257.

Exit codes: 0 it fits; 1 a file that cannot be read; 2 a command line or file that cannot be used; 3 it does
not fit, and the answer says what is missing.)";

void add_model_options(CLI::App& command, PlanOptions& options) {
  constexpr const char* kGroup = "Model (exactly one)";
  auto* model = command.add_option("--model", options.model,
                                   "Hugging Face directory (its types: docs/models.md)");
  auto* config =
      command.add_option("--model-config", options.model_config, "config.json of such a model");
  auto* preset = command.add_option("--preset", options.preset,
                                    "Name of a shape: gpt-lite, nanogpt-cpu, gpt2, gpt2-medium, "
                                    "gpt2-large, gpt2-xl");
  auto* parameters = command.add_option("--params", options.parameters,
                                        "A GPT of about so many parameters: 7B, 70e9, 1T");
  model->type_name("DIR")
      ->check(path_name())
      ->excludes(config)
      ->excludes(preset)
      ->excludes(parameters);
  config->type_name("FILE")->check(path_name())->excludes(preset)->excludes(parameters);
  preset->type_name("NAME")->excludes(parameters);
  parameters->type_name("N");
  for (CLI::Option* option : {model, config, preset, parameters}) option->group(kGroup);
}

}  // namespace

CLI::App* add_plan_command(CLI::App& app, PlanOptions& options) {
  CLI::App* command = app.add_subcommand("plan", kPlanDescription);
  command->footer(kPlanFooter);
  add_model_options(*command, options);
  command->add_option("--config", options.config, "DeepSpeed's JSON config")
      ->type_name("FILE")
      ->check(path_name());
  command
      ->add_option("--machine", options.machine,
                   "What to plan for: a machine file, or \"here\" to measure this machine")
      ->type_name("FILE|here")
      ->check(path_name());
  add_nvme_option(*command, options.nvme);
  command
      ->add_option("--save-machine", options.save_machine,
                   "Also write what --machine here measured to a machine file")
      ->type_name("FILE")
      ->check(path_name());
  command->add_option("--nodes", options.nodes, "So many of the machine, one rank for each device")
      ->type_name("N")
      ->check(CLI::Range(1, 65536))
      ->capture_default_str();
  command
      ->add_option("--seq-len", options.seq_len,
                   "Tokens per sequence [the model's context, 1024 at most]")
      ->type_name("N")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 31));
  command
      ->add_option("--budget", options.budget,
                   "Bytes that each tier of a rank may hold, e.g. host=4GiB,nvme=60GiB; over the "
                   "config's, which are over what the machine has")
      ->type_name("TIER=SIZE,...");
  command->add_flag("--json", options.json, "Answer in JSON");
  return command;
}

void require_complete(const PlanOptions& options) {
  if (!options.model && !options.model_config && !options.preset && !options.parameters) {
    throw ConfigError(
        "plan needs a model: --model, --model-config, --preset or --params; see strata plan "
        "--help");
  }
  if (!options.machine) {
    throw ConfigError(
        "plan needs --machine: seconds follow from a machine's speeds, and none are assumed. "
        "--machine here measures this one, which takes some seconds; for another one copy a file "
        "of configs/machines/ and put in your numbers, each with its source: ds_nvme_bench DIR "
        "measures disks, adam_benchmark the optimizer's bytes/s, data sheets have the rest");
  }
  if (options.save_machine && !options.measures()) {
    throw ConfigError("--save-machine writes what was measured; give --machine here with it");
  }
}

}  // namespace strata::tool
