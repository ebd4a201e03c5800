# Makes the target strata::torch: LibTorch's headers, without their warnings, and its CPU libraries.
#
# LibTorch's own TorchConfig.cmake is not used: that of a CUDA build refuses a machine without the
# CUDA toolkit, and it links CUDA's libraries, which cost every program 350 MB of memory and 0.1 s of
# start on a machine without a GPU (docs/decisions/0001-link-libtorch-directly.md).
# Used by our own build and, installed beside StrataConfig.cmake, by find_package(Strata).

# The libraries to link of the LibTorch at `prefix`; or `problem` says why it cannot be linked.
function(libtorch_libraries prefix result problem)
  set(${result} "" PARENT_SCOPE)
  set(${problem} "" PARENT_SCOPE)
  set(found)
  foreach(library torch_cpu c10)
    unset(path)
    find_library(path ${library} NO_DEFAULT_PATH NO_CACHE
                 PATHS ${prefix}/lib ${prefix}/lib64 ${prefix}/lib/${CMAKE_LIBRARY_ARCHITECTURE})
    if(NOT path)
      set(${problem} "The LibTorch at ${prefix} has headers, but no library ${library} in lib/."
          PARENT_SCOPE)
      return()
    endif()
    list(APPEND found ${path})
  endforeach()
  # A LibTorch built with the old string ABI links only until the first std::string crosses over.
  file(STRINGS ${path} new_abi_symbols REGEX "__cxx11" LIMIT_COUNT 1)
  if(NOT new_abi_symbols)
    set(${problem} "The LibTorch at ${prefix} is built with the old C++ string ABI \
(_GLIBCXX_USE_CXX11_ABI=0). Use a cxx11-abi build." PARENT_SCOPE)
    return()
  endif()
  set(${result} ${found} PARENT_SCOPE)
endfunction()

function(libtorch_make_target prefix libraries)
  if(TARGET strata::torch)
    return()
  endif()
  add_library(strata::torch INTERFACE IMPORTED GLOBAL)
  target_include_directories(strata::torch INTERFACE
    ${prefix}/include ${prefix}/include/torch/csrc/api/include)
  target_compile_definitions(strata::torch INTERFACE _GLIBCXX_USE_CXX11_ABI=1
                             USE_DISTRIBUTED USE_C10D_GLOO)
  target_link_libraries(strata::torch INTERFACE ${libraries})
endfunction()
