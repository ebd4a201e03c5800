#include "plan.h"

#include <algorithm>
#include <ostream>

#include "plan_report.h"
#include "plan_study.h"
#include "run_config.h"
#include "strata/base/error.h"

namespace strata::tool {
namespace {

constexpr std::int64_t kDefaultSequenceMax = 1024;

formats::DsConfig default_config(const zero3::Machine& machine) {
  const std::string home = machine.disks() > 0 ? "nvme" : "cpu";
  return formats::DsConfig::from_text(
      R"({"bf16": {"enabled": true}, "train_micro_batch_size_per_gpu": 8, "gradient_clipping": 1.0,
          "optimizer": {"type": "AdamW", "params": {"lr": 1e-4}},
          "zero_optimization": {"stage": 3, "offload_param": {"device": ")" +
          home + R"("}, "offload_optimizer": {"device": ")" + home + R"("}}})",
      "the default config");
}

PlanQuestion question_of(const PlanOptions& options) {
  PlanQuestion question;
  question.machine = zero3::Machine::from_file(*options.machine);
  question.nodes = options.nodes;
  question.model = planned_model(options);
  question.config = options.config ? formats::DsConfig::from_file(*options.config)
                                   : default_config(question.machine);
  if (options.budget) apply_budget_option(*options.budget, question.config.strata);
  question.config.resolve_batch(question.ranks());
  const std::int64_t context = question.model.config.n_positions;
  question.seq_len = options.seq_len.value_or(std::min(context, kDefaultSequenceMax));
  if (question.seq_len > context) {
    throw ConfigError("--seq-len " + std::to_string(question.seq_len) +
                      " is more than the model's context of " + std::to_string(context) +
                      " tokens; give at most that");
  }
  return question;
}

}  // namespace

ExitCode plan(const PlanOptions& options, std::ostream& out) {
  require_complete(options);
  const PlanQuestion question = question_of(options);
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
