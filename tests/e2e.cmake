# Real guests under real libvirtd. They share two cores and emulation: one at a time.
function(lb_e2e name script)
	cmake_parse_arguments(A "" "TIMEOUT" "" ${ARGN})
	add_test(NAME e2e.${name} COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/e2e/${script}
		${PROJECT_SOURCE_DIR} ${PROJECT_BINARY_DIR})
	set_tests_properties(e2e.${name} PROPERTIES LABELS e2e SKIP_RETURN_CODE 77
		TIMEOUT ${A_TIMEOUT} RESOURCE_LOCK guests)
endfunction()

lb_e2e(guests guests.sh TIMEOUT 900)

add_executable(source_cuts e2e/source_cuts.c)
target_link_libraries(source_cuts PRIVATE siteagent lb_flags)
add_dependencies(source_cuts plugin_journal)
lb_e2e(source source.sh TIMEOUT 900)

add_executable(boot_machine e2e/boot_machine.c)
target_link_libraries(boot_machine PRIVATE siteagent lb_flags)
lb_e2e(boot boot.sh TIMEOUT 900)

lb_e2e(route route.sh TIMEOUT 450)

# The main job, end to end: what ./dev demo runs, with this build's programs, and osaka driven by keys in the
# terminal UI where ./dev demo gives commands: one run for both.
add_executable(tui_story e2e/tui_story.c)
target_link_libraries(tui_story PRIVATE tui_pty lb_flags)
add_test(NAME e2e.demo COMMAND ${CMAKE_COMMAND} -E env LB_BIN=${PROJECT_BINARY_DIR}/bin LB_STORY=$<TARGET_FILE:tui_story>
	${CMAKE_CURRENT_SOURCE_DIR}/e2e/demo.sh)
set_tests_properties(e2e.demo PROPERTIES LABELS e2e SKIP_RETURN_CODE 77 TIMEOUT 900 RESOURCE_LOCK guests RUN_SERIAL ON)
