#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/err.h"
#include "base/rd.h"
#include "base/wr.h"
#include "boot.h"
#include "boot_int.h"
#include "vmgenid.h"

#define GDT_AT      UINT64_C(0x1000)
#define TABLES_AT   UINT64_C(0x2000)
#define PARAMS_AT   UINT64_C(0x8000)
#define STACK_TOP   UINT64_C(0xa000)
#define CMDLINE_AT  UINT64_C(0x20000)
#define CMDLINE_MAX UINT64_C(0x10000)
#define EBDA_AT     UINT64_C(0x9fc00)
#define LOW_END     UINT64_C(0xa0000)
#define ACPI_AT     UINT64_C(0xe0000)
#define ONE_MIB     UINT64_C(0x100000)
#define FOUR_GIB    (UINT64_C(4) << 30)
#define KERNEL_MAX  (UINT64_C(512) << 20)

/* ---- memory map ---- */

static void e820_add(struct vm_e820 *out, size_t *n, uint64_t base, uint64_t end,
		     enum vm_e820_type type)
{
	LB_ASSERT(*n < VM_E820_MAX && base < end);
	out[(*n)++] = (struct vm_e820){.base = base, .len = end - base, .type = type};
}

size_t vm_boot_e820(struct vm_e820 out[VM_E820_MAX], const struct vm_mem *m, bool firmware)
{
	uint64_t genid = vm_genid_gpa(m).a, high = m->ram_bytes - m->low_bytes;
	size_t n = 0;

	if (firmware) {
		e820_add(out, &n, 0, genid, VM_E820_RAM);
	} else {
		e820_add(out, &n, 0, EBDA_AT, VM_E820_RAM);
		e820_add(out, &n, EBDA_AT, LOW_END, VM_E820_RESERVED);
		e820_add(out, &n, ACPI_AT, ONE_MIB, VM_E820_RESERVED);
		e820_add(out, &n, ONE_MIB, genid, VM_E820_RAM);
	}
	e820_add(out, &n, genid, m->low_bytes, VM_E820_RESERVED);
	/* KVM's own pages (TSS, identity map) and the ROM. */
	e820_add(out, &n, UINT64_C(0xfeffc000), UINT64_C(0xff000000), VM_E820_RESERVED);
	if (!firmware)
		e820_add(out, &n, FOUR_GIB - VM_ROM_BYTES, FOUR_GIB, VM_E820_RESERVED);
	if (high != 0)
		e820_add(out, &n, VM_HIGH_GPA, VM_HIGH_GPA + high, VM_E820_RAM);
	return n;
}

/* ---- files ---- */

/* Not fstat(): some C libraries make a call of it that takes a path, which a jail forbids, and a
 * reset boots inside of one. */
static int file_size(uint64_t *out, int fd, const char *what, struct lb_err *err)
{
	off_t end = lseek(fd, 0, SEEK_END);

	if (end < 0 && errno != ESPIPE)
		return lb_err_errno(err, errno, "size of the %s", what);
	if (end <= 0)
		return lb_err_set(err, LB_EINPUT, 0, "%s is no file with content", what);
	*out = (uint64_t)end;
	return 0;
}

static int read_file(uint8_t *to, uint64_t len, int fd, const char *what, struct lb_err *err)
{
	for (uint64_t done = 0; done < len;) {
		ssize_t n = pread(fd, to + done, len - done, (off_t)done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return lb_err_errno(err, errno, "read %s at %" PRIu64, what, done);
		if (n == 0)
			return lb_err_set(err, LB_EINPUT, 0, "%s became shorter", what);
		done += (uint64_t)n;
	}
	return 0;
}

static int read_kernel(uint8_t **out, size_t *out_len, int fd, struct lb_err *err)
{
	uint64_t len = 0;
	uint8_t *p;
	int rc = file_size(&len, fd, "kernel", err);

	if (rc != 0)
		return rc;
	if (len == 0 || len > KERNEL_MAX)
		return lb_err_set(err, LB_EINPUT, 0, "kernel file of %" PRIu64 " bytes", len);
	p = malloc(len);
	if (p == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "kernel file of %" PRIu64 " bytes", len);
	rc = read_file(p, len, fd, "kernel", err);
	if (rc != 0) {
		free(p);
		return rc;
	}
	*out = p;
	*out_len = len;
	return 0;
}

/* ---- the bzImage ---- */

/* Offsets in boot_params, most of them also in the file [boot.rst, "The Real-Mode Kernel Header"].
 */
enum {
	BP_SCREEN_INFO = 0x000,
	BP_RSDP = 0x070,
	BP_E820_COUNT = 0x1e8,
	BP_HEADER = 0x1f1,
	BP_BOOT_FLAG = 0x1fe,
	BP_JUMP = 0x200,
	BP_MAGIC = 0x202,
	BP_LOADER = 0x210,
	BP_LOADFLAGS = 0x211,
	BP_INITRD_AT = 0x218,
	BP_CMDLINE_AT = 0x228,
	BP_E820 = 0x2d0,
	BP_BYTES = 4096,

	HEADER_MAX = 0x290, /* the header ends before this, however new */
	SECTOR_BYTES = 512,
	ENTRY_64 = 0x200, /* of startup_64 in the protected-mode part */
	XLF_KERNEL_64 = 1,
	LOADED_HIGH = 1,
	LOADER_UNKNOWN = 0xff
};

#define MAGIC_HDRS     0x53726448u
#define VERSION_MIN    0x020cu /* xloadflags */
#define CMDLINE_OLDEST 255u

struct setup_header {
	uint32_t length; /* of the header's copy, from BP_HEADER */
	uint64_t body;   /* offset of the protected-mode part in the file */
	uint32_t alignment, initrd_max, cmdline_max, payload, payload_len, init_size;
	uint64_t preferred;
	bool relocatable;
};

static int parse_header(struct setup_header *h, const uint8_t *p, size_t len, struct lb_err *err)
{
	struct lb_rd rd = lb_rd_init(p, len);
	uint32_t sectors, magic, min_alignment;
	uint16_t flag, version, xloadflags;
	uint8_t jump;

	(void)lb_rd_bytes(&rd, BP_HEADER);
	sectors = lb_rd_u8(&rd);
	(void)lb_rd_bytes(&rd, BP_BOOT_FLAG - BP_HEADER - 1);
	flag = lb_rd_u16le(&rd);
	(void)lb_rd_u8(&rd);
	jump = lb_rd_u8(&rd);
	magic = lb_rd_u32le(&rd);
	version = lb_rd_u16le(&rd);
	(void)lb_rd_bytes(&rd, 0x22c - 0x208);
	h->initrd_max = lb_rd_u32le(&rd);
	h->alignment = lb_rd_u32le(&rd);
	h->relocatable = lb_rd_u8(&rd) != 0;
	min_alignment = lb_rd_u8(&rd);
	xloadflags = lb_rd_u16le(&rd);
	h->cmdline_max = lb_rd_u32le(&rd);
	(void)lb_rd_bytes(&rd, 0x248 - 0x23c);
	h->payload = lb_rd_u32le(&rd);
	h->payload_len = lb_rd_u32le(&rd);
	(void)lb_rd_u64le(&rd); /* setup_data */
	h->preferred = lb_rd_u64le(&rd);
	h->init_size = lb_rd_u32le(&rd);
	(void)min_alignment;
	if (rd.bad || flag != 0xaa55 || magic != MAGIC_HDRS)
		return lb_err_set(err, LB_EINPUT, 0, "kernel is neither a bzImage nor an ELF file");
	if (version < VERSION_MIN || (xloadflags & XLF_KERNEL_64) == 0)
		return lb_err_set(err, LB_EUNSUPPORTED, 0,
				  "kernel has no 64-bit entry (boot protocol %u.%02u)",
				  version >> 8, version & 0xff);
	h->length = (uint32_t)(BP_MAGIC + jump - BP_HEADER);
	h->body = ((uint64_t)(sectors == 0 ? 4 : sectors) + 1) * SECTOR_BYTES;
	if (h->length > HEADER_MAX - BP_HEADER)
		h->length = HEADER_MAX - BP_HEADER;
	if (BP_HEADER + h->length > len || h->body >= len || len - h->body <= ENTRY_64)
		return lb_err_set(err, LB_EINPUT, 0, "kernel file of %zu bytes is cut short", len);
	return 0;
}

/* Where the protected-mode part goes: its preferred address, else the lowest one that suits. */
static int place_kernel(struct boot_kernel *k, const struct setup_header *h, struct vm_mem *m,
			uint64_t body_len, struct lb_err *err)
{
	uint64_t need = h->init_size > body_len ? h->init_size : body_len;
	uint64_t top = vm_genid_gpa(m).a, at = h->preferred;
	bool fits = at >= ONE_MIB && at < top && need <= top - at;

	if (!fits && h->relocatable) {
		uint64_t align = h->alignment;

		if (align < VM_PAGE_BYTES || align > ONE_MIB * 64 || (align & (align - 1)) != 0)
			return lb_err_set(err, LB_EINPUT, 0, "kernel wants alignment 0x%x",
					  h->alignment);
		at = (ONE_MIB + align - 1) & ~(align - 1);
		fits = at < top && need <= top - at;
	}
	if (!fits)
		return lb_err_set(err, LB_EINPUT, 0,
				  "kernel needs 0x%" PRIx64 " bytes at 0x%" PRIx64
				  ": the machine has %" PRIu64 " MiB",
				  need, at, m->ram_bytes >> 20);
	*k = (struct boot_kernel){.base = at, .end = at + need, .entry = at + ENTRY_64};
	return 0;
}

/* The payload of a bzImage that is packed with LZ4, as an ELF file in memory. */
static int load_unpacked(struct boot_kernel *k, const struct setup_header *h, struct vm_mem *m,
			 const uint8_t *p, size_t len, struct lb_err *err)
{
	uint64_t body_len = len - h->body;
	uint8_t *elf = NULL;
	size_t elf_len = 0;
	int rc;

	if (h->payload > body_len || h->payload_len > body_len - h->payload)
		return lb_err_set(err, LB_EINPUT, 0, "kernel's payload lies outside it");
	rc = boot_unpack_lz4(&elf, &elf_len, p + h->body + h->payload, h->payload_len, err);
	if (rc == 0)
		rc = boot_elf_load(k, m, elf, elf_len, err);
	free(elf);
	return rc;
}

static int load_bzimage(struct boot_kernel *k, const struct setup_header *h, struct vm_mem *m,
			const uint8_t *p, size_t len, struct lb_err *err)
{
	int rc = place_kernel(k, h, m, len - h->body, err);

	if (rc != 0)
		return rc;
	if (!vm_mem_write(m, (struct vm_gpa){k->base}, p + h->body, len - h->body))
		return lb_err_set(err, LB_EINPUT, 0, "kernel at 0x%" PRIx64 " is not in RAM",
				  k->base);
	return 0;
}

/* ---- what goes with it ---- */

static int load_initrd(uint64_t *at, uint64_t *len, struct vm_mem *m, int fd, uint64_t initrd_max,
		       const struct boot_kernel *k, struct lb_err *err)
{
	uint64_t top = vm_genid_gpa(m).a;
	uint8_t *to;
	int rc = file_size(len, fd, "initial RAM disk", err);

	if (rc != 0)
		return rc;
	if (initrd_max != 0 && initrd_max < top)
		top = (initrd_max + 1) & ~(VM_PAGE_BYTES - 1);
	if (top <= k->end || *len > top - k->end)
		return lb_err_set(err, LB_EINPUT, 0,
				  "initial RAM disk of %" PRIu64
				  " bytes does not fit between the kernel's end 0x%" PRIx64
				  " and 0x%" PRIx64,
				  *len, k->end, top);
	*at = (top - *len) & ~(VM_PAGE_BYTES - 1);
	to = *at >= k->end ? vm_mem_ptr(m, (struct vm_gpa){*at}, *len) : NULL;
	if (to == NULL)
		return lb_err_set(err, LB_EINPUT, 0,
				  "initial RAM disk of %" PRIu64 " bytes does not fit", *len);
	rc = read_file(to, *len, fd, "initial RAM disk", err);
	vm_mem_dirty(m, (struct vm_gpa){*at}, *len);
	return rc;
}

static int write_cmdline(struct vm_mem *m, const char *cmdline, uint64_t max, struct lb_err *err)
{
	size_t len = strlen(cmdline);

	max = max < CMDLINE_MAX - 1 ? max : CMDLINE_MAX - 1;
	if (len > max)
		return lb_err_set(err, LB_EINPUT, 0,
				  "kernel command line of %zu bytes: this kernel takes %" PRIu64,
				  len, max);
	if (!vm_mem_write(m, (struct vm_gpa){CMDLINE_AT}, cmdline, len + 1))
		return lb_err_set(err, LB_EINPUT, 0, "no memory for the command line");
	return 0;
}

static void put32(uint8_t *p, unsigned off, uint32_t v)
{
	struct lb_wr wr = lb_wr_init(p + off, sizeof(v));

	lb_wr_u32le(&wr, v);
}

static void put64(uint8_t *p, unsigned off, uint64_t v)
{
	struct lb_wr wr = lb_wr_init(p + off, sizeof(v));

	lb_wr_u64le(&wr, v);
}

static void params_e820(uint8_t *bp, const struct vm_mem *m)
{
	struct vm_e820 map[VM_E820_MAX];
	size_t n = vm_boot_e820(map, m, false);
	struct lb_wr wr = lb_wr_init(bp + BP_E820, (size_t)20 * VM_E820_MAX);

	for (size_t i = 0; i < n; i++) {
		lb_wr_u64le(&wr, map[i].base);
		lb_wr_u64le(&wr, map[i].len);
		lb_wr_u32le(&wr, map[i].type);
	}
	bp[BP_E820_COUNT] = (uint8_t)n;
}

/* The firmware's text screen: 80 columns, 25 lines, mode 3, 16-pixel font. */
static void params_screen(uint8_t *bp)
{
	uint8_t *si = bp + BP_SCREEN_INFO;

	si[0x06] = 3;    /* mode */
	si[0x07] = 80;   /* columns */
	si[0x0e] = 25;   /* lines */
	si[0x0f] = 0x22; /* VIDEO_TYPE_VGAC */
	si[0x10] = 16;   /* points */
}

/* @header: the setup header's bytes, NULL for a bare vmlinux. */
static bool write_params(struct vm_mem *m, const struct vm_boot_linux *cfg, const uint8_t *header,
			 uint32_t header_len, uint64_t initrd_at, uint64_t initrd_len)
{
	uint8_t bp[BP_BYTES] = {0};

	if (header != NULL) {
		memcpy(bp + BP_HEADER, header, header_len);
	} else {
		bp[BP_BOOT_FLAG] = 0x55;
		bp[BP_BOOT_FLAG + 1] = 0xaa;
		put32(bp, BP_MAGIC, MAGIC_HDRS);
		bp[BP_MAGIC + 4] = 0x0f; /* protocol 2.15 */
		bp[BP_MAGIC + 5] = 0x02;
	}
	bp[BP_LOADER] = LOADER_UNKNOWN;
	bp[BP_LOADFLAGS] |= LOADED_HIGH;
	put32(bp, BP_INITRD_AT, (uint32_t)initrd_at);
	put32(bp, BP_INITRD_AT + 4, (uint32_t)initrd_len);
	put32(bp, BP_CMDLINE_AT, (uint32_t)CMDLINE_AT);
	put64(bp, BP_RSDP, cfg->rsdp.a);
	params_screen(bp);
	params_e820(bp, m);
	return vm_mem_write(m, (struct vm_gpa){PARAMS_AT}, bp, sizeof(bp));
}

/* A flat GDT and 4 GiB mapped 1:1 by 2 MiB pages: a PML4, a PDPT, four page directories. */
static bool write_tables(struct vm_mem *m)
{
	static const uint64_t present_rw = 3, large = 0x80;
	uint64_t gdt[4] = {0, 0, UINT64_C(0x00af9b000000ffff), UINT64_C(0x00cf93000000ffff)};
	uint64_t page[VM_PAGE_BYTES / 8] = {(TABLES_AT + VM_PAGE_BYTES) | present_rw};
	bool ok = vm_mem_write(m, (struct vm_gpa){GDT_AT}, gdt, sizeof(gdt)) &&
		  vm_mem_write(m, (struct vm_gpa){TABLES_AT}, page, sizeof(page));

	for (unsigned i = 0; i < 4; i++)
		page[i] = (TABLES_AT + (2 + i) * VM_PAGE_BYTES) | present_rw;
	ok = ok && vm_mem_write(m, (struct vm_gpa){TABLES_AT + VM_PAGE_BYTES}, page, sizeof(page));
	for (uint64_t pd = 0; pd < 4; pd++) {
		for (uint64_t i = 0; i < VM_PAGE_BYTES / 8; i++)
			page[i] = (pd << 30) | (i << 21) | present_rw | large;
		ok = ok && vm_mem_write(m, (struct vm_gpa){TABLES_AT + (2 + pd) * VM_PAGE_BYTES},
					page, sizeof(page));
	}
	return ok;
}

static int load_kernel(struct boot_kernel *k, struct setup_header *h, struct vm_mem *m,
		       const uint8_t *p, size_t len, bool unpack, struct lb_err *err)
{
	int rc;

	if (len >= 4 && memcmp(p, "\177ELF", 4) == 0) {
		*h = (struct setup_header){.cmdline_max = 2047, .initrd_max = UINT32_MAX};
		return boot_elf_load(k, m, p, len, err);
	}
	rc = parse_header(h, p, len, err);
	if (rc != 0)
		return rc;
	if (unpack) {
		rc = load_unpacked(k, h, m, p, len, err);
		if (rc != LB_EUNSUPPORTED)
			return rc;
	}
	return load_bzimage(k, h, m, p, len, err);
}

int vm_boot_linux(struct vm_entry *out, struct vm_mem *m, const struct vm_boot_linux *cfg,
		  struct lb_err *err)
{
	struct setup_header h = {0};
	struct boot_kernel k = {0};
	uint64_t initrd_at = 0, initrd_len = 0;
	uint8_t *file = NULL;
	size_t len = 0;
	int rc = read_kernel(&file, &len, cfg->kernel_fd, err);

	if (rc != 0)
		return rc;
	rc = load_kernel(&k, &h, m, file, len, cfg->unpack, err);
	if (rc == 0)
		rc = write_cmdline(m, cfg->cmdline == NULL ? "" : cfg->cmdline,
				   h.cmdline_max == 0 ? CMDLINE_OLDEST : h.cmdline_max, err);
	if (rc == 0 && cfg->initrd_fd >= 0)
		rc = load_initrd(&initrd_at, &initrd_len, m, cfg->initrd_fd, h.initrd_max, &k, err);
	if (rc != 0)
		goto out;
	if (!write_params(m, cfg, h.length == 0 ? NULL : file + BP_HEADER, h.length, initrd_at,
			  initrd_len) ||
	    !write_tables(m)) {
		rc = lb_err_set(err, LB_EINPUT, 0, "no memory below 640 KiB");
		goto out;
	}
	*out = (struct vm_entry){
		.long_mode = true,
		.rip = k.entry,
		.rsi = PARAMS_AT,
		.rsp = STACK_TOP,
		.cr3 = TABLES_AT,
		.gdt = {GDT_AT},
		.gdt_limit = 4 * 8 - 1,
	};
out:
	free(file);
	return rc;
}
