# The agent's role records and control API, the lifeboat program, its documents, two agents end to end.
lb_test(unit.roles unit/test_roles.c DEPS siteagent)
lb_test(unit.api unit/test_api.c DEPS siteagent siteagent_ctl LIBS LB::jansson LB::uv)
foreach(inside unit_roles unit_api)
	target_include_directories(${inside} PRIVATE ${PROJECT_SOURCE_DIR}/siteagent/src)
endforeach()
