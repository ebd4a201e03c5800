#include "strata/tiering/activation_store.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <deque>
#include <mutex>
#include <string>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <vector>

#include "strata/base/error.h"
#include "strata/base/units.h"
#include "strata/tiering/movement.h"
#include "tiering/page_order.h"

namespace strata::tiering {
namespace {

constexpr std::uint64_t kPartAlignment = 64;  // of activations within a page
constexpr std::size_t kWritesAhead = 8;       // pages that are written before their frame is wanted
constexpr std::size_t kReadsAhead = 16;       // pages on their way back at a time

/// A number of a frame or a place.
using Slot = std::uint32_t;

/// Numbers from 0 on that are free, the lowest last.
std::vector<Slot> slots(std::uint64_t count) {
  std::vector<Slot> free;
  for (std::uint64_t slot = count; slot-- > 0;) free.push_back(static_cast<Slot>(slot));
  return free;
}

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

/// A piece of an activation, in one page.
struct Part {
  std::uint64_t page, offset, bytes;
};

}  // namespace

/// Whether the store lives. Tickets come back under its mutex, from any thread.
struct ActivationStore::Link {
  std::mutex mutex;
  Impl* store = nullptr;
};

struct ActivationTicket::State {
  std::shared_ptr<ActivationStore::Link> link;
  std::vector<Part> parts;
  std::uint64_t bytes = 0;
  Event left;
};

/// All of it is used under the link's mutex.
struct ActivationStore::Impl {
  Impl(const ActivationRoom& given, const Places& given_places, Counters& hop_counters)
      : room(given),
        places(given_places),
        counters(hop_counters),
        copies_at_once(given_places.device->properties().memory_is_host),
        writes_ahead(std::clamp<std::size_t>(given.frames / 2, 1, kWritesAhead)),
        free_frames(slots(given.frames)),
        free_places(slots(given.places)) {}

  // ---- pages ----
  [[nodiscard]] static PageUse use_of(std::uint64_t number, const Page& page) {
    return {page.group, number};
  }
  void set_state(std::uint64_t number, Page& page, PageState state) {
    order.remove(page.state, use_of(number, page));
    page.state = state;
    order.add(state, use_of(number, page));
  }
  [[nodiscard]] std::span<std::byte> memory_of(Slot frame) const {
    return places.memory.subspan(frame * room.page_bytes, room.page_bytes);
  }
  [[nodiscard]] ByteRange range_of(Slot place) const {
    return {place * room.page_bytes, room.page_bytes};
  }
  [[nodiscard]] bool may_open_page() const;
  [[nodiscard]] bool open_page();
  void close_page();
  void forget(std::uint64_t number);
  void drop(const std::vector<Part>& parts);

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
  void write_ahead();
  void read_ahead(PageUse from);
  void begin_to_read(const std::vector<Part>& parts);
  [[nodiscard]] Page& in_frame(std::uint64_t number);

  // ---- bytes ----
  void copy_in(Page& page, DeviceSpan from, std::uint64_t offset);
  void copy_out(Page& page, std::uint64_t offset, DeviceSpan to);

  const ActivationRoom room;
  const Places places;
  Counters& counters;
  const bool copies_at_once;
  const std::size_t writes_ahead;
  std::vector<Slot> free_frames, free_places;
  std::unordered_map<std::uint64_t, Page> pages;  // by number
  PageOrder order;
  std::optional<std::uint64_t> filling;  // the page that takes what is put next
  std::uint64_t next_number = 0;
  std::uint64_t group = 0;
  std::deque<Leaving> leaving;
  ActivationReading read_out;
};

// ---- bytes -------------------------------------------------------------------------------------

namespace {

/// Memory of the host that has a device's name.
std::byte* host_memory(DeviceSpan span) { return reinterpret_cast<std::byte*>(span.address()); }

}  // namespace

void ActivationStore::Impl::copy_in(Page& page, DeviceSpan from, std::uint64_t offset) {
  const std::span<std::byte> to = memory_of(*page.frame).subspan(offset, from.bytes());
  if (!copies_at_once) {
    page.arrived = drain(*places.device, from, to, counters).into_event();
    return;
  }
  const ScopedTimer busy(counters, Hop::kDrain, ScopedTimer::Kind::kBusy, {}, to.size());
  std::memcpy(to.data(), host_memory(from), to.size());
  counters.add_moved(Hop::kDrain, to.size());
}

void ActivationStore::Impl::copy_out(Page& page, std::uint64_t offset, DeviceSpan to) {
  const std::span<const std::byte> from = memory_of(*page.frame).subspan(offset, to.bytes());
  if (!copies_at_once) {
    places.device->wait(StreamRole::kUpload, page.arrived);
    page.copied = upload(*places.device, from, to, counters).into_event();
    return;
  }
  const ScopedTimer busy(counters, Hop::kUpload, ScopedTimer::Kind::kBusy, {}, from.size());
  std::memcpy(host_memory(to), from.data(), from.size());
  counters.add_moved(Hop::kUpload, from.size());
}

// ---- transfers ---------------------------------------------------------------------------------

/// Whether a transfer that found the queue full is to be tried again.
bool ActivationStore::Impl::has_room_in_queue(bool forced) const {
  if (!forced) return false;
  if (places.store->wait_for_room(ShardStore::kPatience)) return true;
  throw DeadlineExceeded(
      "the I/O queue had no room for activations within 90 s; is the disk stuck (see dmesg)?",
      ETIMEDOUT);
}

/// Starts to write an unwritten page. False: there is no place for it, or, unless it is `forced`,
/// it would have to wait.
bool ActivationStore::Impl::start_write(std::uint64_t number, bool forced) {
  Page& page = pages.at(number);
  if (free_places.empty()) reap();
  if (free_places.empty()) return false;
  if (!page.arrived.is_done()) {
    if (!forced) return false;
    const ScopedTimer waiting(counters, Hop::kDrain, ScopedTimer::Kind::kWait);
    page.arrived.synchronize(kDevicePatience);
  }
  const std::span<std::byte> memory = memory_of(*page.frame);
  places.device->note_host_read(memory);
  do {
    page.transfer = flush(*places.store, *places.extent, range_of(free_places.back()), memory);
  } while (!page.transfer && has_room_in_queue(forced));
  if (!page.transfer) return false;
  page.place = free_places.back();
  free_places.pop_back();
  set_state(number, page, PageState::kWriting);
  read_out.written += room.page_bytes;
  return true;
}

/// Starts to read a page that is on the disk alone. False: it would have to wait, and is not
/// `forced`.
bool ActivationStore::Impl::start_read(std::uint64_t number, Slot frame, bool forced) {
  Page& page = pages.at(number);
  do {
    page.transfer = fetch(*places.store, *places.extent, range_of(*page.place), memory_of(frame));
  } while (!page.transfer && has_room_in_queue(forced));
  if (!page.transfer) {
    free_frames.push_back(frame);
    return false;
  }
  page.frame = frame;
  set_state(number, page, PageState::kReading);
  read_out.read += room.page_bytes;
  return true;
}

/// Waits until a page has been written or read.
void ActivationStore::Impl::finish_transfer(std::uint64_t number) {
  Page& page = pages.at(number);
  const bool is_read = page.state == PageState::kReading;
  Transfer transfer = std::move(*std::exchange(page.transfer, std::nullopt));
  try {
    const ScopedTimer waiting(counters, is_read ? Hop::kFetch : Hop::kFlush,
                              ScopedTimer::Kind::kWait);
    transfer.wait();
  } catch (...) {
    if (is_read) {
      give_up_frame(number);
    } else {
      page.place.reset();  // the disk may still write there: nothing else goes to it
      set_state(number, page, PageState::kUnwritten);
    }
    throw;
  }
  if (is_read) {
    page.arrived = {};
    places.device->note_host_write(memory_of(*page.frame));
  }
  set_state(number, page, PageState::kInBoth);
}

/// Writes pages before somebody waits for their frames.
void ActivationStore::Impl::write_ahead() {
  const auto coming = [&] {
    return free_frames.size() + leaving.size() + order.count(PageState::kInBoth) +
           order.count(PageState::kWriting);
  };
  while (room.places > 0 && coming() < writes_ahead) {
    const auto page = order.last(PageState::kUnwritten);
    if (!page || !start_write(page->number, /*forced=*/false)) return;
  }
}

/// Reads the pages that are wanted after this one, as far as frames are free or hold what is wanted
/// later.
void ActivationStore::Impl::read_ahead(PageUse from) {
  auto page = order.next(PageState::kOnDisk, from);
  while (page && order.count(PageState::kReading) < kReadsAhead) {
    const auto frame = try_take_frame(*page);
    if (!frame || !start_read(page->number, *frame, /*forced=*/false)) return;
    page = order.next(PageState::kOnDisk, *page);
  }
}

/// Reads an activation's own pages, as far as that needs no waiting.
void ActivationStore::Impl::begin_to_read(const std::vector<Part>& parts) {
  for (const Part& part : parts) {
    const Page& page = pages.at(part.page);
    if (page.state != PageState::kOnDisk) continue;
    if (order.count(PageState::kReading) >= kReadsAhead) return;
    const auto frame = try_take_frame(use_of(part.page, page));
    if (!frame || !start_read(part.page, *frame, /*forced=*/false)) return;
  }
}

/// The page, whose bytes are in its frame.
Page& ActivationStore::Impl::in_frame(std::uint64_t number) {
  Page& page = pages.at(number);
  if (page.state == PageState::kOnDisk) {
    const auto frame = take_frame();
    STRATA_CHECK(frame.has_value(), "no frame for a page of activations and none on its way");
    std::ignore = start_read(number, *frame, /*forced=*/true);
  }
  if (page.state == PageState::kReading) finish_transfer(number);
  return page;
}

// ---- frames ------------------------------------------------------------------------------------

/// Ends the transfer of a page that nobody wants; what it says of the disk is of no use.
void ActivationStore::Impl::finish(Leaving& gone) {
  if (!gone.transfer) return;
  Transfer transfer = std::move(*std::exchange(gone.transfer, std::nullopt));
  try {
    transfer.wait();
  } catch (const Error&) {
    gone.place.reset();
  }
}

/// Takes back the frames and places of what has left.
void ActivationStore::Impl::reap() {
  std::erase_if(leaving, [&](Leaving& gone) {
    if (gone.transfer && !gone.transfer->done()) return false;
    finish(gone);
    if (!gone.arrived.is_done() || !gone.copied.is_done()) return false;
    if (gone.place) free_places.push_back(*gone.place);
    if (!gone.frame) return true;
    const bool is_lost =
        places.store != nullptr && places.store->lost_memory()->touches(memory_of(*gone.frame));
    if (!is_lost) free_frames.push_back(*gone.frame);
    return true;
  });
}

void ActivationStore::Impl::wait_for_oldest_leaving() {
  Leaving& oldest = leaving.front();
  finish(oldest);
  const ScopedTimer waiting(counters, Hop::kUpload, ScopedTimer::Kind::kWait);
  oldest.arrived.synchronize(kDevicePatience);
  oldest.copied.synchronize(kDevicePatience);
}

/// Takes the frame from a page that has a place. It is free once the device's copies are over.
void ActivationStore::Impl::give_up_frame(std::uint64_t number) {
  Page& page = pages.at(number);
  leaving.push_back({.frame = std::exchange(page.frame, std::nullopt),
                     .place = {},
                     .arrived = std::exchange(page.arrived, {}),
                     .copied = std::exchange(page.copied, {}),
                     .transfer = {}});
  set_state(number, page, PageState::kOnDisk);
}

/// A frame that is free, or that of a page that has been written; with `sooner_than`, only of one
/// that is wanted later than that. Does not wait.
std::optional<Slot> ActivationStore::Impl::try_take_frame(std::optional<PageUse> sooner_than) {
  reap();
  while (free_frames.empty()) {
    const auto page = order.last(PageState::kInBoth);
    if (!page || (sooner_than && *page < *sooner_than)) return std::nullopt;
    if (!pages.at(page->number).copied.is_done()) return std::nullopt;
    give_up_frame(page->number);
    reap();
  }
  const Slot frame = free_frames.back();
  free_frames.pop_back();
  return frame;
}

/// A frame, for which it waits. Nullopt: none will come.
std::optional<Slot> ActivationStore::Impl::take_frame() {
  while (true) {
    if (const auto frame = try_take_frame(std::nullopt)) return frame;
    if (const auto writing = order.last(PageState::kWriting)) {
      finish_transfer(writing->number);
    } else if (const auto reading = order.last(PageState::kReading)) {
      finish_transfer(reading->number);
    } else if (!leaving.empty()) {
      wait_for_oldest_leaving();
    } else if (const auto copied = order.last(PageState::kInBoth)) {
      give_up_frame(copied->number);
    } else {
      const auto unwritten = order.last(PageState::kUnwritten);
      if (room.places == 0 || !unwritten) return std::nullopt;
      if (!start_write(unwritten->number, /*forced=*/true)) return std::nullopt;
    }
  }
}

// ---- pages -------------------------------------------------------------------------------------

/// Whether there can be another page. A frame is kept for those that come back from the disk.
bool ActivationStore::Impl::may_open_page() const {
  return pages.size() < (room.places == 0 ? room.frames : room.frames - 1 + room.places);
}

void ActivationStore::Impl::close_page() {
  if (!filling) return;
  const std::uint64_t number = *std::exchange(filling, std::nullopt);
  set_state(number, pages.at(number), PageState::kUnwritten);
}

/// Makes the page that is filled from now on. False: not now.
bool ActivationStore::Impl::open_page() {
  close_page();
  if (!may_open_page()) return false;
  if (room.places > 0 && order.count(PageState::kUnwritten) + 1 >= room.frames) {
    if (!start_write(order.last(PageState::kUnwritten)->number, /*forced=*/true)) return false;
  }
  const auto frame = take_frame();
  if (!frame) return false;
  const std::uint64_t number = next_number++;
  Page& page = pages[number];
  page.group = group;
  page.frame = *frame;
  order.add(page.state, use_of(number, page));
  filling = number;
  return true;
}

/// Forgets a page that nobody wants any more.
void ActivationStore::Impl::forget(std::uint64_t number) {
  Page& page = pages.at(number);
  if (filling == number) filling.reset();
  leaving.push_back({.frame = page.frame,
                     .place = page.place,
                     .arrived = std::move(page.arrived),
                     .copied = std::move(page.copied),
                     .transfer = std::move(page.transfer)});
  order.remove(page.state, use_of(number, page));
  pages.erase(number);
}

void ActivationStore::Impl::drop(const std::vector<Part>& parts) {
  for (const Part& part : parts) {
    if (--pages.at(part.page).users == 0) forget(part.page);
  }
}

// ---- tickets -----------------------------------------------------------------------------------

ActivationTicket::ActivationTicket(std::unique_ptr<State> state) : state_(std::move(state)) {}
ActivationTicket::ActivationTicket(ActivationTicket&&) noexcept = default;
ActivationTicket& ActivationTicket::operator=(ActivationTicket&& other) noexcept {
  std::swap(state_, other.state_);
  ActivationTicket(std::move(other));  // gives the old room back now
  return *this;
}

ActivationTicket::~ActivationTicket() {
  if (!state_) return;
  const std::lock_guard lock(state_->link->mutex);
  if (state_->link->store != nullptr) state_->link->store->drop(state_->parts);
}

std::uint64_t ActivationTicket::bytes() const noexcept { return state_->bytes; }
const Event& ActivationTicket::left() const noexcept { return state_->left; }

// ---- the store ---------------------------------------------------------------------------------

ActivationStore::ActivationStore(const ActivationRoom& room, const Places& places,
                                 Counters& counters)
    : room_(room) {
  const bool has_places = room.places == 0 || (places.store != nullptr && places.extent &&
                                               places.extent->bytes >= room.nvme_bytes());
  if (room.is_empty() || places.device == nullptr || places.memory.size() < room.host_bytes() ||
      !has_places) {
    throw UsageError(
        "a store of activations was made without the memory, the device or the extent "
        "of its room");
  }
  impl_ = std::make_unique<Impl>(room, places, counters);
  link_ = std::make_shared<Link>();
  link_->store = impl_.get();
}

ActivationStore::~ActivationStore() {
  const std::lock_guard lock(link_->mutex);
  link_->store = nullptr;
  impl_.reset();
}

std::optional<ActivationTicket> ActivationStore::put(DeviceSpan source) {
  const std::lock_guard lock(link_->mutex);
  Impl& store = *impl_;
  auto state = std::make_unique<ActivationTicket::State>();
  state->link = link_;
  state->bytes = source.bytes();
  std::vector<Part>& parts = state->parts;
  Device& device = *store.places.device;
  if (!store.copies_at_once) {
    device.wait(StreamRole::kDrain, device.record(StreamRole::kCompute));
  }
  // What has been copied of bytes that are not taken: their memory may serve others afterwards.
  const auto undo = [&] {
    store.drop(parts);
    if (!store.copies_at_once) device.wait(StreamRole::kCompute, state->left);
  };
  try {
    for (std::uint64_t done = 0; done < source.bytes();) {
      const bool is_full =
          !store.filling || store.pages.at(*store.filling).filled >= room_.page_bytes;
      if (is_full && !store.open_page()) {
        store.read_out.refused += source.bytes();
        undo();
        return std::nullopt;
      }
      const std::uint64_t number = *store.filling;
      Page& page = store.pages.at(number);
      const std::uint64_t count = std::min(source.bytes() - done, room_.page_bytes - page.filled);
      store.copy_in(page, source.subspan(done, count), page.filled);
      parts.push_back({number, page.filled, count});
      page.filled = round_up(page.filled + count, kPartAlignment);
      ++page.users;
      store.order.remove(page.state, Impl::use_of(number, page));
      page.group = store.group;
      store.order.add(page.state, Impl::use_of(number, page));
      state->left = page.arrived;
      done += count;
    }
    store.write_ahead();
  } catch (...) {
    undo();
    throw;
  }
  store.read_out.put += source.bytes();
  return ActivationTicket(std::move(state));
}

void ActivationStore::bring(const ActivationTicket& ticket, DeviceSpan target) {
  if (ticket.state_->link != link_ || ticket.bytes() != target.bytes()) {
    throw UsageError("activations of " + std::to_string(ticket.bytes()) +
                     " bytes were to be brought to " + std::to_string(target.bytes()) +
                     ", or from another store");
  }
  const std::lock_guard lock(link_->mutex);
  Impl& store = *impl_;
  const std::vector<Part>& parts = ticket.state_->parts;
  if (parts.empty()) return;
  Device& device = *store.places.device;
  if (!store.copies_at_once) {
    device.wait(StreamRole::kUpload, device.record(StreamRole::kCompute));
  }
  store.begin_to_read(parts);
  std::uint64_t done = 0;
  for (const Part& part : parts) {
    Page& page = store.in_frame(part.page);
    store.copy_out(page, part.offset, target.subspan(done, part.bytes));
    done += part.bytes;
  }
  const Page& last = store.pages.at(parts.back().page);
  if (!store.copies_at_once) device.wait(StreamRole::kCompute, last.copied);
  store.read_ahead(Impl::use_of(parts.back().page, last));
  store.read_out.brought += done;
}

void ActivationStore::begin_group() {
  const std::lock_guard lock(link_->mutex);
  ++impl_->group;
}

ActivationReading ActivationStore::reading() const {
  const std::lock_guard lock(link_->mutex);
  return impl_->read_out;
}

}  // namespace strata::tiering
