#include "mem.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/err.h"

#define RAM_UNIT_BYTES (UINT64_C(2) << 20)

uint64_t vm_mem_volume_bytes(uint64_t ram_bytes)
{
	return ram_bytes + VM_ROM_BYTES;
}

static int check_size(uint64_t ram_bytes, struct lb_err *err)
{
	if (ram_bytes < VM_RAM_MIN_BYTES || ram_bytes > VM_RAM_MAX_BYTES ||
	    ram_bytes % RAM_UNIT_BYTES != 0)
		return lb_err_set(err, LB_EINPUT, 0,
				  "RAM of %" PRIu64
				  " bytes: must be a multiple of 2 MiB, at most 1 TiB",
				  ram_bytes);
	return 0;
}

/* NOLINTNEXTLINE(readability-non-const-parameter): it is kept, and written through */
int vm_mem_init_mapped(struct vm_mem *m, uint64_t ram_bytes, uint8_t *base, int fd,
		       struct lb_err *err)
{
	uint64_t pages = vm_mem_volume_bytes(ram_bytes) / VM_PAGE_BYTES;
	_Atomic uint64_t *dirty;
	int rc = check_size(ram_bytes, err);

	if (rc != 0)
		return rc;
	dirty = calloc((pages + 63) / 64, sizeof(*dirty));
	if (dirty == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "dirty map of %" PRIu64 " pages", pages);
	*m = (struct vm_mem){
		.base = base,
		.ram_bytes = ram_bytes,
		.low_bytes = ram_bytes < VM_LOW_MAX_BYTES ? ram_bytes : VM_LOW_MAX_BYTES,
		.volume_bytes = vm_mem_volume_bytes(ram_bytes),
		.fd = fd,
		.dirty = dirty,
	};
	return 0;
}

int vm_mem_init(struct vm_mem *m, uint64_t ram_bytes, struct lb_err *err)
{
	uint64_t bytes = vm_mem_volume_bytes(ram_bytes);
	void *base = MAP_FAILED;
	int fd, rc = check_size(ram_bytes, err);

	if (rc != 0)
		return rc;
	fd = memfd_create("lifeboat-ram", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return lb_err_errno(err, errno, "memfd_create for guest memory");
	if (ftruncate(fd, (off_t)bytes) != 0) {
		rc = lb_err_errno(err, errno, "guest memory of %" PRIu64 " bytes", bytes);
		goto out;
	}
	base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
	if (base == MAP_FAILED) {
		rc = lb_err_errno(err, errno, "mapping guest memory of %" PRIu64 " bytes", bytes);
		goto out;
	}
	rc = vm_mem_init_mapped(m, ram_bytes, base, fd, err);
out:
	if (rc != 0 && base != MAP_FAILED)
		(void)munmap(base, bytes);
	if (rc != 0)
		(void)close(fd);
	return rc;
}

/* Where the old mapping goes. Page tables move whole when both addresses lie alike in them. */
static void *room_for(struct vm_mem *m, void **to, uint64_t *bytes)
{
	void *p;

	*bytes = m->volume_bytes + RAM_UNIT_BYTES;
	p = mmap(NULL, *bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p != MAP_FAILED)
		*to = (uint8_t *)p + ((uintptr_t)m->base - (uintptr_t)p) % RAM_UNIT_BYTES;
	return p;
}

/* The addresses are never free meanwhile: first the pages leave the old mapping, which stays and is
 * empty, then the private view replaces it. KVM notices by itself. */
int vm_mem_set_aside(struct vm_mem *m, int *fd, struct lb_err *err)
{
	uint64_t bytes = 0;
	void *to = NULL, *room = room_for(m, &to, &bytes);

	LB_ASSERT(m->fd >= 0 && m->aside == NULL);
	if (room == MAP_FAILED)
		return lb_err_errno(err, errno, "room for a mapping of memory");
	if (mremap(m->base, m->volume_bytes, m->volume_bytes,
		   MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP, to) == MAP_FAILED ||
	    mmap(m->base, m->volume_bytes, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE, m->fd, 0) == MAP_FAILED) {
		int rc = lb_err_errno(err, errno, "private mapping of memory");

		(void)munmap(room, bytes);
		return rc;
	}
	m->aside = room;
	m->aside_bytes = bytes;
	*fd = m->fd;
	m->fd = -1;
	return 0;
}

void vm_mem_fini(struct vm_mem *m)
{
	if (m->dirty == NULL)
		return;
	if (m->aside != NULL)
		(void)munmap(m->aside, m->aside_bytes);
	(void)munmap(m->base, m->volume_bytes);
	if (m->fd >= 0)
		(void)close(m->fd);
	free((void *)m->dirty);
	*m = (struct vm_mem){.fd = -1};
}

/* Offset in the volume; UINT64_MAX: not all RAM in one piece. */
static uint64_t offset_of(const struct vm_mem *m, struct vm_gpa gpa, uint64_t len)
{
	uint64_t high = m->ram_bytes - m->low_bytes;

	if (gpa.a < m->low_bytes)
		return len <= m->low_bytes - gpa.a ? gpa.a : UINT64_MAX;
	if (gpa.a >= VM_HIGH_GPA && gpa.a - VM_HIGH_GPA < high)
		return len <= high - (gpa.a - VM_HIGH_GPA) ? m->low_bytes + (gpa.a - VM_HIGH_GPA)
							   : UINT64_MAX;
	return UINT64_MAX;
}

void *vm_mem_ptr(struct vm_mem *m, struct vm_gpa gpa, uint64_t len)
{
	uint64_t off = offset_of(m, gpa, len);

	return off == UINT64_MAX ? NULL : m->base + off;
}

void vm_mem_dirty(struct vm_mem *m, struct vm_gpa gpa, uint64_t len)
{
	uint64_t off = offset_of(m, gpa, len);

	if (len == 0)
		return;
	LB_ASSERT(off != UINT64_MAX);
	for (uint64_t page = off / VM_PAGE_BYTES; page <= (off + len - 1) / VM_PAGE_BYTES; page++)
		atomic_fetch_or_explicit(&m->dirty[page / 64], UINT64_C(1) << (page % 64),
					 memory_order_release);
}

uint8_t *vm_mem_option_rom(struct vm_mem *m)
{
	return m->base + m->ram_bytes;
}

uint8_t *vm_mem_firmware(struct vm_mem *m)
{
	return m->base + m->ram_bytes + VM_OPTION_ROM_BYTES;
}

void vm_mem_put(struct vm_mem *m, uint8_t *at, const void *from, uint64_t len)
{
	if (m->fd < 0 || pwrite(m->fd, from, len, at - m->base) != (ssize_t)len)
		memcpy(at, from, len);
}

bool vm_mem_settle(struct vm_mem *m, struct vm_gpa gpa, uint64_t len)
{
	const volatile uint8_t *p = vm_mem_ptr(m, gpa, len);

	if (p == NULL)
		return false;
	for (uint64_t off = 0; off < len; off += VM_PAGE_BYTES - (gpa.a + off) % VM_PAGE_BYTES)
		(void)p[off];
	/* A page that was filled with zeros was so after .lost was set. */
	return !atomic_load(&m->lost);
}

bool vm_mem_read(struct vm_mem *m, void *to, struct vm_gpa gpa, uint64_t len)
{
	const void *p = vm_mem_ptr(m, gpa, len);

	if (p == NULL)
		return false;
	memcpy(to, p, len);
	return !atomic_load(&m->lost);
}

bool vm_mem_write(struct vm_mem *m, struct vm_gpa gpa, const void *from, uint64_t len)
{
	void *p = vm_mem_ptr(m, gpa, len);

	if (p == NULL)
		return false;
	memcpy(p, from, len);
	vm_mem_dirty(m, gpa, len);
	return true;
}

/* A naturally aligned value is one access for the guest's other processors too. */
bool vm_mem_read16(struct vm_mem *m, struct vm_gpa gpa, uint16_t *v)
{
	const uint16_t *p = vm_mem_ptr(m, gpa, sizeof(*v));

	if (p == NULL || gpa.a % sizeof(*v) != 0)
		return false;
	*v = __atomic_load_n(p, __ATOMIC_ACQUIRE);
	return true;
}

bool vm_mem_write16(struct vm_mem *m, struct vm_gpa gpa, uint16_t v)
{
	uint16_t *p = vm_mem_ptr(m, gpa, sizeof(v));

	if (p == NULL || gpa.a % sizeof(v) != 0)
		return false;
	__atomic_store_n(p, v, __ATOMIC_RELEASE);
	vm_mem_dirty(m, gpa, sizeof(v));
	return true;
}

bool vm_mem_read32(struct vm_mem *m, struct vm_gpa gpa, uint32_t *v)
{
	const uint32_t *p = vm_mem_ptr(m, gpa, sizeof(*v));

	if (p == NULL || gpa.a % sizeof(*v) != 0)
		return false;
	*v = __atomic_load_n(p, __ATOMIC_ACQUIRE);
	return true;
}

bool vm_mem_write32(struct vm_mem *m, struct vm_gpa gpa, uint32_t v)
{
	uint32_t *p = vm_mem_ptr(m, gpa, sizeof(v));

	if (p == NULL || gpa.a % sizeof(v) != 0)
		return false;
	__atomic_store_n(p, v, __ATOMIC_RELEASE);
	vm_mem_dirty(m, gpa, sizeof(v));
	return true;
}

/* ---- pages that are written meanwhile ---- */

/* By design: mem.h. Loops, because the thread sanitizer looks into memcpy() and memcmp() wherever
 * they are called from; compilers make of them what those do. */
#define RACES __attribute__((no_sanitize("thread")))

RACES void vm_mem_page_copy(uint8_t *to, const uint8_t *page)
{
	uint64_t *t = (void *)to;
	const uint64_t *p = (const void *)page;

	for (unsigned i = 0; i < VM_PAGE_BYTES / sizeof(*p); i++)
		t[i] = p[i];
}

RACES bool vm_mem_page_zero(const uint8_t *page)
{
	const uint64_t *p = (const void *)page;

	for (unsigned i = 0; i < VM_PAGE_BYTES / sizeof(*p); i += 8)
		if ((p[i] | p[i + 1] | p[i + 2] | p[i + 3] | p[i + 4] | p[i + 5] | p[i + 6] |
		     p[i + 7]) != 0)
			return false;
	return true;
}
