#include "plan.h"

#include <algorithm>
#include <optional>
#include <ostream>

#include "interruption.h"
#include "output_file.h"
#include "plan_report.h"
#include "plan_study.h"
#include "plural.h"
#include "run_config.h"
#include "strata/base/error.h"

namespace strata::tool {
namespace {

constexpr std::int64_t kDefaultSequenceMax = 1024;

formats::DsConfig default_config(bool has_disks) {
  const std::string home = has_disks ? "nvme" : "cpu";
  return formats::DsConfig::from_text(
      R"({"bf16": {"enabled": true}, "train_micro_batch_size_per_gpu": 8, "gradient_clipping": 1.0,
          "optimizer": {"type": "AdamW", "params": {"lr": 1e-4}},
          "zero_optimization": {"stage": 3, "offload_param": {"device": ")" +
          home + R"("}, "offload_optimizer": {"device": ")" + home + R"("}}})",
      "the default config");
}

formats::DsConfig config_of(const PlanOptions& options, bool has_disks) {
  formats::DsConfig config =
      options.config ? formats::DsConfig::from_file(*options.config) : default_config(has_disks);
  if (options.budget) apply_budget_option(*options.budget, config.strata);
  apply_nvme_option(options.nvme, config.strata);
  return config;
}

std::int64_t sequence_length_of(const PlanOptions& options, std::int64_t context) {
  const std::int64_t length = options.seq_len.value_or(std::min(context, kDefaultSequenceMax));
  if (length > context) {
    throw ConfigError("--seq-len " + std::to_string(length) +
                      " is more than the model's context of " + counted(context, "token") +
                      "; give at most that");
  }
  return length;
}

/// `measure` is called where the machine is this one, with all but the machine.
template <class Measure>
PlanQuestion question_of(const PlanOptions& options, const Measure& measure) {
  PlanQuestion question;
  question.nodes = options.nodes;
  if (!options.measures()) question.machine = zero3::Machine::from_file(*options.machine);
  question.model = planned_model(options);
  const bool has_disks = options.measures() ? !options.nvme.empty() : question.machine.disks() > 0;
  question.config = config_of(options, has_disks);
  question.config.resolve_batch(question.ranks());
  question.seq_len = sequence_length_of(options, question.model.config.context());
  if (options.measures()) question.machine = measure(question);
  return question;
}

}  // namespace

ExitCode plan(const PlanOptions& options, const Measuring& measuring, std::ostream& out,
              Logger& log) {
  require_complete(options);
  std::optional<Interruption> interruption;  // before anything starts a thread
  if (options.measures()) interruption.emplace();
  std::optional<OutputFile>
      machine_file;  // a name that cannot be written is known before measuring
  if (options.save_machine) machine_file.emplace(*options.save_machine);
  PlanQuestion question = question_of(options, [&](const PlanQuestion& asked) {
    log.info("measuring this machine, which takes some seconds");
    const models::MicroBatch micro_batch{.sequences = asked.config.train_micro_batch_size_per_gpu,
                                         .length = asked.seq_len};
    return machine_here(
        {.config = asked.config, .model = asked.model.config, .micro_batch = micro_batch},
        measuring.arithmetic, [&] { interruption->check(); }, log, measuring.effort);
  });
  if (machine_file) {
    machine_file->stream() << question.machine.to_text();
    machine_file->publish();
  }
  settle_recompute(question);
  const PlanAnswer answer = study(question);
  const std::vector<WhatIf> changes = what_ifs(question, answer);
  if (options.json) {
    write_answer_json(out, question, answer, changes);
  } else {
    write_answer(out, question, answer, changes);
  }
  return answer.plan ? ExitCode::kDone : ExitCode::kBudget;
}

}  // namespace strata::tool
