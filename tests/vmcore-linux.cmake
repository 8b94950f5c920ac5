# Linux guests of the embedded machine: ACPI tables, the kernel's boot protocol, real kernels.
lb_test(unit.vm_acpi unit/test_vm_acpi.c DEPS testboard)
lb_test(unit.vm_pm unit/test_vm_pm.c DEPS testboard)
lb_test(unit.vm_boot_linux unit/test_vm_boot_linux.c DEPS testboard LIBS LB::lz4)
lb_test(unit.vm_slowpit unit/test_vm_slowpit.c DEPS testboard)
lb_test(vmcore.complement vmcore/test_complement.c DEPS kvmguest)
lb_fuzz(bzimage fuzz/fuzz_bzimage.c DEPS testboard)
