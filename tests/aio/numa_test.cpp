#include "strata/aio/numa.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>

#include <cstddef>
#include <string>
#include <thread>

#include "aio/made_up_machine.h"

namespace strata::aio::numa_test {
namespace {

using testing::HasSubstr;

constexpr int kNoSuchNode = 1000;

cpu_set_t cores_of_this_thread() {
  cpu_set_t cores;
  CPU_ZERO(&cores);
  EXPECT_EQ(sched_getaffinity(0, sizeof cores, &cores), 0);
  return cores;
}

TEST(RunOnNumaNode, LeavesAThreadWhereItIsForNodeMinusOneAndForOneThatIsNotThere) {
  std::thread([] {
    const cpu_set_t before = cores_of_this_thread();
    EXPECT_EQ(run_on_numa_node(-1), "");
    EXPECT_THAT(run_on_numa_node(kNoSuchNode), HasSubstr("node 1000 does not exist"));
    const cpu_set_t after = cores_of_this_thread();
    EXPECT_TRUE(CPU_EQUAL(&before, &after));
  }).join();
}

TEST(RunOnNumaNode, ConfinesAThreadToTheCoresOfOneNodeOfSeveral) {
  cpu_set_t cores = cores_of_this_thread();
  if (CPU_ISSET(0, &cores) == 0 || CPU_ISSET(1, &cores) == 0) GTEST_SKIP() << "needs cores 0 and 1";
  const MadeUpMachine two_nodes("HWLOC_SYNTHETIC", "numa:2 pu:1");
  std::thread([] {
    EXPECT_EQ(run_on_numa_node(1), "");
    const cpu_set_t after = cores_of_this_thread();
    EXPECT_EQ(CPU_COUNT(&after), 1);
    EXPECT_TRUE(CPU_ISSET(1, &after));
    EXPECT_THAT(run_on_numa_node(0), HasSubstr("may use no core of node 0"));
  }).join();
}

TEST(RunOnNumaNode, NeverAddsCoresThatAThreadWasKeptFrom) {
  std::thread([] {
    cpu_set_t all = cores_of_this_thread();
    int core = 0;
    while (CPU_ISSET(core, &all) == 0) ++core;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(core, &one);
    if (sched_setaffinity(0, sizeof one, &one) != 0) GTEST_SKIP() << "affinity is not ours to set";
    // It is on the machine's first node or, where the core belongs to another one, nowhere.
    const std::string refusal = run_on_numa_node(0);
    const cpu_set_t after = cores_of_this_thread();
    EXPECT_TRUE(CPU_EQUAL(&one, &after)) << refusal;
  }).join();
}

TEST(BindToNumaNode, SaysThatANodeIsNotThere) {
  alignas(4096) static std::byte page[4096];
  EXPECT_THAT(bind_to_numa_node(page, kNoSuchNode), HasSubstr("node 1000 does not exist"));
}

}  // namespace
}  // namespace strata::aio::numa_test
