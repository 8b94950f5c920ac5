foreach(module err rdwr id hash buf env fs)
	lb_test(unit.${module} unit/test_${module}.c DEPS base)
endforeach()
target_include_directories(unit_hash PRIVATE ${PROJECT_SOURCE_DIR}/base/src)
