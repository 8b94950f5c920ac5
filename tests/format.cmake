foreach(module record layer frame)
	lb_test(unit.${module} unit/test_${module}.c DEPS replicator)
endforeach()
