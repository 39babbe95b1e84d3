# Headers that most files include and that take seconds to read are precompiled: once for `first`, from which the others
# take them. The others need every definition of `first`; a source with options of its own is to have SKIP_PRECOMPILE_HEADERS.
function(tessera_precompile target first)
  if(target STREQUAL first)
    target_precompile_headers(${target} PRIVATE <fmt/format.h> <fmt/ranges.h> <nlohmann/json.hpp> ${ARGN})
  else()
    target_precompile_headers(${target} REUSE_FROM ${first})
  endif()
endfunction()

# tessera_json_literals(VARIABLE PATTERN): the files as raw string literals, a comma behind each.
function(tessera_json_literals variable pattern)
  file(GLOB files CONFIGURE_DEPENDS ${pattern})
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${files})
  foreach(file ${files})
    file(READ ${file} text)
    string(APPEND literals "R\"json(${text})json\",\n")
  endforeach()
  set(${variable} "${literals}" PARENT_SCOPE)
endfunction()

# tessera_library(NAME SOURCES ... USES ... LIBS ... PRIVATE_LIBS ... TESTS ... PRECOMPILE ...)
#
# One target a folder. USES names the folders that this one may include (the table of docs/architecture.md);
# LIBS are third-party libraries that its headers show, PRIVATE_LIBS those that they do not. TESTS become one test program NAME_test.
# PRECOMPILE are headers worth compiling once for this target, beside those that all share.
function(tessera_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;USES;LIBS;PRIVATE_LIBS;TESTS;PRECOMPILE" ${ARGN})
  add_library(tessera_${name} STATIC ${ARG_SOURCES})
  list(TRANSFORM ARG_USES PREPEND tessera_)
  target_include_directories(tessera_${name} PUBLIC $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}>)
  target_link_libraries(tessera_${name} PUBLIC ${ARG_USES} ${ARG_LIBS} PRIVATE ${ARG_PRIVATE_LIBS} $<BUILD_INTERFACE:tessera_warnings>)
  tessera_sanitize(tessera_${name})
  set(headers_of tessera_base)
  set(test_headers_of base_test)
  if(ARG_PRECOMPILE)
    set(headers_of tessera_${name})
    set(test_headers_of ${name}_test)
  endif()
  tessera_precompile(tessera_${name} ${headers_of} ${ARG_PRECOMPILE})
  if(ARG_TESTS)
    add_executable(${name}_test ${ARG_TESTS})
    target_link_libraries(${name}_test PRIVATE tessera_${name} tessera_test)
    target_compile_definitions(${name}_test PRIVATE TESSERA_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
    tessera_sanitize(${name}_test)
    tessera_precompile(${name}_test ${test_headers_of} <gtest/gtest.h> ${ARG_PRECOMPILE})
    include(GoogleTest)
    gtest_discover_tests(${name}_test TEST_PREFIX "${name}." DISCOVERY_TIMEOUT 60 PROPERTIES TIMEOUT 600 ENVIRONMENT OMP_WAIT_POLICY=passive)
  endif()
endfunction()

add_library(tessera_warnings INTERFACE)
target_compile_options(tessera_warnings INTERFACE -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wno-sign-conversion
  $<$<CXX_COMPILER_ID:Clang>:-Wno-pass-failed> $<$<BOOL:${TESSERA_WERROR}>:-Werror>)

# What every test program links. Compiling tests takes a quarter less with -O1; the libraries that they judge keep their flags.
add_library(tessera_test INTERFACE)
target_link_libraries(tessera_test INTERFACE tessera_warnings GTest::gtest_main)
target_compile_options(tessera_test INTERFACE $<$<CONFIG:Release>:-O1>)

function(tessera_sanitize target)
  if(TESSERA_SANITIZE)
    target_compile_options(${target} PRIVATE -fsanitize=${TESSERA_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
    if(TESSERA_SANITIZE STREQUAL thread AND CMAKE_CXX_COMPILER_ID STREQUAL GNU)
      target_compile_options(${target} PRIVATE -Wno-tsan) # Asio has fences, which GCC's sanitizer does not see
    endif()
    # With the sanitizer's dlopen a RUNPATH is not searched for plugins, an RPATH is.
    target_link_options(${target} PUBLIC -fsanitize=${TESSERA_SANITIZE} -Wl,--disable-new-dtags)
  endif()
endfunction()

# tessera_hide_comparisons(TARGET|SOURCE NAME...): code of loops over numbers. What it compares tells a fuzzer nothing, and
# reporting it takes most of a run.
function(tessera_hide_comparisons kind)
  if(TESSERA_SANITIZE MATCHES fuzzer)
    set_property(${kind} ${ARGN} APPEND PROPERTY COMPILE_OPTIONS -fno-sanitize-coverage=trace-cmp)
  endif()
endfunction()
