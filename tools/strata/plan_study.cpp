#include "plan_study.h"

#include <algorithm>
#include <utility>

#include "strata/base/error.h"
#include "strata/base/units.h"
#include "strata/models/model_layout.h"
#include "strata/tiering/budget.h"
#include "strata/zero3/frozen_parameters.h"

namespace strata::tool {
namespace {

using tiering::Budget;
using tiering::Tier;
using zero3::TierBytes;

constexpr double kSecondsPerDay = 86'400;
// What of host memory the system and the program itself are left.
constexpr double kHostReserve = 0.1;
// What of one memory that is both tiers the device gets for units in use, if it can.
constexpr std::uint64_t kDevicePart = 4;

std::uint64_t less(std::uint64_t bytes, std::uint64_t taken) {
  return bytes > taken ? bytes - taken : 0;
}

models::MicroBatch micro_batch_of(const PlanQuestion& question) {
  return {.sequences = question.config.train_micro_batch_size_per_gpu, .length = question.seq_len};
}

zero3::StepWork work_of(const PlanQuestion& question, const models::ModelTiles& tiles) {
  return models::step_work(question.model.config, micro_batch_of(question),
                           static_cast<std::uint64_t>(question.config.gradient_accumulation_steps),
                           question.config.strata.recompute.value_or(true), tiles);
}

void require_disks(const PlanQuestion& question) {
  const formats::ZeroConfig& zero = question.config.zero;
  const bool wants_disks = zero.offload_param.device == formats::OffloadDevice::kNvme ||
                           zero.offload_optimizer.device == formats::OffloadDevice::kNvme;
  if (!wants_disks || question.machine.disks() > 0) return;
  throw ConfigError(question.config.name + ": puts state on nvme, and machine \"" +
                    question.machine.name +
                    "\" has no disk; describe one under \"disk\" in its file, or let the config "
                    "offload to \"cpu\"");
}

/// A config that wants disks and names no directory plans for those of the machine.
formats::DsConfig with_directories(formats::DsConfig config, const zero3::Machine& machine) {
  if (!config.nvme_directories().empty()) return config;
  for (int disk = 0; disk < machine.disks(); ++disk) {
    config.strata.nvme_directories.push_back("disk" + std::to_string(disk));
  }
  return config;
}

/// What LibTorch holds beside the tiers: inputs of blocks that recompute may have room there.
std::uint64_t activation_bytes(const PlanQuestion& question, const tiering::ActivationRoom& room,
                               const models::ModelTiles& tiles) {
  const formats::DsConfig& config = question.config;
  const auto micro_batches = static_cast<std::uint64_t>(config.gradient_accumulation_steps);
  const std::uint64_t number = weight_bytes(config.precision());
  const bool recomputes = config.strata.recompute.value_or(true);
  const std::uint64_t all = models::estimated_activation_bytes(
      question.model.config, micro_batch_of(question), micro_batches, number, recomputes, tiles);
  if (!recomputes) return all;
  const std::uint64_t inputs = models::block_input_bytes(
      question.model.config, micro_batch_of(question), micro_batches, number);
  return all - std::min(inputs, room.host_bytes() + room.nvme_bytes());
}

/// The budgets of a rank: those of the config, and at most what the machine has.
TierBytes budgets_of(const PlanQuestion& question, const zero3::PlanInput& input,
                     const TierBytes& smallest, std::uint64_t activations) {
  const TierBytes named = input.budgets;
  TierBytes budgets = zero3::rank_bytes(question.machine);
  budgets.host = static_cast<std::uint64_t>(static_cast<double>(budgets.host) * (1 - kHostReserve));
  budgets.nvme = std::min(named.nvme, budgets.nvme);
  if (question.machine.has_accelerator()) {
    budgets.device = std::min(named.device, less(budgets.device, activations));
    budgets.host = std::min(named.host, budgets.host);
    return budgets;
  }
  const std::uint64_t memory = less(budgets.host, activations);
  budgets.device =
      std::min(named.device, std::min(memory, std::max(smallest.device, memory / kDevicePart)));
  std::uint64_t taken = budgets.device;
  if (budgets.device >= smallest.device) {  // it may not need all that it could have
    zero3::PlanInput ample = input;
    ample.budgets = {budgets.device, Budget::kUnlimited, Budget::kUnlimited};
    taken = zero3::make_plan(ample).total.device;
  }
  budgets.host = std::min(named.host, less(memory, taken));
  return budgets;
}

std::vector<std::string> missing_of(const TierBytes& smallest, const TierBytes& budgets,
                                    const BudgetError& error) {
  std::vector<std::string> missing;
  for (const Tier tier : tiering::kTiers) {
    const std::uint64_t needed = smallest.of(tier), has = budgets.of(tier);
    if (needed <= has) continue;
    missing.push_back(std::string(name_of(tier)) + ": needs at least " + format_bytes(needed) +
                      " (" + std::to_string(needed) + " bytes) and has " + format_bytes(has) +
                      (tier == Tier::kDevice ? " beside activations; " : "; ") +
                      format_bytes(needed - has) + " are missing");
  }
  if (missing.empty()) missing.emplace_back(error.what());
  return missing;
}

PlannedStep planned_step(const PlanAnswer& answer, const zero3::StepWork& work,
                         const zero3::RankSpeeds& speeds, const zero3::StepOrder& order) {
  PlannedStep step{.order = order, .forecast = {}};
  step.forecast = zero3::forecast_step(*answer.plan, answer.input, work, speeds, order);
  step.tokens_per_second = answer.tokens_per_step / step.forecast.seconds;
  return step;
}

double disk_seconds(const zero3::StepForecast& forecast) {
  for (const zero3::BoundTerm& term : forecast.bound) {
    if (term.resource == zero3::StepResource::kDisk) return term.seconds;
  }
  return 0;
}

double hiding_tokens(const PlanQuestion& question, const PlanAnswer& answer,
                     const zero3::RankSpeeds& speeds) {
  zero3::StepWork once = work_of(question, answer.tiles);
  once.micro_batches = 1;
  const zero3::StepForecast forecast =
      zero3::forecast_step(*answer.plan, answer.input, once, speeds, {});
  const double computing = forecast.at(zero3::StepLane::kCompute).seconds;
  const double tokens = micro_batch_of(question).tokens() * question.ranks();
  return tokens * disk_seconds(forecast) / computing;
}

std::optional<Endurance> endurance_of(const zero3::Machine& machine, const PlannedStep& step) {
  const double written = step.forecast.at(zero3::StepLane::kDiskWrite).amount;
  if (written == 0 || machine.disks() == 0) return std::nullopt;
  Endurance endurance;
  endurance.written_per_step = written * machine.devices() / machine.disks();
  if (machine.disk_endurance) {
    endurance.steps = machine.disk_endurance->value / endurance.written_per_step;
    endurance.days = *endurance.steps * step.forecast.seconds / kSecondsPerDay;
  }
  return endurance;
}

/// Fills what the units say: the input with its budgets, and the estimates.
void lay_out(PlanAnswer& answer, const PlanQuestion& question, const formats::DsConfig& config,
             const zero3::PlanInput& without_units) {
  answer.input = without_units;
  answer.input.units = models::units_in_engine(question.model.config, config, answer.tiles);
  zero3::check_parameter_patterns(config, answer.input.units);
  answer.activation_bytes = activation_bytes(question, answer.input.activations, answer.tiles);
  answer.smallest = zero3::smallest_budgets(answer.input);
  answer.input.budgets =
      budgets_of(question, answer.input, answer.smallest, answer.activation_bytes);
}

}  // namespace

PlanAnswer study(const PlanQuestion& question, const std::optional<zero3::StepOrder>& overlapped) {
  require_disks(question);
  const formats::DsConfig config = with_directories(question.config, question.machine);
  PlanAnswer answer;
  const zero3::PlanInput without_units =
      zero3::plan_input_from(config, {},
                             {.world_size = question.ranks(),
                              .device_memory_is_host = !question.machine.has_accelerator()});
  lay_out(answer, question, config, without_units);
  // What is too large is cut where the budgets of the whole ask for it.
  zero3::PlanInput budgeted = without_units;
  budgeted.budgets = answer.input.budgets;
  answer.tiles = models::tiles_of(question.model.config, config, budgeted);
  if (answer.tiles != models::ModelTiles{}) lay_out(answer, question, config, without_units);
  try {
    answer.plan = zero3::make_plan(answer.input);
  } catch (const BudgetError& error) {
    answer.missing = missing_of(answer.smallest, answer.input.budgets, error);
    return answer;
  }

  zero3::RankSpeeds speeds = zero3::rank_speeds(question.machine, question.nodes);
  speeds.disk_in_flight =
      static_cast<double>(config.aio.queue_depth) * static_cast<double>(config.aio.block_bytes);
  const zero3::StepWork work = work_of(question, answer.tiles);
  answer.tokens_per_step = micro_batch_of(question).tokens() * question.ranks() *
                           static_cast<double>(work.micro_batches);
  answer.serial = planned_step(answer, work, speeds, {});
  const zero3::StepOrder order =
      overlapped ? *overlapped
                 : zero3::shortest_overlap(*answer.plan, answer.input, work, speeds,
                                           config.strata.step_under_backward);
  answer.overlapped = planned_step(answer, work, speeds, order);
  answer.tokens_that_hide_disks = hiding_tokens(question, answer, speeds);
  answer.endurance = endurance_of(question.machine, *answer.serial);
  return answer;
}

void settle_recompute(PlanQuestion& question) {
  if (question.config.strata.recompute) return;
  question.chose_recompute = true;
  const auto answer_with = [&](bool recompute) {
    question.config.strata.recompute = recompute;
    return study(question);
  };
  const PlanAnswer kept = answer_with(false), recomputed = answer_with(true);
  const bool keeps = kept.plan && (!recomputed.plan || kept.overlapped->forecast.seconds <=
                                                           recomputed.overlapped->forecast.seconds);
  question.config.strata.recompute = !keeps;
}

std::vector<WhatIf> what_ifs(const PlanQuestion& question, const PlanAnswer& answer) {
  std::vector<WhatIf> answers;
  std::optional<zero3::StepOrder> order;
  if (answer.overlapped) order = answer.overlapped->order;
  const auto ask = [&](std::string change, const auto& edit) {
    PlanQuestion changed = question;
    edit(changed);
    answers.push_back({std::move(change), study(changed, order)});
  };
  const zero3::SourcedNumber ample{1e18, "as much as is needed"};
  const formats::ZeroConfig& zero = question.config.zero;
  const bool states_on_nvme = zero.offload_optimizer.device == formats::OffloadDevice::kNvme;
  const bool weights_on_nvme = zero.offload_param.device == formats::OffloadDevice::kNvme;
  if (question.machine.disks() > 0 && (states_on_nvme || weights_on_nvme)) {
    ask("one more disk", [](PlanQuestion& changed) {
      changed.machine.disk_count = {changed.machine.disks() + 1.0, "one more"};
    });
  }
  ask("twice the host memory", [](PlanQuestion& changed) {
    changed.machine.host_memory.value *= 2;
    if (auto& named = changed.config.strata.host_budget_bytes) *named *= 2;
  });
  const auto without_host_bounds = [&](PlanQuestion& changed) {
    changed.machine.host_memory = ample;
    changed.config.strata.host_budget_bytes.reset();
  };
  if (states_on_nvme && question.machine.has_accelerator()) {
    ask("optimizer states in host memory", [&](PlanQuestion& changed) {
      changed.config.zero.offload_optimizer.device = formats::OffloadDevice::kCpu;
      without_host_bounds(changed);
    });
  }
  if (weights_on_nvme && question.machine.has_accelerator()) {
    ask("everything in host memory", [&](PlanQuestion& changed) {
      changed.config.zero.offload_optimizer.device = formats::OffloadDevice::kCpu;
      changed.config.zero.offload_param.device = formats::OffloadDevice::kCpu;
      without_host_bounds(changed);
    });
  }
  if (question.config.strata.states.moments != MomentFormat::kInt8) {
    ask("8-bit moments",
        [](PlanQuestion& changed) { changed.config.strata.states.moments = MomentFormat::kInt8; });
    if (question.config.precision() == Precision::kBf16) {
      ask("8-bit moments, 24-bit masters", [](PlanQuestion& changed) {
        changed.config.strata.states = {MomentFormat::kInt8, MasterFormat::k24Bit};
      });
    }
  }
  ask("4 times the micro-batches", [](PlanQuestion& changed) {
    changed.config.gradient_accumulation_steps *= 4;
    changed.config.train_batch_size *= 4;
  });
  return answers;
}

}  // namespace strata::tool
