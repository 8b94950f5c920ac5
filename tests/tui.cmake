# The terminal UI: its core without a terminal, then the program in one.
add_library(tui_world STATIC lib/tui_world.c)
target_include_directories(tui_world PUBLIC lib ${PROJECT_SOURCE_DIR}/ui-tui/src)
target_link_libraries(tui_world PUBLIC ui-tui siteagent_ctl LB::jansson PRIVATE lb_flags)

add_library(tui_keys STATIC lib/tui_keys.c)
target_link_libraries(tui_keys PUBLIC tui_world testlib LB::cmocka PRIVATE lb_flags)

lb_test(golden.tui golden/tui/test_screens.c DEPS tui_world
	ARGS ${CMAKE_CURRENT_SOURCE_DIR}/golden/tui ${PROJECT_BINARY_DIR}/share/locale)

lb_test(unit.tui-text unit/test_tui_text.c DEPS tui_world)
lb_test(unit.tui-app unit/test_tui_app.c DEPS tui_world ARGS ${CMAKE_CURRENT_SOURCE_DIR}/golden/tui/agent TIMEOUT 120)
lb_test(unit.tui-truth unit/test_tui_truth.c DEPS tui_world ARGS ${CMAKE_CURRENT_SOURCE_DIR}/golden/tui/agent
	TIMEOUT 120)
# Every key draws a screen: sanitizers see a quarter of what the plain build does.
set(keys 20000)
if(LB_INSTRUMENTED)
	set(keys 5000)
endif()
lb_test(unit.tui-keys unit/test_tui_keys.c DEPS tui_keys ARGS ${CMAKE_CURRENT_SOURCE_DIR}/golden/tui/agent ${keys}
	TIMEOUT 300)
foreach(inside tui-text tui-app tui-truth tui-keys)
	set_property(TEST unit.${inside} APPEND PROPERTY LABELS tui)
endforeach()

lb_fuzz(tui_model fuzz/fuzz_tui_model.c DEPS ui-tui LB::jansson)
lb_fuzz(tui_keys fuzz/fuzz_tui_keys.c DEPS tui_world)
target_compile_definitions(fuzz_tui_keys PRIVATE LB_TUI_AGENT="${CMAKE_CURRENT_SOURCE_DIR}/golden/tui/agent")

# The program itself, in a pseudo terminal.
lb_pkg(vterm vterm)
add_library(tui_pty STATIC lib/pty_vt.c lib/fake_agent.c)
target_include_directories(tui_pty PUBLIC lib)
target_link_libraries(tui_pty PUBLIC LB::vterm LB::microhttpd LB::jansson PRIVATE lb_flags)
lb_test(e2e.tui e2e/test_tui_pty.c DEPS tui_pty TIMEOUT 300
	ARGS ${PROJECT_BINARY_DIR}/bin ${CMAKE_CURRENT_SOURCE_DIR}/golden/tui/agent)
add_dependencies(e2e_tui lifeboat lifeboat-tui messages)
set_property(TEST e2e.tui APPEND PROPERTY LABELS tui)
set_property(TEST golden.tui APPEND PROPERTY LABELS tui)

# The same with two real agents: a slow line, an agent that dies, random keys.
add_executable(tui_live e2e/tui_live.c)
target_link_libraries(tui_live PRIVATE tui_pty lb_flags)
add_executable(tui_live_keys e2e/tui_live_keys.c)
target_link_libraries(tui_live_keys PRIVATE tui_keys lb_flags)
add_test(NAME e2e.tui-live COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/e2e/tui_live.sh ${PROJECT_SOURCE_DIR} ${PROJECT_BINARY_DIR})
set_tests_properties(e2e.tui-live PROPERTIES LABELS "e2e;tui" SKIP_RETURN_CODE 77 TIMEOUT 600 RUN_SERIAL ON)
