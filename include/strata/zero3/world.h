#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

namespace strata {

/// The processes of a run, as a launcher started them, and which of them this one is.
///
///     const auto world = strata::World::of_this_process();
///     const auto ranks = strata::join(world);   // strata/zero3/join.h
struct World {
  int rank = 0;        ///< this process; counts from 0
  int size = 1;        ///< processes of the run
  int local_rank = 0;  ///< among those on this host
  int local_size = 1;  ///< processes on this host
  /// Where the ranks meet: the host of rank 0, and a free TCP port there; "" and 0 with one rank.
  std::string address;
  std::uint16_t port = 0;
  /// The launcher keeps the meeting place itself; otherwise rank 0 does.
  bool launcher_keeps_store = false;
  int restarts = 0;  ///< times that the launcher has started this run anew
  std::string source = "no launcher";

  /// What the environment of this process says. Throws as world_from does.
  [[nodiscard]] static World of_this_process();
};

/// The value of an environment variable, nullopt where it is not set.
using Environment = std::function<std::optional<std::string>(const std::string& name)>;

/// The world that the variables of a launcher describe. The first of these that is there counts; a
/// process without any is a world of its own.
///
///   torchrun, or by hand     RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE
///   mpirun of Open MPI       OMPI_COMM_WORLD_RANK, _SIZE, _LOCAL_RANK, _LOCAL_SIZE
///   mpirun of MPICH, Intel   PMI_RANK, PMI_SIZE, MPI_LOCALRANKID, MPI_LOCALNRANKS
///   srun                     SLURM_PROCID, SLURM_STEP_NUM_TASKS, SLURM_LOCALID,
///                            SLURM_STEP_TASKS_PER_NODE with SLURM_NODEID
///
/// Above one rank MASTER_ADDR and MASTER_PORT say where the ranks meet. Without MASTER_ADDR it is
/// this host where all ranks are on it. Where all meet at 127.0.0.1, ::1 or localhost, all are on
/// this host, and the local numbers need not be given.
///
/// Throws ConfigError, naming the variable and its value, for what is missing, is no number, or
/// contradicts itself: a rank beyond the size, more ranks on the host than in the run.
[[nodiscard]] World world_from(const Environment& environment);

}  // namespace strata
