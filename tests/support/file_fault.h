#pragma once

#include <string>

/// \file
/// Faults of the system calls that change files: the process is killed at one of them, or one
/// fails. Linked into a test program, file_fault.cpp stands in the place of the C library's
/// functions; as a library that is preloaded, in those of any program:
///
///     LD_PRELOAD=libstrata_file_fault.so STRATA_FILE_FAULT=kill:12:/path/of/a/directory strata ...
///
/// Calls are counted from 1, of paths and files below that directory alone: making, allocating,
/// writing (pwrite), syncing, renaming and removing.

namespace strata::support {

struct FileFault {
  enum class Kind {
    kNone,    ///< calls are counted alone
    kKill,    ///< SIGKILL in place of the call
    kTear,    ///< half of a write, then SIGKILL; of other calls nothing
    kFail,    ///< the call fails once
    kFailOn,  ///< this call and all later ones fail, but for those that remove
  };
  Kind kind = Kind::kNone;
  long at = 0;             ///< the call's number
  std::string under = {};  ///< path of the directory
  int error = 0;           ///< errno of a failure
};

/// From now on. Counts anew.
void arm(const FileFault& fault);
/// Calls counted so far.
[[nodiscard]] long calls_counted();

}  // namespace strata::support
