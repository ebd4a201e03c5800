#include "inspect_options.h"

#include <CLI/CLI.hpp>
#include <string>

namespace strata::tool {
namespace {

constexpr const char* kInspectDescription =
    "Shows what a checkpoint, a model's directory or a safetensors file holds: every tensor with "
    "its type, shape and bytes; and whether it is sound.";

constexpr const char* kInspectFooter =
    R"(PATH is a checkpoint of strata finetune or of an engine, a directory of
checkpoints (then the one that its `latest` names), a Hugging Face directory, or a .safetensors file.
Headers and sizes are always checked; --verify reads every byte, and compares a checkpoint's checksums.

Exit codes: 0 sound; 1 not, with the reason, or not there; 2 a command line that cannot be used.)";

}  // namespace

CLI::App* add_inspect_command(CLI::App& app, InspectOptions& options) {
  CLI::App* command = app.add_subcommand("inspect", kInspectDescription);
  command->footer(kInspectFooter);
  command->add_option("PATH", options.path, "What to look at")->type_name("")->required();
  command->add_flag("--verify", options.verify, "Read every byte");
  return command;
}

}  // namespace strata::tool
