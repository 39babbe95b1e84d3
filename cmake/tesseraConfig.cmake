# What find_package(tessera) reads: the libraries that tessera::kernels needs, then its targets.
include(CMakeFindDependencyMacro)
find_dependency(PkgConfig)
find_dependency(OpenMP COMPONENTS CXX)
find_dependency(OpenSSL COMPONENTS Crypto)
find_dependency(fmt)
find_dependency(nlohmann_json)
pkg_check_modules(PCRE2 REQUIRED IMPORTED_TARGET libpcre2-8)
include(${CMAKE_CURRENT_LIST_DIR}/tesseraTargets.cmake)
