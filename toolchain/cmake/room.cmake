# A room is one static library that links only the rooms that it names: the linker enforces the layering of the architecture.
# slmd_room(NAME SOURCES... [LINK rooms and libraries] [TOOL])
# TOOL: part of the toolchain or the tests; exceptions and RTTI allowed.

add_library(slmd_flags INTERFACE)
target_compile_options(slmd_flags INTERFACE -Wall -Wextra $<$<CXX_COMPILER_ID:GNU>:-Wshadow> -Wno-psabi
  # Floating-point results are part of the interface (compute/NUMERICS.md): never fuse or reorder behind our back.
  -ffp-contract=off -fno-math-errno -fno-trapping-math)
target_include_directories(slmd_flags INTERFACE ${PROJECT_SOURCE_DIR}/runtime ${PROJECT_SOURCE_DIR})
if(SLMD_WERROR)
  target_compile_options(slmd_flags INTERFACE -Werror)
endif()
# What tests the rooms is compiled quickly (SLMD_TEST), and its own undefined behaviour is not looked for, which nearly halves the time of the whole
# build. Less so where it is emulated, where a slow test takes minutes; there without warnings, which the native build has (at -O1 GCC 12 warns of its own
# strings). Not vptr: it asks for the RTTI that the rooms do without.
set(test $<BOOL:$<TARGET_PROPERTY:SLMD_TEST>>)
target_compile_options(slmd_flags INTERFACE $<${test}:$<IF:$<BOOL:${CMAKE_CROSSCOMPILING}>,-O1;-w,-O0>>)
if(SLMD_SANITIZE)
  if(NOT CMAKE_CXX_COMPILER_ID MATCHES "Clang")
    message(FATAL_ERROR "SLMD_SANITIZE needs clang, which compiles such code in half of GCC's time and brings libFuzzer: cmake --preset dev")
  endif()
  # null and object-size: what they find, AddressSanitizer finds too; they are a third of the time to compile.
  target_compile_options(slmd_flags INTERFACE -fsanitize=address -fno-omit-frame-pointer
    "$<$<NOT:${test}>:-fsanitize=undefined,fuzzer-no-link;-fno-sanitize=vptr,null,object-size;-fno-sanitize-recover=undefined>")
  target_compile_definitions(slmd_flags INTERFACE SLMD_SANITIZED)
  target_link_options(slmd_flags INTERFACE -fsanitize=address,undefined -fuse-ld=lld)
endif()

# What a room's own optimization is, where size or speed counts. With the sanitizers only what tests spend their time in is optimized: that quarters the
# time of the build.
if(SLMD_SANITIZE)
  set(SLMD_SMALL "")
  set(SLMD_FAST -O1)
else()
  set(SLMD_SMALL -Os)
  set(SLMD_FAST -O3)
endif()

function(slmd_room NAME)
  cmake_parse_arguments(ARG "TOOL" "" "LINK" ${ARGN})
  add_library(slmd_${NAME} STATIC ${ARG_UNPARSED_ARGUMENTS})
  target_link_libraries(slmd_${NAME} PUBLIC slmd_flags ${ARG_LINK})
  if(SLMD_SANITIZE AND NAME MATCHES "^(compute|image|text|grammar|engine|docs|route|pack_source|pack_tokenizer|pack_image|pack_import)$")
    target_compile_options(slmd_${NAME} PRIVATE ${SLMD_FAST})
  endif()
  if(NOT ARG_TOOL)
    # What a program does not call of a room is not in it (--gc-sections).
    target_compile_options(slmd_${NAME} PRIVATE -ffunction-sections -fdata-sections
      $<$<COMPILE_LANGUAGE:CXX>:-fno-exceptions -fno-rtti>)
  endif()
endfunction()
