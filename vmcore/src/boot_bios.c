#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/err.h"
#include "boot.h"

#define SHADOW_END    UINT64_C(0x100000)
#define FIRMWARE_UNIT 0x10000u /* images are 64, 128 or 256 KiB */

static int read_all(int fd, uint8_t *p, size_t len, const char *what, struct lb_err *err)
{
	for (size_t done = 0; done < len;) {
		ssize_t n = pread(fd, p + done, len - done, (off_t)done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return lb_err_errno(err, errno, "reading the %s", what);
		if (n == 0)
			return lb_err_set(err, LB_EINPUT, 0, "%s ends at %zu of %zu bytes", what,
					  done, len);
		done += (size_t)n;
	}
	return 0;
}

/* Not fstat(): see file_size() of boot_linux.c. */
static int size_of(uint64_t *out, int fd, const char *what, struct lb_err *err)
{
	off_t end = lseek(fd, 0, SEEK_END);

	if (end < 0)
		return lb_err_errno(err, errno, "size of the %s", what);
	*out = (uint64_t)end;
	return 0;
}

/* All pages at once: half of what reading a firmware took were its page faults, one by one. A
 * kernel that does not know the advice takes them as before. */
static void touch(uint8_t *p, size_t len)
{
	(void)madvise(p, len, MADV_POPULATE_WRITE);
}

void vm_boot_bios_again(struct vm_entry *out, struct vm_mem *m)
{
	struct vm_gpa shadow = {SHADOW_END - VM_FIRMWARE_BYTES};

	/* low memory is at least 2 MiB: the range is there */
	(void)vm_mem_write(m, shadow, vm_mem_firmware(m), VM_FIRMWARE_BYTES);
	*out = (struct vm_entry){.long_mode = false};
}

int vm_boot_bios(struct vm_entry *out, struct vm_mem *m, int fd, struct lb_err *err)
{
	uint64_t bytes = 0;
	int rc = size_of(&bytes, fd, "firmware", err);

	if (rc != 0)
		return rc;
	if (bytes == 0 || bytes % FIRMWARE_UNIT != 0 || bytes > VM_FIRMWARE_BYTES)
		return lb_err_set(err, LB_EINPUT, 0,
				  "firmware of %" PRIu64
				  " bytes: must be 64 to 256 KiB, a multiple of 64 KiB",
				  bytes);
	touch(vm_mem_firmware(m), VM_FIRMWARE_BYTES);
	touch(vm_mem_ptr(m, (struct vm_gpa){SHADOW_END - VM_FIRMWARE_BYTES}, VM_FIRMWARE_BYTES),
	      VM_FIRMWARE_BYTES);
	/* the reset vector is 16 bytes below 4 GiB: images lie at the end */
	rc = read_all(fd, vm_mem_firmware(m) + (VM_FIRMWARE_BYTES - bytes), bytes, "firmware", err);
	if (rc != 0)
		return rc;
	memset(vm_mem_firmware(m), 0, VM_FIRMWARE_BYTES - bytes);
	vm_boot_bios_again(out, m);
	return 0;
}

int vm_boot_option_rom(uint32_t *len, struct vm_mem *m, int fd, struct lb_err *err)
{
	uint8_t *rom = vm_mem_option_rom(m);
	uint64_t bytes = 0;
	int rc = size_of(&bytes, fd, "VGA BIOS", err);

	if (rc != 0)
		return rc;
	if (bytes < 512 || bytes > VM_OPTION_ROM_BYTES)
		return lb_err_set(err, LB_EINPUT, 0,
				  "VGA BIOS of %" PRIu64 " bytes: must be 512 bytes to 64 KiB",
				  bytes);
	rc = read_all(fd, rom, bytes, "VGA BIOS", err);
	if (rc != 0)
		return rc;
	if (rom[0] != 0x55 || rom[1] != 0xaa)
		return lb_err_set(err, LB_EINPUT, 0, "VGA BIOS begins with %02x%02x, not 55aa",
				  rom[0], rom[1]);
	*len = (uint32_t)bytes;
	return 0;
}
