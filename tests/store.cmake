# The segment store, views and scrub; the fixture plays a primary without a network.
add_library(storefix STATIC lib/store_fix.c)
target_include_directories(storefix PUBLIC lib)
target_link_libraries(storefix PUBLIC replicator PRIVATE lb_flags)

lb_test(unit.store unit/test_store.c DEPS storefix)
lb_test(unit.store_index unit/test_store_index.c DEPS storefix)
target_include_directories(unit_store_index PRIVATE ${PROJECT_SOURCE_DIR}/replicator/src)
lb_test(unit.store_threads unit/test_store_threads.c DEPS storefix imaging)
lb_test(unit.scrub unit/test_scrub.c DEPS storefix)
lb_test(unit.scrub_threads unit/test_scrub_threads.c DEPS crashingest)
target_include_directories(unit_scrub_threads PRIVATE ${CMAKE_CURRENT_SOURCE_DIR}
	${PROJECT_SOURCE_DIR}/replicator/src)
lb_test(unit.view unit/test_view.c DEPS storefix)
target_include_directories(unit_view PRIVATE ${PROJECT_SOURCE_DIR}/replicator/src)

add_library(viewpoint STATIC lib/view_point.c)
target_link_libraries(viewpoint PUBLIC storefix testnbd PRIVATE lb_flags)
lb_test(e2e.view_plugin e2e/test_view_plugin.c DEPS viewpoint imaging ARGS $<TARGET_FILE:plugin_view>)
add_dependencies(e2e_view_plugin plugin_view)

add_executable(seed_store EXCLUDE_FROM_ALL fuzz/seed_store.c)
target_link_libraries(seed_store PRIVATE testlib storefix lb_flags)
target_include_directories(seed_store PRIVATE ${PROJECT_SOURCE_DIR}/replicator/src)
foreach(format segment viewmap)
	lb_fuzz(${format} fuzz/fuzz_${format}.c DEPS testlib replicator)
	target_include_directories(fuzz_${format} PRIVATE ${PROJECT_SOURCE_DIR}/replicator/src)
endforeach()
