#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

#include "strata/base/counters.h"
#include "strata/tiering/activation_room.h"
#include "strata/tiering/activation_store.h"
#include "strata/tiering/device.h"
#include "strata/tiering/device_span.h"
#include "strata/tiering/transfer.h"
#include "tiering/page_order.h"

namespace strata::tiering {

/// A piece of an activation, in one page.
struct PagePart {
  std::uint64_t page, offset, bytes;
};

/// The pages of an ActivationStore: what is in which frame of host memory and which place on nvme,
/// and the transfers between the two. Pages that are wanted last are written first, and give up
/// their frames; those that are wanted next are read back. Errors are those of the tiers'
/// operations. Thread: one at a time.
class ActivationPages {
 public:
  /// Everything in `places` outlives it.
  ActivationPages(const ActivationRoom& room, const ActivationStore::Places& places,
                  Counters& counters);
  ActivationPages(const ActivationPages&) = delete;
  ActivationPages& operator=(const ActivationPages&) = delete;

  /// Whether copies are made at once: the device's memory is the host's. Else they are on its
  /// streams, ordered by events.
  [[nodiscard]] bool copies_at_once() const noexcept { return copies_at_once_; }

  /// Copies the first bytes of `source`, as many as a page has room for, behind what is on the
  /// drain stream. Not now (nullopt): there is no page for them. May wait for the disk.
  [[nodiscard]] std::optional<PagePart> put(DeviceSpan source);
  /// Done when the bytes that were put into the page so far have arrived.
  [[nodiscard]] const Event& arrived(const PagePart& part) const {
    return pages_.at(part.page).arrived;
  }
  /// Writes pages before somebody waits for their frames. Does not wait.
  void write_ahead();

  /// Begins to read the pages of these parts, as far as that needs no waiting.
  void begin_to_read(const std::vector<PagePart>& parts);
  /// Copies a part to `target`, of its length, behind what is on the upload stream. Waits for the
  /// disk where it is not in memory.
  void bring(const PagePart& part, DeviceSpan target);
  /// Done when what was brought from the page so far has been copied.
  [[nodiscard]] const Event& copied(const PagePart& part) const {
    return pages_.at(part.page).copied;
  }
  /// Reads pages that are wanted after this one, as far as frames are free or hold what is wanted
  /// later. Does not wait.
  void read_ahead(const PagePart& from);

  /// Lets go of parts that nobody wants any more.
  void drop(const std::vector<PagePart>& parts);
  /// What is put from now on is wanted before all that was put so far.
  void begin_group() { ++group_; }

  /// Bytes that were written to nvme, and read from there.
  [[nodiscard]] std::uint64_t written_bytes() const noexcept { return written_bytes_; }
  [[nodiscard]] std::uint64_t read_bytes() const noexcept { return read_bytes_; }

 private:
  /// A number of a frame or a place.
  using Slot = std::uint32_t;
  [[nodiscard]] static std::vector<Slot> slots(std::uint64_t count);

  struct Page {
    PageState state = PageState::kFilling;
    std::uint64_t group = 0;   // of the bytes that were put into it last
    std::uint64_t filled = 0;  // bytes
    std::uint64_t users = 0;   // parts of activations in it that are still wanted
    std::optional<Slot> frame, place;
    Event arrived;                     // of the bytes in the frame, from the device
    Event copied;                      // of the bytes of the frame, to the device
    std::optional<Transfer> transfer;  // while it is written or read
  };

  /// What a page that nobody wants any more had, until its transfer and copies are over.
  struct Leaving {
    std::optional<Slot> frame, place;
    Event arrived, copied;
    std::optional<Transfer> transfer;
  };

  // ---- pages ----
  [[nodiscard]] static PageUse use_of(std::uint64_t number, const Page& page) {
    return {page.group, number};
  }
  void set_state(std::uint64_t number, Page& page, PageState state);
  [[nodiscard]] std::span<std::byte> memory_of(Slot frame) const {
    return places_.memory.subspan(frame * room_.page_bytes, room_.page_bytes);
  }
  [[nodiscard]] ByteRange range_of(Slot place) const {
    return {place * room_.page_bytes, room_.page_bytes};
  }
  [[nodiscard]] bool may_open_page() const;
  [[nodiscard]] bool open_page();
  void close_page();
  void forget(std::uint64_t number);

  // ---- frames ----
  [[nodiscard]] std::optional<Slot> take_frame();
  [[nodiscard]] std::optional<Slot> try_take_frame(std::optional<PageUse> sooner_than);
  void give_up_frame(std::uint64_t number);
  void reap();
  void wait_for_oldest_leaving();
  void finish(Leaving& leaving);

  // ---- transfers ----
  [[nodiscard]] bool start_write(std::uint64_t number, bool forced);
  [[nodiscard]] bool start_read(std::uint64_t number, Slot frame, bool forced);
  [[nodiscard]] bool has_room_in_queue(bool forced) const;
  void finish_transfer(std::uint64_t number);
  [[nodiscard]] Page& in_frame(std::uint64_t number);

  // ---- bytes ----
  void copy_in(Page& page, DeviceSpan from, std::uint64_t offset);
  void copy_out(Page& page, std::uint64_t offset, DeviceSpan to);

  const ActivationRoom room_;
  const ActivationStore::Places places_;
  Counters& counters_;
  const bool copies_at_once_;
  const std::size_t writes_ahead_;
  std::vector<Slot> free_frames_, free_places_;
  std::unordered_map<std::uint64_t, Page> pages_;  // by number
  PageOrder order_;
  std::optional<std::uint64_t> filling_;  // the page that takes what is put next
  std::uint64_t next_number_ = 0;
  std::uint64_t group_ = 0;
  std::deque<Leaving> leaving_;
  std::uint64_t written_bytes_ = 0, read_bytes_ = 0;
};

}  // namespace strata::tiering
