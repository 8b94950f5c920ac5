foreach(module record layer pack manifest frame)
	lb_test(unit.${module} unit/test_${module}.c DEPS replicator)
endforeach()
