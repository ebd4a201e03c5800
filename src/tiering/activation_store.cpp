#include "strata/tiering/activation_store.h"

#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "strata/base/error.h"
#include "tiering/activation_pages.h"

namespace strata::tiering {

/// Whether the store lives. Tickets come back under its mutex, from any thread.
struct ActivationStore::Link {
  std::mutex mutex;
  Impl* store = nullptr;
};

struct ActivationTicket::State {
  std::shared_ptr<ActivationStore::Link> link;
  std::vector<PagePart> parts;
  std::uint64_t bytes = 0;
  Event left;
};

/// All of it is used under the link's mutex.
struct ActivationStore::Impl : ActivationPages {
  Impl(const ActivationRoom& given, const Places& places, Counters& counters)
      : ActivationPages(given, places, counters), device(*places.device) {}
  Device& device;
  ActivationReading counts;  // but for those of transfers
};

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
  ActivationPages& pages = *impl_;
  auto state = std::make_unique<ActivationTicket::State>();
  state->link = link_;
  state->bytes = source.bytes();
  if (!pages.copies_at_once()) {
    impl_->device.wait(StreamRole::kDrain, impl_->device.record(StreamRole::kCompute));
  }
  // What has been copied of bytes that are not taken: their memory may serve others afterwards.
  const auto undo = [&] {
    pages.drop(state->parts);
    if (!pages.copies_at_once()) impl_->device.wait(StreamRole::kCompute, state->left);
  };
  try {
    for (std::uint64_t done = 0; done < source.bytes();) {
      const auto part = pages.put(source.subspan(done, source.bytes() - done));
      if (!part) {
        impl_->counts.refused += source.bytes();
        undo();
        return std::nullopt;
      }
      state->parts.push_back(*part);
      state->left = pages.arrived(*part);
      done += part->bytes;
    }
    pages.write_ahead();
  } catch (...) {
    undo();
    throw;
  }
  impl_->counts.put += source.bytes();
  return ActivationTicket(std::move(state));
}

void ActivationStore::bring(const ActivationTicket& ticket, DeviceSpan target) {
  if (ticket.state_->link != link_ || ticket.bytes() != target.bytes()) {
    throw UsageError("activations of " + std::to_string(ticket.bytes()) +
                     " bytes were to be brought to " + std::to_string(target.bytes()) +
                     ", or from another store");
  }
  const std::lock_guard lock(link_->mutex);
  ActivationPages& pages = *impl_;
  const std::vector<PagePart>& parts = ticket.state_->parts;
  if (parts.empty()) return;
  if (!pages.copies_at_once()) {
    impl_->device.wait(StreamRole::kUpload, impl_->device.record(StreamRole::kCompute));
  }
  pages.begin_to_read(parts);
  std::uint64_t done = 0;
  for (const PagePart& part : parts) {
    pages.bring(part, target.subspan(done, part.bytes));
    done += part.bytes;
  }
  if (!pages.copies_at_once()) {
    impl_->device.wait(StreamRole::kCompute, pages.copied(parts.back()));
  }
  pages.read_ahead(parts.back());
  impl_->counts.brought += done;
}

void ActivationStore::begin_group() {
  const std::lock_guard lock(link_->mutex);
  impl_->begin_group();
}

ActivationReading ActivationStore::reading() const {
  const std::lock_guard lock(link_->mutex);
  ActivationReading reading = impl_->counts;
  reading.written = impl_->written_bytes();
  reading.read = impl_->read_bytes();
  return reading;
}

}  // namespace strata::tiering
