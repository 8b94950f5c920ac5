# The legacy platform of pc1: each device by script on a board without KVM.
lb_test(unit.vm_pci unit/test_vm_pci.c DEPS testboard)
