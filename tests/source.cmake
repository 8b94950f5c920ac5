# The source and target engines with what they stand on: links, digest stores, scan.
add_library(testca STATIC lib/testca.c)
target_include_directories(testca PUBLIC lib)
target_link_libraries(testca PUBLIC base PRIVATE LB::crypto lb_flags)

lb_test(unit.link unit/test_link.c DEPS replicator testca LIBS LB::ssl)
lb_test(unit.digest unit/test_digest.c DEPS replicator)

add_library(fakeram STATIC lib/fake_ram.c)
target_include_directories(fakeram PUBLIC lib)
target_link_libraries(fakeram PUBLIC base imaging PRIVATE lb_flags)

add_library(ramfix STATIC lib/ram_fix.c)
target_include_directories(ramfix PUBLIC lib ${PROJECT_SOURCE_DIR}/replicator/src)
target_link_libraries(ramfix PUBLIC replicator fakeram testlib PRIVATE lb_flags)

# Both ends as processes, for e2e and for the bench.
add_executable(pipe bench/pipe_main.c bench/pipe_kill.c)
target_link_libraries(pipe PRIVATE replicator testca fakeram lb_flags)

foreach(module word_delta shadow)
	lb_test(unit.${module} unit/test_${module}.c DEPS replicator)
	target_include_directories(unit_${module} PRIVATE ${PROJECT_SOURCE_DIR}/replicator/src)
endforeach()
target_link_options(unit_shadow PRIVATE -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc)
lb_test(unit.draft unit/test_draft.c DEPS replicator)
target_include_directories(unit_draft PRIVATE ${PROJECT_SOURCE_DIR}/replicator/src)
lb_test(unit.delta unit/test_delta.c DEPS replicator)
target_include_directories(unit_delta PRIVATE ${PROJECT_SOURCE_DIR}/replicator/src)
lb_test(unit.ram unit/test_ram.c DEPS ramfix)
target_link_options(unit_ram PRIVATE -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc)
lb_test(unit.engines unit/test_engines.c DEPS replicator testca)
lb_test(e2e.pipe e2e/test_pipe.c ARGS $<TARGET_FILE:pipe> TIMEOUT 300)

# For tests/bench/run.sh only.
add_executable(ram bench/ram_main.c)
target_link_libraries(ram PRIVATE ramfix LB::lz4 lb_flags)
add_executable(floor bench/floor_main.c)
target_link_libraries(floor PRIVATE base lb_flags)
add_library(plain MODULE bench/plain.c)
target_link_libraries(plain PRIVATE lb_flags ${CMAKE_DL_LIBS})
target_include_directories(plain PRIVATE ${PC_crypto_INCLUDE_DIRS})
