# Linux guests of the embedded machine: ACPI tables, the kernel's boot protocol, real kernels.
lb_test(unit.vm_acpi unit/test_vm_acpi.c DEPS testboard)
lb_test(unit.vm_pm unit/test_vm_pm.c DEPS testboard)
lb_test(unit.vm_boot_linux unit/test_vm_boot_linux.c DEPS testboard LIBS LB::lz4)
lb_test(unit.vm_slowpit unit/test_vm_slowpit.c DEPS testboard)
lb_test(vmcore.complement vmcore/test_complement.c DEPS kvmguest)
lb_test(vmcore.bios_acpi vmcore/test_bios_acpi.c DEPS kvmguest TIMEOUT 120)
lb_fuzz(bzimage fuzz/fuzz_bzimage.c DEPS testboard)

# A stock kernel reads our tables where another hypervisor runs it.
add_executable(acpi_dump vmcore/acpi_dump.c)
target_link_libraries(acpi_dump PRIVATE testboard lb_flags)
add_test(NAME e2e.acpi_qemu COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/vmcore/acpi_qemu.sh
	${PROJECT_SOURCE_DIR} ${PROJECT_BINARY_DIR} $<TARGET_FILE:acpi_dump>)
set_tests_properties(e2e.acpi_qemu PROPERTIES LABELS e2e SKIP_RETURN_CODE 77 TIMEOUT 300
	RESOURCE_LOCK guests)

# A stock kernel from a recovery point's view, over a checkpoint: with the complement where KVM
# emulates ring 0 (minutes), without where it does not (seconds).
add_executable(vmcore_linux vmcore/test_linux.c)
target_link_libraries(vmcore_linux PRIVATE kvmguest viewpoint imaging lb_flags)
add_dependencies(vmcore_linux plugin_view)
foreach(mode native emulated)
	add_test(NAME vmcore.linux_${mode} COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/vmcore/linux.sh
		${PROJECT_SOURCE_DIR} ${PROJECT_BINARY_DIR} $<TARGET_FILE:vmcore_linux>
		$<TARGET_FILE:plugin_view> ${mode})
	# its own label: ./dev test runs it once, without sanitizers; the cost lets it begin first
	set_tests_properties(vmcore.linux_${mode} PROPERTIES LABELS "vmcore;linux" SKIP_RETURN_CODE 77
		TIMEOUT 1200 COST 200)
endforeach()
