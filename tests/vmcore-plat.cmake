# The legacy platform of pc1: each device by script on a board without KVM.
lb_test(unit.vm_pci unit/test_vm_pci.c DEPS testboard)
lb_test(unit.vm_uart unit/test_vm_uart.c DEPS testboard)
lb_test(unit.vm_rtc unit/test_vm_rtc.c DEPS testboard)
lb_test(unit.vm_legacy unit/test_vm_legacy.c DEPS testboard)
lb_test(unit.vm_vga unit/test_vm_vga.c DEPS testboard)
lb_test(unit.vm_pc1 unit/test_vm_pc1.c DEPS testboard imaging)
target_link_options(unit_vm_pc1 PRIVATE -Wl,--wrap=malloc,--wrap=calloc,--wrap=pthread_create)
lb_test(unit.vm_ide unit/test_vm_ide.c DEPS testvirtio imaging)

# Debian's firmware and boot loader from a recovery point: over many machines, and in a new process every 200 ms.
add_library(grubpoint STATIC lib/grub_point.c)
target_link_libraries(grubpoint PUBLIC viewpoint PRIVATE imaging lb_flags)
set(grub_args $<TARGET_FILE:plugin_view> ${CMAKE_CURRENT_SOURCE_DIR}/guests/grub-disk.sh)
lb_test(vmcore.bios vmcore/test_bios.c DEPS kvmguest grubpoint TIMEOUT 300 ARGS ${grub_args})
lb_test(vmcore.hops_ide vmcore/test_hops.c DEPS kvmguest grubpoint TIMEOUT 300 ARGS ${grub_args} ide)
add_test(NAME vmcore.hops_virtio COMMAND vmcore_hops_ide ${grub_args} virtio)
set_tests_properties(vmcore.hops_virtio PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 300 LABELS vmcore)
add_dependencies(vmcore_bios plugin_view)
add_dependencies(vmcore_hops_ide plugin_view)

lb_fuzz(vmide fuzz/fuzz_vmide.c DEPS testboard imaging)
lb_fuzz(vmfwcfg fuzz/fuzz_vmfwcfg.c DEPS testboard)
lb_fuzz(vmpci fuzz/fuzz_vmpci.c DEPS testboard)
lb_fuzz(vmlegacy fuzz/fuzz_vmlegacy.c DEPS testboard)

# Linux's own IDE driver; where ring 0 is emulated that takes minutes (tests/soak.sh).
add_executable(vmcore_ide_linux vmcore/test_ide_linux.c)
target_link_libraries(vmcore_ide_linux PRIVATE kvmguest imaging lb_flags)
add_test(NAME vmcore.ide_linux_native COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/vmcore/ide_linux.sh
	${PROJECT_SOURCE_DIR} ${PROJECT_BINARY_DIR} $<TARGET_FILE:vmcore_ide_linux> native)
set_tests_properties(vmcore.ide_linux_native PROPERTIES LABELS vmcore SKIP_RETURN_CODE 77 TIMEOUT 300)
