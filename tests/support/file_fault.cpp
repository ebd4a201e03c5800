#include "support/file_fault.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <string_view>
#include <utility>

namespace strata::support {
namespace {

using Kind = FileFault::Kind;

struct Armed {
  FileFault fault;
  long calls = 0;
  std::vector<FileCall>* journal = nullptr;
};

Kind kind_of(std::string_view word) {
  if (word == "kill") return Kind::kKill;
  if (word == "tear") return Kind::kTear;
  return word == "after" ? Kind::kKillAfter : Kind::kFailOn;
}

/// Of the process, as the calls are. Never destroyed: files are closed after static objects are.
Armed& armed() {
  static Armed* const all = [] {
    auto* const made = new Armed;
    const char* const text = std::getenv("STRATA_FILE_FAULT");
    if (text == nullptr) return made;
    const std::string_view words(text);
    const std::size_t first = words.find(':');
    const std::size_t second = words.find(':', first + 1);
    made->fault.kind = kind_of(words.substr(0, first));
    made->fault.error = ENOSPC;
    made->fault.at = std::atol(text + first + 1);
    made->fault.under = words.substr(second + 1);
    return made;
  }();
  return *all;
}

std::string path_of(const char* path) { return path == nullptr ? "" : path; }

std::string path_of(int descriptor) {
  std::array<char, 4096> path{};
  const std::string link = "/proc/self/fd/" + std::to_string(descriptor);
  const ssize_t size = ::readlink(link.c_str(), path.data(), path.size() - 1);
  return size > 0 ? std::string(path.data(), static_cast<std::size_t>(size)) : "";
}

/// What becomes of a call.
enum class Fate { kGoesOn, kFails, kIsHalved, kIsLast };

bool is_of_reads(Kind kind) { return kind == Kind::kFailRead || kind == Kind::kEndRead; }

/// Counts a call; may not return.
Fate fate_of(bool reads, bool removes) {
  const FileFault& fault = armed().fault;
  if (reads != is_of_reads(fault.kind)) return Fate::kGoesOn;
  const long call = ++armed().calls;
  if (fault.kind == Kind::kFailOn ? call < fault.at || removes : call != fault.at) {
    return Fate::kGoesOn;
  }
  errno = fault.error;
  switch (fault.kind) {
    case Kind::kNone: return Fate::kGoesOn;
    case Kind::kKill: ::raise(SIGKILL); return Fate::kGoesOn;
    case Kind::kKillAfter: return Fate::kIsLast;
    case Kind::kTear:
    case Kind::kShort: return Fate::kIsHalved;
    case Kind::kEndRead: return Fate::kIsHalved;
    case Kind::kFail:
    case Kind::kFailOn:
    case Kind::kFailRead: break;
  }
  return Fate::kFails;
}

bool concerns(std::string_view path) {
  const std::string& under = armed().fault.under;
  return !under.empty() && path.starts_with(under);
}

/// Carries out a call that changes files, unless it fails. `half` is what it does when it is cut
/// short. `note` describes it.
template <class File, class Call, class Half, class Note>
auto carry_out(File file, bool removes, const Call& call, const Half& half, const Note& note)
    -> decltype(call()) {
  if (armed().fault.under.empty()) return call();
  const std::string path = path_of(file);
  if (!concerns(path)) return call();
  const Fate fate = fate_of(/*reads=*/false, removes);
  if (fate == Fate::kFails) return -1;
  if (fate == Fate::kIsHalved && armed().fault.kind == Kind::kTear) {
    half();
    ::raise(SIGKILL);
  }
  const auto result = fate == Fate::kIsHalved ? half() : call();
  if (fate == Fate::kIsLast) ::raise(SIGKILL);
  if (result >= 0 && armed().journal != nullptr) {
    FileCall done = note(path);
    if (done.kind == FileCall::Kind::kWrite) done.bytes.resize(static_cast<std::size_t>(result));
    armed().journal->push_back(std::move(done));
  }
  return result;
}

/// Half of what has no halves: nothing, or all where it is only to be cut short.
template <class Call>
auto unless_torn(const Call& call) {
  return [&call] { return armed().fault.kind == Kind::kTear ? 0 : call(); };
}

template <class File, class Call>
auto carry_out(File file, FileCall::Kind kind, const Call& call) -> decltype(call()) {
  return carry_out(file, kind == FileCall::Kind::kRemove, call, unless_torn(call),
                   [&](const std::string& path) {
                     return FileCall{kind, path};
                   });
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

void record_into(std::vector<FileCall>* journal) { armed().journal = journal; }

}  // namespace strata::support

// ---- in the place of the C library's -----------------------------------------------------------

using strata::support::carry_out;
using strata::support::FileCall;
using strata::support::next;
using strata::support::unless_torn;
using CallKind = FileCall::Kind;

extern "C" {

int open(const char* path, int flags, ...) {
  mode_t mode = 0;
  static auto* const function = next<int(const char*, int, ...)>("open");
  if ((flags & O_CREAT) == 0) return function(path, flags);
  va_list arguments;
  va_start(arguments, flags);
  mode = va_arg(arguments, mode_t);
  va_end(arguments);
  return carry_out(path, CallKind::kMake, [&] { return function(path, flags, mode); });
}

int mkdir(const char* path, mode_t mode) noexcept {
  static auto* const function = next<int(const char*, mode_t)>("mkdir");
  return carry_out(path, CallKind::kMakeDirectory, [&] { return function(path, mode); });
}

int fallocate(int file, int mode, off_t offset, off_t bytes) {
  static auto* const function = next<int(int, int, off_t, off_t)>("fallocate");
  const auto call = [&] { return function(file, mode, offset, bytes); };
  return carry_out(file, false, call, unless_torn(call), [&](const std::string& path) {
    return FileCall{CallKind::kAllocate, path, {}, static_cast<std::uint64_t>(offset + bytes)};
  });
}

ssize_t pwrite(int file, const void* data, size_t bytes, off_t offset) {
  static auto* const function = next<ssize_t(int, const void*, size_t, off_t)>("pwrite");
  return carry_out(
      file, false, [&] { return function(file, data, bytes, offset); },
      [&] { return function(file, data, (bytes + 1) / 2, offset); },
      [&](const std::string& path) {
        return FileCall{CallKind::kWrite,
                        path,
                        {},
                        static_cast<std::uint64_t>(offset),
                        std::string(static_cast<const char*>(data), bytes)};
      });
}

ssize_t pread(int file, void* data, size_t bytes, off_t offset) {
  static auto* const function = next<ssize_t(int, void*, size_t, off_t)>("pread");
  namespace support = strata::support;
  const bool is_one = support::is_of_reads(support::armed().fault.kind) &&
                      support::concerns(support::path_of(file));
  if (!is_one) return function(file, data, bytes, offset);
  switch (support::fate_of(/*reads=*/true, /*removes=*/false)) {
    case support::Fate::kFails: return -1;
    case support::Fate::kIsHalved: return 0;
    default: return function(file, data, bytes, offset);
  }
}

int fsync(int file) {
  static auto* const function = next<int(int)>("fsync");
  return carry_out(file, CallKind::kSync, [&] { return function(file); });
}

int rename(const char* from, const char* to) noexcept {
  static auto* const function = next<int(const char*, const char*)>("rename");
  const auto call = [&] { return function(from, to); };
  return carry_out(from, false, call, unless_torn(call), [&](const std::string& path) {
    return FileCall{CallKind::kRename, path, to};
  });
}

int renameat2(int from_directory, const char* from, int to_directory, const char* to,
              unsigned int flags) noexcept {
  static auto* const function =
      next<int(int, const char*, int, const char*, unsigned int)>("renameat2");
  const auto call = [&] { return function(from_directory, from, to_directory, to, flags); };
  return carry_out(from, false, call, unless_torn(call), [&](const std::string& path) {
    return FileCall{(flags & RENAME_EXCHANGE) != 0 ? CallKind::kExchange : CallKind::kRename, path,
                    to};
  });
}

int unlinkat(int directory, const char* path, int flags) noexcept {
  static auto* const function = next<int(int, const char*, int)>("unlinkat");
  const std::string whole =
      path[0] == '/' ? path : strata::support::path_of(directory) + "/" + path;
  return carry_out(whole.c_str(), CallKind::kRemove,
                   [&] { return function(directory, path, flags); });
}

int unlink(const char* path) noexcept {
  static auto* const function = next<int(const char*)>("unlink");
  return carry_out(path, CallKind::kRemove, [&] { return function(path); });
}

int rmdir(const char* path) noexcept {
  static auto* const function = next<int(const char*)>("rmdir");
  return carry_out(path, CallKind::kRemove, [&] { return function(path); });
}

}  // extern "C"
