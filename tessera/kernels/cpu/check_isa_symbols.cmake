# Fails when an object file compiled for one instruction set holds a function that the linker may share with files
# compiled for another: inline functions and templates of common headers, which nm shows as weak (W).
#   cmake -DNM=nm "-DOBJECTS=a.o;b.o" -P check_isa_symbols.cmake
list(FILTER OBJECTS INCLUDE REGEX "/(avx2|avx512vnni)/kernels\\.cc")
if(NOT OBJECTS)
  message(FATAL_ERROR "no object file of an instruction set among the arguments")
endif()
foreach(object ${OBJECTS})
  execute_process(COMMAND ${NM} -C --defined-only ${object} OUTPUT_VARIABLE symbols COMMAND_ERROR_IS_FATAL ANY)
  string(REGEX MATCH "[^\n]* W [^\n]*" weak "${symbols}")
  if(weak)
    message(FATAL_ERROR "${object} shares ${weak}")
  endif()
endforeach()
