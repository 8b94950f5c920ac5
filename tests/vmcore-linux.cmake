# Linux guests of the embedded machine: ACPI tables, the kernel's boot protocol, real kernels.
lb_test(unit.vm_acpi unit/test_vm_acpi.c DEPS testboard)
lb_test(unit.vm_pm unit/test_vm_pm.c DEPS testboard)
lb_test(unit.vm_boot_linux unit/test_vm_boot_linux.c DEPS testboard LIBS LB::lz4)
lb_test(unit.vm_slowpit unit/test_vm_slowpit.c DEPS testboard)
lb_test(vmcore.complement vmcore/test_complement.c DEPS kvmguest)
lb_fuzz(bzimage fuzz/fuzz_bzimage.c DEPS testboard)

# A stock kernel reads our tables where another hypervisor runs it.
add_executable(acpi_dump vmcore/acpi_dump.c)
target_link_libraries(acpi_dump PRIVATE testboard lb_flags)
add_test(NAME e2e.acpi_qemu COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/vmcore/acpi_qemu.sh
	${PROJECT_SOURCE_DIR} ${PROJECT_BINARY_DIR} $<TARGET_FILE:acpi_dump>)
set_tests_properties(e2e.acpi_qemu PROPERTIES LABELS e2e SKIP_RETURN_CODE 77 TIMEOUT 300
	RESOURCE_LOCK guests)
