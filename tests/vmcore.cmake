# The board without KVM: devices are tested by scripts.
add_library(testboard STATIC lib/test_board.c)
target_include_directories(testboard PUBLIC lib ${PROJECT_SOURCE_DIR}/vmcore/src)
target_link_libraries(testboard PUBLIC testlib vmcore PRIVATE lb_flags)

lb_test(unit.vm_mem unit/test_vm_mem.c DEPS testboard)
lb_test(unit.vm_board unit/test_vm_board.c DEPS testboard)
include(vmcore-virtio.cmake)
include(vmcore-plat.cmake)
include(vmcore-linux.cmake)

include(vmcore-core.cmake)
include(vmcore-agent.cmake)
include(vmcore-cut.cmake)
