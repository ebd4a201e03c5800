# Makes the target strata::torch: LibTorch's headers, without their warnings, and its CPU libraries.
#
# LibTorch's own TorchConfig.cmake is not used: that of a CUDA build refuses a machine without the
# CUDA toolkit, and it links CUDA's libraries, which cost every program 350 MB of memory and 0.1 s of
# start on a machine without a GPU (docs/decisions/0001-link-libtorch-directly.md).
# Used by our own build and, installed beside StrataConfig.cmake, by find_package(Strata).

include(${CMAKE_CURRENT_LIST_DIR}/FindLibTorch.cmake)
if(NOT LIBTORCH_PREFIX)
  message(FATAL_ERROR
    "No LibTorch ${LIBTORCH_VERSION_MIN} or newer was found (passed over as too old: "
    "[${LIBTORCH_PASSED_OVER}]). Run tools/setup.sh, or name one with -DLIBTORCH=DIR, or build the "
    "layers below LibTorch alone with -DSTRATA_WITH_TORCH=OFF.")
endif()

# A build that configures itself again finds the same one, whatever the environment is then.
set(LIBTORCH ${LIBTORCH_PREFIX} CACHE PATH "LibTorch to build with" FORCE)

foreach(library torch_cpu c10)
  find_library(STRATA_LIB_${library} ${library} REQUIRED NO_DEFAULT_PATH NO_CACHE
               PATHS ${LIBTORCH_PREFIX}/lib ${LIBTORCH_PREFIX}/lib64
                     ${LIBTORCH_PREFIX}/lib/${CMAKE_LIBRARY_ARCHITECTURE})
endforeach()

# A LibTorch built with the old string ABI links only until the first std::string crosses over.
file(STRINGS ${STRATA_LIB_c10} new_abi_symbols REGEX "__cxx11" LIMIT_COUNT 1)
if(NOT new_abi_symbols)
  message(FATAL_ERROR "The LibTorch at ${LIBTORCH_PREFIX} is built with the old C++ string ABI "
                      "(_GLIBCXX_USE_CXX11_ABI=0). Use a cxx11-abi build.")
endif()

if(NOT TARGET strata::torch)
  message(STATUS "Found LibTorch ${LIBTORCH_VERSION}: ${LIBTORCH_PREFIX}")
  add_library(strata::torch INTERFACE IMPORTED GLOBAL)
  target_include_directories(strata::torch INTERFACE
    ${LIBTORCH_PREFIX}/include ${LIBTORCH_PREFIX}/include/torch/csrc/api/include)
  target_compile_definitions(strata::torch INTERFACE _GLIBCXX_USE_CXX11_ABI=1
                             USE_DISTRIBUTED USE_C10D_GLOO)
  target_link_libraries(strata::torch INTERFACE ${STRATA_LIB_torch_cpu} ${STRATA_LIB_c10})
endif()
