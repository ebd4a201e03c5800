#include "zero3/host_division.h"

#include <algorithm>
#include <array>

#include "strata/base/units.h"
#include "strata/optim_cpu/window_pipeline.h"

namespace strata::zero3 {

using tiering::Tier;

namespace {

/// Sizes of staging, from the least that works upwards. More windows come before larger ones: a
/// disk that reads one window and writes another does better in short turns (docs/results/
/// step_benchmark.md).
struct StagingLevel {
  std::size_t fetch_slots;
  std::size_t windows;
  std::uint64_t window_multiple;  ///< multiple of the smallest window
};
constexpr std::array<StagingLevel, 6> kLevels = {
    {{2, 1, 1}, {4, 2, 1}, {8, 3, 1}, {12, 6, 1}, {16, 12, 1}, {32, 16, 1}}};
constexpr std::size_t kGradientSlots = 4;  // of gradients on nvme, at least
// The most of the room for gradients, and of the gradients without room, that more slots for them
// take: the slots' bytes would be homes.
constexpr std::uint64_t kGradientSlotsPart = 8;
constexpr std::uint64_t kGradientSlotsMax = 1_GiB;  // as much as a kernel registers in one piece
constexpr std::size_t kSlotsToReadStates = 2;       // one for weights, one for masters
constexpr std::size_t kComfortableLevel = 2;        // disk and arithmetic overlap from here on
// Beside an accelerator so many windows and slots gain more than the gradients would that have
// their place: decision 0038.
constexpr std::size_t kAcceleratorsLevel = 3;

std::size_t fetch_slots_max(const PlanFacts& facts, const PlanInput& input) {
  return std::max<std::uint64_t>(kLevels.front().fetch_slots,
                                 input.fetch_staging_max / facts.slot_bytes());
}

std::size_t windows_max(const PlanInput& input, std::uint64_t elements) {
  return std::max<std::uint64_t>(kLevels.front().windows, input.windows_elements_max / elements);
}

Staging staging_of(const PlanFacts& facts, const PlanInput& input, std::size_t level,
                   bool gradients_on_nvme) {
  Staging staging;
  if (facts.weights_on_nvme()) {
    staging.fetch_slots = std::min(
        {kLevels[level].fetch_slots, facts.fetch_slots_wished(), fetch_slots_max(facts, input)});
  } else if (facts.weights_elsewhere()) {
    staging.fetch_slots = kSlotsToReadStates;
  }
  if (facts.trainable()) staging.gradient_slots = gradients_on_nvme ? kGradientSlots : 1;
  staging.slots_total = (staging.fetch_slots + staging.gradient_slots) * facts.slot_bytes();
  staging.exchange_total = facts.exchange_staging_bytes();
  if (facts.states_elsewhere() || gradients_on_nvme) {
    staging.window_elements = facts.window_elements(kLevels[level].window_multiple);
    staging.windows = std::min(kLevels[level].windows, windows_max(input, staging.window_elements));
    staging.windows_total =
        optim_cpu::WindowPipeline::arena_bytes({.formats = facts.formats(),
                                                .window_elements = staging.window_elements,
                                                .windows = staging.windows,
                                                .gradients_on_nvme = gradients_on_nvme});
  }
  return staging;
}

/// Gives gradients on nvme more slots, up to those that a whole unit's fill: then its way to the
/// disk goes on while the next unit computes, which a slot does for every unit. In their place
/// `room` bytes of host memory would be the home of some gradients, which spares a part of one
/// unit's way there and back.
void add_gradient_slots(const PlanFacts& facts, std::uint64_t room, Staging& staging) {
  const std::uint64_t all = facts.gradient_bytes();
  const std::uint64_t without_room = all - std::min(all, room);
  const std::uint64_t affordable =
      std::min({room / kGradientSlotsPart, without_room / kGradientSlotsPart, kGradientSlotsMax});
  const std::size_t slots =
      std::min<std::size_t>(facts.gradient_slots_wished(), affordable / facts.slot_bytes());
  if (slots <= staging.gradient_slots) return;
  staging.slots_total += (slots - staging.gradient_slots) * facts.slot_bytes();
  staging.gradient_slots = slots;
}

/// Puts units' gradients into `room` bytes of host memory, the first units first.
Gradients place_gradients(const PlanFacts& facts, const PlanInput& input, std::uint64_t room) {
  Gradients gradients;
  for (const UnitLayout& unit : input.units) {
    const bool fits = gradients.host_bytes + facts.gradient_bytes(Tier::kHost, unit) <= room;
    const Tier tier = fits ? Tier::kHost : Tier::kNvme;
    gradients.tier.push_back(tier);
    (fits ? gradients.host_bytes : gradients.nvme_bytes) += facts.gradient_bytes(tier, unit);
  }
  return gradients;
}

}  // namespace

std::optional<HostDivision> divide_host(const PlanFacts& facts, const PlanInput& input,
                                        std::uint64_t budget) {
  const std::uint64_t homes = facts.homes_in(Tier::kHost);
  const auto fits = [&](const Staging& staging, std::uint64_t gradient_bytes) {
    return homes + staging.bytes() + gradient_bytes <= budget;
  };
  const std::uint64_t all_gradients = facts.gradient_bytes();
  // Keeps every gradient in memory, with the deepest staging that fits, unless that is less than
  // comfortable and the disk could take gradients instead.
  for (std::size_t level = kLevels.size(); level-- > 0;) {
    if (level < kComfortableLevel && input.gradients_may_spill()) break;
    const Staging staging = staging_of(facts, input, level, false);
    if (fits(staging, all_gradients))
      return HostDivision{staging, place_gradients(facts, input, all_gradients)};
  }
  if (!input.gradients_may_spill()) return std::nullopt;
  const std::size_t best = input.device_memory_is_host ? kComfortableLevel : kAcceleratorsLevel;
  for (std::size_t level = best + 1; level-- > 0;) {
    Staging staging = staging_of(facts, input, level, true);
    if (fits(staging, 0)) {
      add_gradient_slots(facts, budget - homes - staging.bytes(), staging);
      return HostDivision{staging, place_gradients(facts, input, budget - homes - staging.bytes())};
    }
    // The least staging with all gradients in memory may still be smaller than with some on the
    // disk.
    const Staging without = staging_of(facts, input, level, false);
    if (fits(without, all_gradients)) {
      return HostDivision{without, place_gradients(facts, input, all_gradients)};
    }
  }
  return std::nullopt;
}

std::uint64_t smallest_host(const PlanFacts& facts, const PlanInput& input) {
  const std::uint64_t homes = facts.homes_in(Tier::kHost);
  const std::uint64_t in_memory =
      staging_of(facts, input, 0, false).bytes() + facts.gradient_bytes();
  if (!input.gradients_may_spill()) return homes + in_memory;
  return homes + std::min(in_memory, staging_of(facts, input, 0, true).bytes());
}

std::uint64_t smallest_beside_states(const PlanInput& without_units, const UnitLayout& unit) {
  PlanInput input = without_units;
  input.units = {unit};
  const PlanFacts facts(input);
  return smallest_host(facts, input) - facts.homes_in(Tier::kHost);
}

}  // namespace strata::zero3
