#pragma once

#include <cstdint>
#include <deque>
#include <exception>
#include <memory>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

#include "strata/base/counters.h"
#include "strata/tiering/device.h"
#include "strata/tiering/device_copy.h"
#include "strata/tiering/shard_store.h"
#include "strata/tiering/slot_pool.h"
#include "zero3/device_exchange.h"
#include "zero3/entry.h"
#include "zero3/freed_regions.h"
#include "zero3/schedule.h"
#include "zero3/step_thread.h"
#include "zero3/unit.h"

namespace strata::zero3 {

/// Brings units to the device and takes them away (hops 1 to 3), as the schedule decides: this
/// rank's shard from its home, the other shards from the other ranks.
///
/// A unit's weights come in pieces of a staging slot's size. A piece goes straight to the unit's
/// place on the device where it has one and the device's memory can be a target of the disk, which
/// host memory is; else it goes through a slot, from which it is uploaded. As many pieces are under
/// way as the schedule allows and the I/O queue takes. Weights that the optimizer's step is about
/// to change come from there instead, where they can go straight to the device. The weights of a
/// unit that rest in host memory or on the device are copied when it is entered.
///
/// The host does not wait for the device: events order computation behind uploads, and uploads into
/// a region behind the computations of its earlier units, and give slots back.
///
/// A unit is readable between `enter` and `leave`, on the device's compute stream; they nest, for
/// different units or the same one. Thread: the engine's.
class UnitMover {
 public:
  /// The places that it moves between; null or empty if the weights' home does not need them.
  struct Places {
    tiering::Device& device;
    tiering::DeviceSpan regions;  ///< for unsharded units; the schedule keeps the books
    DeviceExchange& exchange;
    tiering::ShardStore* store = nullptr;
    tiering::SlotPool* slots = nullptr;
    /// Changes weights at home: nothing is fetched of a unit, nor is it entered, before its own
    /// update is complete. Null where nothing trains.
    StepThread* updates = nullptr;
  };

  UnitMover(const ScheduleOptions& options, const std::vector<std::shared_ptr<Unit>>& units,
            const Places& places, Counters& counters);

  /// Makes `unit` readable, waiting for its bytes, and starts fetching what comes next. Throws
  /// IoError, DeadlineExceeded, CorruptData, of this unit or of starting the next; BudgetError when
  /// the units in use leave no room; what StepThread::wait_for, DeviceExchange::gather
  /// and Unit::check_parameters throw. The unit is not in use then.
  void enter(Unit& unit, Pass pass, View view);
  /// Gives `unit` back, also when the device has failed. Its bytes stay on the device while there
  /// is room, unless the unit says that they are spoiled.
  void leave(Unit& unit);

  /// Tells that the weights of `unit` at home are about to become those of another version: nothing
  /// is fetched or uploaded of them any more, and the device's copy is not valid once the unit is
  /// not in use.
  void change_weights(Unit& unit);
  /// Lets go of the staging slots.
  void release_staging();

  /// Do what Schedule's members do.
  void end_micro_batch(bool complete) { schedule_.end_micro_batch(complete); }
  void expect_step(bool follows) { schedule_.expect_step(follows); }
  void begin_step() { carry_out(schedule_.begin_step()); }

  /// One of the units in use, or null.
  [[nodiscard]] const Unit* unit_in_use() const;

 private:
  /// A part of one of the unit's vectors, on its way.
  struct Piece {
    const FlatVector* vector;
    tiering::ByteRange range;
    std::optional<tiering::StagingSlot> slot;     // none: it goes straight into the region
    std::optional<tiering::Transfer> transfer{};  // kept until it has been waited for
    std::exception_ptr failure{};                 // met by waiting for it out of turn
  };
  struct Arrival {
    const Unit* unit;
    tiering::DeviceSpan region{};     // empty until the unit has one
    bool owns_region = false;         // its earlier units are out of the way
    std::uint32_t pieces_wanted = 0;  // pieces still to be started
    bool is_starting = false;         // it is in `starting_`
    bool is_delivered = false;        // the step brings all of it
    std::size_t vector = 0;           // the next piece: which of the unit's vectors,
    std::uint64_t offset = 0;         // and from which byte
    std::deque<Piece> pieces{};       // started, oldest first
    tiering::Event uploaded{};        // event of the last piece
  };
  /// A slot whose bytes are on their way to the device.
  struct Upload {
    tiering::StagingSlot slot;
    tiering::DeviceCopy copy;
  };

  void carry_out(std::span<const Action> actions);
  void carry_out(const Action& action);
  /// Asks the step to bring the unit. False: it cannot.
  [[nodiscard]] bool have_delivered(Arrival& arrival);
  void unshard(Unit& unit, tiering::DeviceSpan region);
  void receive(Arrival& arrival);
  void upload(Arrival& arrival, Piece piece);
  void upload_from_home(const Unit& unit, tiering::DeviceSpan region);
  void gather(const Unit& unit, tiering::DeviceSpan region);
  /// Earlier uses of the region that are still under way.
  [[nodiscard]] std::vector<tiering::Event> take_over(tiering::DeviceSpan region);
  void order_uploads_behind_those_before(tiering::DeviceSpan region);
  void give_back(tiering::DeviceSpan region, tiering::Event last_use);
  /// Starts wanted pieces, until all are started, or a "not now".
  void start_pieces(Arrival& arrival);
  [[nodiscard]] bool is_changing(const Unit& unit) const;
  /// The arrival's region for host code, free of earlier computations.
  [[nodiscard]] std::span<std::byte> own_region(Arrival& arrival);
  [[nodiscard]] bool start_piece(Arrival& arrival, Piece piece);
  [[nodiscard]] std::optional<Piece> next_piece(Arrival& arrival) const;
  [[nodiscard]] std::optional<tiering::StagingSlot> acquire_slot();
  void wait_for(Piece& piece);
  void finish_oldest_upload();
  /// Goes on with the units whose pieces the queue had no room for.
  void start_waiting();
  void make_room_for(const Arrival& arrival);
  /// Waits for a piece of any unit. False when none is under way.
  bool wait_for_any();
  /// Gives up all that is under way for a unit, waiting for its end.
  void drop(UnitId unit);
  [[nodiscard]] tiering::DeviceSpan memory_of(const std::optional<tiering::Region>& region) const;

  bool into_regions_;
  const std::vector<std::shared_ptr<Unit>>& units_;
  Places places_;
  Counters& counters_;
  Schedule schedule_;
  std::unordered_map<UnitId, Arrival> arrivals_;
  std::size_t under_way_ = 0;    // pieces of all units with a transfer
  std::deque<UnitId> starting_;  // units with wanted pieces not started; in order
  std::deque<Upload> uploads_;   // oldest first
  FreedRegions freed_;
  std::vector<tiering::Event> last_use_;   // each unit's, by computation
  std::vector<tiering::Event> from_home_;  // the last upload of each unit from host memory
};

}  // namespace strata::zero3
