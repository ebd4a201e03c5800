// Writes a block through the I/O engine of an installed Strata and reads it back.

#include <algorithm>
#include <array>
#include <filesystem>
#include <iostream>

#include "strata/aio/io_file.h"
#include "strata/aio/io_queue.h"
#include "strata/base/log.h"
#include "strata/base/units.h"

namespace {
constexpr std::size_t kBlockBytes = 4096;
alignas(kBlockBytes) std::array<std::byte, kBlockBytes> sent;
alignas(kBlockBytes) std::array<std::byte, kBlockBytes> received;
}  // namespace

int main() {
  using namespace strata;
  const std::filesystem::path directory = std::filesystem::current_path();
  Logger log;
  aio::IoQueue queue({}, directory, log);
  aio::IoFile file = aio::IoFile::create_scratch(directory);
  file.preallocate(kBlockBytes);

  sent.fill(std::byte{42});
  queue.submit({aio::OpKind::kWrite, &file, 0, sent}).wait();
  queue.submit({aio::OpKind::kRead, &file, 0, received}).wait();

  std::cout << format_bytes(kBlockBytes) << " through " << queue.description() << '\n';
  return std::ranges::equal(sent, received) ? 0 : 1;
}
