#include "tiering/activation_pages.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <tuple>
#include <utility>

#include "strata/base/error.h"
#include "strata/base/units.h"
#include "strata/tiering/movement.h"

namespace strata::tiering {
namespace {

constexpr std::uint64_t kPartAlignment = 64;  // of activations within a page
constexpr std::size_t kWritesAhead = 8;       // pages that are written before their frame is wanted
constexpr std::size_t kReadsAhead = 16;       // pages on their way back at a time

}  // namespace

ActivationPages::ActivationPages(const ActivationRoom& room, const ActivationStore::Places& places,
                                 Counters& counters)
    : room_(room),
      places_(places),
      counters_(counters),
      copies_at_once_(places.device->properties().memory_is_host),
      writes_ahead_(std::clamp<std::size_t>(room.frames / 2, 1, kWritesAhead)),
      free_frames_(slots(room.frames)),
      free_places_(slots(room.places)) {}

/// Numbers from 0 on that are free, the lowest last.
std::vector<ActivationPages::Slot> ActivationPages::slots(std::uint64_t count) {
  std::vector<Slot> free;
  for (std::uint64_t slot = count; slot-- > 0;) free.push_back(static_cast<Slot>(slot));
  return free;
}

void ActivationPages::set_state(std::uint64_t number, Page& page, PageState state) {
  order_.remove(page.state, use_of(number, page));
  page.state = state;
  order_.add(state, use_of(number, page));
}

std::optional<PagePart> ActivationPages::put(DeviceSpan source) {
  const bool is_full = !filling_ || pages_.at(*filling_).filled >= room_.page_bytes;
  if (is_full && !open_page()) return std::nullopt;
  const std::uint64_t number = *filling_;
  Page& page = pages_.at(number);
  const std::uint64_t count = std::min(source.bytes(), room_.page_bytes - page.filled);
  const PagePart part{number, page.filled, count};
  copy_in(page, source.subspan(0, count), page.filled);
  page.filled = round_up(page.filled + count, kPartAlignment);
  ++page.users;
  order_.remove(page.state, use_of(number, page));
  page.group = group_;
  order_.add(page.state, use_of(number, page));
  return part;
}

void ActivationPages::bring(const PagePart& part, DeviceSpan target) {
  copy_out(in_frame(part.page), part.offset, target);
}

// ---- bytes -------------------------------------------------------------------------------------

namespace {

/// Memory of the host that has a device's name.
std::byte* host_memory(DeviceSpan span) { return reinterpret_cast<std::byte*>(span.address()); }

}  // namespace

void ActivationPages::copy_in(Page& page, DeviceSpan from, std::uint64_t offset) {
  const std::span<std::byte> to = memory_of(*page.frame).subspan(offset, from.bytes());
  if (!copies_at_once_) {
    page.arrived = drain(*places_.device, from, to, counters_).into_event();
    return;
  }
  const ScopedTimer busy(counters_, Hop::kDrain, ScopedTimer::Kind::kBusy, {}, to.size());
  std::memcpy(to.data(), host_memory(from), to.size());
  counters_.add_moved(Hop::kDrain, to.size());
}

void ActivationPages::copy_out(Page& page, std::uint64_t offset, DeviceSpan to) {
  const std::span<const std::byte> from = memory_of(*page.frame).subspan(offset, to.bytes());
  if (!copies_at_once_) {
    places_.device->wait(StreamRole::kUpload, page.arrived);
    page.copied = upload(*places_.device, from, to, counters_).into_event();
    return;
  }
  const ScopedTimer busy(counters_, Hop::kUpload, ScopedTimer::Kind::kBusy, {}, from.size());
  std::memcpy(host_memory(to), from.data(), from.size());
  counters_.add_moved(Hop::kUpload, from.size());
}

// ---- transfers ---------------------------------------------------------------------------------

/// Whether a transfer that found the queue full is to be tried again.
bool ActivationPages::has_room_in_queue(bool forced) const {
  if (!forced) return false;
  if (places_.store->wait_for_room(ShardStore::kPatience)) return true;
  throw DeadlineExceeded(
      "the I/O queue had no room for activations within 90 s; is the disk stuck (see dmesg)?",
      ETIMEDOUT);
}

/// Starts to write an unwritten page. False: there is no place for it, or, unless it is `forced`,
/// it would have to wait.
bool ActivationPages::start_write(std::uint64_t number, bool forced) {
  Page& page = pages_.at(number);
  if (free_places_.empty()) reap();
  if (free_places_.empty()) return false;
  if (!page.arrived.is_done()) {
    if (!forced) return false;
    const ScopedTimer waiting(counters_, Hop::kDrain, ScopedTimer::Kind::kWait);
    page.arrived.synchronize(kDevicePatience);
  }
  const std::span<std::byte> memory = memory_of(*page.frame);
  places_.device->note_host_read(memory);
  do {
    page.transfer = flush(*places_.store, *places_.extent, range_of(free_places_.back()), memory);
  } while (!page.transfer && has_room_in_queue(forced));
  if (!page.transfer) return false;
  page.place = free_places_.back();
  free_places_.pop_back();
  set_state(number, page, PageState::kWriting);
  written_bytes_ += room_.page_bytes;
  return true;
}

/// Starts to read a page that is on the disk alone. False: it would have to wait, and is not
/// `forced`.
bool ActivationPages::start_read(std::uint64_t number, Slot frame, bool forced) {
  Page& page = pages_.at(number);
  do {
    page.transfer = fetch(*places_.store, *places_.extent, range_of(*page.place), memory_of(frame));
  } while (!page.transfer && has_room_in_queue(forced));
  if (!page.transfer) {
    free_frames_.push_back(frame);
    return false;
  }
  page.frame = frame;
  set_state(number, page, PageState::kReading);
  read_bytes_ += room_.page_bytes;
  return true;
}

/// Waits until a page has been written or read.
void ActivationPages::finish_transfer(std::uint64_t number) {
  Page& page = pages_.at(number);
  const bool is_read = page.state == PageState::kReading;
  Transfer transfer = std::move(*std::exchange(page.transfer, std::nullopt));
  try {
    const ScopedTimer waiting(counters_, is_read ? Hop::kFetch : Hop::kFlush,
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
    places_.device->note_host_write(memory_of(*page.frame));
  }
  set_state(number, page, PageState::kInBoth);
}

void ActivationPages::write_ahead() {
  const auto coming = [&] {
    return free_frames_.size() + leaving_.size() + order_.count(PageState::kInBoth) +
           order_.count(PageState::kWriting);
  };
  while (room_.places > 0 && coming() < writes_ahead_) {
    const auto page = order_.last(PageState::kUnwritten);
    if (!page || !start_write(page->number, /*forced=*/false)) return;
  }
}

void ActivationPages::read_ahead(const PagePart& from) {
  auto page = order_.next(PageState::kOnDisk, use_of(from.page, pages_.at(from.page)));
  while (page && order_.count(PageState::kReading) < kReadsAhead) {
    const auto frame = try_take_frame(*page);
    if (!frame || !start_read(page->number, *frame, /*forced=*/false)) return;
    page = order_.next(PageState::kOnDisk, *page);
  }
}

void ActivationPages::begin_to_read(const std::vector<PagePart>& parts) {
  for (const PagePart& part : parts) {
    const Page& page = pages_.at(part.page);
    if (page.state != PageState::kOnDisk) continue;
    if (order_.count(PageState::kReading) >= kReadsAhead) return;
    const auto frame = try_take_frame(use_of(part.page, page));
    if (!frame || !start_read(part.page, *frame, /*forced=*/false)) return;
  }
}

/// The page, whose bytes are in its frame.
ActivationPages::Page& ActivationPages::in_frame(std::uint64_t number) {
  Page& page = pages_.at(number);
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
void ActivationPages::finish(Leaving& gone) {
  if (!gone.transfer) return;
  Transfer transfer = std::move(*std::exchange(gone.transfer, std::nullopt));
  try {
    transfer.wait();
  } catch (const Error&) {
    gone.place.reset();
  }
}

/// Takes back the frames and places of what has left.
void ActivationPages::reap() {
  std::erase_if(leaving_, [&](Leaving& gone) {
    if (gone.transfer && !gone.transfer->done()) return false;
    finish(gone);
    if (!gone.arrived.is_done() || !gone.copied.is_done()) return false;
    if (gone.place) free_places_.push_back(*gone.place);
    if (!gone.frame) return true;
    const bool is_lost =
        places_.store != nullptr && places_.store->lost_memory()->touches(memory_of(*gone.frame));
    if (!is_lost) free_frames_.push_back(*gone.frame);
    return true;
  });
}

void ActivationPages::wait_for_oldest_leaving() {
  Leaving& oldest = leaving_.front();
  finish(oldest);
  const ScopedTimer waiting(counters_, Hop::kUpload, ScopedTimer::Kind::kWait);
  oldest.arrived.synchronize(kDevicePatience);
  oldest.copied.synchronize(kDevicePatience);
}

/// Takes the frame from a page that has a place. It is free once the device's copies are over.
void ActivationPages::give_up_frame(std::uint64_t number) {
  Page& page = pages_.at(number);
  leaving_.push_back({.frame = std::exchange(page.frame, std::nullopt),
                      .place = {},
                      .arrived = std::exchange(page.arrived, {}),
                      .copied = std::exchange(page.copied, {}),
                      .transfer = {}});
  set_state(number, page, PageState::kOnDisk);
}

/// A frame that is free, or that of a page that has been written; with `sooner_than`, only of one
/// that is wanted later than that. Does not wait.
std::optional<ActivationPages::Slot> ActivationPages::try_take_frame(
    std::optional<PageUse> sooner_than) {
  reap();
  while (free_frames_.empty()) {
    const auto page = order_.last(PageState::kInBoth);
    if (!page || (sooner_than && *page < *sooner_than)) return std::nullopt;
    if (!pages_.at(page->number).copied.is_done()) return std::nullopt;
    give_up_frame(page->number);
    reap();
  }
  const Slot frame = free_frames_.back();
  free_frames_.pop_back();
  return frame;
}

/// A frame, for which it waits. Nullopt: none will come.
std::optional<ActivationPages::Slot> ActivationPages::take_frame() {
  while (true) {
    if (const auto frame = try_take_frame(std::nullopt)) return frame;
    if (const auto writing = order_.last(PageState::kWriting)) {
      finish_transfer(writing->number);
    } else if (const auto reading = order_.last(PageState::kReading)) {
      finish_transfer(reading->number);
    } else if (!leaving_.empty()) {
      wait_for_oldest_leaving();
    } else if (const auto copied = order_.last(PageState::kInBoth)) {
      give_up_frame(copied->number);
    } else {
      const auto unwritten = order_.last(PageState::kUnwritten);
      if (room_.places == 0 || !unwritten) return std::nullopt;
      if (!start_write(unwritten->number, /*forced=*/true)) return std::nullopt;
    }
  }
}

// ---- pages -------------------------------------------------------------------------------------

/// Whether there can be another page. A frame is kept for those that come back from the disk.
bool ActivationPages::may_open_page() const {
  return pages_.size() < (room_.places == 0 ? room_.frames : room_.frames - 1 + room_.places);
}

void ActivationPages::close_page() {
  if (!filling_) return;
  const std::uint64_t number = *std::exchange(filling_, std::nullopt);
  set_state(number, pages_.at(number), PageState::kUnwritten);
}

/// Makes the page that is filled from now on. False: not now.
bool ActivationPages::open_page() {
  close_page();
  if (!may_open_page()) return false;
  if (room_.places > 0 && order_.count(PageState::kUnwritten) + 1 >= room_.frames) {
    if (!start_write(order_.last(PageState::kUnwritten)->number, /*forced=*/true)) return false;
  }
  const auto frame = take_frame();
  if (!frame) return false;
  const std::uint64_t number = next_number_++;
  Page& page = pages_[number];
  page.group = group_;
  page.frame = *frame;
  order_.add(page.state, use_of(number, page));
  filling_ = number;
  return true;
}

/// Forgets a page that nobody wants any more.
void ActivationPages::forget(std::uint64_t number) {
  Page& page = pages_.at(number);
  if (filling_ == number) filling_.reset();
  leaving_.push_back({.frame = page.frame,
                      .place = page.place,
                      .arrived = std::move(page.arrived),
                      .copied = std::move(page.copied),
                      .transfer = std::move(page.transfer)});
  order_.remove(page.state, use_of(number, page));
  pages_.erase(number);
}

void ActivationPages::drop(const std::vector<PagePart>& parts) {
  for (const PagePart& part : parts) {
    if (--pages_.at(part.page).users == 0) forget(part.page);
  }
}

}  // namespace strata::tiering
