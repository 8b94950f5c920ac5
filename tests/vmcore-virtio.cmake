# Disks, network cards and other virtio devices of vmcore, by scripts on a board without KVM.
add_library(testvirtio STATIC lib/vdriver.c lib/gate_dev.c)
target_link_libraries(testvirtio PUBLIC testboard PRIVATE lb_flags)

lb_test(unit.vm_blk unit/test_vm_blk.c DEPS testvirtio)
lb_test(unit.virtq unit/test_virtq.c DEPS testboard)
lb_test(unit.virtio_pci unit/test_virtio_pci.c DEPS testvirtio)
lb_test(unit.virtio_blk unit/test_virtio_blk.c DEPS testvirtio)
lb_test(unit.vm_net unit/test_vm_net.c DEPS testboard)
lb_test(unit.virtio_net unit/test_virtio_net.c DEPS testvirtio)
lb_test(unit.virtio_console unit/test_virtio_console.c DEPS testvirtio)
if(NOT LB_SANITIZE MATCHES "thread")
	lb_test(unit.virtio_races unit/test_virtio_races.c DEPS testvirtio imaging TIMEOUT 120)
endif()
lb_fuzz(virtio fuzz/fuzz_virtio.c DEPS testboard)

# Real guests on virtio devices (skip with 77 where there is no KVM).
lb_test(vmcore.net_commit vmcore/test_net_commit.c DEPS kvmguest testvirtio TIMEOUT 120)
lb_test(vmcore.virtio_hop vmcore/test_virtio_hop.c DEPS kvmguest imaging TIMEOUT 200
	ARGS ${CMAKE_CURRENT_SOURCE_DIR}/guests/grub-disk.sh)
