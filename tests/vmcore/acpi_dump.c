/*
 * acpi_dump DIR VCPUS RAM_MIB - write the tables as firmware gets them, for acpi_qemu.sh.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "acpi.h"
#include "base/err.h"

static int write_blob(const char *dir, const struct vm_blob *b)
{
	const char *base = strrchr(b->name, '/') + 1;
	char path[4096];
	size_t done = 0;
	FILE *f;

	(void)snprintf(path, sizeof(path), "%s/%s", dir, base);
	f = fopen(path, "we");
	if (f == NULL)
		return 1;
	done = fwrite(b->bytes, 1, b->len, f);
	return fclose(f) != 0 || done != b->len;
}

int main(int argc, char **argv)
{
	struct vm_blob blobs[VM_ACPI_BLOBS];
	struct vm_acpi_cfg cfg;
	struct lb_err err = {0};
	int rc = 0;

	if (argc != 4) {
		(void)fprintf(stderr, "usage: acpi_dump DIR VCPUS RAM_MIB\n");
		return 2;
	}
	cfg = (struct vm_acpi_cfg){
		.vcpus = (unsigned)strtoul(argv[2], NULL, 10),
		.low_bytes = strtoull(argv[3], NULL, 10) << 20,
	};
	if (vm_acpi_blobs(blobs, &cfg, &err) != 0) {
		(void)fprintf(stderr, "acpi_dump: %s\n", err.msg);
		return 1;
	}
	for (unsigned i = 0; i < VM_ACPI_BLOBS; i++)
		rc |= write_blob(argv[1], &blobs[i]);
	vm_acpi_blobs_free(blobs);
	return rc;
}
