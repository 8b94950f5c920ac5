# Two sites on virtual time. The same sources twice: with product code, and with the cores compiled
# once more with LB_TEST_BUGS, to prove that each seeded bug is caught.
set(sim_sources sim/sim_world.c sim/sim_layer.c sim/sim_source.c sim/sim_target.c sim/sim_oracle.c
	sim/sim_fault.c sim/sim_run.c)
set(sim_seeds 1-1000)
if(LB_SANITIZE MATCHES "thread")
	set(sim_seeds 1-6)
elseif(LB_SANITIZE)
	set(sim_seeds 1-20)
endif()

add_library(sim STATIC ${sim_sources})
target_include_directories(sim PUBLIC sim PUBLIC ${PROJECT_SOURCE_DIR}/replicator/src)
target_link_libraries(sim PUBLIC replicator testlib PRIVATE lb_flags)
lb_test(sim.replication sim/test_sim.c DEPS sim TIMEOUT 1200 ARGS --seeds ${sim_seeds})

# A mistake is the same one under a sanitizer, ten times as slow: the hunt runs in plain builds.
if(LB_INSTRUMENTED)
	return()
endif()
set(bug_sources ${sim_sources})
foreach(source sender sender_group sender_part receiver receiver_group ingest digest shadow draft
		store)
	list(APPEND bug_sources ${PROJECT_SOURCE_DIR}/replicator/src/${source}.c)
endforeach()
add_library(sim_bugs STATIC ${bug_sources})
target_compile_definitions(sim_bugs PUBLIC LB_TEST_BUGS)
target_include_directories(sim_bugs PUBLIC sim ${PROJECT_SOURCE_DIR}/replicator/src)
target_link_libraries(sim_bugs PUBLIC replicator testlib PRIVATE lb_flags)
lb_test(sim.seeded-bugs sim/test_seeded_bugs.c DEPS sim_bugs TIMEOUT 1200 ARGS --seeds 120)
