#include "strata/tiering/home_transfer.h"

#include "strata/tiering/movement.h"

namespace strata::tiering {

bool HomeTransfer::done() {
  return std::visit([](auto& transfer) { return transfer.done(); }, transfer_);
}

void HomeTransfer::wait() {
  std::visit([](auto& transfer) { transfer.wait(); }, transfer_);
}

std::optional<HomeTransfer> fetch_home(const HomePlaces& places, const StateHome& home,
                                       ByteRange range, std::span<std::byte> target) {
  if (home.extent) {
    std::optional<Transfer> transfer = fetch(*places.store, *home.extent, range, target);
    if (!transfer) return std::nullopt;
    return HomeTransfer(*std::move(transfer));
  }
  return HomeTransfer(drain(*places.device, home.device.subspan(range.offset, range.bytes),
                            target.first(range.bytes), *places.counters));
}

std::optional<HomeTransfer> flush_home(const HomePlaces& places, const StateHome& home,
                                       ByteRange range, std::span<std::byte> source) {
  if (home.extent) {
    std::optional<Transfer> transfer = flush(*places.store, *home.extent, range, source);
    if (!transfer) return std::nullopt;
    return HomeTransfer(*std::move(transfer));
  }
  const std::span<std::byte> bytes = source.first(range.bytes);
  places.device->note_host_write(bytes);
  return HomeTransfer(upload(*places.device, bytes, home.device.subspan(range.offset, range.bytes),
                             *places.counters));
}

}  // namespace strata::tiering
