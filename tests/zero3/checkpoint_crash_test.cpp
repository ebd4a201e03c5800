#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <exception>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "strata/base/error.h"
#include "support/file_fault.h"
#include "support/in_child.h"
#include "support/power_loss.h"
#include "support/shared_value.h"
#include "support/temp_directory.h"
#include "support/torture.h"
#include "zero3/layer_stack.h"
#include "zero3/thread_world.h"

/// \file
/// Engines that save and load while processes are killed, power fails, and system calls do: a run
/// goes on bit for bit, and what cannot go on says so. All that computes is a child of the test:
/// what forks has not computed.

namespace strata {
namespace {

namespace fs = std::filesystem;
using small::masters_of;
using small::message_of;
using small::Stack;
using support::FileFault;
using support::in_child;
using support::report_cases;
using support::TempDirectory;
using support::torture_cases;
using support::torture_seed;
using testing::HasSubstr;

constexpr std::int64_t kMicroBatchesOfStep = 2;
constexpr std::int64_t kMicroBatches = 7;  // the last step is in the middle

/// A place where a thousand checkpoints are synced in no time, if there is one.
fs::path memory_or_temp() {
  return ::access("/dev/shm", W_OK) == 0 ? fs::path("/dev/shm") : fs::temp_directory_path();
}

/// Everything in host memory in fp32, or on nvme in 16 and 8 bits.
formats::DsConfig config_of(bool on_nvme, const fs::path& scratch) {
  formats::DsConfig config =
      on_nvme ? small::on_nvme(Precision::kBf16)
              : small::config_for(formats::OffloadDevice::kCpu, Precision::kFp32);
  config.gradient_accumulation_steps = kMicroBatchesOfStep;
  config.strata.nvme_directories = {scratch.string()};
  config.strata.threads = 1;
  config.strata.io = IoBackend::kThreads;
  if (on_nvme) config.strata.states.moments = MomentFormat::kInt8;
  return config;
}

std::string contents(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

/// All bytes of a checkpoint but the manifest's, by file.
std::map<std::string, std::string> states_in(const fs::path& checkpoint) {
  std::map<std::string, std::string> states;
  for (const auto& entry : fs::directory_iterator(checkpoint)) {
    const std::string name = entry.path().filename().string();
    if (name.ends_with(".safetensors")) states[name] = contents(entry.path());
  }
  return states;
}

/// Trains to the end from what there is, and saves after every micro-batch, so that checkpoints
/// come under new names, in the place of others, and older ones go.
int train_and_save(const formats::DsConfig& config, const fs::path& run) {
  Stack stack(config);
  std::int64_t micro = 0;
  if (find_checkpoint(run)) {
    const CheckpointInfo info = stack.engine.load_checkpoint(run);
    micro = info.step * kMicroBatchesOfStep + info.micro_steps;
  }
  for (; micro < kMicroBatches; ++micro) {
    stack.train(static_cast<std::uint64_t>(micro));
    stack.engine.save_checkpoint(run, {}, {.keep = 2});
  }
  return 0;
}

/// Runs `body` in a child, whose expectations are the test's.
void expect_in_child(const std::function<void()>& body) {
  ASSERT_EQ(in_child({},
                     [&] {
                       body();
                       return testing::Test::HasFailure() ? 3 : 0;
                     }),
            0);
}

/// `count` of the numbers from 1 to `last`, drawn by `seed`; all of them where there are no more.
std::vector<long> some_of(long last, std::uint64_t count, std::uint64_t seed) {
  std::vector<long> numbers;
  std::mt19937_64 random(seed);
  for (long number = 1; number <= last; ++number) {
    if (count >= static_cast<std::uint64_t>(last) ||
        random() % static_cast<std::uint64_t>(last) < count) {
      numbers.push_back(number);
    }
  }
  return numbers;
}

class CheckpointCrash : public testing::TestWithParam<bool> {
 protected:
  [[nodiscard]] formats::DsConfig config() const { return config_of(GetParam(), scratch_.path()); }
  TempDirectory scratch_{memory_or_temp()};
};
INSTANTIATE_TEST_SUITE_P(Places, CheckpointCrash, testing::Bool(),
                         [](const auto& tested) { return tested.param ? "NvmeInt8" : "HostFp32"; });

// ---- kills -------------------------------------------------------------------------------------

TEST_P(CheckpointCrash, OfAProcessKilledAtAnyCallGoesOnBitForBit) {
  const TempDirectory whole(memory_or_temp());
  const support::SharedValue<long> calls;
  ASSERT_EQ(in_child({.under = whole.path().string()},
                     [&] {
                       const int result = train_and_save(config(), whole / "run");
                       *calls = support::calls_counted();
                       return result;
                     }),
            0);
  const auto expected = states_in(whole / "run" / "step_00000003");
  ASSERT_GE(expected.size(), 4u);
  ASSERT_GE(*calls, 200);

  std::uint64_t kills = 0;
  for (const auto kind :
       {FileFault::Kind::kKill, FileFault::Kind::kTear, FileFault::Kind::kKillAfter}) {
    const auto seed = torture_seed() * 8 + static_cast<std::uint64_t>(kind);
    for (const long at : some_of(*calls, torture_cases(6), seed)) {
      SCOPED_TRACE("kind " + std::to_string(static_cast<int>(kind)) + ", call " +
                   std::to_string(at) + " of " + std::to_string(*calls));
      const TempDirectory killed(memory_or_temp());
      const fs::path run = killed / "run";
      const FileFault fault{.kind = kind, .at = at, .under = killed.path().string()};
      ASSERT_EQ(in_child(fault, [&] { return train_and_save(config(), run); }), 128 + SIGKILL);
      ASSERT_EQ(in_child({}, [&] { return train_and_save(config(), run); }), 0);
      ASSERT_EQ(states_in(run / "step_00000003"), expected);
      ++kills;
    }
  }
  report_cases("kills of an engine at a call, resumed bit for bit", kills);
}

// ---- errors ------------------------------------------------------------------------------------

std::vector<int> errors_to_inject() {
  if (torture_cases(1) == 1) return {EIO, EINTR};
  return {EIO, ENOSPC, EDQUOT, EROFS, EINTR, EAGAIN, EINVAL, EFAULT, ETIMEDOUT, EACCES, ENOMEM};
}

/// Saves with an error at every call, once and for good. Each time `latest` is the one before or
/// the new one, and a second engine loads it.
void save_with_errors(const formats::DsConfig& config, const fs::path& directory) {
  const fs::path run = directory / "run";
  Stack stack(config), never_saved(config), other(config);
  for (std::uint64_t micro = 0; micro < 3; ++micro) {
    stack.train(micro);
    never_saved.train(micro);
  }
  int saved = 0, injected = 0;
  const auto save = [&] {
    ++saved;
    stack.engine.save_checkpoint(run, saved % 2 == 0 ? "even" : "odd",
                                 {.keep = 1, .program = {{"number", std::to_string(saved)}}});
  };
  save();
  const std::vector<torch::Tensor> masters = masters_of(stack.engine);
  int there = saved;
  for (const int error : errors_to_inject()) {
    for (const auto kind : {FileFault::Kind::kFail, FileFault::Kind::kFailOn}) {
      if (kind == FileFault::Kind::kFailOn && error == EINTR) continue;  // is tried again, for good
      for (long at = 1;; ++at) {
        support::arm({.kind = kind, .at = at, .under = run.string(), .error = error});
        const std::string message = message_of<IoError>(save);
        const bool is_past = support::calls_counted() < at;
        support::arm({});
        const CheckpointInfo info = other.engine.load_checkpoint(run);
        const int found = std::stoi(info.program.at("number"));
        if (message == support::kNothingThrown) {
          EXPECT_EQ(found, saved) << "call " << at << ": " << strerrorname_np(error);
        } else {
          EXPECT_TRUE(found == saved || found == there) << found << " at call " << at;
          EXPECT_THAT(message, HasSubstr(strerrorname_np(error)));
        }
        small::expect_same(masters_of(other.engine), masters);
        there = found;
        if (is_past || testing::Test::HasFailure()) break;
        ++injected;
      }
    }
  }
  report_cases("errors injected into an engine's save", static_cast<std::uint64_t>(injected));
  for (std::uint64_t micro = 3; micro < 6; ++micro) {
    for (Stack* const each : {&stack, &other, &never_saved}) each->train(micro);
  }
  for (Stack* const each : {&stack, &other}) {
    small::expect_same(masters_of(each->engine), masters_of(never_saved.engine));
  }
}

TEST_P(CheckpointCrash, OfACallThatFailsCostsThatCheckpointAndNoBit) {
  const TempDirectory directory(memory_or_temp());
  expect_in_child([&] { save_with_errors(config(), directory.path()); });
}

// ---- power -------------------------------------------------------------------------------------

TEST_P(CheckpointCrash, OfThePowerLeavesACheckpointThatGoesOnBitForBit) {
  const TempDirectory directory(memory_or_temp());
  expect_in_child([&] {
    const fs::path run = directory / "run";
    std::vector<support::FileCall> journal;
    std::vector<std::pair<std::size_t, std::vector<torch::Tensor>>> saves;  // end, and masters
    Stack stack(config()), other(config());
    support::arm({.under = directory.path().string()});
    support::record_into(&journal);
    for (std::uint64_t micro = 0; micro < 4; ++micro) {
      stack.train(micro);
      stack.engine.save_checkpoint(run, {}, {.keep = 2});
      saves.emplace_back(journal.size(), masters_of(stack.engine));
    }
    support::record_into(nullptr);
    support::arm({});
    std::mt19937_64 random(torture_seed());
    const std::uint64_t states = torture_cases(30);
    for (std::uint64_t state = 0; state < states && !testing::Test::HasFailure(); ++state) {
      const std::size_t first = saves.front().first;
      const std::size_t calls = first + random() % (journal.size() + 1 - first);
      const std::uint64_t seed = random();
      SCOPED_TRACE("after call " + std::to_string(calls) + ", seed " + std::to_string(seed));
      support::PowerLoss disk(directory.path().string());
      for (std::size_t i = 0; i < calls; ++i) disk.replay(journal[i]);
      const TempDirectory left(memory_or_temp());
      disk.fail(seed, left.path());
      const CheckpointInfo info = other.engine.load_checkpoint(left / "run");
      const auto number =
          static_cast<std::size_t>(info.step * kMicroBatchesOfStep + info.micro_steps) - 1;
      ASSERT_LT(number, saves.size());
      small::expect_same(masters_of(other.engine), saves[number].second);
      EXPECT_TRUE(number + 1 == saves.size() || saves[number + 1].first > calls) << "an older one";
    }
    report_cases("power losses under an engine", states);
  });
}

// ---- damage ------------------------------------------------------------------------------------

TEST_P(CheckpointCrash, OfTheBitsOfACheckpointIsFoundAndLeavesTheEngineAsItWas) {
  const TempDirectory directory(memory_or_temp());
  expect_in_child([&] {
    Stack stack(config());
    stack.train(0);
    const fs::path path = stack.engine.save_checkpoint(directory.path()).path;
    stack.train(1);
    const std::vector<torch::Tensor> masters = masters_of(stack.engine);
    std::vector<fs::path> files;
    for (const auto& entry : fs::directory_iterator(path)) files.push_back(entry.path());
    std::ranges::sort(files);
    std::mt19937_64 random(torture_seed());
    const std::uint64_t flips = torture_cases(50);
    for (std::uint64_t i = 0; i < flips && !testing::Test::HasFailure(); ++i) {
      const fs::path& file = files[random() % files.size()];
      const std::string before = contents(file);
      std::string bytes = before;
      const std::size_t place = random() % bytes.size();
      bytes[place] = static_cast<char>(bytes[place] ^ (1 << random() % 8));
      std::ofstream(file, std::ios::binary) << bytes;
      EXPECT_THAT(message_of<DataError>([&] { stack.engine.load_checkpoint(directory.path()); }),
                  HasSubstr(file.filename().string()))
          << "byte " << place;
      std::ofstream(file, std::ios::binary) << before;
    }
    small::expect_same(masters_of(stack.engine), masters);
    stack.train(2);
    report_cases("bit flips in an engine's checkpoint", flips);
  });
}

// ---- loads -------------------------------------------------------------------------------------

/// After a load that failed the states are those of before, or the engine refuses all that uses
/// them. Returns whether it refuses.
bool refuses_or_is_unchanged(Stack& stack, const std::vector<torch::Tensor>& before) {
  const std::string refusal = message_of<UsageError>([&] { (void)masters_of(stack.engine); });
  if (refusal == support::kNothingThrown) {
    small::expect_same(masters_of(stack.engine), before);
    EXPECT_NO_THROW(stack.train(9));
    return false;
  }
  EXPECT_THAT(refusal, HasSubstr("load_checkpoint() failed in the middle"));
  EXPECT_THAT(refusal, HasSubstr("make a new engine"));
  EXPECT_THROW(stack.train(9), UsageError);
  const TempDirectory elsewhere(memory_or_temp());
  EXPECT_THROW(stack.engine.save_checkpoint(elsewhere.path()), UsageError);
  EXPECT_EQ(find_checkpoint(elsewhere.path()), std::nullopt);
  return true;
}

/// Loads with a fault at every call of its kind below `under`, on each of `ranks`; every time a new
/// engine, which has trained. Returns how often engines refused to go on.
int load_with_faults(const formats::DsConfig& config, const fs::path& checkpoints, FileFault fault,
                     int ranks) {
  int refusals = 0;
  const long stride = torture_cases(1) == 1 ? 4 : 1;
  for (fault.at = 1;; fault.at += stride) {
    std::vector<int> refused(static_cast<std::size_t>(ranks));
    bool is_past = false;
    const auto thrown = zero3::run_ranks({.size = ranks}, [&](zero3::Ranks& world) {
      Stack stack(config, 2, {}, small::kWidth, &world);
      for (std::uint64_t micro = 0; micro < kMicroBatchesOfStep; ++micro) stack.train(micro);
      const std::vector<torch::Tensor> before = masters_of(stack.engine);
      world.barrier();
      if (world.rank() == 0) support::arm(fault);
      world.barrier();
      const std::string message =
          message_of<Error>([&] { stack.engine.load_checkpoint(checkpoints); });
      world.barrier();
      if (world.rank() == 0) {
        is_past = support::calls_counted() < fault.at;
        support::arm({});
      }
      world.barrier();
      if (message == support::kNothingThrown) {
        EXPECT_TRUE(is_past) << "call " << fault.at << " failed without a word";
        return;
      }
      refused[static_cast<std::size_t>(world.rank())] = refuses_or_is_unchanged(stack, before);
    });
    for (const std::exception_ptr& each : thrown) {
      if (each) std::rethrow_exception(each);
    }
    for (const int each : refused) EXPECT_EQ(each, refused.front()) << "ranks differ";
    refusals += refused.front();
    if (!is_past && !testing::Test::HasFailure()) continue;
    report_cases("loads that fail at a call", static_cast<std::uint64_t>(fault.at / stride));
    return refusals;
  }
}

TEST_P(CheckpointCrash, OfALoadInTheMiddleLeavesOldStatesOrAnEngineThatRefusesToTrain) {
  const TempDirectory directory(memory_or_temp());
  expect_in_child([&] {
    torch::set_num_threads(1);
    {
      Stack saved(config());
      for (std::uint64_t micro = 0; micro < 3; ++micro) saved.train(micro + 20);
      saved.engine.save_checkpoint(directory.path());
    }
    const std::string files = directory.path().string();
    for (const int ranks : {1, 2}) {
      SCOPED_TRACE(std::to_string(ranks) + " ranks");
      const auto refusals = [&](const FileFault& fault) {
        return load_with_faults(config(), directory.path(), fault, ranks);
      };
      EXPECT_GE(refusals({.kind = FileFault::Kind::kFailRead, .under = files, .error = EIO}), 2);
      EXPECT_GE(refusals({.kind = FileFault::Kind::kEndRead, .under = files}), 2);
    }
  });
}

TEST(CheckpointLoad, ThatTheNvmeTierCannotTakeLeavesAnEngineThatRefusesToTrain) {
  const TempDirectory directory(memory_or_temp()), scratch(memory_or_temp());
  expect_in_child([&] {
    const formats::DsConfig config = config_of(true, scratch.path());
    {
      Stack saved(config);
      saved.train(20);
      saved.engine.save_checkpoint(directory.path());
    }
    EXPECT_GE(
        load_with_faults(
            config, directory.path(),
            {.kind = FileFault::Kind::kFail, .under = scratch.path().string(), .error = EIO}, 1),
        2);
  });
}

}  // namespace
}  // namespace strata
