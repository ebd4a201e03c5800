#pragma once

#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
#endif

namespace strata {

/// Tells ThreadSanitizer of an order between threads that code without instrumentation keeps (the
/// kernel, a library), so that it does not take memory handed over for a race. In other builds the
/// calls do nothing. Any thread may make them.
class UnseenOrder {
 public:
#if defined(__SANITIZE_THREAD__)
  /// Orders what the thread did until now before whatever follows a later `acquire`.
  void release() noexcept { __tsan_release(&place_); }
  void acquire() noexcept { __tsan_acquire(&place_); }

 private:
  char place_ = 0;  // its address is what counts
#else
  void release() noexcept {}
  void acquire() noexcept {}
#endif
};

}  // namespace strata
