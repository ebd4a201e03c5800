# Says at the end of a directory that called find_package(Strata) what CMake would say in words that
# lead nowhere, or not at all. Used by StrataConfig.cmake.

# The targets of `directory` and those below it that link any of `libraries`.
function(strata_find_users directory libraries result)
  set(users)
  get_property(targets DIRECTORY ${directory} PROPERTY BUILDSYSTEM_TARGETS)
  foreach(target IN LISTS targets)
    foreach(property LINK_LIBRARIES INTERFACE_LINK_LIBRARIES)
      get_property(linked TARGET ${target} PROPERTY ${property})
      foreach(library IN LISTS libraries)
        if(library IN_LIST linked)
          list(APPEND users ${target})
        endif()
      endforeach()
    endforeach()
  endforeach()
  get_property(below DIRECTORY ${directory} PROPERTY SUBDIRECTORIES)
  foreach(subdirectory IN LISTS below)
    strata_find_users(${subdirectory} "${libraries}" more)
    list(APPEND users ${more})
  endforeach()
  list(REMOVE_DUPLICATES users)
  set(${result} "${users}" PARENT_SCOPE)
endfunction()

# Without the component torch: an error when a target links what only it brings. `why`: why there
# is no component torch.
function(strata_check_component directory why)
  if(TARGET strata::torch)  # found later, or in another directory
    return()
  endif()
  strata_find_users(${directory} "strata::zero3;strata::cpu_adam;strata::models;strata::torch" users)
  if(users)
    list(JOIN users ", " users)
    message(SEND_ERROR "${users}: strata::zero3, strata::cpu_adam, strata::models and strata::torch come \
with the component torch of Strata. ${why}")
  endif()
endfunction()

# With it: a warning when the project has found another LibTorch besides.
function(strata_check_torch_dir prefix)
  if(NOT Torch_DIR)
    return()
  endif()
  libtorch_of_torch_dir(${Torch_DIR} other)
  if(NOT other)
    return()
  endif()
  file(REAL_PATH ${other} real_other)
  file(REAL_PATH ${prefix} real_prefix)
  if(NOT real_other STREQUAL real_prefix)
    libtorch_version(${prefix} version)
    libtorch_version(${other} other_version)
    message(WARNING "Strata links LibTorch ${version} at ${prefix}, but find_package(Torch) has \
found LibTorch ${other_version} at ${other}. A program cannot have both: name one of them with \
-DLIBTORCH=DIR, or call find_package(Torch) before find_package(Strata).")
  endif()
endfunction()

# `torch_problem`: why there is no component torch, empty when there is one, with the LibTorch at
# `prefix`.
function(strata_check_use_at_the_end torch_problem prefix)
  if(torch_problem)
    set(call strata_check_component "${CMAKE_CURRENT_SOURCE_DIR}" "${torch_problem}")
  else()
    set(call strata_check_torch_dir "${prefix}")
  endif()
  get_property(calls DIRECTORY PROPERTY STRATA_CALLS_AT_THE_END)
  list(GET call 0 name)
  if(NOT name IN_LIST calls)  # find_package may be called again
    set_property(DIRECTORY APPEND PROPERTY STRATA_CALLS_AT_THE_END ${name})
    list(JOIN call "]==] [==[" arguments)
    cmake_language(EVAL CODE "cmake_language(DEFER CALL [==[${arguments}]==])")
  endif()
endfunction()
