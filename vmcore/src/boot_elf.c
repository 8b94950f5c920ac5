#include <elf.h>
#include <inttypes.h>
#include <lz4.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/rd.h"
#include "boot_int.h"

/* ---- vmlinux ---- */

enum {
	ELF_SEGMENTS_MAX = 64
};

/* Below 1 MiB lie our own tables; nothing a kernel is linked to. */
#define KERNEL_MIN (UINT64_C(1) << 20)

struct elf_head {
	uint64_t entry, phoff;
	uint16_t phentsize, phnum;
};

static int read_head(struct elf_head *h, const uint8_t *p, size_t len, struct lb_err *err)
{
	struct lb_rd rd = lb_rd_init(p, len);
	const uint8_t *ident = lb_rd_bytes(&rd, EI_NIDENT);
	uint16_t type = lb_rd_u16le(&rd), machine = lb_rd_u16le(&rd);

	(void)lb_rd_u32le(&rd);
	h->entry = lb_rd_u64le(&rd);
	h->phoff = lb_rd_u64le(&rd);
	(void)lb_rd_u64le(&rd); /* section headers */
	(void)lb_rd_u32le(&rd); /* flags */
	(void)lb_rd_u16le(&rd);
	h->phentsize = lb_rd_u16le(&rd);
	h->phnum = lb_rd_u16le(&rd);
	if (rd.bad || memcmp(ident, ELFMAG, SELFMAG) != 0 || ident[EI_CLASS] != ELFCLASS64 ||
	    ident[EI_DATA] != ELFDATA2LSB || type != ET_EXEC || machine != EM_X86_64)
		return lb_err_set(err, LB_EINPUT, 0, "kernel is no x86-64 ELF executable");
	if (h->phnum == 0 || h->phnum > ELF_SEGMENTS_MAX || h->phentsize != sizeof(Elf64_Phdr))
		return lb_err_set(err, LB_EINPUT, 0, "kernel has %u program headers of %u bytes",
				  h->phnum, h->phentsize);
	if (h->phoff > len || (uint64_t)h->phnum * h->phentsize > len - h->phoff)
		return lb_err_set(err, LB_EINPUT, 0, "kernel's program headers lie outside it");
	return 0;
}

static int load_segment(struct boot_kernel *k, struct vm_mem *m, const uint8_t *p, size_t len,
			const uint8_t *header, struct lb_err *err)
{
	struct lb_rd rd = lb_rd_init(header, sizeof(Elf64_Phdr));
	uint32_t type = lb_rd_u32le(&rd);
	uint64_t off, at, filesz, memsz;
	uint8_t *to;

	(void)lb_rd_u32le(&rd); /* flags */
	off = lb_rd_u64le(&rd);
	(void)lb_rd_u64le(&rd); /* virtual address */
	at = lb_rd_u64le(&rd);
	filesz = lb_rd_u64le(&rd);
	memsz = lb_rd_u64le(&rd);
	if (type != PT_LOAD || memsz == 0)
		return 0;
	if (off > len || filesz > len - off || filesz > memsz)
		return lb_err_set(err, LB_EINPUT, 0, "kernel segment at 0x%" PRIx64 " is cut short",
				  at);
	to = at >= KERNEL_MIN && at < m->low_bytes ? vm_mem_ptr(m, (struct vm_gpa){at}, memsz)
						   : NULL;
	if (to == NULL)
		return lb_err_set(err, LB_EINPUT, 0,
				  "kernel segment 0x%" PRIx64 "+0x%" PRIx64 " is not in RAM", at,
				  memsz);
	memcpy(to, p + off, filesz);
	memset(to + filesz, 0, memsz - filesz);
	vm_mem_dirty(m, (struct vm_gpa){at}, memsz);
	k->base = at < k->base ? at : k->base;
	k->end = at + memsz > k->end ? at + memsz : k->end;
	return 0;
}

int boot_elf_load(struct boot_kernel *out, struct vm_mem *m, const uint8_t *p, size_t len,
		  struct lb_err *err)
{
	struct boot_kernel k = {.base = UINT64_MAX};
	struct elf_head h = {0};
	int rc = read_head(&h, p, len, err);

	for (unsigned i = 0; rc == 0 && i < h.phnum; i++)
		rc = load_segment(&k, m, p, len, p + h.phoff + (size_t)i * h.phentsize, err);
	if (rc != 0)
		return rc;
	if (h.entry < k.base || h.entry >= k.end)
		return lb_err_set(err, LB_EINPUT, 0,
				  "kernel's entry 0x%" PRIx64 " is in no segment", h.entry);
	k.entry = h.entry;
	*out = k;
	return 0;
}

/* ---- a bzImage's payload ---- */

#define LZ4_LEGACY_MAGIC  0x184C2102u
#define LZ4_LEGACY_BLOCK  (UINT32_C(8) << 20)
#define UNPACKED_MAX      (UINT32_C(512) << 20)
#define UNPACKED_SIZE_LEN 4u

/* One block behind another until the frame ends; each unpacks to at most 8 MiB. */
static int unpack_blocks(uint8_t *to, size_t to_len, size_t *got, struct lb_rd *rd,
			 struct lb_err *err)
{
	*got = 0;
	while (rd->left >= sizeof(uint32_t)) {
		uint32_t len = lb_rd_u32le(rd);
		const uint8_t *from;
		size_t room = to_len - *got;
		int n;

		if (len == LZ4_LEGACY_MAGIC)
			continue;
		from = len > 0 && len <= LZ4_LEGACY_BLOCK + LZ4_LEGACY_BLOCK / 128
			       ? lb_rd_bytes(rd, len)
			       : NULL;
		if (from == NULL)
			return lb_err_set(err, LB_EINPUT, 0, "packed kernel: block of %u bytes",
					  len);
		room = room < LZ4_LEGACY_BLOCK ? room : LZ4_LEGACY_BLOCK;
		n = LZ4_decompress_safe((const char *)from, (char *)to + *got, (int)len, (int)room);
		if (n < 0)
			return lb_err_set(err, LB_EINPUT, 0,
					  "packed kernel: bad LZ4 data after %zu bytes", *got);
		*got += (size_t)n;
	}
	return 0;
}

int boot_unpack_lz4(uint8_t **out, size_t *out_len, const uint8_t *p, size_t len,
		    struct lb_err *err)
{
	struct lb_rd rd, tail;
	size_t got = 0;
	uint32_t size;
	uint8_t *to;
	int rc;

	if (len < 2 * sizeof(uint32_t))
		return lb_err_set(err, LB_EINPUT, 0, "packed kernel of %zu bytes", len);
	rd = lb_rd_init(p, len - UNPACKED_SIZE_LEN);
	tail = lb_rd_init(p + len - UNPACKED_SIZE_LEN, UNPACKED_SIZE_LEN);
	size = lb_rd_u32le(&tail);
	if (lb_rd_u32le(&rd) != LZ4_LEGACY_MAGIC)
		return lb_err_set(err, LB_EUNSUPPORTED, 0, "kernel is not packed with LZ4");
	if (size == 0 || size > UNPACKED_MAX)
		return lb_err_set(err, LB_EINPUT, 0, "packed kernel says it has %u bytes", size);
	to = malloc(size);
	if (to == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "unpacking a kernel of %u bytes", size);
	rc = unpack_blocks(to, size, &got, &rd, err);
	if (rc == 0 && got != size)
		rc = lb_err_set(err, LB_EINPUT, 0, "packed kernel has %zu bytes, says %u", got,
				size);
	if (rc != 0) {
		free(to);
		return rc;
	}
	*out = to;
	*out_len = got;
	return 0;
}
