# lifeboat-vm around the machine: its protocol, launch, jail and serving thread, with a machine that needs no KVM.
add_library(fakevm STATIC lib/fake_vm.c)
target_include_directories(fakevm PUBLIC lib PRIVATE ${PROJECT_SOURCE_DIR}/vmcore/src)
target_link_libraries(fakevm PUBLIC base imaging vmcore_ctl PRIVATE lb_flags)
add_executable(fake_lifeboat_vm ${PROJECT_SOURCE_DIR}/vmcore/src/main_vm.c)
target_include_directories(fake_lifeboat_vm PRIVATE ${PROJECT_SOURCE_DIR}/vmcore/src)
target_link_libraries(fake_lifeboat_vm PRIVATE vmcore_serve fakevm lb_flags)

lb_test(unit.vm_ctl unit/test_vm_ctl.c DEPS vmcore_ctl)
lb_test(unit.vm_hub unit/test_vm_hub.c DEPS vmcore_serve fakevm)
lb_test(unit.vm_jail unit/test_vm_jail.c DEPS vmcore_serve fakevm)
target_include_directories(unit_vm_jail PRIVATE ${PROJECT_SOURCE_DIR}/vmcore/src)
add_library(vmrig STATIC lib/vm_rig.c)
target_include_directories(vmrig PUBLIC lib)
target_link_libraries(vmrig PUBLIC testlib vmcore_ctl PRIVATE lb_flags)
lb_test(unit.vm_serve unit/test_vm_serve.c DEPS vmrig ARGS $<TARGET_FILE:fake_lifeboat_vm>)
add_dependencies(unit_vm_serve fake_lifeboat_vm)
lb_test(unit.vmrun unit/test_vmrun.c DEPS siteagent TIMEOUT 120 ARGS $<TARGET_FILE:fake_lifeboat_vm>)
add_dependencies(unit_vmrun fake_lifeboat_vm)
target_include_directories(unit_vmrun PRIVATE ${PROJECT_SOURCE_DIR}/siteagent/src)
lb_test(unit.src_vmcore unit/test_src_vmcore.c DEPS siteagent)
target_include_directories(unit_src_vmcore PRIVATE ${PROJECT_SOURCE_DIR}/siteagent/src)
target_link_options(unit_vmrun PRIVATE -Wl,--wrap=vm_probe,--wrap=vm_ctl_open,--wrap=kill)
lb_test(unit.vmwatch unit/test_vmwatch.c DEPS siteagent)
target_include_directories(unit_vmwatch PRIVATE ${PROJECT_SOURCE_DIR}/siteagent/src)
lb_test(unit.vmdesc unit/test_vmdesc.c DEPS siteagent)
target_include_directories(unit_vmdesc PRIVATE ${PROJECT_SOURCE_DIR}/siteagent/src)
lb_test(unit.vmcpu unit/test_vmcpu.c DEPS siteagent)
target_include_directories(unit_vmcpu PRIVATE ${PROJECT_SOURCE_DIR}/siteagent/src)
lb_test(unit.dev_kept unit/test_dev_kept.c DEPS imaging)
target_include_directories(unit_vm_hub PRIVATE ${PROJECT_SOURCE_DIR}/vmcore/src)

lb_fuzz(vmctl fuzz/fuzz_vmctl.c DEPS vmcore_ctl)
lb_fuzz(vmlaunch fuzz/fuzz_vmlaunch.c DEPS vmcore_ctl)

# The whole way with a machine that needs no KVM: run, console, jail, agent restarts, memory points, failover from memory.
add_test(NAME e2e.vm COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/e2e/vm.sh ${PROJECT_SOURCE_DIR} ${PROJECT_BINARY_DIR})
set_tests_properties(e2e.vm PROPERTIES LABELS e2e SKIP_RETURN_CODE 77 TIMEOUT 180)

# Six machines booted at the same time.
add_test(NAME e2e.many COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/e2e/many.sh ${PROJECT_SOURCE_DIR} ${PROJECT_BINARY_DIR})
set_tests_properties(e2e.many PROPERTIES LABELS e2e SKIP_RETURN_CODE 77 TIMEOUT 180)

# The same with a real guest on KVM: the demo's second part. The judge is plain: it computes what the guest computes.
add_executable(payload_check e2e/payload_check.c)
target_include_directories(payload_check PRIVATE guests/payload)
target_link_libraries(payload_check PRIVATE lb_flags_plain)
target_compile_options(payload_check PRIVATE -O2)
add_dependencies(payload_check payload)
add_test(NAME e2e.memory COMMAND ${CMAKE_COMMAND} -E env LB_BIN=${PROJECT_BINARY_DIR}/bin LB_TUI=$<TARGET_FILE:tui_live>
	LB_PAYLOAD=${CMAKE_CURRENT_BINARY_DIR}/payload.bin LB_PAYLOAD_CHECK=$<TARGET_FILE:payload_check>
	${CMAKE_CURRENT_SOURCE_DIR}/e2e/memory.sh)
set_tests_properties(e2e.memory PROPERTIES LABELS e2e SKIP_RETURN_CODE 77 TIMEOUT 240 RESOURCE_LOCK guests)

# A legacy disk boots cold at the other site, in a drill and in a failover, also after its memory was refused.
add_test(NAME e2e.cold COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/e2e/cold.sh ${PROJECT_SOURCE_DIR} ${PROJECT_BINARY_DIR})
set_tests_properties(e2e.cold PROPERTIES LABELS e2e SKIP_RETURN_CODE 77 TIMEOUT 300 RESOURCE_LOCK guests)

# A drill from a memory point in its bubble, and the same machine's failover: frames on bridges are the judge.
add_test(NAME e2e.drill COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/e2e/drill.sh ${PROJECT_SOURCE_DIR} ${PROJECT_BINARY_DIR})
set_tests_properties(e2e.drill PROPERTIES LABELS e2e SKIP_RETURN_CODE 77 TIMEOUT 240 RESOURCE_LOCK guests)

# `output: commit`: what was seen outside is explained by the restored point.
add_test(NAME e2e.commit COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/e2e/commit.sh ${PROJECT_SOURCE_DIR} ${PROJECT_BINARY_DIR})
set_tests_properties(e2e.commit PROPERTIES LABELS e2e SKIP_RETURN_CODE 77 TIMEOUT 260 RESOURCE_LOCK guests)

# Memory that cannot be had any more stops the machine, visibly.
add_test(NAME e2e.lost COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/e2e/lost.sh ${PROJECT_SOURCE_DIR} ${PROJECT_BINARY_DIR})
set_tests_properties(e2e.lost PROPERTIES LABELS e2e SKIP_RETURN_CODE 77 TIMEOUT 240 RESOURCE_LOCK guests)

# One group of machines of two kinds; two disks and memory of one instant.
add_test(NAME e2e.mixed COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/e2e/mixed.sh ${PROJECT_SOURCE_DIR} ${PROJECT_BINARY_DIR})
set_tests_properties(e2e.mixed PROPERTIES LABELS e2e SKIP_RETURN_CODE 77 TIMEOUT 260 RESOURCE_LOCK guests)
