#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <memory>
#include <sstream>
#include <string>

#include "aio/aligned_buffer.h"
#include "aio/scripted_backend.h"
#include "strata/aio/io_queue.h"
#include "strata/base/error.h"
#include "strata/base/log.h"
#include "strata/base/units.h"
#include "support/message_of.h"

namespace strata::aio {

/// A queue over a scripted backend and a file of 16 blocks of 64 KiB with random bytes in it.
class ScriptedQueue : public testing::Test {
 protected:
  static constexpr std::uint32_t kBlockBytes = 64 << 10;
  static constexpr std::size_t kFileBlocks = 16;

  void SetUp() override {
    file.preallocate(kFileBlocks * kBlockBytes);
    on_disk.fill_randomly(1);
    ASSERT_EQ(::pwrite(file.fd(), on_disk.span().data(), on_disk.span().size(), 0),
              static_cast<ssize_t>(on_disk.span().size()));
  }

  void start() { queue = std::make_unique<IoQueue>(options, make_backend(), log); }
  std::unique_ptr<Backend> make_backend() { return std::make_unique<ScriptedBackend>(script); }

  /// A read or write of `count` blocks between the file and the same place of `buffer`.
  Operation blocks(OpKind kind, std::size_t first, std::size_t count) {
    return {.kind = kind,
            .file = &file,
            .offset = first * kBlockBytes,
            .buffer = buffer.span(first * kBlockBytes, count * kBlockBytes)};
  }
  Operation read_of(std::size_t first, std::size_t count) {
    return blocks(OpKind::kRead, first, count);
  }
  Operation write_of(std::size_t first, std::size_t count) {
    return blocks(OpKind::kWrite, first, count);
  }

  bool block_arrived(std::size_t index) {
    return std::ranges::equal(buffer.span(index * kBlockBytes, kBlockBytes),
                              on_disk.span(index * kBlockBytes, kBlockBytes));
  }

  /// The message of the error that `ticket.wait()` throws, which must be an E.
  template <typename E>
  static std::string message_of(IoTicket& ticket) {
    return support::message_of<E>([&] { ticket.wait(); });
  }

  IoFile file = IoFile::create_scratch(std::filesystem::current_path());
  AlignedBuffer on_disk{kFileBlocks * kBlockBytes};
  AlignedBuffer buffer{kFileBlocks * kBlockBytes};
  std::ostringstream log_text;
  Logger log{log_text};
  Script script;  // outlives the queue, which owns the backend
  IoQueueOptions options{.block_bytes = kBlockBytes, .depth = 4, .operations_max = 8};
  std::unique_ptr<IoQueue> queue;
};

}  // namespace strata::aio
