/* A datagram on a machine's control socket, either way. What decodes must encode to the same bytes.
 */
#include <stdlib.h>
#include <string.h>

#include "vmcore/ctl.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct vm_ctl_msg m;
	static uint8_t again[VM_CTL_FRAME_MAX];
	size_t len = 0;

	if (vm_ctl_decode(&m, data, size, NULL) != 0)
		return 0;
	/* an error's code may be of a newer build: it becomes another one */
	if (vm_ctl_encode(again, &len, &m, NULL) != 0 ||
	    (m.type != VM_CTL_ERROR && (len != size || memcmp(again, data, size) != 0)))
		abort();
	return 0;
}
