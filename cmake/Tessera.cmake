# tessera_library(NAME SOURCES ... USES ... LIBS ... PRIVATE_LIBS ... TESTS ...)
#
# One target a folder. USES names the folders that this one may include (the table of docs/architecture.md);
# LIBS are third-party libraries that its headers show, PRIVATE_LIBS those that they do not. TESTS become one test program NAME_test.
function(tessera_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;USES;LIBS;PRIVATE_LIBS;TESTS" ${ARGN})
  add_library(tessera_${name} STATIC ${ARG_SOURCES})
  list(TRANSFORM ARG_USES PREPEND tessera_)
  target_include_directories(tessera_${name} PUBLIC ${PROJECT_SOURCE_DIR})
  target_link_libraries(tessera_${name} PUBLIC ${ARG_USES} ${ARG_LIBS} PRIVATE ${ARG_PRIVATE_LIBS} tessera_warnings)
  tessera_sanitize(tessera_${name})
  if(ARG_TESTS)
    add_executable(${name}_test ${ARG_TESTS})
    target_link_libraries(${name}_test PRIVATE tessera_${name} tessera_warnings GTest::gtest_main)
    target_compile_definitions(${name}_test PRIVATE TESSERA_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
    tessera_sanitize(${name}_test)
    include(GoogleTest)
    gtest_discover_tests(${name}_test TEST_PREFIX "${name}." DISCOVERY_TIMEOUT 60 PROPERTIES TIMEOUT 600 ENVIRONMENT OMP_WAIT_POLICY=passive)
  endif()
endfunction()

add_library(tessera_warnings INTERFACE)
target_compile_options(tessera_warnings INTERFACE -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wno-sign-conversion -Werror)

function(tessera_sanitize target)
  if(TESSERA_SANITIZE)
    target_compile_options(${target} PRIVATE -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer)
    # With the sanitizer's dlopen a RUNPATH is not searched for plugins, an RPATH is.
    target_link_options(${target} PUBLIC -fsanitize=address,undefined -Wl,--disable-new-dtags)
  endif()
endfunction()
