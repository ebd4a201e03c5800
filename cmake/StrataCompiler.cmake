# Build type, compiler cache and job pools.

if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "Build type" FORCE)
endif()

# ccache refuses precompiled headers unless told that macros defined in one do not matter to it.
find_program(STRATA_CCACHE ccache)
if(STRATA_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER
      ${CMAKE_COMMAND} -E env
      CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime
      ${STRATA_CCACHE})
endif()

# A file that includes LibTorch takes 1.3 GB to compile (2 GB for the precompiled header itself).
set_property(GLOBAL APPEND PROPERTY JOB_POOLS strata_torch_compile=2)
