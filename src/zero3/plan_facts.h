#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "strata/zero3/plan.h"

namespace strata::zero3 {

inline constexpr std::uint64_t kPage = 4096;  ///< what memory of a plan is rounded up to

/// Everything about a plan's input that does not depend on a choice. The input outlives it.
class PlanFacts {
 public:
  /// Throws ConfigError for a world without ranks.
  explicit PlanFacts(const PlanInput& input);

  /// Bytes of a unit in use: the shards of all ranks.
  [[nodiscard]] std::uint64_t region_bytes(const UnitLayout& unit) const;
  /// Bytes of one state of a unit that rests in `tier`.
  [[nodiscard]] std::uint64_t home_bytes(tiering::Tier tier, StateKind kind,
                                         const UnitLayout& unit) const;
  /// Bytes of one state of all units that rests in `tier`.
  [[nodiscard]] std::uint64_t home_bytes(tiering::Tier tier, StateKind kind) const;
  /// Elements of the weights of a unit, and of those that a rank keeps.
  [[nodiscard]] std::uint64_t unit_elements(const UnitLayout& unit) const;
  [[nodiscard]] std::uint64_t shard_elements(const UnitLayout& unit) const;
  [[nodiscard]] std::uint64_t optimizer_bytes(tiering::Tier tier) const;
  [[nodiscard]] std::uint64_t gradient_bytes(tiering::Tier tier, const UnitLayout& unit) const;
  /// Gradient bytes of all units, in host memory.
  [[nodiscard]] std::uint64_t gradient_bytes() const;
  /// Bytes of the states that rest in `tier`, and of host memory that activations have.
  [[nodiscard]] std::uint64_t homes_in(tiering::Tier tier) const;

  [[nodiscard]] bool weights_on_nvme() const;
  [[nodiscard]] bool weights_elsewhere() const;
  /// Whether the step finds weights or optimizer states elsewhere than in host memory.
  [[nodiscard]] bool states_elsewhere() const;

  [[nodiscard]] std::uint64_t slot_bytes() const { return slot_bytes_; }
  [[nodiscard]] std::uint64_t largest_region() const { return largest_region_; }
  /// The unit of that region; null without units.
  [[nodiscard]] const UnitLayout* largest_unit() const { return largest_unit_; }
  [[nodiscard]] std::uint64_t all_regions() const { return all_regions_; }
  [[nodiscard]] bool trainable() const { return largest_trainable_ > 0; }
  [[nodiscard]] const std::vector<StateFormat>& formats() const { return formats_; }

  /// Packed gradients pass the device in pieces whose fp32 form fills a slot, one for each rank.
  /// Sums of micro-batches are in fp32.
  [[nodiscard]] std::uint64_t bucket_bytes() const;
  /// Pieces of the gradients of one unit, the one that has most of them.
  [[nodiscard]] std::size_t gradient_pieces_max() const;
  /// The buckets that a plan has room for.
  [[nodiscard]] std::size_t buckets_in(const Plan& plan) const;
  /// Bytes of a device of host memory that come from the ranks for a bucket that went to them.
  [[nodiscard]] std::uint64_t exchange_bytes() const;
  /// Bytes of host memory that all exchanges pass through where the device's memory is none: two
  /// pieces, each of a slot from every rank.
  [[nodiscard]] std::uint64_t exchange_staging_bytes() const;
  /// Elements of an optimizer's window: this multiple of the smallest.
  [[nodiscard]] std::uint64_t window_elements(std::uint64_t multiple) const;
  /// Slots that the gradient of the largest vector fills on its way.
  [[nodiscard]] std::size_t gradient_slots_wished() const;
  /// Slots that the weights fetched ahead of use fill.
  [[nodiscard]] std::size_t fetch_slots_wished() const;

 private:
  /// Bytes of an element of the gradients in the widest format.
  [[nodiscard]] std::uint64_t widest_gradient() const;
  /// Whether no bucket lies between autograd's gradients and their home.
  [[nodiscard]] bool gradients_go_straight_home() const;
  [[nodiscard]] std::uint64_t ranks() const;
  /// Elements of a vector that a rank keeps: its shard, or all.
  [[nodiscard]] std::uint64_t shard(std::uint64_t count) const;
  /// Elements of the shards of all ranks.
  [[nodiscard]] std::uint64_t gathered(std::uint64_t count) const;
  /// Bytes of a rank's shard, of `count` elements, that rests in `tier`.
  [[nodiscard]] std::uint64_t resting_bytes(tiering::Tier tier, std::uint64_t count,
                                            std::uint64_t element_bytes) const;

  const PlanInput& input_;
  std::vector<StateFormat> formats_;
  std::uint64_t largest_region_ = 0, all_regions_ = 0;
  const UnitLayout* largest_unit_ = nullptr;
  std::uint64_t largest_trainable_ = 0, largest_vector_ = 0;
  std::uint64_t slot_bytes_ = 0;
};

}  // namespace strata::zero3
