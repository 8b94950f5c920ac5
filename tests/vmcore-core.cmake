# Real guests on /dev/kvm: KVM, cuts, restores. They skip with 77 where there is no KVM.
add_library(kvmguest STATIC lib/kvm_guest.c)
target_include_directories(kvmguest PUBLIC lib ${PROJECT_SOURCE_DIR}/vmcore/src)
target_link_libraries(kvmguest PUBLIC testlib vmcore PRIVATE lb_flags)

lb_test(vmcore.run vmcore/test_run.c DEPS kvmguest)
