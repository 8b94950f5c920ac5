# Real nbdkit servers for tests; add testnbd to a test's DEPS.
add_library(testnbd STATIC lib/nbdkit_run.c)
target_link_libraries(testnbd PUBLIC testlib PRIVATE lb_flags)

foreach(module extmap dev dev_crash dev_file)
	lb_test(unit.${module} unit/test_${module}.c DEPS imaging)
endforeach()
lb_test(unit.imaging_nomem unit/test_imaging_nomem.c DEPS imaging)
foreach(call calloc malloc reallocarray strdup fdatasync fallocate64 pread64)
	target_link_options(unit_imaging_nomem PRIVATE -Wl,--wrap=${call})
endforeach()
lb_test(unit.dev_nbd unit/test_dev_nbd.c DEPS testnbd imaging)

lb_nbdkit_plugin(trivial lib/plugin_trivial.c DEPS imaging)
lb_test(e2e.plugin e2e/test_plugin.c DEPS testnbd imaging ARGS $<TARGET_FILE:plugin_trivial>)
add_dependencies(e2e_plugin plugin_trivial)
