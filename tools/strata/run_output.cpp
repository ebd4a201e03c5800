#include "run_output.h"

#include <optional>
#include <sstream>
#include <string>
#include <system_error>

#include "model_card.h"
#include "run_metrics.h"
#include "strata/base/error.h"
#include "strata/models/adapter_checkpoint.h"
#include "strata/models/checkpoint.h"
#include "strata/models/lora.h"

namespace strata::tool {
namespace {

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

void write_record(const std::filesystem::path& path, const std::string& text, Logger& log) {
  try {
    formats::write_text(path, text);
  } catch (const IoError& error) {
    std::error_code ignored;  // a piece of it may stay
    std::filesystem::remove(path, ignored);
    log.warning(std::string(error.what()) + "; the model is published without it");
  }
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

}  // namespace

std::unique_ptr<formats::OutputDirectory> begin_output(const RunInput& run,
                                                       const FinetuneOptions& options) {
  auto output = std::make_unique<formats::OutputDirectory>(*options.output);
  formats::write_text(output->path() / "ds_config.json", run.config.resolved_json());
  if (run.model.directory) models::copy_model_files(*run.model.directory, output->path());
  return output;
}

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

void write_records(const RunInput& run, const FinetuneOptions& options, const Summary& summary,
                   const formats::OutputDirectory& output, Logger& log) {
  write_record(output.path() / "train_results.json", to_json(summary), log);
  write_record(output.path() / "README.md", model_card(card_facts(run, options), summary), log);
}

void copy_metrics(const std::filesystem::path& lines, const formats::OutputDirectory& output,
                  Logger& log) {
  copy_beside_model(lines, output, log);
  if (const auto events = RunMetrics::events_of(lines); std::filesystem::is_directory(events)) {
    copy_beside_model(events, output, log);
  }
}

}  // namespace strata::tool
