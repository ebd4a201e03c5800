#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "strata/base/error.h"
#include "strata/formats/checkpoint_directory.h"
#include "strata/formats/checkpoint_manifest.h"
#include "strata/formats/writable_file.h"
#include "support/file_fault.h"
#include "support/in_child.h"
#include "support/power_loss.h"
#include "support/temp_directory.h"
#include "support/torture.h"

/// \file
/// A process that is killed at any call that changes a file, or for which any such call fails, and
/// a machine whose power fails, leave a directory whose `latest` names a whole checkpoint; the next
/// save clears up. Whatever changes in a checkpoint is found.

namespace strata::formats::checkpoint_faults_test {
namespace {

namespace fs = std::filesystem;
using support::FileFault;
using support::report_cases;
using support::TempDirectory;
using support::torture_cases;
using support::torture_seed;

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
    file.write(0, bytes_of(text).first(text.size() / 3));
    file.write(text.size() / 3, bytes_of(text).subspan(text.size() / 3));
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

/// Reads it as those do who load it. Throws Error unless it is whole.
void verify(const fs::path& checkpoint) {
  const auto manifest = CheckpointManifest::read(checkpoint);
  require_files(manifest);
  for (const CheckpointFile& file : manifest.head().files) {
    const Crc32 sum = checksum_of(manifest.directory() / file.name, 0, file.sum.bytes());
    require_checksum(manifest, file, sum);
  }
}

/// What the checkpoint that `latest` names says; fails the test unless it is whole, and all of its
/// files are of one save.
std::string whole_latest(const fs::path& directory) {
  const fs::path checkpoint = directory / latest_tag(directory).value();
  verify(checkpoint);
  std::string text = contents(checkpoint / "a.bin");
  EXPECT_EQ(contents(checkpoint / "b.bin"), text);
  return text;
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

/// More than a save makes.
constexpr long kCallsMax = 60;

/// Saves a second checkpoint with a fault at every one of its calls. Returns the number of calls.
long with_fault_at_every_call(FileFault fault, const std::string& tag) {
  for (fault.at = 1;; ++fault.at) {
    const TempDirectory directory(memory_or_temp());
    const fs::path run = directory / "run";
    save(run, "zero", "before", 0);
    save(run, "one", "old", 0);
    fault.under = run.string();
    const int end = support::in_child(fault, [&] {
      save(run, tag, "new", 2);
      return 0;
    });
    EXPECT_TRUE(end == 0 || end == 1 || end == 128 + SIGKILL) << "call " << fault.at << ": " << end;
    if (fault.kind == FileFault::Kind::kShort) {
      EXPECT_EQ(end, 0);
    }
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
    const bool may_pass =
        fault.kind == FileFault::Kind::kFail || fault.kind == FileFault::Kind::kShort;
    if (end == 0 && (!may_pass || fault.at > kCallsMax)) return fault.at - 1;
  }
}

class CheckpointFaults : public testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Tags, CheckpointFaults, testing::Values("two", "one"),
                         [](const auto& tested) {
                           return tested.param == "two" ? "ANewTag" : "InThePlaceOfTheLatest";
                         });

TEST_P(CheckpointFaults, AKillAtAnyCallLeavesAWholeLatest) {
  long kills = 0;
  for (const auto kind :
       {FileFault::Kind::kKill, FileFault::Kind::kTear, FileFault::Kind::kKillAfter}) {
    const long calls = with_fault_at_every_call({.kind = kind}, GetParam());
    EXPECT_GE(calls, 20);
    kills += calls;
  }
  report_cases("kills at a call of a save", static_cast<std::uint64_t>(kills));
}

TEST_P(CheckpointFaults, ACallThatFailsLeavesAWholeLatest) {
  // The others of the list do nothing that these do not.
  std::vector<int> errors = {EIO, ENOSPC, EINTR};
  if (torture_cases(1) > 1) {
    errors.insert(errors.end(), {EROFS, EDQUOT, EAGAIN, EINVAL, EFAULT, ETIMEDOUT, EACCES, ENOMEM});
  }
  long injected = 0;
  for (const int error : errors) {
    for (const auto kind : {FileFault::Kind::kFail, FileFault::Kind::kFailOn}) {
      if (kind == FileFault::Kind::kFailOn && error == EINTR) continue;  // waited for, for good
      const long calls = with_fault_at_every_call({.kind = kind, .error = error}, GetParam());
      EXPECT_GE(calls, 15);
      injected += calls;
    }
  }
  report_cases("errors injected into a save", static_cast<std::uint64_t>(injected));
}

TEST_P(CheckpointFaults, AWriteThatIsCutShortGoesOn) {
  EXPECT_EQ(with_fault_at_every_call({.kind = FileFault::Kind::kShort}, GetParam()), kCallsMax);
}

// ---- power -------------------------------------------------------------------------------------

/// A save and what is there when it is over.
struct Save {
  std::string tag, text;
  std::size_t end = 0;  ///< calls of the journal
};

/// Saves made in a directory that the first one makes, some levels of it, and the calls of all.
struct Saves {
  Saves() : root(memory_or_temp()), run(root / "runs" / "today" / "checkpoints") {
    support::arm({.under = root.path().string()});
    support::record_into(&journal);
    for (Save& each : all) {
      save(run, each.tag, each.text, 2);
      each.end = journal.size();
    }
    support::record_into(nullptr);
    support::arm({});
  }
  TempDirectory root;
  fs::path run;
  std::vector<support::FileCall> journal;
  std::vector<Save> all = {{"one", std::string(3000, '1')},
                           {"two", std::string(2000, '2')},
                           {"two", std::string(4000, '3')},
                           {"three", std::string(100, '4')},
                           {"four", std::string(5000, '5')}};
};

/// Lets the power fail after `calls`. A save that was over then is there, or the one that was under
/// way.
void expect_whole_after(const Saves& saves, std::size_t calls, std::uint64_t seed) {
  SCOPED_TRACE("after call " + std::to_string(calls) + ", seed " + std::to_string(seed));
  support::PowerLoss disk(saves.root.path().string());
  for (std::size_t i = 0; i < calls; ++i) disk.replay(saves.journal[i]);
  const TempDirectory left(memory_or_temp());
  disk.fail(seed, left.path());

  const fs::path run = left.path() / saves.run.lexically_relative(saves.root.path());
  std::vector<std::string> possible;
  for (const Save& each : saves.all) {
    if (each.end <= calls) {
      possible = {each.text};
    } else {
      possible.push_back(each.text);
      break;
    }
  }
  const bool none_is_over = calls < saves.all.front().end;
  if (!none_is_over || (fs::exists(run) && latest_tag(run))) {
    EXPECT_THAT(possible, testing::Contains(whole_latest(run)));
  }
  save(run, "last", "last", 3);
  EXPECT_EQ(whole_latest(run), "last");
  EXPECT_EQ(hidden_entries(run), 0u);
}

TEST(CheckpointPower, ThatFailsAtAnyCallLeavesAWholeLatestWhateverWasNotSynced) {
  const Saves saves;
  std::uint64_t states = 0;
  for (std::uint64_t round = 0; round < torture_cases(1); ++round) {
    for (std::size_t calls = 0; calls <= saves.journal.size(); ++calls) {
      expect_whole_after(saves, calls, torture_seed() * 1'000'003 + states);
      ++states;
      if (testing::Test::HasFailure()) return;
    }
  }
  report_cases("power losses", states);
}

TEST(CheckpointPower, IsSimulatedSoThatASaveWithoutSyncsIsLost) {
  Saves saves;
  std::erase_if(saves.journal, [](const support::FileCall& call) {
    return call.kind == support::FileCall::Kind::kSync;
  });
  support::PowerLoss disk(saves.root.path().string());
  for (const support::FileCall& call : saves.journal) disk.replay(call);
  int whole = 0;
  for (std::uint64_t seed = 0; seed < 100; ++seed) {
    const TempDirectory left(memory_or_temp());
    disk.fail(seed, left.path());
    const fs::path run = left.path() / saves.run.lexically_relative(saves.root.path());
    try {
      if (latest_tag(run)) verify(run / *latest_tag(run)), ++whole;
    } catch (const Error&) {
      continue;
    }
  }
  EXPECT_GT(whole, 10);  // where all is kept
  EXPECT_LT(whole, 60);
}

// ---- what changes by itself --------------------------------------------------------------------

bool is_whole(const fs::path& run) {
  try {
    verify(run / latest_tag(run).value());
    return true;
  } catch (const Error&) {
    return false;
  }
}

/// A checkpoint whose bytes are changed and put back.
class Damage {
 public:
  Damage(const fs::path& run, std::uint64_t seed) : run_(run), random_(seed) {
    save(run, "old", text(), 0);
    save(run, "new", text(), 0);
    for (const auto& entry : fs::directory_iterator(run / "new")) files_.push_back(entry.path());
    files_.push_back(run / "latest");
    std::ranges::sort(files_);
  }

  /// Changes a file in the way of that number; false where that changes nothing.
  bool strike(int way) {
    file_ = files_[below(files_.size())];
    before_ = contents(file_);
    std::string bytes = before_;
    const std::size_t place = below(bytes.size());
    const std::size_t other = below(bytes.size());
    const std::size_t length = 1 + below(std::min<std::size_t>(4096, bytes.size() - place));
    switch (way) {
      case 0: bytes[place] = static_cast<char>(bytes[place] ^ (1 << below(8))); break;
      case 1:
        for (std::size_t i = 0; i < length; ++i) bytes[place + i] = static_cast<char>(random_());
        break;
      case 2: bytes.replace(place, length, before_.substr(other, length)); break;
      case 3: {  // the bytes of an older save
        const std::string old = contents(run_ / "old" / file_.filename());
        if (place < old.size()) bytes.replace(place, length, old.substr(place, length));
        break;
      }
      default: bytes.resize(place);
    }
    write(bytes);
    return bytes != before_ && bytes + "\n" != before_;  // `latest` needs no end of its line
  }
  void heal() { write(before_); }
  [[nodiscard]] std::string name() const { return file_.filename().string(); }

 private:
  std::size_t below(std::size_t bound) { return random_() % std::max<std::size_t>(bound, 1); }
  std::string text() {
    std::string text(10'000, '\0');
    for (char& byte : text) byte = static_cast<char>(random_());
    return text;
  }
  void write(const std::string& bytes) const {
    std::ofstream(file_, std::ios::binary | std::ios::trunc) << bytes;
  }

  fs::path run_;
  std::mt19937_64 random_;
  std::vector<fs::path> files_;
  fs::path file_;
  std::string before_;
};

TEST(CheckpointDamage, OfAnyKindInAnyFileIsFound) {
  const TempDirectory directory(memory_or_temp());
  const std::array<const char*, 5> ways = {"bit flips", "bursts", "misdirected blocks",
                                           "stale blocks", "truncations"};
  Damage damage(directory.path(), torture_seed());
  for (int way = 0; way < 5; ++way) {
    std::uint64_t struck = 0;
    for (std::uint64_t i = 0; i < torture_cases(way == 0 ? 200 : 32); ++i) {
      if (damage.strike(way)) {
        ++struck;
        EXPECT_FALSE(is_whole(directory.path()))
            << ways[static_cast<std::size_t>(way)] << " " << i << " in " << damage.name();
      }
      damage.heal();
      if (testing::Test::HasFailure()) return;
    }
    EXPECT_TRUE(is_whole(directory.path()));
    report_cases(ways[static_cast<std::size_t>(way)], struck);
  }
}

}  // namespace
}  // namespace strata::formats::checkpoint_faults_test
