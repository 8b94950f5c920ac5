# The site agent: its configuration, identity, keys, catalog. Tests see its private headers.
set(config_golden ${CMAKE_CURRENT_SOURCE_DIR}/golden/config)
lb_test(unit.config unit/test_config.c DEPS siteagent
	ARGS ${config_golden} ${PROJECT_SOURCE_DIR}/docs/formats/config.md)
foreach(inside unit_config)
	target_include_directories(${inside} PRIVATE ${PROJECT_SOURCE_DIR}/siteagent/src)
endforeach()
