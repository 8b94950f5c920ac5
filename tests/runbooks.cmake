lb_test(golden.runbooks unit/test_rb_golden.c DEPS runbooks ARGS ${CMAKE_CURRENT_SOURCE_DIR}/golden/runbooks)

# A world of fake targets around a run; it looks inside the component, for the seeded bugs.
add_library(rb_world STATIC lib/rb_world.c)
target_include_directories(rb_world PUBLIC ${PROJECT_SOURCE_DIR}/runbooks/src lib)
target_link_libraries(rb_world PUBLIC runbooks PRIVATE lb_flags)

lb_test(sim.runbook-dag sim/test_rb_dag.c DEPS rb_world TIMEOUT 240)
lb_test(crash.runbook crash/test_rb_crash.c DEPS rb_world TIMEOUT 240)
lb_test(unit.rb-engine unit/test_rb_engine.c DEPS runbooks)
lb_test(unit.rb-run unit/test_rb_run.c DEPS rb_world)
lb_test(unit.rb-lang unit/test_rb_lang.c DEPS runbooks
	ARGS ${PROJECT_SOURCE_DIR}/docs/formats/runbook.md ${CMAKE_CURRENT_SOURCE_DIR}/golden/runbooks/schema.json)
target_include_directories(unit_rb-lang PRIVATE ${PROJECT_SOURCE_DIR}/runbooks/src)

lb_fuzz(runbook fuzz/fuzz_runbook.c DEPS runbooks)
lb_fuzz(runlog fuzz/fuzz_runlog.c DEPS runbooks)
target_include_directories(fuzz_runlog PRIVATE ${PROJECT_SOURCE_DIR}/runbooks/src)
lb_test(crash.runbook-sigkill crash/test_rb_sigkill.c DEPS runbooks)
lb_test(unit.rb-nomem unit/test_rb_nomem.c DEPS rb_world)
foreach(call calloc malloc realloc strdup)
	target_link_options(unit_rb-nomem PRIVATE -Wl,--wrap=${call})
endforeach()
