lb_test(unit.journal unit/test_journal.c DEPS replicator)
lb_test(unit.src_block unit/test_src_block.c DEPS siteagent)
