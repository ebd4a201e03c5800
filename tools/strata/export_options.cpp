#include "export_options.h"

#include <CLI/CLI.hpp>
#include <map>

#include "option_checks.h"
#include "strata/base/error.h"

namespace strata::tool {
namespace {

constexpr const char* kExportDescription =
    "Writes a checkpoint in the format of other programs: a model's directory as Hugging Face has "
    "it, or PyTorch's distributed checkpoint with the optimizer's states. Or merges an "
    "adapter into its model.";

constexpr const char* kExportFooter =
    R"(CHECKPOINT is a checkpoint of strata finetune or of an engine,
or a directory of them (then the one that its `latest` names). Its checksums are compared first.
Tensors are written one after the other, in pieces: a model needs no room in memory. The output
appears at its end, complete, or not at all.

  huggingface  model.safetensors (or as many files as --model has), config.json, and what --model
               has beside them, the tokenizer among it. --model, --model-config or --preset names
               the model that was trained, as finetune had it. --dtype is that of the run unless
               given. AutoModelForCausalLM.from_pretrained loads it.
  dcp          safetensors files that torch.distributed.checkpoint reads through
               HuggingFaceStorageReader: model.NAME, the fp32 masters unless --dtype says otherwise,
               and in fp32 optim.state.NAME.exp_avg, .exp_avg_sq and .step (momentum_buffer for SGD,
               sum for Adagrad). Gradients between the micro-batches of a step are left out.

With --merge CHECKPOINT is an adapter's directory, as PEFT and strata finetune --lora write it, and the
output the directory of --model with W + (alpha / r) B A in the place of each adapted W, worked out
in fp32 and rounded to the format of --model's files, or --dtype.

Exit codes: 0 written; 1 a damaged checkpoint, one of another model, a failed read or write; 2 a
command line that cannot be used; 130 interrupted.)";

template <class Value>
using Choices = std::map<std::string, Value>;

const Choices<ExportTarget> kTargets = {{"huggingface", ExportTarget::kHuggingFace},
                                        {"dcp", ExportTarget::kDcp}};
const Choices<Precision> kWeightFormats = {
    {"fp32", Precision::kFp32}, {"bf16", Precision::kBf16}, {"fp16", Precision::kFp16}};

template <class Value, class Take>
CLI::Option* add_choice(CLI::App& command, const char* name, const char* description,
                        const Choices<Value>& choices, const Take& take) {
  return command
      .add_option_function<std::string>(
          name, [&choices, take](const std::string& word) { take(choices.at(word)); }, description)
      ->type_name("FORMAT")
      ->check(CLI::IsMember(choices));
}

}  // namespace

CLI::App* add_export_command(CLI::App& app, ExportOptions& options) {
  CLI::App* command = app.add_subcommand("export", kExportDescription);
  command->footer(kExportFooter);
  command->add_option("CHECKPOINT", options.checkpoint, "What to export")
      ->type_name("")
      ->required()
      ->check(path_name());
  add_choice(*command, "--to", "Format of the output: huggingface or dcp", kTargets,
             [&options](ExportTarget target) { options.to = target; });
  command->add_flag("--merge", options.merge,
                    "CHECKPOINT is an adapter: write --model with it merged into its weights");
  command->add_option("--output", options.output, "A directory that is not there, or empty")
      ->type_name("DIR")
      ->required()
      ->check(path_name());
  auto* const model = command->add_option("--model", options.model, "Hugging Face directory")
                          ->type_name("DIR")
                          ->check(path_name());
  auto* const config =
      command->add_option("--model-config", options.model_config, "A config.json alone")
          ->type_name("FILE")
          ->check(path_name())
          ->excludes(model);
  command->add_option("--preset", options.preset, "A known shape, such as gpt2")
      ->type_name("NAME")
      ->excludes(model)
      ->excludes(config);
  add_choice(*command, "--dtype", "Format of the weights: bf16, fp16 or fp32", kWeightFormats,
             [&options](Precision precision) { options.dtype = precision; });
  return command;
}

void require_complete(const ExportOptions& options) {
  if (!options.merge) {
    if (!options.to) {
      throw ConfigError("export needs --to huggingface or --to dcp; see strata export --help");
    }
    return;
  }
  if (options.to == ExportTarget::kDcp) {
    throw ConfigError("--merge writes a model's directory; leave --to dcp out");
  }
  if (!options.model) {
    throw ConfigError(
        "--merge needs the model that the adapter was trained beside; name its directory with "
        "--model");
  }
}

}  // namespace strata::tool
