/* The stored description of a machine is another site's bytes: building our domain from it never
 * crashes, and what comes out names no path but ours. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "hv_int.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct sa_hv hv = {.kernel = (char *)(uintptr_t) "/ours/k"};
	static const struct sa_hv_disk disk = {.name = "vda", .nbd_socket = "/ours/s"};
	struct sa_hv_machine m = {.hv = &hv, .name = "vm", .dir = "/ours", .disks = 1};
	struct sa_hv_domain d = {0};
	char *text = malloc(size + 1);
	struct sa_hv_boot_cfg cfg = {
		.name = "vm", .machine_xml = text, .disks = &disk, .disk_count = 1};

	if (text == NULL)
		return 0;
	memcpy(text, data, size);
	text[size] = '\0';
	memcpy(m.disk[0], "vda", 4);
	if (sa_hv_domain_build(&d, &m, &cfg, NULL) == 0) {
		for (const char *p = d.xml; (p = strstr(p, "=\"/")) != NULL; p++)
			LB_ASSERT(strncmp(p + 2, "/ours/", 6) == 0);
		LB_ASSERT(strstr(d.xml, "qemu:") == NULL);
	}
	free(d.xml);
	free(text);
	return 0;
}
