# Power cuts, failing disks and rot, against the store. `./dev soak` runs the same with larger counts.
lb_test(crash.flips crash/crash_flips.c DEPS storefix TIMEOUT 240)
target_include_directories(crash_flips PRIVATE ${PROJECT_SOURCE_DIR}/replicator/src)
