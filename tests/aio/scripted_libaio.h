#pragma once

#include <libaio.h>

#include <deque>
#include <vector>

namespace strata::aio {

/// The kernel's answers, in the hands of a test. A program that links scripted_libaio.cpp calls
/// the functions there in place of libaio's; they go on to the kernel unless the script has another
/// answer. One thread at a time.
struct LibaioScript {
  /// The answers to the next calls of io_submit: a negated errno, or how many requests of the call
  /// go on to the kernel.
  std::deque<int> submit_answers;
  /// The answers to the next calls of io_getevents, each a negated errno.
  std::deque<int> getevents_answers;
  /// Put into `res2` of every event.
  long res2 = 0;

  int submits = 0;
  int getevents = 0;
  std::vector<io_context_t> destroyed;
};

/// The one script of the program, as new.
LibaioScript& new_libaio_script();

}  // namespace strata::aio
