# What `cmake --install` puts down, for find_package(Strata).
#
# Two export sets: the layers below LibTorch (always), and those above it (component torch), so that
# a program that wants only the I/O engine never looks for LibTorch.

include(CMakePackageConfigHelpers)
set(STRATA_CMAKE_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/Strata)

function(strata_install_layer name)
  set(export_set StrataCoreTargets)
  if(name MATCHES "^(zero3|zero3_core|cpu_adam|models|models_core)$")
    set(export_set StrataTorchTargets)
  endif()
  install(TARGETS strata_${name} EXPORT ${export_set} ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
  if(IS_DIRECTORY ${PROJECT_SOURCE_DIR}/include/strata/${name})  # the headers of a *_core are there already
    install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/strata/${name}
            DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/strata)
  endif()
endfunction()

# strata_install_package(): the package files; call it after the last layer.
function(strata_install_package)
  install(EXPORT StrataCoreTargets NAMESPACE strata:: DESTINATION ${STRATA_CMAKE_DIR})
  if(TARGET strata_zero3)
    install(EXPORT StrataTorchTargets NAMESPACE strata:: DESTINATION ${STRATA_CMAKE_DIR})
    install(FILES ${PROJECT_SOURCE_DIR}/cmake/StrataPackageTorch.cmake
                  ${PROJECT_SOURCE_DIR}/cmake/FindLibTorch.cmake
                  ${PROJECT_SOURCE_DIR}/cmake/LibTorchTarget.cmake DESTINATION ${STRATA_CMAKE_DIR})
  endif()
  configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/StrataConfig.cmake.in
    ${CMAKE_CURRENT_BINARY_DIR}/StrataConfig.cmake INSTALL_DESTINATION ${STRATA_CMAKE_DIR})
  write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/StrataConfigVersion.cmake
                                   COMPATIBILITY SameMinorVersion)
  install(FILES ${CMAKE_CURRENT_BINARY_DIR}/StrataConfig.cmake
                ${CMAKE_CURRENT_BINARY_DIR}/StrataConfigVersion.cmake
                ${PROJECT_SOURCE_DIR}/cmake/StrataPackageSystem.cmake
                ${PROJECT_SOURCE_DIR}/cmake/StrataPackageUse.cmake
          DESTINATION ${STRATA_CMAKE_DIR})
endfunction()
