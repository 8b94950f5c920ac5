# The agent's role records and control API, the lifeboat program, its documents, two agents end to end.
lb_test(unit.roles unit/test_roles.c DEPS siteagent)
lb_test(unit.api unit/test_api.c DEPS siteagent siteagent_ctl LIBS LB::jansson LB::uv)
lb_test(unit.books unit/test_books.c DEPS siteagent LIBS LB::jansson)
foreach(inside unit_roles unit_api unit_books)
	target_include_directories(${inside} PRIVATE ${PROJECT_SOURCE_DIR}/siteagent/src)
endforeach()

# The source role, over an engine that only counts.
lb_test(unit.agent unit/test_agent.c DEPS siteagent storefix testlib LIBS LB::jansson)
target_include_directories(unit_agent PRIVATE ${PROJECT_SOURCE_DIR}/siteagent/src)
foreach(call rep_source_create rep_source_destroy rep_source_group_add rep_source_group_remove rep_source_stats
		sa_vms_fence sa_catalog_marks sa_catalog_sync)
	target_link_options(unit_agent PRIVATE -Wl,--wrap=${call})
endforeach()

lb_test(unit.src_libvirt unit/test_src_libvirt.c DEPS siteagent)

# Two real agents and the command line, in namespaces of their own.
add_test(NAME e2e.agent COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/e2e/agent.sh ${PROJECT_SOURCE_DIR} ${PROJECT_BINARY_DIR})
set_tests_properties(e2e.agent PROPERTIES LABELS e2e SKIP_RETURN_CODE 77 TIMEOUT 300)

# README's tutorial as it is printed there.
add_test(NAME e2e.tutorial COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/e2e/tutorial.sh ${PROJECT_SOURCE_DIR} ${PROJECT_BINARY_DIR})
set_tests_properties(e2e.tutorial PROPERTIES LABELS e2e SKIP_RETURN_CODE 77 TIMEOUT 200)

# What `cmake --install` puts where, and two agents that run from there.
add_test(NAME e2e.install COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/e2e/install.sh ${PROJECT_SOURCE_DIR} ${PROJECT_BINARY_DIR})
set_tests_properties(e2e.install PROPERTIES LABELS e2e SKIP_RETURN_CODE 77 TIMEOUT 240)

# A group of two machines, five disks, two of them devices.
add_test(NAME e2e.machines COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/e2e/machines.sh ${PROJECT_SOURCE_DIR} ${PROJECT_BINARY_DIR})
set_tests_properties(e2e.machines PROPERTIES LABELS e2e SKIP_RETURN_CODE 77 TIMEOUT 300)

# The API's handlers without an agent. The stubs stand in for the rest of the component, so its sources are
# taken one by one.
add_library(api_stub STATIC lib/api_stub.c ${PROJECT_SOURCE_DIR}/siteagent/src/agent_api.c
	${PROJECT_SOURCE_DIR}/siteagent/src/agent_work.c ${PROJECT_SOURCE_DIR}/siteagent/src/api_parse.c)
target_include_directories(api_stub PUBLIC lib ${PROJECT_SOURCE_DIR}/siteagent/src
	PRIVATE ${PROJECT_SOURCE_DIR}/siteagent/include)
target_link_libraries(api_stub PUBLIC base imaging replicator runbooks LB::jansson PRIVATE lb_flags)
lb_test(unit.api-paths unit/test_api_paths.c DEPS api_stub)
lb_fuzz(api fuzz/fuzz_api.c DEPS api_stub)

# What the programs say of themselves against the pages that tell it; what lifeboat makes of an agent's answers.
find_package(Python3 REQUIRED COMPONENTS Interpreter)
add_test(NAME unit.cli COMMAND ${Python3_EXECUTABLE} ${CMAKE_CURRENT_SOURCE_DIR}/unit/cli_answers.py
	${PROJECT_BINARY_DIR}/bin)
set_tests_properties(unit.cli PROPERTIES LABELS unit TIMEOUT 120)
add_test(NAME lint.cli COMMAND ${Python3_EXECUTABLE} ${PROJECT_SOURCE_DIR}/tools/check-cli.py
	${PROJECT_SOURCE_DIR} ${PROJECT_BINARY_DIR}/bin ${CMAKE_CURRENT_BINARY_DIR}/cli)
set_tests_properties(lint.cli PROPERTIES LABELS lint TIMEOUT 120)
