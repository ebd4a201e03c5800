#include "model_card.h"

#include <array>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <sstream>

#include "plural.h"
#include "progress.h"
#include "step_line.h"

namespace strata::tool {
namespace {

constexpr std::array kSections = {"train_batch_size",
                                  "gradient_accumulation_steps",
                                  "gradient_clipping",
                                  "optimizer",
                                  "scheduler",
                                  "bf16",
                                  "fp16"};

/// The sections that decide what is learned.
std::string deciding_sections(const std::string& config) {
  const auto whole = nlohmann::ordered_json::parse(config);
  nlohmann::ordered_json part;
  for (const char* const section : kSections) {
    if (whole.contains(section)) part[section] = whole[section];
  }
  return part.dump(2);
}

std::string model_type(const std::string& model_config) {
  return nlohmann::json::parse(model_config).at("model_type").get<std::string>();
}

/// Text in a cell of a table: one line, and no bar that would end it.
std::string cell(const std::string& text) {
  std::string safe;
  for (const char each : text) {
    if (each == '|') safe += '\\';
    safe += each == '\n' ? ' ' : each;
  }
  return safe;
}

void row(std::ostream& out, const char* name, const std::string& value) {
  out << "| " << name << " | " << cell(value) << " |\n";
}

std::string from_to(double before, double after) {
  char text[64];
  std::snprintf(text, sizeof text, "%.4f before, %.4f after", before, after);
  return text;
}

}  // namespace

std::string model_card(const CardFacts& facts, const Summary& summary) {
  std::ostringstream out;
  const bool is_adapter = !facts.adapter.empty();
  out << "---\nlibrary_name: " << (is_adapter ? "peft" : "transformers")
      << "\npipeline_tag: text-generation\ntags:\n- " << model_type(facts.model_config)
      << (is_adapter ? "\n- lora" : "") << "\n- strata\n---\n\n# " << cell(facts.name)
      << (is_adapter
              ? "\n\nAn adapter of a causal language model, trained by `strata finetune` beside "
              : "\n\nA causal language model, trained by `strata finetune` from ")
      << facts.base << ".\n\n| | |\n|---|---|\n";
  if (is_adapter) row(out, "adapter", facts.adapter);
  row(out, is_adapter ? "parameters of both" : "parameters", with_separators(summary.parameters));
  row(out, "data", facts.data);
  row(out, "steps", facts.steps);
  if (summary.skipped_steps > 0) {
    row(out, "skipped", counted(summary.skipped_steps, "step") + ", as a gradient was not finite");
  }
  row(out, "tokens", with_separators(summary.training.tokens));
  if (summary.eval_loss_before && summary.eval_loss_after) {
    row(out, "loss on held-out data", from_to(*summary.eval_loss_before, *summary.eval_loss_after));
  }
  char loss[32];
  std::snprintf(loss, sizeof loss, "%.4f", summary.train_loss_last);
  row(out, "training loss", std::string(loss) + ", mean of the last tenth of the steps");
  row(out, "time", format_duration(summary.training.seconds));
  row(out, "seed", std::to_string(facts.seed));
  out << "\nWhat decides the numbers, of the config in effect (`ds_config.json` has all of it):\n\n"
      << "```json\n"
      << deciding_sections(facts.config)
      << "\n```\n\nEvery step is in `metrics.jsonl` and, for TensorBoard, in `runs/`; sums are in "
         "`train_results.json`.\n";
  return out.str();
}

}  // namespace strata::tool
