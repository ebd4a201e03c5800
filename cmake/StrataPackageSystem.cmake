# Finds what a program that links Strata needs of the system. Used by StrataConfig.cmake; README.md
# lists the packages.

# Prints a line, unless find_package(Strata QUIET).
function(strata_say text)
  if(NOT Strata_FIND_QUIETLY)
    message(STATUS "${text}")
  endif()
endfunction()

# Makes the targets that Strata's link to. `problems`: what is missing, with the names of Debian's
# packages; empty when nothing is.
function(strata_find_system_packages problems)
  set(${problems} "" PARENT_SCOPE)
  get_property(languages GLOBAL PROPERTY ENABLED_LANGUAGES)
  if(NOT "CXX" IN_LIST languages)
    set(${problems} "Strata is a C++ library, and the project has no C++: write \
project(... LANGUAGES CXX) before find_package(Strata)." PARENT_SCOPE)
    return()
  endif()

  find_package(Threads QUIET)
  find_package(TBB QUIET)
  find_package(nlohmann_json QUIET)
  find_library(STRATA_LIBAIO aio)  # linked by its name: it has no .pc file
  mark_as_advanced(STRATA_LIBAIO)
  find_package(PkgConfig QUIET)
  set(wanted "Threads::Threads|POSIX threads|libc6-dev"
             "TBB::tbb|oneTBB|libtbb-dev"
             "nlohmann_json::nlohmann_json|nlohmann_json|nlohmann-json3-dev")
  if(PKG_CONFIG_FOUND)
    pkg_check_modules(LIBURING QUIET IMPORTED_TARGET liburing>=2.2)
    pkg_check_modules(HWLOC QUIET IMPORTED_TARGET hwloc)
    pkg_check_modules(HWY QUIET IMPORTED_TARGET libhwy)
    pkg_check_modules(XXHASH QUIET IMPORTED_TARGET libxxhash)
    pkg_check_modules(ZLIB QUIET IMPORTED_TARGET zlib)
    list(APPEND wanted "PkgConfig::LIBURING|liburing 2.2 or newer|liburing-dev"
                       "PkgConfig::HWLOC|hwloc|libhwloc-dev"
                       "PkgConfig::HWY|highway|libhwy-dev"
                       "PkgConfig::XXHASH|xxHash|libxxhash-dev"
                       "PkgConfig::ZLIB|zlib|zlib1g-dev")
  endif()

  set(missing)
  set(debian)
  if(NOT PKG_CONFIG_FOUND)
    list(APPEND missing pkg-config)
    list(APPEND debian pkg-config)
  endif()
  if(NOT STRATA_LIBAIO)
    list(APPEND missing libaio)
    list(APPEND debian libaio-dev)
  endif()
  foreach(line IN LISTS wanted)
    string(REPLACE "|" ";" line "${line}")
    list(GET line 0 target)
    if(NOT TARGET ${target})
      list(GET line 1 name)
      list(GET line 2 package)
      list(APPEND missing "${name}")
      list(APPEND debian ${package})
    endif()
  endforeach()
  if(missing)
    list(JOIN missing ", " missing)
    list(JOIN debian " " debian)
    set(${problems} "Programs that use Strata link these, and they were not found: ${missing}. \
On Debian and Ubuntu: apt-get install ${debian}" PARENT_SCOPE)
  endif()
endfunction()

# `problems`: names of required components that there are not.
function(strata_find_component_problems problems)
  set(found)
  foreach(component IN LISTS Strata_FIND_COMPONENTS)
    if(component STREQUAL "torch")
      continue()
    endif()
    set(what "Strata has no component '${component}'. Its only one is torch, which brings \
strata::zero3, strata::cpu_adam and strata::models. The layers below LibTorch need none.")
    if(Strata_FIND_REQUIRED_${component})
      list(APPEND found "${what}")
    else()
      strata_say("${what}")
    endif()
    set(Strata_${component}_FOUND FALSE PARENT_SCOPE)
  endforeach()
  set(${problems} "${found}" PARENT_SCOPE)
endfunction()
