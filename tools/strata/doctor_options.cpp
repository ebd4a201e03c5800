#include "doctor_options.h"

#include <CLI/CLI.hpp>

#include "option_checks.h"

namespace strata::tool {
namespace {

constexpr const char* kDoctorDescription =
    "Checks this machine, and the directories that are to hold states, and gives the cure for what "
    "it finds.";

constexpr const char* kDoctorFooter =
    R"(Of the machine: kernel and io_uring (switch, sandbox, requests),
memory that may be locked, room for libaio, huge pages, memory and its cgroup, swap, GPU and driver,
and what this program was built with. Of each DIR: whether it takes files, its file system, O_DIRECT
and its alignment, the I/O engine that a run would choose there, free space, the disk's scheduler
and queue, its temperature and wear (the latter as root), and its distance from the GPU. Blocks are
written and read in DIR, in files that are gone at once. Nothing else is changed: cures are printed,
never carried out.

A note is what makes a run slower, or is worth knowing before one; a problem is what a run fails by.

Exit codes: 0 no problem; 1 a problem; 2 a command line that cannot be used.)";

}  // namespace

CLI::App* add_doctor_command(CLI::App& app, DoctorOptions& options) {
  CLI::App* command = app.add_subcommand("doctor", kDoctorDescription);
  command->footer(kDoctorFooter);
  command->add_option("DIR", options.directories, "Directories that are to hold states (--nvme)")
      ->type_name("")
      ->check(path_name());
  command->add_flag("--json", options.json, "The findings as JSON");
  return command;
}

}  // namespace strata::tool
