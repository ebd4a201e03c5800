#include "strata/zero3/world.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdlib>
#include <string>
#include <vector>

#include "strata/base/error.h"

namespace strata {
namespace {

constexpr int kRanksMax = 1 << 20;
constexpr int kPortMax = 65535;

/// A launcher, and its names for the four numbers.
struct Launcher {
  const char* name;
  const char* rank;
  const char* size;
  const char* local_rank;
  const char* local_size;
  bool both;  ///< both rank and size have to be there, or it is another launcher's environment
};

constexpr std::array<Launcher, 4> kLaunchers = {{
    {"torchrun", "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", false},
    {"mpirun (Open MPI)", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE",
     "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE", false},
    {"mpirun (PMI)", "PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS", false},
    // A batch script has a SLURM_PROCID too, of 0: only tasks of srun have a number of tasks.
    {"srun", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", "SLURM_STEP_TASKS_PER_NODE",
     true},
}};

[[noreturn]] void refuse(const std::string& text) { throw ConfigError("ranks: " + text); }

std::string setting(const std::string& name, const std::string& value) {
  return name + "=" + value;
}

std::optional<int> number_in(std::string_view text, int most) {
  int number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  if (number < 0 || number > most) return std::nullopt;
  return number;
}

/// The variable as a whole number from `least` to `most`; nullopt where it is not set.
std::optional<int> number_of(const Environment& environment, const std::string& name, int least,
                             int most) {
  const std::optional<std::string> text = environment(name);
  if (!text) return std::nullopt;
  const std::optional<int> number = number_in(*text, most);
  if (number && *number >= least) return number;
  refuse(setting(name, *text) + " is no whole number from " + std::to_string(least) + " to " +
         std::to_string(most));
}

/// Slurm's tasks of node `node`: "2(x3),1" are 2 on each of three nodes, and 1 on the next.
std::optional<int> tasks_of_node(std::string_view text, int node) {
  while (!text.empty()) {
    const std::string_view entry = text.substr(0, text.find(','));
    text.remove_prefix(std::min(text.size(), entry.size() + 1));
    const std::size_t times = entry.find("(x");
    const auto tasks = number_in(entry.substr(0, times), kRanksMax);
    std::optional<int> nodes = 1;
    if (times != std::string_view::npos) {
      if (entry.back() != ')') return std::nullopt;
      nodes = number_in(entry.substr(times + 2, entry.size() - times - 3), kRanksMax);
    }
    if (!tasks || !nodes) return std::nullopt;
    if (node < *nodes) return tasks;
    node -= *nodes;
  }
  return std::nullopt;
}

std::optional<int> local_size_of(const Environment& environment, const Launcher& launcher) {
  if (launcher.both) {
    const std::optional<std::string> text = environment(launcher.local_size);
    const std::optional<int> node = number_of(environment, "SLURM_NODEID", 0, kRanksMax);
    if (!text || !node) return std::nullopt;
    if (const auto tasks = tasks_of_node(*text, *node)) return tasks;
    refuse(setting(launcher.local_size, *text) + " does not say how many tasks node " +
           std::to_string(*node) + " has (SLURM_NODEID)");
  }
  return number_of(environment, launcher.local_size, 1, kRanksMax);
}

const Launcher* launcher_of(const Environment& environment) {
  for (const Launcher& launcher : kLaunchers) {
    const bool rank = environment(launcher.rank).has_value();
    const bool size = environment(launcher.size).has_value();
    if (rank && size) return &launcher;
    if (launcher.both || (!rank && !size)) continue;
    refuse(std::string(rank ? launcher.rank : launcher.size) + " is set and " +
           (rank ? launcher.size : launcher.rank) +
           " is not; set both, or start the program with a launcher that does");
  }
  return nullptr;
}

bool is_this_host(const std::string& address) {
  constexpr std::array<std::string_view, 3> kNames = {"127.0.0.1", "::1", "localhost"};
  return std::find(kNames.begin(), kNames.end(), address) != kNames.end();
}

void read_meeting_place(const Environment& environment, World& world, bool all_are_here) {
  const std::optional<std::string> address = environment("MASTER_ADDR");
  if (address && !address->empty()) {
    world.address = *address;
  } else if (all_are_here) {
    world.address = "127.0.0.1";
  } else {
    refuse("MASTER_ADDR is not set: it names the host of rank 0, where all " +
           std::to_string(world.size) + " ranks meet");
  }
  const std::optional<int> port = number_of(environment, "MASTER_PORT", 1, kPortMax);
  if (!port) {
    refuse("MASTER_PORT is not set: it is a free TCP port on the host of rank 0, where all " +
           std::to_string(world.size) + " ranks meet; give all of them the same");
  }
  world.port = static_cast<std::uint16_t>(*port);
}

void read_local_numbers(const Launcher& launcher, std::optional<int> rank, std::optional<int> size,
                        World& world) {
  if (rank && size) {
    world.local_rank = *rank;
    world.local_size = *size;
  } else if (is_this_host(world.address) && !rank && !size) {
    world.local_rank = world.rank;
    world.local_size = world.size;
  } else {
    refuse(std::string(rank ? launcher.local_size : launcher.local_rank) +
           " is not set: this rank's number among those on its host, and how many they are, are "
           "in " +
           launcher.local_rank + " and " + launcher.local_size);
  }
}

void refuse_contradictions(const Launcher& launcher, const World& world) {
  const auto pair = [](const char* a, int of_a, const char* b, int of_b) {
    return setting(a, std::to_string(of_a)) + " and " + setting(b, std::to_string(of_b)) +
           " contradict each other: ";
  };
  if (world.rank >= world.size) {
    refuse(pair(launcher.rank, world.rank, launcher.size, world.size) +
           "ranks count from 0 and are fewer than the size");
  }
  if (world.local_size > world.size) {
    refuse(pair(launcher.local_size, world.local_size, launcher.size, world.size) +
           "a host has no more ranks than the run");
  }
  if (world.local_rank >= world.local_size) {
    refuse(pair(launcher.local_rank, world.local_rank, launcher.local_size, world.local_size) +
           "ranks of a host count from 0 and are fewer than its size");
  }
  if (world.local_rank > world.rank) {
    refuse(pair(launcher.local_rank, world.local_rank, launcher.rank, world.rank) +
           "a rank has no more ranks before it on its host than in the run");
  }
}

}  // namespace

World world_from(const Environment& environment) {
  World world;
  const Launcher* const launcher = launcher_of(environment);
  if (launcher == nullptr) return world;
  world.source = launcher->name;
  world.rank = *number_of(environment, launcher->rank, 0, kRanksMax);
  world.size = *number_of(environment, launcher->size, 1, kRanksMax);
  const auto local_rank = number_of(environment, launcher->local_rank, 0, kRanksMax);
  const auto local_size = local_size_of(environment, *launcher);
  if (world.size > 1) {
    read_meeting_place(environment, world, local_size == world.size);
    read_local_numbers(*launcher, local_rank, local_size, world);
  }
  refuse_contradictions(*launcher, world);
  if (launcher == &kLaunchers.front()) {
    world.launcher_keeps_store = environment("TORCHELASTIC_USE_AGENT_STORE") == "True";
    world.restarts = number_of(environment, "TORCHELASTIC_RESTART_COUNT", 0, kRanksMax).value_or(0);
  }
  return world;
}

World World::of_this_process() {
  return world_from([](const std::string& name) -> std::optional<std::string> {
    const char* const value = std::getenv(name.c_str());
    return value != nullptr ? std::optional<std::string>(value) : std::nullopt;
  });
}

}  // namespace strata
