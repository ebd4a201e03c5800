#pragma once

#include <cstdint>
#include <string>
#include <vector>

/// \file
/// Faults of the system calls that change files: the process is killed at one of them, or one
/// fails. Linked into a test program, file_fault.cpp stands in the place of the C library's
/// functions; as a library that is preloaded, in those of any program:
///
///     LD_PRELOAD=libstrata_file_fault.so STRATA_FILE_FAULT=kill:12:/path/of/a/directory strata ...
///
/// Calls are counted from 1, of paths and files below that directory alone: making, allocating,
/// writing (pwrite), syncing, renaming and removing; for faults of reads, reads (pread) alone.

namespace strata::support {

struct FileFault {
  enum class Kind {
    kNone,       ///< calls are counted alone
    kKill,       ///< SIGKILL in place of the call
    kTear,       ///< half of a write, then SIGKILL; of other calls nothing
    kKillAfter,  ///< SIGKILL when the call is done
    kFail,       ///< the call fails once
    kFailOn,     ///< this call and all later ones fail, but for those that remove
    kShort,      ///< a write moves half of its bytes, and says so; others are as ever
    kFailRead,   ///< a read fails once
    kEndRead,    ///< a read finds the end of the file
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

/// A call that was counted and succeeded, with absolute paths as they were then.
struct FileCall {
  enum class Kind { kMake, kMakeDirectory, kAllocate, kWrite, kSync, kRename, kExchange, kRemove };
  Kind kind = Kind::kSync;
  std::string path;
  std::string to = {};       ///< of kRename and kExchange
  std::uint64_t offset = 0;  ///< of kWrite; of kAllocate the end
  std::string bytes = {};    ///< of kWrite
};

/// Appends every such call to `journal` from now on, until it is null.
void record_into(std::vector<FileCall>* journal);

}  // namespace strata::support
