# Finds the LibTorch to build with and names its prefix in LIBTORCH_PREFIX.
#
# -DLIBTORCH=DIR, and no other where that is given. Or else the first of: $STRATA_TORCH, $LIBTORCH,
# Torch_DIR, CMAKE_PREFIX_PATH, the environment that tools/setup.sh made in .deps, the torch package
# of the python3 on PATH, the system's own prefixes.
# A prefix is a directory that holds include/ and lib/: an unpacked LibTorch or the torch package.
# A LibTorch older than LIBTORCH_VERSION_MIN is passed over, and LIBTORCH_PASSED_OVER says so.
#
# As a script, `cmake -P cmake/FindLibTorch.cmake` prints the prefix or exits with 1.

set(LIBTORCH_VERSION_MIN 2.11)  # the version that is tested; tools/setup.sh installs it

# The version that the headers under `prefix` state, or "" when there are none.
function(libtorch_version prefix result)
  set(${result} "" PARENT_SCOPE)
  set(header ${prefix}/include/torch/headeronly/version.h)
  if(NOT EXISTS ${header})
    set(header ${prefix}/include/torch/csrc/api/include/torch/version.h)
  endif()
  if(NOT EXISTS ${header})
    return()
  endif()
  file(STRINGS ${header} lines REGEX "#define TORCH_VERSION_(MAJOR|MINOR|PATCH) ")
  list(TRANSFORM lines REPLACE "^.* " "")
  list(JOIN lines "." version)
  set(${result} "${version}" PARENT_SCOPE)
endfunction()

# The directory of the torch package of a Python, without importing it (that takes seconds).
function(libtorch_of_python python result)
  set(${result} "" PARENT_SCOPE)
  set(script "import importlib.util as u; print(u.find_spec('torch').submodule_search_locations[0])")
  execute_process(COMMAND ${python} -c "${script}" RESULT_VARIABLE status ERROR_QUIET
                  OUTPUT_VARIABLE prefix OUTPUT_STRIP_TRAILING_WHITESPACE)
  if(status EQUAL 0)
    set(${result} "${prefix}" PARENT_SCOPE)
  endif()
endfunction()

# The prefix of a LibTorch whose TorchConfig.cmake is in `torch_dir`, or "" where there is none.
function(libtorch_of_torch_dir torch_dir result)
  set(${result} "" PARENT_SCOPE)
  foreach(up ../../.. ../../../..)  # of share/cmake/Torch, and of lib/<architecture>/cmake/Torch
    get_filename_component(prefix "${torch_dir}/${up}" ABSOLUTE)
    libtorch_version(${prefix} version)
    if(version)
      set(${result} ${prefix} PARENT_SCOPE)
      return()
    endif()
  endforeach()
endfunction()

# Where a LibTorch may be that nobody named with -DLIBTORCH, the likeliest first.
function(libtorch_candidates result)
  get_filename_component(project "${CMAKE_CURRENT_FUNCTION_LIST_DIR}/.." ABSOLUTE)
  libtorch_of_python(${project}/.deps/venv/bin/python of_deps)
  libtorch_of_python(python3 of_path)
  string(REPLACE ":" ";" env_prefixes "$ENV{CMAKE_PREFIX_PATH}")
  set(given)
  foreach(dir "${Torch_DIR}" "$ENV{Torch_DIR}")
    if(dir)
      libtorch_of_torch_dir(${dir} prefix)
      list(APPEND given ${prefix})
    endif()
  endforeach()
  foreach(dir ${CMAKE_PREFIX_PATH} ${env_prefixes})
    list(APPEND given ${dir} ${dir}/../..)  # the second: torch.utils.cmake_prefix_path
  endforeach()
  set(${result} $ENV{STRATA_TORCH} $ENV{LIBTORCH} ${given} ${of_deps} ${of_path}
                /opt/libtorch /usr/local /usr PARENT_SCOPE)
endfunction()

function(libtorch_find)
  if(LIBTORCH)
    set(candidates ${LIBTORCH})
  else()
    libtorch_candidates(candidates)
  endif()
  set(passed_over)
  foreach(dir ${candidates})
    get_filename_component(prefix "${dir}" ABSOLUTE)
    libtorch_version(${prefix} version)
    if(version AND version VERSION_LESS LIBTORCH_VERSION_MIN)
      list(APPEND passed_over "${prefix} (${version})")
    elseif(version)
      set(LIBTORCH_PREFIX ${prefix} PARENT_SCOPE)
      set(LIBTORCH_VERSION ${version} PARENT_SCOPE)
      break()
    elseif(LIBTORCH)
      list(APPEND passed_over "${prefix} (no LibTorch)")
    endif()
  endforeach()
  list(JOIN passed_over ", " passed_over)
  set(LIBTORCH_PASSED_OVER "${passed_over}" PARENT_SCOPE)
endfunction()

if(CMAKE_SCRIPT_MODE_FILE STREQUAL CMAKE_CURRENT_LIST_FILE)
  libtorch_find()
  if(NOT LIBTORCH_PREFIX)
    message(FATAL_ERROR "no LibTorch ${LIBTORCH_VERSION_MIN} or newer found; "
                        "passed over: [${LIBTORCH_PASSED_OVER}]")
  endif()
  execute_process(COMMAND ${CMAKE_COMMAND} -E echo "${LIBTORCH_PREFIX}")
endif()
