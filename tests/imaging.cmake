# Real nbdkit servers for tests; add testnbd to a test's DEPS.
add_library(testnbd STATIC lib/nbdkit_run.c)
target_link_libraries(testnbd PUBLIC testlib PRIVATE lb_flags)

foreach(module extmap dev dev_crash dev_file)
	lb_test(unit.${module} unit/test_${module}.c DEPS imaging)
endforeach()
lb_test(unit.dev_nbd unit/test_dev_nbd.c DEPS testnbd imaging)

lb_nbdkit_plugin(trivial lib/plugin_trivial.c DEPS imaging)
lb_test(e2e.plugin e2e/test_plugin.c DEPS testnbd imaging ARGS $<TARGET_FILE:plugin_trivial>)
add_dependencies(e2e_plugin plugin_trivial)
