lb_test(unit.journal unit/test_journal.c DEPS replicator)
lb_test(unit.src_block unit/test_src_block.c DEPS siteagent)
lb_test(unit.hv_xml unit/test_hv_xml.c DEPS siteagent)
target_include_directories(unit_hv_xml PRIVATE ${PROJECT_SOURCE_DIR}/siteagent/src)
