# cmake --install puts the CPU kernels, the formats that they read and the headers of both where find_package(tessera) finds
# them. Programs link tessera::kernels (examples/).
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)
set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/tessera)
target_compile_features(tessera_base INTERFACE cxx_std_20) # their headers need it
foreach(folder base source format kernels)
  set_target_properties(tessera_${folder} PROPERTIES EXPORT_NAME ${folder})
  install(TARGETS tessera_${folder} EXPORT tessera INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
  install(DIRECTORY ${PROJECT_SOURCE_DIR}/tessera/${folder} DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/tessera FILES_MATCHING
    PATTERN "*.h" PATTERN "*-inl.h" EXCLUDE PATTERN "test_*.h" EXCLUDE PATTERN "*_check.h" EXCLUDE PATTERN cuda EXCLUDE)
endforeach()
install(EXPORT tessera NAMESPACE tessera:: FILE tesseraTargets.cmake DESTINATION ${package_dir})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/tesseraConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_LIST_DIR}/tesseraConfig.cmake ${PROJECT_BINARY_DIR}/tesseraConfigVersion.cmake
  DESTINATION ${package_dir})
