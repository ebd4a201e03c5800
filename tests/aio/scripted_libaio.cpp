#include "aio/scripted_libaio.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <optional>

namespace strata::aio {
namespace {

LibaioScript script;

int outcome(long result) { return static_cast<int>(result < 0 ? -errno : result); }

std::optional<int> next(std::deque<int>& answers) {
  if (answers.empty()) return std::nullopt;
  const int answer = answers.front();
  answers.pop_front();
  return answer;
}

}  // namespace

LibaioScript& new_libaio_script() { return script = {}; }

}  // namespace strata::aio

using strata::aio::next;
using strata::aio::outcome;
using strata::aio::script;

extern "C" {

int io_submit(io_context_t context, long count, iocb** entries) {
  ++script.submits;
  const std::optional<int> answer = next(script.submit_answers);
  if (answer && *answer <= 0) return *answer;
  if (answer) count = std::min<long>(count, *answer);
  return outcome(::syscall(SYS_io_submit, context, count, entries));
}

int io_getevents(io_context_t context, long least, long most, io_event* events, timespec* timeout) {
  ++script.getevents;
  if (const std::optional<int> answer = next(script.getevents_answers)) return *answer;
  const int count = outcome(::syscall(SYS_io_getevents, context, least, most, events, timeout));
  for (int i = 0; i < count; ++i) events[i].res2 = static_cast<unsigned long>(script.res2);
  return count;
}

int io_destroy(io_context_t context) {
  script.destroyed.push_back(context);
  return outcome(::syscall(SYS_io_destroy, context));
}

}  // extern "C"
