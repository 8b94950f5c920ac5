/* What lifeboat-vm is told at its start. What decodes must encode to the same bytes. */
#include <stdlib.h>
#include <string.h>

#include "vmcore/launch.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct vm_launch l;
	static uint8_t again[VM_LAUNCH_BYTES_MAX];
	size_t len = 0;

	if (size > sizeof(again) || vm_launch_decode(&l, data, size, NULL) != 0)
		return 0;
	if (vm_launch_encode(again, sizeof(again), &len, &l, NULL) != 0 || len != size ||
	    memcmp(again, data, size) != 0)
		abort();
	return 0;
}
