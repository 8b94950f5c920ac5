# The site agent: its configuration, identity, keys, catalog. Tests see its private headers.
lb_test(unit.config unit/test_config.c DEPS siteagent
	ARGS ${CMAKE_CURRENT_SOURCE_DIR}/golden/config ${PROJECT_SOURCE_DIR}/docs/formats/config.md)
lb_test(unit.ident unit/test_ident.c DEPS siteagent LIBS LB::ssl LB::crypto)
lb_test(unit.keyring unit/test_keyring.c DEPS siteagent)
lb_test(unit.catalog unit/test_catalog.c DEPS siteagent storefix LIBS LB::sqlite)
target_link_options(unit_catalog PRIVATE -Wl,--wrap=rep_store_points)
lb_test(unit.resumable unit/test_resumable.c DEPS siteagent testboard)
lb_test(unit.lv unit/test_lv.c DEPS siteagent LIBS LB::libvirt LB::xml2)
foreach(inside unit_lv unit_config unit_ident unit_keyring unit_catalog unit_resumable)
	target_include_directories(${inside} PRIVATE ${PROJECT_SOURCE_DIR}/siteagent/src)
endforeach()

lb_fuzz(config fuzz/fuzz_config.c DEPS siteagent)
lb_fuzz(enrol fuzz/fuzz_enrol.c DEPS siteagent)
foreach(inside config enrol)
	target_include_directories(fuzz_${inside} PRIVATE ${PROJECT_SOURCE_DIR}/siteagent/src)
endforeach()
target_link_libraries(fuzz_enrol PRIVATE LB::crypto LB::ssl)
