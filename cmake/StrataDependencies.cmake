# Third parties, one line of reason each. All but LibTorch come from the distribution's packages.

find_package(Threads REQUIRED)
find_package(PkgConfig REQUIRED)
pkg_check_modules(LIBURING REQUIRED IMPORTED_TARGET liburing>=2.2)  # the io_uring backend (sparse tables)
find_library(STRATA_LIBAIO aio REQUIRED)                       # the libaio backend; has no .pc file
pkg_check_modules(HWLOC REQUIRED IMPORTED_TARGET hwloc)        # NUMA nodes of disks, threads, memory
pkg_check_modules(HWY REQUIRED IMPORTED_TARGET libhwy)         # one kernel source per algorithm
pkg_check_modules(XXHASH REQUIRED IMPORTED_TARGET libxxhash)   # checksums of the shard store
pkg_check_modules(ZLIB REQUIRED IMPORTED_TARGET zlib)          # traces are gzipped
find_package(TBB REQUIRED)                                     # threads of the optimizer
find_package(nlohmann_json REQUIRED)                           # configs and safetensors headers
find_package(CLI11 REQUIRED)                                   # command lines

if(STRATA_WITH_TORCH)
  include(StrataTorch)                                         # tensors, autograd, collectives
  # LibTorch carries Gloo, which connects ranks that are processes, and its own header of it, but not
  # Gloo's that this one includes. Only headers: nothing is linked. Without them ranks are threads.
  find_path(STRATA_GLOO_HEADERS gloo/rendezvous/store.h)
  set(STRATA_WITH_GLOO ${STRATA_GLOO_HEADERS})
  if(NOT STRATA_WITH_GLOO)
    message(WARNING "Gloo's headers (Debian: libgloo-dev) were not found: ranks cannot be processes")
  endif()
endif()
if(STRATA_BUILD_TESTS)
  find_package(GTest REQUIRED)
  include(GoogleTest)
endif()
if(STRATA_BUILD_BENCH)
  find_package(benchmark REQUIRED)
endif()
