# Chooses the LibTorch that a program links with Strata. Used by StrataConfig.cmake.
#
# Strata's libraries are compiled against the headers of one LibTorch and run with no other than one
# of the same major and minor version. Order: the one that the program's project names (-DLIBTORCH=DIR,
# or the Torch_DIR of its own find_package(Torch)), and no other then; the one that Strata was built
# with, where it still is; others of that version, looked for where FindLibTorch.cmake says.

include(${CMAKE_CURRENT_LIST_DIR}/FindLibTorch.cmake)
include(${CMAKE_CURRENT_LIST_DIR}/LibTorchTarget.cmake)

# Whether two versions of LibTorch have the same interface.
function(strata_is_same_libtorch left right result)
  string(REGEX MATCH "^[0-9]+\\.[0-9]+" left "${left}")
  string(REGEX MATCH "^[0-9]+\\.[0-9]+" right "${right}")
  string(COMPARE EQUAL "${left}" "${right}" same)
  set(${result} ${same} PARENT_SCOPE)
endfunction()

# `built_prefix`, `built_version`: what Strata was built with. Sets LIBTORCH_PREFIX, LIBTORCH_VERSION
# and LIBTORCH_LIBRARIES; or `problem` says why there is none.
function(strata_choose_libtorch built_prefix built_version problem)
  set(named "")
  if(LIBTORCH)
    set(origin "-DLIBTORCH=${LIBTORCH}")
    get_filename_component(named "${LIBTORCH}" ABSOLUTE)
  elseif(Torch_DIR)
    set(origin "Torch_DIR=${Torch_DIR}")
    libtorch_of_torch_dir(${Torch_DIR} named)
  endif()

  set(LIBTORCH_PREFIX "" PARENT_SCOPE)
  set(passed_over)
  if(named OR origin)
    set(candidates "${named}")
  else()
    libtorch_candidates(candidates)
    list(PREPEND candidates ${built_prefix})
  endif()
  foreach(dir IN LISTS candidates)
    get_filename_component(prefix "${dir}" ABSOLUTE)
    libtorch_version(${prefix} version)
    strata_is_same_libtorch("${version}" "${built_version}" same)
    if(same)
      libtorch_libraries(${prefix} libraries linking_problem)
      set(${problem} "${linking_problem}" PARENT_SCOPE)
      set(LIBTORCH_PREFIX ${prefix} PARENT_SCOPE)
      set(LIBTORCH_VERSION ${version} PARENT_SCOPE)
      set(LIBTORCH_LIBRARIES "${libraries}" PARENT_SCOPE)
      return()
    elseif(version)
      list(APPEND passed_over "${version} at ${prefix}")
    endif()
  endforeach()

  set(built "Strata was built with LibTorch ${built_version} at ${built_prefix}")
  list(REMOVE_DUPLICATES passed_over)
  list(JOIN passed_over ", " passed_over)
  if(origin AND passed_over)
    set(${problem} "${built}, but ${origin} names LibTorch ${passed_over}. Their major and minor \
version must be the same: name another one, or build Strata with this one." PARENT_SCOPE)
  elseif(origin)
    set(${problem} "${origin} names no LibTorch: a directory with include/torch/ and lib/ is \
needed. ${built}, which is taken when none is named." PARENT_SCOPE)
  else()
    if(NOT passed_over)
      set(passed_over none)
    endif()
    set(${problem} "${built}, which is not there now, and no other of its major and minor version \
was found (of other versions: ${passed_over}). Name one with -DLIBTORCH=DIR: an unpacked LibTorch, \
or the torch package of a Python (pip install torch==${built_version})." PARENT_SCOPE)
  endif()
endfunction()
