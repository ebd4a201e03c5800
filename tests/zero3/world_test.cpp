#include "strata/zero3/world.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "strata/base/error.h"
#include "support/message_of.h"

/// \file
/// A world is a function of the environment: what launchers set, and what is missing or contradicts
/// itself.

namespace strata {
namespace {

using Variables = std::map<std::string, std::string>;

World world_of(const Variables& variables) {
  return world_from([&](const std::string& name) -> std::optional<std::string> {
    const auto found = variables.find(name);
    return found != variables.end() ? std::optional<std::string>(found->second) : std::nullopt;
  });
}

Variables with(Variables variables, const Variables& others) {
  for (const auto& [name, value] : others) variables[name] = value;
  return variables;
}

Variables without(Variables variables, const std::string& name) {
  variables.erase(name);
  return variables;
}

const Variables kTorchrun = {{"RANK", "5"},
                             {"WORLD_SIZE", "8"},
                             {"LOCAL_RANK", "1"},
                             {"LOCAL_WORLD_SIZE", "4"},
                             {"MASTER_ADDR", "node0"},
                             {"MASTER_PORT", "29500"},
                             {"TORCHELASTIC_USE_AGENT_STORE", "True"},
                             {"TORCHELASTIC_RESTART_COUNT", "2"}};
const Variables kOpenMpi = {{"OMPI_COMM_WORLD_RANK", "1"},
                            {"OMPI_COMM_WORLD_SIZE", "2"},
                            {"OMPI_COMM_WORLD_LOCAL_RANK", "1"},
                            {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"},
                            {"MASTER_PORT", "1234"}};
const Variables kPmi = {{"PMI_RANK", "3"},        {"PMI_SIZE", "4"},
                        {"MPI_LOCALRANKID", "1"}, {"MPI_LOCALNRANKS", "2"},
                        {"MASTER_ADDR", "first"}, {"MASTER_PORT", "7"}};
const Variables kSrun = {{"SLURM_PROCID", "6"},
                         {"SLURM_STEP_NUM_TASKS", "7"},
                         {"SLURM_LOCALID", "0"},
                         {"SLURM_NODEID", "3"},
                         {"SLURM_STEP_TASKS_PER_NODE", "2(x3),1"},
                         {"MASTER_ADDR", "first"},
                         {"MASTER_PORT", "65535"}};

struct Case {
  std::string name;
  Variables variables;
  int rank, size, local_rank, local_size;
  std::string address;
  int port;
};

// NOLINTNEXTLINE(readability-identifier-naming): the name that GoogleTest looks for
void PrintTo(const Case& each, std::ostream* out) { *out << each.name; }

class Worlds : public testing::TestWithParam<Case> {};

TEST_P(Worlds, AreWhatLaunchersSay) {
  const World world = world_of(GetParam().variables);
  EXPECT_EQ(world.rank, GetParam().rank);
  EXPECT_EQ(world.size, GetParam().size);
  EXPECT_EQ(world.local_rank, GetParam().local_rank);
  EXPECT_EQ(world.local_size, GetParam().local_size);
  EXPECT_EQ(world.address, GetParam().address);
  EXPECT_EQ(world.port, GetParam().port);
}

INSTANTIATE_TEST_SUITE_P(
    Launchers, Worlds,
    testing::Values(
        Case{"none", {}, 0, 1, 0, 1, "", 0},
        Case{"an_address_alone", {{"MASTER_ADDR", "x"}, {"MASTER_PORT", "1"}}, 0, 1, 0, 1, "", 0},
        Case{"torchrun", kTorchrun, 5, 8, 1, 4, "node0", 29500},
        Case{"torchrun_of_one", {{"RANK", "0"}, {"WORLD_SIZE", "1"}}, 0, 1, 0, 1, "", 0},
        Case{"by_hand_on_this_host",
             {{"RANK", "1"},
              {"WORLD_SIZE", "3"},
              {"MASTER_ADDR", "localhost"},
              {"MASTER_PORT", "9"}},
             1,
             3,
             1,
             3,
             "localhost",
             9},
        Case{"open_mpi_on_one_host", kOpenMpi, 1, 2, 1, 2, "127.0.0.1", 1234},
        Case{"open_mpi_elsewhere", with(kOpenMpi, {{"MASTER_ADDR", "node7"}}), 1, 2, 1, 2, "node7",
             1234},
        Case{"pmi", kPmi, 3, 4, 1, 2, "first", 7}, Case{"srun", kSrun, 6, 7, 0, 1, "first", 65535},
        Case{"srun_first_nodes",
             with(kSrun, {{"SLURM_PROCID", "5"}, {"SLURM_NODEID", "2"}, {"SLURM_LOCALID", "1"}}), 5,
             7, 1, 2, "first", 65535},
        Case{"a_batch_script_of_slurm",
             {{"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "4"}},
             0,
             1,
             0,
             1,
             "",
             0},
        Case{"torchrun_within_srun", with(kSrun, kTorchrun), 5, 8, 1, 4, "node0", 29500},
        Case{"mpirun_within_srun", with(kSrun, with(kOpenMpi, {{"MASTER_ADDR", "node7"}})), 1, 2, 1,
             2, "node7", 1234}),
    [](const auto& tested) { return tested.param.name; });

TEST(World, KnowsATorchrunThatKeepsTheMeetingPlaceAndHasBegunAnew) {
  EXPECT_TRUE(world_of(kTorchrun).launcher_keeps_store);
  EXPECT_EQ(world_of(kTorchrun).restarts, 2);
  EXPECT_FALSE(world_of(without(kTorchrun, "TORCHELASTIC_USE_AGENT_STORE")).launcher_keeps_store);
  EXPECT_FALSE(world_of(kOpenMpi).launcher_keeps_store);
}

struct Refusal {
  std::string name;
  Variables variables;
  std::vector<std::string> says;
};

// NOLINTNEXTLINE(readability-identifier-naming): the name that GoogleTest looks for
void PrintTo(const Refusal& each, std::ostream* out) { *out << each.name; }

class Refusals : public testing::TestWithParam<Refusal> {};

TEST_P(Refusals, NameTheVariable) {
  const std::string message =
      support::message_of<ConfigError>([] { (void)world_of(GetParam().variables); });
  for (const std::string& part : GetParam().says) EXPECT_THAT(message, testing::HasSubstr(part));
}

INSTANTIATE_TEST_SUITE_P(
    Environments, Refusals,
    testing::Values(
        Refusal{"a_rank_without_a_size",
                without(kTorchrun, "WORLD_SIZE"),
                {"RANK is set and WORLD_SIZE is not"}},
        Refusal{
            "a_size_without_a_rank", without(kPmi, "PMI_RANK"), {"PMI_SIZE is set and PMI_RANK"}},
        Refusal{"a_rank_beyond_the_size",
                with(kTorchrun, {{"RANK", "8"}}),
                {"RANK=8 and WORLD_SIZE=8 contradict each other"}},
        Refusal{"no_number", with(kTorchrun, {{"RANK", "one"}}), {"RANK=one is no whole number"}},
        Refusal{"a_number_and_more", with(kTorchrun, {{"WORLD_SIZE", "8 "}}), {"WORLD_SIZE=8 "}},
        Refusal{"an_empty_number", with(kTorchrun, {{"RANK", ""}}), {"RANK= is no whole number"}},
        Refusal{"a_negative_number", with(kTorchrun, {{"LOCAL_RANK", "-1"}}), {"LOCAL_RANK=-1"}},
        Refusal{"no_ranks", with(kTorchrun, {{"WORLD_SIZE", "0"}}), {"WORLD_SIZE=0", "from 1"}},
        Refusal{"a_number_beyond_reason",
                with(kTorchrun, {{"WORLD_SIZE", "99999999999"}}),
                {"WORLD_SIZE=99999999999"}},
        Refusal{
            "no_address", without(kTorchrun, "MASTER_ADDR"), {"MASTER_ADDR is not set", "8 ranks"}},
        Refusal{"no_port", without(kOpenMpi, "MASTER_PORT"), {"MASTER_PORT is not set"}},
        Refusal{"no_such_port", with(kPmi, {{"MASTER_PORT", "65536"}}), {"MASTER_PORT=65536"}},
        Refusal{"half_of_the_local_numbers",
                without(kTorchrun, "LOCAL_WORLD_SIZE"),
                {"LOCAL_WORLD_SIZE is not set"}},
        Refusal{"no_local_numbers_elsewhere",
                without(without(kTorchrun, "LOCAL_RANK"), "LOCAL_WORLD_SIZE"),
                {"LOCAL_RANK is not set"}},
        Refusal{"a_local_rank_beyond_the_host",
                with(kTorchrun, {{"LOCAL_RANK", "4"}}),
                {"LOCAL_RANK=4 and LOCAL_WORLD_SIZE=4 contradict"}},
        Refusal{"more_on_the_host_than_in_the_run",
                with(kTorchrun, {{"LOCAL_WORLD_SIZE", "9"}}),
                {"LOCAL_WORLD_SIZE=9 and WORLD_SIZE=8 contradict"}},
        Refusal{"more_before_it_on_the_host_than_in_the_run",
                with(kTorchrun, {{"RANK", "0"}}),
                {"LOCAL_RANK=1 and RANK=0 contradict"}},
        Refusal{"slurms_nodes_that_do_not_have_this_one",
                with(kSrun, {{"SLURM_NODEID", "4"}}),
                {"SLURM_STEP_TASKS_PER_NODE=2(x3),1", "node 4"}},
        Refusal{"slurms_nodes_that_are_none",
                with(kSrun, {{"SLURM_STEP_TASKS_PER_NODE", "2(x3"}}),
                {"SLURM_STEP_TASKS_PER_NODE=2(x3"}}),
    [](const auto& tested) { return tested.param.name; });

}  // namespace
}  // namespace strata
