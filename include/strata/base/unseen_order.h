#pragma once

#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
#endif

namespace strata {

/// An order between threads that is kept by code without instrumentation (the kernel, a library),
/// told to ThreadSanitizer so that it does not take memory handed over for a race. In other builds
/// the calls do nothing. Any thread may make them.
class UnseenOrder {
 public:
#if defined(__SANITIZE_THREAD__)
  /// What the thread did until now comes before whatever follows an `acquire` that is made later.
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
