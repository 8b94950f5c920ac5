#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "boot.h"

#define SHADOW_END    UINT64_C(0x100000)
#define FIRMWARE_UNIT 0x10000u /* images are 64, 128 or 256 KiB */
#define PIECE_BYTES   0x4000u

static int read_all(int fd, uint8_t *p, uint64_t off, size_t len, const char *what,
		    struct lb_err *err)
{
	for (size_t done = 0; done < len;) {
		ssize_t n = pread(fd, p + done, len - done, (off_t)(off + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return lb_err_errno(err, errno, "reading the %s", what);
		if (n == 0)
			return lb_err_set(err, LB_EINPUT, 0,
					  "%s ends at %" PRIu64 " of %" PRIu64 " bytes", what,
					  off + done, off + len);
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

/* Piece by piece into the place below 4 GiB and into its copy below 1 MiB. */
static int load(struct vm_mem *m, int fd, uint64_t bytes, struct lb_err *err)
{
	uint8_t *rom = vm_mem_firmware(m);
	struct vm_gpa shadow = {SHADOW_END - VM_FIRMWARE_BYTES};
	uint8_t *low = vm_mem_ptr(m, shadow, VM_FIRMWARE_BYTES);
	uint64_t skip = VM_FIRMWARE_BYTES - bytes; /* images lie at the end */
	uint8_t piece[PIECE_BYTES];

	memset(rom, 0, skip);
	memset(low, 0, skip);
	for (uint64_t off = 0; off < bytes; off += sizeof(piece)) {
		int rc = read_all(fd, piece, off, sizeof(piece), "firmware", err);

		if (rc != 0)
			return rc;
		vm_mem_put(m, rom + skip + off, piece, sizeof(piece));
		vm_mem_put(m, low + skip + off, piece, sizeof(piece));
	}
	vm_mem_dirty(m, shadow, VM_FIRMWARE_BYTES);
	return 0;
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
	rc = load(m, fd, bytes, err);
	/* the reset vector is 16 bytes below 4 GiB */
	if (rc == 0)
		*out = (struct vm_entry){.long_mode = false};
	return rc;
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
	rc = read_all(fd, rom, 0, bytes, "VGA BIOS", err);
	if (rc != 0)
		return rc;
	if (rom[0] != 0x55 || rom[1] != 0xaa)
		return lb_err_set(err, LB_EINPUT, 0, "VGA BIOS begins with %02x%02x, not 55aa",
				  rom[0], rom[1]);
	*len = (uint32_t)bytes;
	return 0;
}
