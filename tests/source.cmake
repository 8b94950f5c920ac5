# The source and target engines with what they stand on: links, digest stores, scan.
add_library(testca STATIC lib/testca.c)
target_include_directories(testca PUBLIC lib)
target_link_libraries(testca PUBLIC base PRIVATE LB::crypto lb_flags)

lb_test(unit.link unit/test_link.c DEPS replicator testca LIBS LB::ssl)
