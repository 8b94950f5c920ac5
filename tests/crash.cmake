# Power cuts, failing disks and rot, against the store. `./dev soak` runs the same with larger counts.
lb_test(crash.flips crash/crash_flips.c DEPS storefix TIMEOUT 240)
target_include_directories(crash_flips PRIVATE ${PROJECT_SOURCE_DIR}/replicator/src)

add_library(crashingest STATIC crash/ingest.c)
target_link_libraries(crashingest PUBLIC storefix PRIVATE lb_flags)
lb_test(crash.store crash/crash_store.c DEPS crashingest TIMEOUT 240)
