# Tests written in Python.

# strata_add_python_test(NAME promise_from_pretrained SCRIPT x.py ARGS ... LABELS slow)
# runs a script with the Python that tests/run_python.sh finds when the test runs. A script whose
# imports are missing prints why and exits with 77, and the test counts as skipped.
function(strata_add_python_test)
  cmake_parse_arguments(ARG "" "NAME;SCRIPT;TIMEOUT" "ARGS;LABELS" ${ARGN})
  add_test(NAME ${ARG_NAME} COMMAND ${PROJECT_SOURCE_DIR}/tests/run_python.sh
           ${CMAKE_CURRENT_SOURCE_DIR}/${ARG_SCRIPT} ${ARG_ARGS})
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 300)
  endif()
  set_tests_properties(${ARG_NAME} PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT ${ARG_TIMEOUT}
                       LABELS "${ARG_LABELS}")
endfunction()
