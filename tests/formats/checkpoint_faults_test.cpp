#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <string>
#include <vector>

#include "strata/base/error.h"
#include "strata/formats/checkpoint_directory.h"
#include "strata/formats/checkpoint_manifest.h"
#include "strata/formats/writable_file.h"
#include "support/file_fault.h"
#include "support/temp_directory.h"

/// \file
/// A process that is killed at any call that changes a file, or for which any such call fails,
/// leaves a directory whose `latest` names a whole checkpoint; the next save clears up.

namespace strata::formats {
namespace {

namespace fs = std::filesystem;
using support::FileFault;
using support::TempDirectory;

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}

/// A checkpoint of two files, both of which say `text`.
void save(const fs::path& directory, const std::string& tag, const std::string& text,
          std::size_t keep) {
  Crc32 sum;
  sum.add(bytes_of(text));
  CheckpointHead head{.tag = tag};
  CheckpointOutput out(directory, tag);
  for (const char* name : {"a.bin", "b.bin"}) {
    WritableFile file = WritableFile::create_with_room(out.path() / name, text.size());
    file.write(0, bytes_of(text));
    file.sync_and_close();
    head.files.push_back({name, sum});
  }
  out.publish(manifest_text(head, {}));
  out.prune(keep);
}

std::string contents(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

/// What the checkpoint that `latest` names says; fails the test unless it is whole.
std::string whole_latest(const fs::path& directory) {
  const auto manifest = CheckpointManifest::read(directory / latest_tag(directory).value());
  require_files(manifest);
  for (const CheckpointFile& file : manifest.head().files) {
    const Crc32 sum = checksum_of(manifest.directory() / file.name, 0, file.sum.bytes());
    require_checksum(manifest, file, sum);
  }
  return contents(manifest.directory() / "a.bin");
}

std::size_t hidden_entries(const fs::path& directory) {
  return static_cast<std::size_t>(
      std::count_if(fs::directory_iterator(directory), {}, [](const fs::directory_entry& entry) {
        return entry.path().filename().string().starts_with('.');
      }));
}

/// A place where a thousand checkpoints are synced in no time, if there is one.
fs::path memory_or_temp() {
  return ::access("/dev/shm", W_OK) == 0 ? fs::path("/dev/shm") : fs::temp_directory_path();
}

/// How a child ended: 0 done, 1 an IoError, SIGKILL + 128.
int in_child(const FileFault& fault, const std::function<void()>& action) {
  const pid_t child = ::fork();
  if (child == 0) {
    support::arm(fault);
    try {
      action();
    } catch (const IoError&) {
      ::_exit(1);
    } catch (...) {
      ::_exit(2);
    }
    ::_exit(0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

/// Saves a second checkpoint with a fault at every one of its calls. Returns the number of calls.
long with_fault_at_every_call(FileFault fault, const std::string& tag) {
  for (fault.at = 1;; ++fault.at) {
    const TempDirectory directory(memory_or_temp());
    const fs::path run = directory / "run";
    save(run, "zero", "before", 0);
    save(run, "one", "old", 0);
    fault.under = run.string();
    const int end = in_child(fault, [&] { save(run, tag, "new", 2); });
    EXPECT_TRUE(end == 0 || end == 1 || end == 128 + SIGKILL) << "call " << fault.at << ": " << end;
    const std::string text = whole_latest(run);
    EXPECT_TRUE(text == "new" || text == "old") << "call " << fault.at;
    if (end == 0 && fault.kind != FileFault::Kind::kFail) {
      EXPECT_EQ(text, "new");
    }
    save(run, "last", "last", 3);
    EXPECT_EQ(whole_latest(run), "last");
    EXPECT_EQ(hidden_entries(run), 0u) << "call " << fault.at;
    support::arm({.under = run.string()});
    if (testing::Test::HasFailure()) return fault.at;
    if (end == 0 && (fault.kind != FileFault::Kind::kFail || fault.at > 60)) return fault.at - 1;
  }
}

class CheckpointFaults : public testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Tags, CheckpointFaults, testing::Values("two", "one"),
                         [](const auto& tested) {
                           return tested.param == "two" ? "ANewTag" : "InThePlaceOfTheLatest";
                         });

TEST_P(CheckpointFaults, AKillAtAnyCallLeavesAWholeLatest) {
  EXPECT_GE(with_fault_at_every_call({.kind = FileFault::Kind::kKill}, GetParam()), 20);
}

TEST_P(CheckpointFaults, AKillInTheMiddleOfAnyWriteLeavesAWholeLatest) {
  EXPECT_GE(with_fault_at_every_call({.kind = FileFault::Kind::kTear}, GetParam()), 20);
}

TEST_P(CheckpointFaults, ACallThatFailsLeavesAWholeLatest) {
  for (const int error : {EIO, ENOSPC, EROFS}) {
    EXPECT_GE(
        with_fault_at_every_call({.kind = FileFault::Kind::kFail, .error = error}, GetParam()), 20);
  }
}

TEST_P(CheckpointFaults, ADiskThatIsFullFromAnyCallOnLeavesAWholeLatest) {
  EXPECT_GE(
      with_fault_at_every_call({.kind = FileFault::Kind::kFailOn, .error = ENOSPC}, GetParam()),
      15);
}

}  // namespace
}  // namespace strata::formats
