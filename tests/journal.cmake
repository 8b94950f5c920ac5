lb_test(unit.journal unit/test_journal.c DEPS replicator)
