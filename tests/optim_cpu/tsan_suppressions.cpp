// oneTBB's library is not compiled with ThreadSanitizer, which therefore cannot see how a task that
// one thread makes reaches the thread that runs it, and reports every such handing over. Reports
// with a frame of oneTBB are left out; all other threads (those of the I/O queue) stay watched.

#if defined(__SANITIZE_THREAD__)
extern "C" const char* __tsan_default_suppressions();
extern "C" const char* __tsan_default_suppressions() {
  return "race:oneapi/tbb/\n"
         "race:libtbb.so\n";
}
#endif
