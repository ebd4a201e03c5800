#include "aio/environment.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <linux/fs.h>
#include <linux/loop.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <optional>
#include <string>
#include <utility>

#include "strata/base/error.h"

namespace strata::aio {
namespace {

constexpr off_t kLoopBytes = 64 << 20;
constexpr off_t kInnerLoopBytes = 16 << 20;
constexpr int kThawAfterMs = 30'000;
constexpr int kLoopAttempts = 50;
constexpr rlim_t kLittleMemory = 64 << 10;

[[noreturn]] void give_up(const std::string& what) {
  throw Unavailable(what + ": " + errno_name(errno));
}

/// Gives the process a view of the mounts of its own, once.
void leave_shared_mounts() {
  static const bool left = ::unshare(CLONE_NEWNS) == 0 &&
                           ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0;
  if (!left) throw Unavailable("mounting is not allowed here");
}

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Descriptor& operator=(Descriptor&&) = delete;
  [[nodiscard]] int get() const { return fd_; }

 private:
  int fd_;
};

Descriptor make_nameless_file(const std::filesystem::path& directory, off_t bytes) {
  std::string name = directory / "strata-image-XXXXXX";
  Descriptor file(::mkostemp(name.data(), O_CLOEXEC));
  if (file.get() < 0) give_up("no file for a loop device");
  ::unlink(name.c_str());
  if (::ftruncate(file.get(), bytes) != 0) give_up("no file for a loop device");
  return file;
}

/// A loop device that goes away with its last user, and the descriptor that is the first.
std::pair<std::string, Descriptor> attach_loop_device(int image, std::uint32_t block_bytes) {
  const Descriptor control(::open("/dev/loop-control", O_RDWR | O_CLOEXEC));
  if (control.get() < 0) give_up("no loop devices");
  loop_config config{};
  config.fd = static_cast<std::uint32_t>(image);
  config.block_size = block_bytes;
  config.info.lo_flags = LO_FLAGS_AUTOCLEAR;
  for (int attempt = 0; attempt < kLoopAttempts; ++attempt) {
    const int number = ::ioctl(control.get(), LOOP_CTL_GET_FREE);
    if (number < 0) give_up("no free loop device");
    const std::string path = "/dev/loop" + std::to_string(number);
    Descriptor device(::open(path.c_str(), O_RDWR | O_CLOEXEC));
    if (device.get() < 0) give_up("cannot open " + path);
    if (::ioctl(device.get(), LOOP_CONFIGURE, &config) == 0) return {path, std::move(device)};
    if (errno != EBUSY) give_up("cannot use " + path);  // somebody else was quicker
  }
  throw Unavailable("loop devices are too much in demand");
}

void make_file_system(const std::string& device) {
  // Without a journal: quicker, and space that is freed is free at once.
  const std::string command =
      "PATH=$PATH:/usr/sbin:/sbin mkfs.ext4 -q -F -m 0 -O ^has_journal " + device + " 2>/dev/null";
  if (std::system(command.c_str()) != 0) throw Unavailable("mkfs.ext4 is missing or failed");
}

bool set_effective(unsigned capability, bool on, bool& was_on) {
  __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3]{};
  if (::syscall(SYS_capget, &header, data) != 0) return false;
  std::uint32_t& word = data[CAP_TO_INDEX(capability)].effective;
  const std::uint32_t bit = CAP_TO_MASK(capability);
  was_on = (word & bit) != 0;
  word = on ? word | bit : word & ~bit;
  return ::syscall(SYS_capset, &header, data) == 0;
}

/// A new empty directory under the current one.
class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    std::string name = std::filesystem::current_path() / "strata-test-XXXXXX";
    if (::mkdtemp(name.data()) == nullptr) give_up("no temporary directory");
    path_ = name;
  }
  ~TemporaryDirectory() {
    std::error_code ignored;
    std::filesystem::remove(path_, ignored);
  }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

class TemporaryMount final : public Environment {
 public:
  TemporaryMount(const char* source, const char* type, unsigned long flags,
                 const std::string& options) {
    leave_shared_mounts();
    if (::mount(source, point_.path().c_str(), type, flags, options.c_str()) != 0) {
      give_up(std::string("cannot mount ") + type);
    }
  }
  ~TemporaryMount() override {
    if (::umount(point_.path().c_str()) != 0) ::umount2(point_.path().c_str(), MNT_DETACH);
  }
  [[nodiscard]] std::filesystem::path directory() const override { return point_.path(); }

 private:
  TemporaryDirectory point_;
};

class Overlay final : public Environment {
 public:
  [[nodiscard]] std::filesystem::path directory() const override { return overlay_.directory(); }

 private:
  /// The mount's options; makes the directories that they name.
  static std::string make_layers(const std::string& base) {
    for (const char* layer : {"/lower", "/upper", "/work"}) {
      std::filesystem::create_directory(base + layer);
    }
    return "lowerdir=" + base + "/lower,upperdir=" + base + "/upper,workdir=" + base + "/work";
  }

  TemporaryMount layers_{"none", "tmpfs", 0, ""};
  TemporaryMount overlay_{"none", "overlay", 0, make_layers(layers_.directory())};
};

EnvironmentPtr mount_ext4_over(const std::filesystem::path& images, off_t bytes,
                               std::uint32_t block_bytes) {
  const Descriptor image = make_nameless_file(images, bytes);
  const auto [path, device] = attach_loop_device(image.get(), block_bytes);
  make_file_system(path);
  return std::make_unique<TemporaryMount>(path.c_str(), "ext4", 0, "");
}

class Freezer final : public StallingDisk {
 public:
  explicit Freezer(Stalls stalls) {
    const Environment& frozen = stalls == Stalls::kDevice ? *underneath_ : *disk_;
    frozen_.emplace(::open(frozen.directory().c_str(), O_RDONLY | O_CLOEXEC));
    start_guard();
  }
  ~Freezer() override {
    go_on();
    ::close(guard_pipe_);
    ::waitpid(guard_, nullptr, 0);
  }
  [[nodiscard]] std::filesystem::path directory() const override { return disk_->directory(); }

  void stall() override {
    if (::ioctl(frozen_->get(), FIFREEZE, 0) != 0) give_up("cannot freeze ext4");
  }
  void go_on() override { ::ioctl(frozen_->get(), FITHAW, 0); }

 private:
  /// A process that thaws what this one would leave frozen: a frozen file system holds up whoever
  /// touches it, for ever.
  void start_guard() {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) give_up("no pipe");
    guard_ = ::fork();
    if (guard_ < 0) give_up("no process to thaw ext4");
    if (guard_ == 0) {
      ::setsid();
      ::close(ends[1]);
      pollfd end{.fd = ends[0], .events = 0, .revents = 0};  // closed by the death of the other end
      ::poll(&end, 1, kThawAfterMs);
      ::ioctl(frozen_->get(), FITHAW, 0);
      ::_exit(0);
    }
    ::close(ends[0]);
    guard_pipe_ = ends[1];
  }

  EnvironmentPtr underneath_ = mount_ext4_over(std::filesystem::current_path(), kLoopBytes, 512);
  EnvironmentPtr disk_ = mount_ext4_over(underneath_->directory(), kInnerLoopBytes, 512);
  std::optional<Descriptor> frozen_;
  pid_t guard_ = -1;
  int guard_pipe_ = -1;
};

class LittleLockableMemory final : public Environment {
 public:
  LittleLockableMemory() {
    getrlimit(RLIMIT_MEMLOCK, &before_);
    rlimit lowered = before_;
    lowered.rlim_cur = kLittleMemory;
    if (setrlimit(RLIMIT_MEMLOCK, &lowered) != 0) give_up("cannot set RLIMIT_MEMLOCK");
  }
  ~LittleLockableMemory() override { setrlimit(RLIMIT_MEMLOCK, &before_); }
  [[nodiscard]] std::filesystem::path directory() const override {
    return std::filesystem::current_path();
  }

 private:
  WithoutCapability bounded_{CAP_IPC_LOCK};
  rlimit before_{};
};

}  // namespace

EnvironmentPtr mount_tmpfs(std::uint64_t bytes, bool read_only) {
  return std::make_unique<TemporaryMount>("none", "tmpfs", read_only ? MS_RDONLY : 0,
                                          "size=" + std::to_string(bytes));
}

EnvironmentPtr mount_overlay() { return std::make_unique<Overlay>(); }

EnvironmentPtr mount_ext4(std::uint32_t block_bytes) {
  return mount_ext4_over(std::filesystem::current_path(), kLoopBytes, block_bytes);
}

std::unique_ptr<StallingDisk> mount_stalling_disk(Stalls stalls) {
  return std::make_unique<Freezer>(stalls);
}

EnvironmentPtr limit_lockable_memory() { return std::make_unique<LittleLockableMemory>(); }

WithoutCapability::WithoutCapability(unsigned capability) : capability_(capability) {
  bool was_on = false;
  taken_ = set_effective(capability, false, was_on) && was_on;
}

WithoutCapability::~WithoutCapability() {
  bool was_on = false;
  if (taken_) set_effective(capability_, true, was_on);
}

}  // namespace strata::aio
