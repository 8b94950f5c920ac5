foreach(module err rdwr id hash seal buf env fs log loop child pool conf memfs)
	lb_test(unit.${module} unit/test_${module}.c DEPS base)
endforeach()
foreach(inside unit_hash unit_seal)
	target_include_directories(${inside} PRIVATE ${PROJECT_SOURCE_DIR}/base/src)
endforeach()
target_link_libraries(unit_seal PRIVATE LB::crypto)

lb_fuzz(conf fuzz/fuzz_conf.c DEPS base)
