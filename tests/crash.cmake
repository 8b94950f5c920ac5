# Power cuts, failing disks and rot, against the store. `./dev soak` runs the same with larger counts.
lb_test(crash.flips crash/crash_flips.c DEPS storefix TIMEOUT 240)
target_include_directories(crash_flips PRIVATE ${PROJECT_SOURCE_DIR}/replicator/src)

add_library(crashingest STATIC crash/ingest.c)
target_link_libraries(crashingest PUBLIC storefix PRIVATE lb_flags)
lb_test(crash.store crash/crash_store.c DEPS crashingest TIMEOUT 240)

# Needs root, /dev/fuse and loop devices; says so and skips without.
lb_pkg(fuse3 fuse3)
lb_test(crash.powercut crash/crash_powercut.c DEPS crashingest LIBS LB::fuse3 TIMEOUT 240)
target_sources(crash_powercut PRIVATE crash/blocklog.c)
add_test(NAME crash.powercut_control COMMAND crash_powercut 60 1 nosync)
set_tests_properties(crash.powercut crash.powercut_control PROPERTIES SKIP_RETURN_CODE 77 LABELS crash
	TIMEOUT 240 RESOURCE_LOCK loop)
