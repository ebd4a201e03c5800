# One precompiled <gmock/gmock.h> and <gtest/gtest.h> for the tests below LibTorch: a test compiles in
# a quarter less time, in each of the three builds that tools/test.sh makes.

# It serves only code of the same optimisation, too.
function(strata_test_pch_options target)
  strata_pch_options(${target})
  strata_compile_as_test(${target})
endfunction()

# Compiles the sources of a test with the shared header.
function(strata_use_test_pch target)
  if(NOT TARGET strata_test_pch)
    strata_add_pch(strata_test_pch LINK GTest::gtest GTest::gmock
      HEADERS <gmock/gmock.h> <gtest/gtest.h> <algorithm> <chrono> <filesystem> <fstream> <map>
              <random> <span> <sstream> <thread>)
    strata_test_pch_options(strata_test_pch)
  endif()
  strata_test_pch_options(${target})
  target_precompile_headers(${target} REUSE_FROM strata_test_pch)
endfunction()
