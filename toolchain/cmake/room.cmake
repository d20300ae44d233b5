# A room is one static library that links only the rooms that it names: the linker enforces the layering of the architecture.
# slmd_room(NAME SOURCES... [LINK rooms and libraries] [TOOL])
# TOOL: part of the toolchain or the tests; exceptions and RTTI allowed.

add_library(slmd_flags INTERFACE)
target_compile_options(slmd_flags INTERFACE -Wall -Wextra -Wshadow -Wno-psabi
  # Floating-point results are part of the interface (compute/NUMERICS.md): never fuse or reorder behind our back.
  -ffp-contract=off -fno-math-errno -fno-trapping-math)
target_include_directories(slmd_flags INTERFACE ${PROJECT_SOURCE_DIR}/runtime ${PROJECT_SOURCE_DIR})
if(SLMD_WERROR)
  target_compile_options(slmd_flags INTERFACE -Werror)
endif()
# What tests the rooms is compiled quickly (SLMD_TEST), and its own undefined behaviour is not looked for, which nearly halves the time of the whole
# build. Not where it is emulated: there a slow test takes minutes. Not vptr: it asks for the RTTI that the rooms do without.
set(test $<BOOL:$<TARGET_PROPERTY:SLMD_TEST>>)
if(NOT CMAKE_CROSSCOMPILING)
  target_compile_options(slmd_flags INTERFACE $<${test}:-O0>)
endif()
if(SLMD_SANITIZE)
  target_compile_options(slmd_flags INTERFACE -fsanitize=address -fno-omit-frame-pointer
    "$<$<NOT:${test}>:-fsanitize=undefined;-fno-sanitize=vptr;-fno-sanitize-recover=undefined>")
  target_link_options(slmd_flags INTERFACE -fsanitize=address,undefined)
endif()
if(SLMD_FUZZ)
  target_compile_options(slmd_flags INTERFACE -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize=vptr)
  target_link_options(slmd_flags INTERFACE -fsanitize=address,undefined)
endif()

function(slmd_room NAME)
  cmake_parse_arguments(ARG "TOOL" "" "LINK" ${ARGN})
  add_library(slmd_${NAME} STATIC ${ARG_UNPARSED_ARGUMENTS})
  target_link_libraries(slmd_${NAME} PUBLIC slmd_flags ${ARG_LINK})
  if(NOT ARG_TOOL)
    # What a program does not call of a room is not in it (--gc-sections).
    target_compile_options(slmd_${NAME} PRIVATE -ffunction-sections -fdata-sections
      $<$<COMPILE_LANGUAGE:CXX>:-fno-exceptions -fno-rtti>)
  endif()
endfunction()
