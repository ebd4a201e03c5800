#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "plan_model.h"
#include "strata/formats/ds_config.h"
#include "strata/models/model_layout.h"
#include "strata/zero3/machine.h"
#include "strata/zero3/plan.h"
#include "strata/zero3/step_model.h"

/// \file
/// What `strata plan` answers, worked out from a model, a config and a machine: arithmetic only.

namespace strata::tool {

struct PlanQuestion {
  PlannedModel model;
  formats::DsConfig config;  ///< its batch is resolved for all ranks
  zero3::Machine machine;
  int nodes = 1;
  std::int64_t seq_len = 0;
  bool chose_recompute = false;  ///< the config says "auto", and settle_recompute was asked

  [[nodiscard]] int ranks() const { return nodes * machine.devices(); }
};

/// A step in one order.
struct PlannedStep {
  zero3::StepOrder order;
  zero3::StepForecast forecast;
  double tokens_per_second = 0;  ///< of all ranks
};

/// How long the disks of a node last when steps follow one another without pause.
struct Endurance {
  double written_per_step = 0;  ///< bytes, of one disk
  std::optional<double> steps;  ///< until its rating; nullopt where the machine names none
  std::optional<double> days;   ///< of serial steps
};

/// The answer to one question. Bytes and seconds are of one rank.
struct PlanAnswer {
  models::ModelTiles tiles;            ///< what is cut, as a run would cut it
  zero3::PlanInput input;              ///< with the budgets that were planned for
  std::optional<zero3::Plan> plan;     ///< nullopt: it does not fit
  zero3::TierBytes smallest;           ///< the smallest budgets that would do
  std::uint64_t activation_bytes = 0;  ///< estimated; LibTorch's, beside the tiers
  std::vector<std::string> missing;    ///< why it does not fit: a line for each tier

  // Where it fits:
  double tokens_per_step = 0;  ///< of all ranks
  std::optional<PlannedStep> serial, overlapped;
  /// Tokens of a step of all ranks, in one micro-batch each, whose computation takes as long as the
  /// disks; 0 where nothing is on disk.
  double tokens_that_hide_disks = 0;
  std::optional<Endurance> endurance;
};

/// What a change would give.
struct WhatIf {
  std::string change;
  PlanAnswer answer;
};

/// Settles "recompute": "auto" for the shorter step of those that fit: activations that stay leave
/// less memory for the rest.
void settle_recompute(PlanQuestion& question);

/// Answers, for the overlapped order that is named, or else the shortest one. Throws ConfigError
/// for a machine that lacks a speed the step needs.
[[nodiscard]] PlanAnswer study(const PlanQuestion& question,
                               const std::optional<zero3::StepOrder>& overlapped = {});

/// The same for one change at a time: one more disk, twice the host memory, states in host memory,
/// 8-bit moments, more micro-batches. Those that the question has already are left out. The
/// overlapped steps are of the order that `answer` has.
[[nodiscard]] std::vector<WhatIf> what_ifs(const PlanQuestion& question, const PlanAnswer& answer);

}  // namespace strata::tool
