#include "block_check.h"

#include <xxhash.h>

#include <array>
#include <cstdio>
#include <cstring>

#include "number_text.h"
#include "random_bytes.h"

namespace strata::nvme_bench {
namespace {

constexpr std::uint64_t kMagic = 0x6b636f6c622d7364;  // "ds-block"

struct Stamp {
  std::uint64_t magic = kMagic;
  std::uint64_t offset = 0;
  std::uint64_t generation = 0;
  std::uint64_t checksum = 0;  // over the stamp with 0 here, and all that follows
};

std::uint64_t checksum_of(Stamp stamp, std::span<const std::byte> block) {
  stamp.checksum = 0;
  const auto rest = block.subspan(sizeof stamp);
  return XXH3_64bits_withSeed(rest.data(), rest.size(), XXH3_64bits(&stamp, sizeof stamp));
}

using Number = unsigned long long;  // the type that printf takes

std::string check_initial(const BlockPlace& place, std::span<const std::byte> bytes) {
  const std::size_t at = first_difference(bytes, place.fill_seed, place.offset);
  if (at == bytes.size()) return {};
  std::array<std::byte, sizeof(std::uint64_t)> expected{};
  const std::size_t word = at / expected.size() * expected.size();
  fill_random(expected, place.fill_seed, place.offset + word);
  return format(
      "byte %llu of a block that was not written since the file was filled: expected "
      "0x%02x, found 0x%02x",
      Number{at}, std::to_integer<unsigned>(expected[at - word]),
      std::to_integer<unsigned>(bytes[at]));
}

}  // namespace

void BlockCheck::prepare_write(const BlockPlace& place, std::span<std::byte> bytes) {
  Stamp stamp{.offset = place.offset, .generation = ++generations_[place.block]};
  fill_random(bytes, mix(place.fill_seed + stamp.generation), place.offset);
  stamp.checksum = checksum_of(stamp, bytes);
  std::memcpy(bytes.data(), &stamp, sizeof stamp);
}

std::string BlockCheck::check(const BlockPlace& place, std::span<const std::byte> bytes) const {
  const std::uint64_t expected = generations_[place.block];
  Stamp stamp;
  std::memcpy(&stamp, bytes.data(), sizeof stamp);
  if (stamp.magic != kMagic) {
    if (expected == 0) return check_initial(place, bytes);
    return format("expected generation %llu of this block, found bytes that are no block of ours",
                  Number{expected});
  }
  const std::uint64_t checksum = checksum_of(stamp, bytes);
  if (checksum != stamp.checksum) {
    return format("expected checksum %016llx (generation %llu), found %016llx",
                  Number{stamp.checksum}, Number{stamp.generation}, Number{checksum});
  }
  if (stamp.offset != place.offset) {
    return format(
        "expected the block of this offset, found that of offset %llu: a misdirected "
        "write or read",
        Number{stamp.offset});
  }
  if (expected != 0 && stamp.generation != expected) {
    return format("expected generation %llu, found %llu: a lost or stale write", Number{expected},
                  Number{stamp.generation});
  }
  return {};
}

}  // namespace strata::nvme_bench
