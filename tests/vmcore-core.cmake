# Real guests on /dev/kvm: KVM, cuts, restores. They skip with 77 where there is no KVM.

# The test guest: a bzImage of ours whose work is done in ring 3.
set(payload ${CMAKE_CURRENT_BINARY_DIR}/payload.bin)
set(payload_src ${CMAKE_CURRENT_SOURCE_DIR}/guests/payload)
add_custom_command(OUTPUT ${payload}
	COMMAND gcc -m64 -O2 -ffreestanding -fno-builtin
		-fno-tree-loop-distribute-patterns -fno-pic -fno-pie -fno-stack-protector
		-fcf-protection=none -fno-asynchronous-unwind-tables -mno-avx -Wall -Wextra -Werror
		-nostdlib -static -no-pie -Wl,-N -Wl,--no-warn-rwx-segments -Wl,--build-id=none
		-Wl,-T,${payload_src}/payload.lds -o payload.elf ${payload_src}/head.S ${payload_src}/main.c
		${payload_src}/records.c ${payload_src}/net.c ${payload_src}/agent.c
	COMMAND objcopy -O binary payload.elf ${payload}
	DEPENDS ${payload_src}/head.S ${payload_src}/main.c ${payload_src}/records.c ${payload_src}/net.c
		${payload_src}/agent.c ${payload_src}/guest.h
		${payload_src}/payload.h ${payload_src}/payload.lds
	WORKING_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR})
add_custom_target(payload ALL DEPENDS ${payload})

add_library(kvmguest STATIC lib/kvm_guest.c lib/kvm_point.c)
add_dependencies(kvmguest payload)
target_compile_definitions(kvmguest PRIVATE PAYLOAD="${payload}")
target_include_directories(kvmguest PUBLIC lib ${payload_src} ${PROJECT_SOURCE_DIR}/vmcore/src)
target_link_libraries(kvmguest PUBLIC testlib vmcore imaging PRIVATE lb_flags)

lb_test(vmcore.run vmcore/test_run.c DEPS kvmguest)
lb_test(vmcore.payload vmcore/test_payload.c DEPS kvmguest)
lb_test(vmcore.cut vmcore/test_cut.c DEPS kvmguest TIMEOUT 120)
lb_test(vmcore.commit vmcore/test_commit.c DEPS kvmguest TIMEOUT 180)
lb_test(vmcore.records vmcore/test_records.c DEPS kvmguest imaging TIMEOUT 120)
lb_test(vmcore.restore vmcore/test_restore.c DEPS kvmguest TIMEOUT 120)
lb_test(vmcore.agent vmcore/test_agent.c DEPS kvmguest)
lb_test(vmcore.reset vmcore/test_reset.c DEPS kvmguest)
lb_test(unit.vm_cpu unit/test_vm_cpu.c DEPS testboard)
lb_test(unit.vm_state unit/test_vm_state.c DEPS testboard)
add_test(NAME golden.vmstate COMMAND unit_vm_state ${CMAKE_CURRENT_SOURCE_DIR}/golden/formats)
set_tests_properties(golden.vmstate PROPERTIES LABELS golden)
add_executable(seed_vmstate EXCLUDE_FROM_ALL fuzz/seed_vmstate.c)
target_link_libraries(seed_vmstate PRIVATE testboard lb_flags)
lb_fuzz(vmstate fuzz/fuzz_vmstate.c DEPS testboard)

# For tests/bench/run.sh only: P14.
add_executable(vm_bench bench/vm_main.c)
add_dependencies(vm_bench payload)
target_include_directories(vm_bench PRIVATE ${payload_src} ${PROJECT_SOURCE_DIR}/vmcore/src)
target_link_libraries(vm_bench PRIVATE vmcore imaging lb_flags)
