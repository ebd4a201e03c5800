#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <stdexcept>

namespace strata::aio {

/// This machine, or this user, cannot make an environment: a reason to skip, in words.
class Unavailable : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Circumstances under which files are used, while it exists: a file system, a limit.
///
/// Mounts are seen by this process alone and end with it at the latest, and loop devices with them;
/// after a kill, an empty directory is all that stays behind. Make and destroy one on the test's
/// own thread, whose view of the mounts becomes the process's own and is inherited by threads that
/// it starts afterwards.
class Environment {
 public:
  Environment() = default;
  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;
  virtual ~Environment() = default;

  /// Where files go.
  [[nodiscard]] virtual std::filesystem::path directory() const = 0;
};
using EnvironmentPtr = std::unique_ptr<Environment>;

// Each throws Unavailable where it cannot be had.

/// Memory as a file system, of `bytes` at most.
[[nodiscard]] EnvironmentPtr mount_tmpfs(std::uint64_t bytes, bool read_only = false);

/// The kind of root that containers have: a layer that is written to, over one that is not.
[[nodiscard]] EnvironmentPtr mount_overlay();

/// 64 MiB of ext4 on a loop device with logical blocks of `block_bytes` (512 or 4096), over a file
/// without a name.
[[nodiscard]] EnvironmentPtr mount_ext4(std::uint32_t block_bytes);

/// A disk that stops answering writes when it is told to.
class StallingDisk : public Environment {
 public:
  virtual void stall() = 0;
  virtual void go_on() = 0;
};

enum class Stalls {
  kDevice,      ///< requests are taken and never come back
  kFileSystem,  ///< whoever brings a request is held up
};

/// ext4 on a loop device over a file of another ext4, one of which is frozen to stall it. It thaws
/// by itself after half a minute, and when this process ends, however it ends.
[[nodiscard]] std::unique_ptr<StallingDisk> mount_stalling_disk(Stalls stalls);

/// The current directory, for a process that may lock 64 KiB of memory and not more.
[[nodiscard]] EnvironmentPtr limit_lockable_memory();

/// Takes a right of the super-user's (CAP_...) from this thread, and from those that it starts, for
/// its own lifetime. Does nothing where the thread does not have it.
class WithoutCapability {
 public:
  explicit WithoutCapability(unsigned capability);
  ~WithoutCapability();
  WithoutCapability(const WithoutCapability&) = delete;
  WithoutCapability& operator=(const WithoutCapability&) = delete;

 private:
  const unsigned capability_;
  bool taken_ = false;
};

}  // namespace strata::aio
