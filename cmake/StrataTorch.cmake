# Finds LibTorch: CMAKE_PREFIX_PATH first, then the environment that tools/setup.sh made in .deps,
# then the torch package of the python3 on PATH.

if(NOT Torch_DIR)
  foreach(python ${PROJECT_SOURCE_DIR}/.deps/venv/bin/python python3)
    execute_process(COMMAND ${python} -c "import torch.utils; print(torch.utils.cmake_prefix_path)"
                    OUTPUT_VARIABLE prefix OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET
                    RESULT_VARIABLE status)
    if(status EQUAL 0)
      list(APPEND CMAKE_PREFIX_PATH ${prefix})
      break()
    endif()
  endforeach()
endif()

# Without a list, Torch's own CMake files run nvcc to ask the GPU of this machine, and fail without one.
if(NOT TORCH_CUDA_ARCH_LIST)
  set(TORCH_CUDA_ARCH_LIST 9.0)
endif()
find_package(Torch REQUIRED)

# Torch's headers are somebody else's: no warnings from them. Its flags go to this target alone.
add_library(strata_torch INTERFACE)
add_library(strata::torch ALIAS strata_torch)
target_include_directories(strata_torch SYSTEM INTERFACE ${TORCH_INCLUDE_DIRS})
target_link_libraries(strata_torch INTERFACE ${TORCH_LIBRARIES})
