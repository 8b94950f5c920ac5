# Disks, network cards and other virtio devices of vmcore, by scripts on a board without KVM.
lb_test(unit.vm_blk unit/test_vm_blk.c DEPS testboard)
