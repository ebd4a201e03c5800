# Finds the LibTorch that Strata is built with, for our own build, and makes the target
# strata::torch. What find_package(Strata) does instead is in StrataPackageTorch.cmake.

include(${CMAKE_CURRENT_LIST_DIR}/FindLibTorch.cmake)
include(${CMAKE_CURRENT_LIST_DIR}/LibTorchTarget.cmake)

libtorch_find()
if(NOT LIBTORCH_PREFIX)
  message(FATAL_ERROR
    "No LibTorch ${LIBTORCH_VERSION_MIN} or newer was found (passed over: "
    "[${LIBTORCH_PASSED_OVER}]). Run tools/setup.sh, or name one with -DLIBTORCH=DIR, or build the "
    "layers below LibTorch alone with -DSTRATA_WITH_TORCH=OFF.")
endif()

# A build that configures itself again finds the same one, whatever the environment is then.
set(LIBTORCH ${LIBTORCH_PREFIX} CACHE PATH "LibTorch to build with" FORCE)

libtorch_libraries(${LIBTORCH_PREFIX} LIBTORCH_LIBRARIES problem)
if(problem)
  message(FATAL_ERROR "${problem}")
endif()
message(STATUS "Found LibTorch ${LIBTORCH_VERSION}: ${LIBTORCH_PREFIX}")
libtorch_make_target(${LIBTORCH_PREFIX} "${LIBTORCH_LIBRARIES}")
