# One answer: the hash of all logits of a fixed run is the pinned one on every level, thread count and batch size of the CPU at hand.
#   cmake -DHASHER=... -DSLMPACK=... -DEMULATOR=... -DSOURCE=... -DIMAGE=... -DTOKENS=... -DEXPECTED=... -P one_answer.cmake
# IMAGE is made from SOURCE when it is missing or older than SLMPACK; builds for other CPUs share it, so that they read the very same bytes.
if(NOT EXISTS "${SOURCE}")
  message("SKIPPED: ${SOURCE} is not here")
  return()
endif()
include(${CMAKE_CURRENT_LIST_DIR}/make_image.cmake)
execute_process(COMMAND ${EMULATOR} "${HASHER}" "${IMAGE}" ${TOKENS} RESULT_VARIABLE code OUTPUT_VARIABLE lines ERROR_VARIABLE text)
message("${lines}")
if(code)
  message(FATAL_ERROR "answer_hash: ${text}")
endif()
string(REGEX MATCHALL "[^\n]+" lines "${lines}")
foreach(line IN LISTS lines)
  if(NOT line MATCHES " ${EXPECTED}$")
    message(FATAL_ERROR "\"${line}\" is not the pinned answer ${EXPECTED}")
  endif()
endforeach()
