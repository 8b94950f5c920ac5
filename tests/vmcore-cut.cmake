# The disk of a running machine that can be cut (imaging/cut.h).
lb_test(unit.dev_cut unit/test_dev_cut.c DEPS testvirtio imaging)
lb_test(crash.cut crash/crash_cut.c DEPS imaging)
lb_fuzz(cutlog fuzz/fuzz_cutlog.c DEPS imaging)
