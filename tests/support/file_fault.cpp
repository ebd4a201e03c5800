#include "support/file_fault.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdarg>
#include <cstdlib>
#include <string_view>
#include <utility>

namespace strata::support {
namespace {

struct Armed {
  FileFault fault;
  long calls = 0;
};

/// Of the process, as the calls are. Never destroyed: files are closed after static objects are.
Armed& armed() {
  static Armed* const all = [] {
    auto* const made = new Armed;
    const char* const text = std::getenv("STRATA_FILE_FAULT");
    if (text == nullptr) return made;
    const std::string_view words(text);
    const std::size_t first = words.find(':');
    const std::size_t second = words.find(':', first + 1);
    const std::string_view kind = words.substr(0, first);
    made->fault.kind = kind == "kill"   ? FileFault::Kind::kKill
                       : kind == "tear" ? FileFault::Kind::kTear
                                        : FileFault::Kind::kFailOn;
    made->fault.error = ENOSPC;
    made->fault.at = std::atol(text + first + 1);
    made->fault.under = words.substr(second + 1);
    return made;
  }();
  return *all;
}

bool concerns(const char* path) {
  const std::string& under = armed().fault.under;
  return !under.empty() && path != nullptr && std::string_view(path).starts_with(under);
}

bool concerns(int descriptor) {
  if (armed().fault.under.empty()) return false;
  std::array<char, 4096> path{};
  const std::string link = "/proc/self/fd/" + std::to_string(descriptor);
  const ssize_t size = ::readlink(link.c_str(), path.data(), path.size() - 1);
  return size > 0 && concerns(path.data());
}

/// Whether the call is to fail, with errno set. May not return.
template <class File, class Torn>
bool fails(File file, bool removes, const Torn& tear) {
  if (!concerns(file)) return false;
  const long call = ++armed().calls;
  const FileFault& fault = armed().fault;
  switch (fault.kind) {
    case FileFault::Kind::kNone: return false;
    case FileFault::Kind::kTear:
      if (call == fault.at) tear();
      [[fallthrough]];
    case FileFault::Kind::kKill:
      if (call == fault.at) ::raise(SIGKILL);
      return false;
    case FileFault::Kind::kFail:
      if (call != fault.at) return false;
      break;
    case FileFault::Kind::kFailOn:
      if (call < fault.at || removes) return false;
      break;
  }
  errno = fault.error;
  return true;
}

template <class File>
bool fails(File file, bool removes = false) {
  return fails(file, removes, [] {});
}

template <class Function>
Function* next(const char* name) {
  return reinterpret_cast<Function*>(::dlsym(RTLD_NEXT, name));
}

}  // namespace

void arm(const FileFault& fault) {
  armed().fault = fault;
  armed().calls = 0;
}

long calls_counted() { return armed().calls; }

}  // namespace strata::support

// ---- in the place of the C library's -----------------------------------------------------------

using strata::support::fails;
using strata::support::next;

extern "C" {

int open(const char* path, int flags, ...) {
  mode_t mode = 0;
  if ((flags & O_CREAT) != 0) {
    va_list arguments;
    va_start(arguments, flags);
    mode = va_arg(arguments, mode_t);
    va_end(arguments);
    if (fails(path)) return -1;
  }
  static auto* const function = next<int(const char*, int, ...)>("open");
  return function(path, flags, mode);
}

int mkdir(const char* path, mode_t mode) noexcept {
  if (fails(path)) return -1;
  static auto* const function = next<int(const char*, mode_t)>("mkdir");
  return function(path, mode);
}

int fallocate(int file, int mode, off_t offset, off_t bytes) {
  if (fails(file)) return -1;
  static auto* const function = next<int(int, int, off_t, off_t)>("fallocate");
  return function(file, mode, offset, bytes);
}

ssize_t pwrite(int file, const void* data, size_t bytes, off_t offset) {
  static auto* const function = next<ssize_t(int, const void*, size_t, off_t)>("pwrite");
  if (fails(file, false, [&] { function(file, data, bytes / 2, offset); })) return -1;
  return function(file, data, bytes, offset);
}

int fsync(int file) {
  if (fails(file)) return -1;
  static auto* const function = next<int(int)>("fsync");
  return function(file);
}

int rename(const char* from, const char* to) noexcept {
  if (fails(from)) return -1;
  static auto* const function = next<int(const char*, const char*)>("rename");
  return function(from, to);
}

int renameat2(int from_directory, const char* from, int to_directory, const char* to,
              unsigned int flags) noexcept {
  if (fails(from)) return -1;
  static auto* const function =
      next<int(int, const char*, int, const char*, unsigned int)>("renameat2");
  return function(from_directory, from, to_directory, to, flags);
}

int unlinkat(int directory, const char* path, int flags) noexcept {
  if (path[0] == '/' ? fails(path, true) : fails(directory, true)) return -1;
  static auto* const function = next<int(int, const char*, int)>("unlinkat");
  return function(directory, path, flags);
}

int unlink(const char* path) noexcept {
  if (fails(path, true)) return -1;
  static auto* const function = next<int(const char*)>("unlink");
  return function(path);
}

int rmdir(const char* path) noexcept {
  if (fails(path, true)) return -1;
  static auto* const function = next<int(const char*)>("rmdir");
  return function(path);
}

}  // extern "C"
