# Everything here is a Debian package; ./dev setup installs them.
find_package(PkgConfig REQUIRED)
find_package(OpenMP REQUIRED COMPONENTS CXX)
find_package(OpenSSL REQUIRED COMPONENTS Crypto)
find_package(fmt REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(CLI11 REQUIRED)
find_package(GTest REQUIRED)
find_package(Boost 1.74 REQUIRED)
pkg_check_modules(PCRE2 REQUIRED IMPORTED_TARGET libpcre2-8)
pkg_check_modules(UTF8PROC REQUIRED IMPORTED_TARGET libutf8proc)
pkg_check_modules(SENTENCEPIECE REQUIRED IMPORTED_TARGET sentencepiece)
pkg_check_modules(OPENBLAS IMPORTED_TARGET openblas) # the yardstick of bench/cpu, and under libtorch
if(TESSERA_QUANT)
  find_package(Torch REQUIRED) # libtorch-dev, or any PyTorch from 1.13 on through CMAKE_PREFIX_PATH
  list(REMOVE_DUPLICATES TORCH_LIBRARIES)
endif()
