#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

#include "optim_cpu/kernel_table.h"
#include "strata/base/error.h"
#include "strata/optim_cpu/compute_threads.h"
#include "strata/optim_cpu/instruction_set.h"
#include "support/message_of.h"

/// \file
/// Which instruction sets there are kernels for, and how one is chosen.

namespace strata::optim_cpu::kernel_targets_test {
namespace {

using support::caught;
using ::testing::Contains;
using ::testing::HasSubstr;

TEST(KernelTargets, LeaveOutNoInstructionSetOfThisMachine) {
  const std::vector<std::string_view> targets = InstructionSet::names();
  EXPECT_EQ(targets.back(), "SCALAR");
#if defined(__x86_64__) && !defined(__AVX512F__)  // a build for one machine has its best set only
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    EXPECT_THAT(targets, Contains("AVX2"));
  }
#if !defined(STRATA_BASIC_TARGETS)
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
    EXPECT_THAT(targets, Contains("AVX3"));
    EXPECT_EQ(targets.front(), "AVX3");
  }
#endif
#elif defined(__aarch64__)
  EXPECT_THAT(targets, Contains("NEON"));
#endif
}

TEST(KernelTargets, AreRefusedByNameWithTheNamesThatExist) {
  const auto error = caught<ConfigError>([&] { (void)find_kernels("AVX9", "the test"); });
  ASSERT_TRUE(error);
  EXPECT_THAT(error->what(), HasSubstr("AVX9"));
  EXPECT_THAT(error->what(), HasSubstr("SCALAR"));
}

TEST(KernelTargets, AreHandedInByNameAndLeaveOthersAlone) {
  const std::string_view best = InstructionSet().name();
  for (const std::string_view target : InstructionSet::names()) {
    const ComputeThreads threads(1, InstructionSet(target));
    EXPECT_EQ(threads.instructions().name(), target);
    EXPECT_EQ(threads.instructions().kernels().target, target);
    EXPECT_EQ(ComputeThreads(1).instructions().name(), best);
  }
  EXPECT_EQ(InstructionSet("").name(), best);
  EXPECT_THROW((void)InstructionSet("AVX9"), ConfigError);
}

TEST(KernelTargetsDeathTest, AreChosenByTheEnvironment) {
  ::testing::FLAGS_gtest_death_test_style = "threadsafe";  // a new process: nothing is chosen yet
  for (const std::string_view target : InstructionSet::names())
    EXPECT_EXIT(
        {
          setenv("STRATA_SIMD", std::string(target).c_str(), 1);
          std::_Exit(InstructionSet().name() == target ? 0 : 1);
        },
        ::testing::ExitedWithCode(0), "")
        << target;
}

}  // namespace
}  // namespace strata::optim_cpu::kernel_targets_test
