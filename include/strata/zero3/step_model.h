#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "strata/base/hop.h"
#include "strata/zero3/plan.h"

/// \file
/// What a step will take, before anything is bought or started: the engine's own schedule and plan,
/// carried out over lanes that are numbers instead of hardware. No clock, no I/O, no LibTorch.

namespace strata::zero3 {

inline constexpr double kDiskOverlapMin = -4;

/// The speeds that one rank has to itself. A speed that nothing needs may be 0.
struct RankSpeeds {
  double compute = 0;     ///< FLOP/s of forward and backward
  double disk_read = 0;   ///< bytes/s, reading alone
  double disk_write = 0;  ///< bytes/s, writing alone
  /// How far reads and writes overlap: 1, the shorter of the two costs nothing; 0, they share the
  /// time; below 0, to kDiskOverlapMin, they take longer side by side than one after the other.
  double disk_overlap = 0;
  /// Bytes of transfers that the disk works on at once, the queue's depth of requests; what was
  /// asked for after them waits, be it read or written. 0: there is no such bound.
  double disk_in_flight = 0;
  /// What the disk's speeds are while all cores compute, as a share: its threads have to wait for a
  /// core. Above 0; it counts where `shares_cores`.
  double disk_beside_compute = 1;
  double upload = 0;  ///< bytes/s from host memory to the device
  double drain = 0;   ///< bytes/s from the device to host memory
  /// Bytes/s of states and gradients that the optimizer reads and writes: an update reads gradient,
  /// weight, remainder and moments, and writes all but the first.
  double update = 0;
  /// Bytes/s that adding a gradient to its home reads and writes, with the sum of its squares; 0:
  /// as many as of an update.
  double add = 0;
  /// Bytes/s at which one thread makes the checksum of what comes from the disk or goes there; 0:
  /// that takes no time.
  double check = 0;
  double exchange = 0;  ///< bytes/s that a rank receives from the others
  /// Whether forward and backward run on the cores that update: where there is no accelerator.
  bool shares_cores = false;
  /// Cores that a rank has: what one thread does (checksums, and copies where they share cores)
  /// takes one of them from what all do. 0: from nothing.
  double cores = 0;
};

/// One use of a unit in forward. A unit may have several (embedding and tied head).
struct UnitUse {
  std::size_t unit = 0;  ///< its place in PlanInput::units
  double forward = 0;    ///< FLOP of one micro-batch
  double backward = 0;
  double recompute = 0;  ///< of forward run again in backward; 0: its activations are kept
  /// Numbers that it is given and that running it again needs, of one micro-batch: they go to
  /// PlanInput::activations, as far as there is room.
  std::uint64_t input_elements = 0;
};

/// Uses, from `begin` to before `end`, that go forward once more, all of them, before backward
/// comes through them: a block in tiles that recomputes. Their `recompute` is computed there.
struct UseSpan {
  std::size_t begin = 0, end = 0;
};

/// What one step computes.
struct StepWork {
  std::vector<UnitUse> uses;  ///< in forward's order; backward goes the other way
  /// In order, without the last use where a batch goes unit by unit; may be empty.
  std::vector<UseSpan> spans = {};
  std::uint64_t micro_batches = 1;
  /// How several micro-batches go through the units: each through all of them (forward and
  /// `Engine::backward`), or all through one unit before the next (`Engine::train_batch`).
  enum class Loop : std::uint8_t { kMicroBatchByMicroBatch, kUnitByUnit };
  Loop loop = Loop::kMicroBatchByMicroBatch;

  [[nodiscard]] bool goes_unit_by_unit() const noexcept {
    return loop == Loop::kUnitByUnit && micro_batches > 1;
  }
};

/// When the optimizer works. The numbers are the same in all of them.
struct StepOrder {
  enum class Kind : std::uint8_t {
    kSerial,  ///< after all of backward, and before anything else
    /// Under the next forward, unit after unit in its order: a unit's next use waits for its own
    /// update alone. Exact with clipping by the global norm.
    kOverlapped,
  };
  Kind kind = Kind::kSerial;
  /// Of kOverlapped: units with this share of all elements, from 0 to 1, are updated under backward
  /// already, as their gradients come. They are spread over the model, as where the newest gradient
  /// always goes first. Above 0 only without clipping, which has to know all gradients first.
  double early_share = 0;
};

/// What can bind a step.
enum class StepLane : std::uint8_t {
  kDiskRead,
  kDiskWrite,
  kUpload,
  kDrain,
  kCompute,
  kUpdate,
  kExchange,
  kCheck
};

inline constexpr std::size_t kStepLaneCount = 8;

[[nodiscard]] std::string_view name_of(StepLane lane);

/// One lane of a steady step.
struct LaneForecast {
  double amount = 0;   ///< bytes; FLOP for kCompute
  double seconds = 0;  ///< amount over the lane's speed
};

/// One hop of a steady step.
struct HopForecast {
  double bytes = 0;   ///< moved; for kStep those read and written by the update
  double busy = 0;    ///< seconds in which some of it was under way
  double hidden = 0;  ///< of these, those in which the device computed
  [[nodiscard]] double exposed() const { return busy - hidden; }
};

/// The resources of a step's lower bound. Lanes that share something count together.
enum class StepResource : std::uint8_t { kDisk, kUpload, kDrain, kCompute, kUpdate, kExchange };

[[nodiscard]] std::string_view name_of(StepResource resource);

/// One term of the bound.
struct BoundTerm {
  StepResource resource = StepResource::kCompute;
  double seconds = 0;
};

/// A steady step: what it repeats once the order of units is known.
struct StepForecast {
  double seconds = 0;
  std::array<LaneForecast, kStepLaneCount> lanes{};
  std::array<HopForecast, kHopCount> hops{};
  std::vector<BoundTerm> bound;  ///< the largest first
  /// What a step takes at least because it needs its own updates: see forecast_step.
  double cycle_seconds = 0;

  [[nodiscard]] const LaneForecast& at(StepLane lane) const {
    return lanes[static_cast<std::size_t>(lane)];
  }
  [[nodiscard]] const HopForecast& at(Hop hop) const { return hops[static_cast<std::size_t>(hop)]; }
  /// The bound of this step's bytes and FLOP, which no order of them can beat: the largest term.
  [[nodiscard]] double bound_seconds() const { return bound.empty() ? 0 : bound.front().seconds; }
  [[nodiscard]] StepResource binds() const {
    return bound.empty() ? StepResource::kCompute : bound.front().resource;
  }
  /// What no order of this step's work can beat.
  [[nodiscard]] double reachable_seconds() const {
    return std::max(bound_seconds(), cycle_seconds);
  }
  /// The bound's share of the step: 1 is a step that leaves nothing.
  [[nodiscard]] double fraction() const { return seconds > 0 ? bound_seconds() / seconds : 1; }
};

/// Forecasts a step of one rank; all ranks are taken to be alike.
///
/// It drives `Schedule` with the events of the engine (enter and leave of every unit, the ends of
/// micro-batches, changed weights), carries its actions out as UnitMover, GradientCoordinator and
/// WindowPipeline do, and lets every transfer and computation take its amount over its lane's
/// speed. A lane does one thing after the other; what two queues want of it at once they share. The
/// disk goes through what it is asked for in that order, as an I/O queue does: what waits behind a
/// window that is written is not read beside it, unless both are in flight.
///
/// The bound is that of the roofline model (Williams, Waterman, Patterson: "Roofline", CACM 2009)
/// with one roof for each resource:
///
///     T >= max( FLOP / compute, uploaded / upload, drained / drain, updated / update,
///               exchanged / exchange, max(r, w) + (1 - overlap) min(r, w) )
///     with r = read / disk_read, w = written / disk_write and an overlap of at least 0
///
/// and, where they share cores, FLOP / compute + updated / update in place of the two.
///
/// A step cannot always reach that bound, since it needs what it makes. Backward ends with the unit
/// that forward begins with: its update comes in between, and nothing is computed there. More
/// generally, let u be a unit, U the units that forward enters no later than u, C the computation
/// of a step and c that of the uses before u's first, once forward and once backward. From u's
/// first use in forward to its last in backward the device computes C - c, one after the other. So
/// all gradients of U come after that, and all weights of U are updated and back before it begins
/// again:
///
///     T >= C - c + max(c, lanes of U, update of u + way of u's weights back to the device)
///
/// for every u. Lanes of U take what the bound above says of U's updates, and so does u's update,
/// but for the states that windows have read before the gradients come. With n equal units and
/// equal lanes that is about 1 + 1/n times the bound.
///
/// Where no unit is updated before all gradients are known (a serial order, and one without early
/// units: clipping needs the norm), let f be the computation of the uses before u's first in
/// forward alone. From u's first use in forward to the end of backward the device computes C - f,
/// and no update of U begins before that end:
///
///     T >= C - f + max(f, lanes of U)
///
/// and, where they share cores, C with the additions to gradients. With equal units of which all
/// recompute that is backward, three quarters of C, and then forward or the disk's part of the
/// update, whichever is longer. `cycle_seconds` is the largest of all these.
///
/// Beside the next forward, an update that a region waits for gives it the weights from its
/// windows, which are not read again. Whether the windows have come to it by then depends on times
/// in the engine; here those count as begun that lie less than the rotation behind the unit in use.
///
/// Inputs of units that recompute go to the room that `PlanInput::activations` gives them when the
/// unit has run, as far as there is room, and come back before it runs again, as in
/// ActivationStore.
///
/// Not in it: the time to start a transfer, LibTorch's own allocations, and memory bandwidth that
/// copies and arithmetic take from one another. Transfers of large units are simulated in up to 256
/// parts each; of more than 4 micro-batches, one after the other, the time of one in the middle is
/// counted for the others.
///
/// The same input gives the same forecast. Throws ConfigError when a lane that is needed has no
/// speed above 0, when a use names no unit or its FLOP are negative or not finite, and for no uses
/// or micro-batches; UsageError for a plan of other units; BudgetError as Schedule does.
[[nodiscard]] StepForecast forecast_step(const Plan& plan, const PlanInput& input,
                                         const StepWork& work, const RankSpeeds& speeds,
                                         const StepOrder& order);

/// The kOverlapped order whose step is the shortest, of a few shares from 0 to 1, sixty-fourths:
/// the quarters, and what lies beside the best of them; a share that gains nothing is not taken.
/// Only 0 unless units may be updated `under_backward`.
[[nodiscard]] StepOrder shortest_overlap(const Plan& plan, const PlanInput& input,
                                         const StepWork& work, const RankSpeeds& speeds,
                                         bool under_backward);

}  // namespace strata::zero3
