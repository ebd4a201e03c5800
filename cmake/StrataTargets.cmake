# How the project's own targets are made. Every library, program and test goes through one of these
# functions, so that warnings, sanitizers and include paths are decided in one place.

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
include(GNUInstallDirs)
include(StrataCompiler)
include(StrataPythonTest)
include(StrataTorchPch)
include(StrataTestPch)

# Sources are compiled up to sixteen at a time as one: each compilation reads the same headers and
# makes the same templates anew, and that is most of its work, half of it below LibTorch and more
# above. Names without linkage are then shared by a target: a test, with its `config` and its kSteps,
# has a namespace of its own, by the name of its file. STRATA_COMPILE_TOGETHER=OFF is for those who
# change one source many times.
option(STRATA_COMPILE_TOGETHER "Compile up to sixteen sources of a target as one" ON)

function(strata_compile_together target)
  if(STRATA_COMPILE_TOGETHER)
    set_target_properties(${target} PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 16)
    # g++ takes sources that are included for headers.
    target_compile_options(${target} PRIVATE $<$<CXX_COMPILER_ID:GNU>:-Wno-subobject-linkage>)
  endif()
endfunction()

# Warnings are errors on our own targets. -ffp-contract=off: a fused multiply-add is written where
# it is meant, so that every instruction set rounds alike. g++ 12 sees an overlap in
# `"text" + std::string` where there is none (its bug 105651).
function(strata_target_options target)
  strata_compile_together(${target})
  target_compile_options(${target} PRIVATE -Wall -Wextra -Wshadow -Werror -ffp-contract=off)
  if(CMAKE_CXX_COMPILER_ID STREQUAL GNU AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
    target_compile_options(${target} PRIVATE -Wno-restrict)
  endif()
  if(STRATA_SANITIZE)
    if(CMAKE_CXX_COMPILER_ID STREQUAL GNU)
      # g++ 12 with sanitizers takes std::regex and std::function for uninitialised.
      target_compile_options(${target} PRIVATE -Wno-maybe-uninitialized)
    endif()
    target_compile_options(${target} PUBLIC -fsanitize=${STRATA_SANITIZE} -fno-omit-frame-pointer
                                            -fno-sanitize-recover=all)
    target_link_options(${target} PUBLIC -fsanitize=${STRATA_SANITIZE})
  endif()
endfunction()

# strata_add_layer(NAME aio SOURCES a.cpp ... LINK strata::base ... PRIVATE_LINK ...)
# makes the static library strata_aio with the alias strata::aio, and installs it.
function(strata_add_layer)
  cmake_parse_arguments(ARG "" "NAME" "SOURCES;LINK;PRIVATE_LINK" ${ARGN})
  set(target strata_${ARG_NAME})
  add_library(${target} STATIC ${ARG_SOURCES})
  add_library(strata::${ARG_NAME} ALIAS ${target})
  set_target_properties(${target} PROPERTIES EXPORT_NAME ${ARG_NAME})
  target_include_directories(${target} PUBLIC
    $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>
    PRIVATE ${PROJECT_SOURCE_DIR}/src)
  target_compile_features(${target} PUBLIC cxx_std_20)  # the public headers need it
  target_link_libraries(${target} PUBLIC ${ARG_LINK} PRIVATE ${ARG_PRIVATE_LINK})
  strata_target_options(${target})
  if(STRATA_SANITIZE AND NOT ARG_NAME MATCHES "^(formats|models_core)$")  # which parse JSON, for long
    target_compile_options(${target} PRIVATE -O1)
  endif()
  strata_use_torch_pch_if_linked(${target} ${ARG_LINK} ${ARG_PRIVATE_LINK})
  if(STRATA_INSTALL)
    strata_install_layer(${ARG_NAME})
  endif()
endfunction()

# strata_add_program(NAME strata SOURCES ... LINK ... [INSTALL])
# makes the program NAME in bin/; INSTALL puts it into the install prefix too.
function(strata_add_program)
  cmake_parse_arguments(ARG "INSTALL" "NAME" "SOURCES;LINK" ${ARGN})
  add_executable(${ARG_NAME} ${ARG_SOURCES})
  target_link_libraries(${ARG_NAME} PRIVATE ${ARG_LINK})
  strata_target_options(${ARG_NAME})
  strata_use_torch_pch_if_linked(${ARG_NAME} ${ARG_LINK})
  if(ARG_INSTALL AND STRATA_INSTALL)
    if("strata::torch" IN_LIST ARG_LINK)  # which is found where it was when it was linked
      list(GET LIBTORCH_LIBRARIES 0 libtorch_library)
      get_filename_component(libtorch_directory ${libtorch_library} DIRECTORY)
      set_target_properties(${ARG_NAME} PROPERTIES INSTALL_RPATH ${libtorch_directory})
    endif()
    install(TARGETS ${ARG_NAME} RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
  endif()
endfunction()

# Compiles what only tests with less optimisation in a release build: it takes a quarter less time.
# What is tested is compiled as its users get it. A build with sanitizers optimises the layers whose
# tests compute for long, and nothing else.
function(strata_compile_as_test target)
  target_compile_options(${target} PRIVATE $<$<CONFIG:Release>:-O1>)
endfunction()

# strata_add_test(NAME aio_io_queue SOURCES ... LINK strata::aio ... LABELS slow TIMEOUT seconds)
# makes a GoogleTest program. CTest runs its tests in four processes, aio_io_queue.1_of_4 and so on:
# a process for each test would load LibTorch hundreds of times. SLOW_TESTS, a filter of GoogleTest's,
# names those of them that get the label `slow`; each of these runs by itself. ONE_THREAD: neither the
# tests nor what they call start a thread, so ThreadSanitizer has nothing to see in them, and a build
# with it leaves the program out. AddressSanitizer and UBSan see it.
function(strata_add_test)
  cmake_parse_arguments(ARG "ONE_THREAD" "NAME;TIMEOUT;SLOW_TESTS"
                        "SOURCES;LINK;LABELS;DEFINITIONS" ${ARGN})
  if(ARG_ONE_THREAD AND STRATA_SANITIZE MATCHES thread)
    return()
  endif()
  set(target test_${ARG_NAME})
  add_executable(${target} ${ARG_SOURCES})
  target_include_directories(${target} PRIVATE ${PROJECT_SOURCE_DIR}/src ${PROJECT_SOURCE_DIR}/tests)
  target_compile_definitions(${target} PRIVATE ${ARG_DEFINITIONS})
  target_link_libraries(${target} PRIVATE ${ARG_LINK} GTest::gtest GTest::gmock GTest::gtest_main)
  strata_target_options(${target})
  strata_use_torch_pch_if_linked(${target} ${ARG_LINK})
  get_target_property(has_pch ${target} PRECOMPILE_HEADERS_REUSE_FROM)
  if(has_pch)
    strata_compile_as_test(${target})
  else()
    strata_use_test_pch(${target})
  endif()
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 300)
  endif()
  set(properties TIMEOUT ${ARG_TIMEOUT})
  if(ARG_LABELS)
    list(APPEND properties LABELS "${ARG_LABELS}")
  endif()
  if("slow" IN_LIST ARG_LABELS)
    set(ARG_SLOW_TESTS "*")
  else()
    strata_register_in_processes(${ARG_NAME} 4 "-${ARG_SLOW_TESTS}" ${properties})
  endif()
  if(ARG_SLOW_TESTS)  # NO_PRETTY_VALUES: a test is called what its source calls it
    gtest_discover_tests(${target} TEST_PREFIX "${ARG_NAME}." DISCOVERY_TIMEOUT 60 NO_PRETTY_VALUES
                         TEST_FILTER "${ARG_SLOW_TESTS}" PROPERTIES ${properties} LABELS slow)
  endif()
endfunction()

# Registers the tests of test_<name> that the filter leaves as `count` tests of CTest, each a process
# that runs its share.
function(strata_register_in_processes name count filter)
  foreach(number RANGE 1 ${count})
    set(test ${name}.${number}_of_${count})
    math(EXPR index "${number} - 1")
    add_test(NAME ${test} COMMAND test_${name} "--gtest_filter=${filter}")
    set_tests_properties(${test} PROPERTIES ${ARGN}
      ENVIRONMENT "GTEST_TOTAL_SHARDS=${count};GTEST_SHARD_INDEX=${index}")
  endforeach()
endfunction()
