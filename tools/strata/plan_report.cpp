#include "plan_report.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <ostream>
#include <string>

#include "plural.h"
#include "step_line.h"
#include "strata/base/units.h"
#include "strata/models/model_layout.h"
#include "strata/tiering/budget.h"
#include "tile_lines.h"

namespace strata::tool {
namespace {

using OrderedJson = nlohmann::ordered_json;
using tiering::Budget;
using tiering::Tier;

template <class... Values>
std::string text_of(const char* format, Values... values) {
  std::array<char, 256> text{};
  std::snprintf(text.data(), text.size(), format, values...);
  return text.data();
}

/// Three digits that count: "0.0123", "1.23", "12.3", "1230".
std::string number(double value) {
  const int decimals = value >= 99.95 ? 0 : value >= 9.995 ? 1 : value >= 0.9995 ? 2 : 4;
  return text_of("%.*f", decimals, value);
}

std::string percent(double share) { return text_of("%.0f %%", 100 * share); }

std::string gigabytes(double bytes) { return number(bytes / 1e9) + " GB"; }

std::string whole(double value) {
  return with_separators(static_cast<std::uint64_t>(std::max(value, 0.0) + 0.5));
}

std::string words_of(const zero3::StepOrder& order) {
  if (order.kind == zero3::StepOrder::Kind::kSerial) return "update after backward";
  if (order.early_share == 0) return "update under the next forward";
  return percent(order.early_share) + " of it under backward, the rest under the next forward";
}

void write_step(std::ostream& out, const char* name, const PlannedStep& step) {
  out << text_of("  %-11s %9s %12s %10s %7s  %-9s %s\n", name,
                 number(step.forecast.seconds).c_str(), whole(step.tokens_per_second).c_str(),
                 number(step.forecast.bound_seconds()).c_str(),
                 percent(step.forecast.fraction()).c_str(),
                 std::string(name_of(step.forecast.binds())).c_str(), words_of(step.order).c_str());
}

void write_hops(std::ostream& out, const zero3::StepForecast& forecast) {
  out << text_of("\n  %-9s %12s %9s %9s %9s   (of the serial step)\n", "hop", "moved", "busy, s",
                 "hidden", "exposed");
  for (std::size_t hop = 0; hop < kHopCount; ++hop) {
    const zero3::HopForecast& of = forecast.hops[hop];
    if (of.bytes == 0 && of.busy == 0) continue;
    out << text_of("  %-9s %12s %9s %9s %9s\n", std::string(kHopNames[hop]).c_str(),
                   of.bytes > 0 ? gigabytes(of.bytes).c_str() : "", number(of.busy).c_str(),
                   number(of.hidden).c_str(), number(of.exposed()).c_str());
  }
  out << "\n  bound, s:";
  const char* separator = " ";
  for (const zero3::BoundTerm& term : forecast.bound) {
    out << separator << name_of(term.resource) << ' ' << number(term.seconds);
    separator = ", ";
  }
  out << '\n';
}

void write_what_ifs(std::ostream& out, const PlanAnswer& answer,
                    const std::vector<WhatIf>& what_ifs) {
  out << text_of("\n  %-32s %10s %11s %12s %8s  %10s %10s\n", "what if", "serial, s", "overlapped",
                 "tokens/s", "times", "host", "nvme");
  const double now = answer.plan ? answer.overlapped->tokens_per_second : 0;
  for (const WhatIf& what_if : what_ifs) {
    const PlanAnswer& then = what_if.answer;
    if (!then.plan) {
      out << text_of("  %-32s does not fit\n", what_if.change.c_str());
      continue;
    }
    const double tokens = then.overlapped->tokens_per_second;
    out << text_of("  %-32s %10s %11s %12s %8s  %10s %10s\n", what_if.change.c_str(),
                   number(then.serial->forecast.seconds).c_str(),
                   number(then.overlapped->forecast.seconds).c_str(), whole(tokens).c_str(),
                   now > 0 ? number(tokens / now).c_str() : "",
                   format_bytes(then.plan->total.host).c_str(),
                   format_bytes(then.plan->total.nvme).c_str());
  }
  out << "  (tokens/s and times are of the overlapped step)\n";
}

/// Calls with name and number of all that the machine file has.
template <class Visit>
void for_each_number(const zero3::Machine& machine, Visit visit) {
  const auto optional = [&](const char* name, const std::optional<zero3::SourcedNumber>& of) {
    if (of) visit(name, *of);
  };
  optional("device.count", machine.device_count);
  optional("device.memory", machine.device_memory);
  visit("device.compute", machine.compute);
  optional("device.upload", machine.upload);
  optional("device.drain", machine.drain);
  optional("device.link", machine.link);
  visit("host.memory", machine.host_memory);
  visit("host.update", machine.update);
  optional("host.add", machine.add);
  optional("host.copy", machine.copy);
  optional("host.check", machine.check);
  optional("host.cores", machine.cores);
  optional("disk.count", machine.disk_count);
  optional("disk.read", machine.disk_read);
  optional("disk.write", machine.disk_write);
  optional("disk.overlap", machine.disk_overlap);
  optional("disk.beside_compute", machine.disk_beside_compute);
  optional("disk.bytes", machine.disk_bytes);
  optional("disk.endurance", machine.disk_endurance);
  optional("network.receive", machine.network);
}

void write_question(std::ostream& out, const PlanQuestion& question) {
  const models::ModelConfig& shape = question.model.config;
  out << "model    " << question.model.name << ": "
      << with_separators(models::parameter_count(shape)) << " parameters, " << shape.layers() << " "
      << plural(shape.layers(), "block") << " of width " << shape.width() << ", vocabulary "
      << shape.vocab_size() << ", " << name_of(question.config.precision()) << '\n';
  if (!question.model.note.empty()) out << "note     " << question.model.note << '\n';
  out << "machine  " << question.machine.name;
  if (question.nodes > 1) out << ", " << question.nodes << " of them";
  out << " (" << counted(question.ranks(), "rank") << ")\n";
  out << "step     " << question.config.gradient_accumulation_steps << " x "
      << counted(question.config.train_micro_batch_size_per_gpu, "sequence") << " of "
      << counted(question.seq_len, "token") << " on each rank, "
      << (question.config.strata.recompute.value_or(true) ? "with" : "without") << " recomputation"
      << (question.chose_recompute ? " (chosen: the shorter step)" : "") << "\n\n";
}

void write_steps(std::ostream& out, const PlanQuestion& question, const PlanAnswer& answer) {
  out << text_of("\n  %-11s %9s %12s %10s %7s  %-9s %s\n", "step", "seconds", "tokens/s",
                 "bound, s", "of it", "binds", "");
  write_step(out, "serial", *answer.serial);
  write_step(out, "overlapped", *answer.overlapped);
  write_hops(out, answer.serial->forecast);
  if (answer.tokens_that_hide_disks > 0) {
    out << "\n  a step of " << whole(answer.tokens_that_hide_disks)
        << " tokens computes as long as the disks work; this one has "
        << whole(answer.tokens_per_step) << '\n';
  }
  if (!answer.endurance) return;
  out << "  each disk is written " << gigabytes(answer.endurance->written_per_step) << " a step";
  if (answer.endurance->steps) {
    out << ": " << whole(*answer.endurance->steps) << " steps until its rating, "
        << number(*answer.endurance->days) << " days of serial steps without pause";
  } else if (question.machine.disks() > 0) {
    out << "; its rating, \"disk.endurance\" in the machine file, would say for how long";
  }
  out << '\n';
}

// ---- JSON --------------------------------------------------------------------------------------

OrderedJson json_of(const zero3::TierBytes& bytes) {
  OrderedJson json;
  for (const Tier tier : tiering::kTiers) {
    json[std::string(name_of(tier))] =
        bytes.of(tier) == Budget::kUnlimited ? OrderedJson() : OrderedJson(bytes.of(tier));
  }
  return json;
}

OrderedJson json_of(const PlannedStep& step) {
  OrderedJson json;
  json["order"] = step.order.kind == zero3::StepOrder::Kind::kSerial ? "serial" : "overlapped";
  json["early_share"] = step.order.early_share;
  json["seconds"] = step.forecast.seconds;
  json["tokens_per_second"] = step.tokens_per_second;
  json["bound_seconds"] = step.forecast.bound_seconds();
  json["fraction_of_bound"] = step.forecast.fraction();
  json["reachable_seconds"] = step.forecast.reachable_seconds();
  json["binds"] = name_of(step.forecast.binds());
  for (const zero3::BoundTerm& term : step.forecast.bound) {
    json["bound"][std::string(name_of(term.resource))] = term.seconds;
  }
  for (std::size_t lane = 0; lane < zero3::kStepLaneCount; ++lane) {
    const zero3::LaneForecast& of = step.forecast.lanes[lane];
    json["lanes"][std::string(name_of(static_cast<zero3::StepLane>(lane)))] = {
        {"amount", of.amount}, {"seconds", of.seconds}};
  }
  for (std::size_t hop = 0; hop < kHopCount; ++hop) {
    const zero3::HopForecast& of = step.forecast.hops[hop];
    json["hops"][std::string(kHopNames[hop])] = {{"bytes", of.bytes},
                                                 {"busy_seconds", of.busy},
                                                 {"hidden_seconds", of.hidden},
                                                 {"exposed_seconds", of.exposed()}};
  }
  return json;
}

OrderedJson json_of(const PlanAnswer& answer) {
  OrderedJson json;
  json["fits"] = answer.plan.has_value();
  json["missing"] = answer.missing;
  json["budgets"] = json_of(answer.input.budgets);
  json["smallest_budgets"] = json_of(answer.smallest);
  json["estimated_activation_bytes"] = answer.activation_bytes;
  json["vocabulary_tiles"] = answer.tiles.vocabulary ? answer.tiles.vocabulary->count() : 1;
  json["block_tiles"] = answer.tiles.blocks ? answer.tiles.blocks->count() : 1;
  if (!answer.plan) return json;
  json["bytes"] = json_of(answer.plan->total);
  json["items"] = OrderedJson::array();
  for (const zero3::PlanItem& item : answer.plan->items) {
    json["items"].push_back(
        {{"what", item.what}, {"tier", name_of(item.tier)}, {"bytes", item.bytes}});
  }
  json["tokens_per_step"] = answer.tokens_per_step;
  json["serial"] = json_of(*answer.serial);
  json["overlapped"] = json_of(*answer.overlapped);
  json["tokens_that_hide_disks"] = answer.tokens_that_hide_disks;
  if (answer.endurance) {
    const Endurance& endurance = *answer.endurance;
    json["endurance"] = {
        {"bytes_written_per_step_and_disk", endurance.written_per_step},
        {"steps", endurance.steps ? OrderedJson(*endurance.steps) : OrderedJson()},
        {"days_of_serial_steps", endurance.days ? OrderedJson(*endurance.days) : OrderedJson()}};
  }
  return json;
}

}  // namespace

void write_answer(std::ostream& out, const PlanQuestion& question, const PlanAnswer& answer,
                  const std::vector<WhatIf>& what_ifs) {
  write_question(out, question);
  if (answer.plan) {
    out << "It fits. " << (question.ranks() > 1 ? "Each rank holds:\n" : "The tiers hold:\n")
        << zero3::describe(*answer.plan, answer.input);
  } else {
    out << "It does not fit" << (question.ranks() > 1 ? " on a rank:\n" : ":\n");
    for (const std::string& line : answer.missing) out << "  " << line << '\n';
  }
  for (const std::string& line : tile_lines(answer.tiles, question.config)) {
    out << "  " << line << '\n';
  }
  out << "  beside them LibTorch holds about " << format_bytes(answer.activation_bytes)
      << " of activations, logits and gradients (estimated)\n";
  if (answer.plan) write_steps(out, question, answer);
  write_what_ifs(out, answer, what_ifs);
  out << "\n  forecast from these numbers:\n";
  for_each_number(question.machine, [&](const char* name, const zero3::SourcedNumber& of) {
    out << text_of("  %-16s %-10.4g ", name, of.value) << of.source << '\n';
  });
}

void write_answer_json(std::ostream& out, const PlanQuestion& question, const PlanAnswer& answer,
                       const std::vector<WhatIf>& what_ifs) {
  OrderedJson json;
  json["model"] = {{"name", question.model.name},
                   {"note", question.model.note},
                   {"parameters", models::parameter_count(question.model.config)},
                   {"blocks", question.model.config.layers()},
                   {"width", question.model.config.width()},
                   {"precision", name_of(question.config.precision())}};
  json["machine"] = {{"name", question.machine.name}};
  for_each_number(question.machine, [&](const char* name, const zero3::SourcedNumber& of) {
    json["machine"][name] = {{"value", of.value}, {"source", of.source}};
  });
  json["nodes"] = question.nodes;
  json["ranks"] = question.ranks();
  json["sequence_length"] = question.seq_len;
  json["micro_batch"] = question.config.train_micro_batch_size_per_gpu;
  json["micro_batches"] = question.config.gradient_accumulation_steps;
  json["recompute"] = question.config.strata.recompute.value_or(true);
  json["answer"] = json_of(answer);
  json["what_if"] = OrderedJson::array();
  for (const WhatIf& what_if : what_ifs) {
    json["what_if"].push_back({{"change", what_if.change}, {"answer", json_of(what_if.answer)}});
  }
  out << json.dump(2) << '\n';
}

}  // namespace strata::tool
