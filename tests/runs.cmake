# Runbook runs of the site agent, over a hypervisor that lives in memory.
add_library(fakehv STATIC lib/fake_hv.c)
target_include_directories(fakehv PUBLIC lib ${PROJECT_SOURCE_DIR}/siteagent/src)
target_link_libraries(fakehv PUBLIC siteagent testlib PRIVATE lb_flags)

# fakehv first: its symbols stand in for those of siteagent's hv.c and views.c
lb_test(unit.verbs unit/test_verbs.c DEPS fakehv storefix siteagent LIBS LB::jansson TIMEOUT 120)
lb_test(unit.isolation unit/test_isolation.c DEPS siteagent)
target_include_directories(unit_isolation PRIVATE ${PROJECT_SOURCE_DIR}/siteagent/src)

lb_test(e2e.views e2e/test_views.c DEPS siteagent storefix ARGS $<TARGET_FILE:plugin_view>)
target_include_directories(e2e_views PRIVATE ${PROJECT_SOURCE_DIR}/siteagent/src)
add_dependencies(e2e_views plugin_view)
lb_test(e2e.bubble e2e/test_bubble.c DEPS siteagent)
target_include_directories(e2e_bubble PRIVATE ${PROJECT_SOURCE_DIR}/siteagent/src)
