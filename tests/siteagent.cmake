# The site agent: its configuration, identity, keys, catalog. Tests see its private headers.
lb_test(unit.config unit/test_config.c DEPS siteagent
	ARGS ${CMAKE_CURRENT_SOURCE_DIR}/golden/config ${PROJECT_SOURCE_DIR}/docs/formats/config.md)
lb_test(unit.ident unit/test_ident.c DEPS siteagent LIBS LB::ssl LB::crypto)
foreach(inside unit_config unit_ident)
	target_include_directories(${inside} PRIVATE ${PROJECT_SOURCE_DIR}/siteagent/src)
endforeach()
