/* A kernel file is foreign: whatever it says, memory outside the machine is never touched and an
 * accepted one enters inside it. The first byte chooses unpacking and the machine's size. */
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/assert.h"
#include "boot.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct vm_boot_linux cfg = {.initrd_fd = -1, .cmdline = "quiet"};
	struct vm_entry entry = {0};
	struct vm_mem m = {0};
	int fd;

	if (size < 2)
		return 0;
	fd = memfd_create("kernel", MFD_CLOEXEC);
	LB_ASSERT(fd >= 0);
	if (write(fd, data + 1, size - 1) == (ssize_t)(size - 1) &&
	    vm_mem_init(&m, (uint64_t)(1 + (data[0] >> 1) % 32) << 21, NULL) == 0) {
		cfg.kernel_fd = fd;
		cfg.unpack = (data[0] & 1) != 0;
		if (vm_boot_linux(&entry, &m, &cfg, NULL) == 0)
			LB_ASSERT(vm_mem_ptr(&m, (struct vm_gpa){entry.rip}, 1) != NULL);
	}
	vm_mem_fini(&m);
	(void)close(fd);
	return 0;
}
