#include "pager.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/err.h"
#include "base/thread.h"
#include "imaging/dev.h"
#include "mem.h"
#include "uffd.h"

/* A run of zeros at least this long becomes ordinary memory instead of pages of zeros. */
#define HOLE_MIN_BYTES (UINT64_C(2) << 20)
#define BATCH_PAGES    (VM_BATCH_BYTES / VM_PAGE_BYTES)
/* Fetching ahead begins when nobody asked for so long, or so many were served: until then the
 * processor and the source belong to the guest's first steps. */
#define QUIET_MS     5
#define FAULTS_FIRST 256u

struct vm_pager {
	struct vm_pager_cfg cfg;
	int uffd, stop_fd;
	pthread_t thread;
	bool started;
	uint64_t batches;
	uint8_t *there;  /* one a batch */
	uint8_t *buf;    /* one batch */
	uint32_t *order; /* to fetch ahead */
	size_t order_count, order_next;
	bool ahead;               /* fetch what nobody waits for */
	uint64_t ascending;       /* next batch when .order is through */
	struct img_extent extent; /* of the source, where .ascending is */
	_Atomic uint64_t left_batches;
	pthread_mutex_t lock; /* .touched */
	uint32_t *touched;
	size_t touched_count;
};

/* ---- filling ---- */

static void mark_there(struct vm_pager *p, uint64_t batch)
{
	p->there[batch] = 1;
	atomic_fetch_sub(&p->left_batches, 1);
}

static bool all_zero(const uint8_t *b)
{
	return b[0] == 0 && memcmp(b, b + 1, VM_BATCH_BYTES - 1) == 0;
}

static int fill(struct vm_pager *p, uint64_t batch, struct lb_err *err)
{
	uint64_t at = (uintptr_t)p->cfg.mem->base + batch * VM_BATCH_BYTES, done = 0;
	bool zero = all_zero(p->buf);

	while (done < VM_BATCH_BYTES) {
		struct uffdio_copy copy = {
			.dst = at + done,
			.src = (uintptr_t)p->buf + done,
			.len = VM_BATCH_BYTES - done,
		};
		struct uffdio_zeropage zp = {.range = {at + done, VM_BATCH_BYTES - done}};
		int rc = zero ? ioctl(p->uffd, UFFDIO_ZEROPAGE, &zp)
			      : ioctl(p->uffd, UFFDIO_COPY, &copy);
		int64_t n = zero ? zp.zeropage : copy.copy;

		if (rc == 0)
			return 0;
		if (errno != EAGAIN)
			return lb_err_errno(err, errno, "page at %" PRIu64, batch * VM_BATCH_BYTES);
		done += n > 0 ? (uint64_t)n : 0; /* the mapping changed meanwhile: go on */
	}
	return 0;
}

static int fetch(struct vm_pager *p, uint64_t batch, struct lb_err *err)
{
	int rc = img_pread(p->cfg.ram, p->buf, VM_BATCH_BYTES, batch * VM_BATCH_BYTES, err);

	if (rc == 0)
		rc = fill(p, batch, err);
	if (rc == 0)
		mark_there(p, batch);
	return rc;
}

static int unregister(struct vm_pager *p, uint64_t off, uint64_t len, struct lb_err *err)
{
	struct uffdio_range r = {(uintptr_t)p->cfg.mem->base + off, len};

	if (ioctl(p->uffd, UFFDIO_UNREGISTER, &r) != 0)
		return lb_err_errno(err, errno, "UFFDIO_UNREGISTER");
	return 0;
}

/* ---- faults ---- */

static void wake(struct vm_pager *p, uint64_t batch)
{
	struct uffdio_range r = {(uintptr_t)p->cfg.mem->base + batch * VM_BATCH_BYTES,
				 VM_BATCH_BYTES};

	(void)ioctl(p->uffd, UFFDIO_WAKE, &r);
}

static void note_touch(struct vm_pager *p, uint64_t batch)
{
	(void)pthread_mutex_lock(&p->lock);
	if (p->touched_count < p->batches)
		p->touched[p->touched_count++] = (uint32_t)batch;
	(void)pthread_mutex_unlock(&p->lock);
}

/* One fault. False in @any: none is waiting. */
static int serve_fault(struct vm_pager *p, bool *any, struct lb_err *err)
{
	struct uffd_msg msg;
	/* banned-ok: one message of the kernel's own descriptor */
	ssize_t n = read(p->uffd, &msg, sizeof(msg));
	uint64_t batch;

	*any = n == (ssize_t)sizeof(msg);
	if (n < 0 && errno != EAGAIN && errno != EINTR)
		return lb_err_errno(err, errno, "read of userfaultfd");
	if (!*any || msg.event != UFFD_EVENT_PAGEFAULT)
		return 0;
	batch = (msg.arg.pagefault.address - (uintptr_t)p->cfg.mem->base) / VM_BATCH_BYTES;
	if (p->there[batch] != 0) { /* it came between the fault and its message */
		wake(p, batch);
		return 0;
	}
	note_touch(p, batch);
	return fetch(p, batch, err);
}

/* ---- the rest ---- */

static uint64_t next_batch(struct vm_pager *p)
{
	while (p->order_next < p->order_count) {
		uint32_t b = p->order[p->order_next++];

		if (b < p->batches && p->there[b] == 0)
			return b;
	}
	while (p->ascending < p->batches && p->there[p->ascending] != 0)
		p->ascending++;
	return p->ascending;
}

/* Asking the source is a round trip, or a walk through a file's pages: once an extent. */
static int extent_at(struct vm_pager *p, uint64_t off, struct lb_err *err)
{
	if (off >= p->extent.off && off - p->extent.off < p->extent.len)
		return 0;
	return img_next_extent(p->cfg.ram, &p->extent, off, err);
}

/* Zeros that the source knows of, from @batch on: whole untouched batches become ordinary memory,
 * which reads as zero. */
static int skip_hole(struct vm_pager *p, uint64_t batch, uint64_t *skipped, struct lb_err *err)
{
	const struct img_extent *e = &p->extent;
	uint64_t end = batch;
	int rc = extent_at(p, batch * VM_BATCH_BYTES, err);

	*skipped = 0;
	if (rc != 0 || !e->zero || e->len < HOLE_MIN_BYTES)
		return rc;
	while (end < p->batches && p->there[end] == 0 &&
	       (end + 1) * VM_BATCH_BYTES <= e->off + e->len)
		end++;
	if (end == batch)
		return 0;
	rc = unregister(p, batch * VM_BATCH_BYTES, (end - batch) * VM_BATCH_BYTES, err);
	if (rc != 0)
		return rc;
	for (uint64_t b = batch; b < end; b++)
		mark_there(p, b);
	*skipped = end - batch;
	return 0;
}

/* One batch that nobody waits for. */
static int fetch_ahead(struct vm_pager *p, struct lb_err *err)
{
	uint64_t batch = next_batch(p), skipped = 0;
	int rc = 0;

	if (batch >= p->batches)
		return 0;
	if (p->order_next >= p->order_count)
		rc = skip_hole(p, batch, &skipped, err);
	return rc != 0 || skipped > 0 ? rc : fetch(p, batch, err);
}

/* Is there a fault to serve, or the end? Waits for one while the guest begins. */
static bool stop_wanted(struct vm_pager *p, bool *fault)
{
	struct pollfd fd[] = {
		{.fd = p->stop_fd, .events = POLLIN},
		{.fd = p->uffd, .events = POLLIN},
	};
	int n = poll(fd, 2, p->ahead ? 0 : QUIET_MS);

	if (n == 0 || p->touched_count >= FAULTS_FIRST)
		p->ahead = true;
	*fault = fd[1].revents != 0;
	return fd[0].revents != 0;
}

static void lose(struct vm_pager *p, const struct lb_err *why)
{
	char text[256];

	(void)snprintf(text, sizeof(text), "lazily restored memory: %.200s", why->msg);
	atomic_store(&p->cfg.mem->lost, true);
	p->cfg.lost(p->cfg.arg, text);
}

static void *pager_main(void *arg)
{
	struct vm_pager *p = arg;
	struct lb_err err = {0};
	bool fault = false;
	int rc = 0;

	while (rc == 0 && atomic_load(&p->left_batches) > 0 && !stop_wanted(p, &fault)) {
		bool any = false;

		if (fault)
			rc = serve_fault(p, &any, &err);
		if (rc == 0 && !any && p->ahead)
			rc = fetch_ahead(p, &err);
	}
	if (rc != 0)
		lose(p, &err);
	/* All there, or nothing more to come: who still waits goes on. */
	(void)unregister(p, 0, p->cfg.mem->volume_bytes, NULL);
	return NULL;
}

/* ---- create ---- */

static int open_uffd(struct vm_pager *p, struct lb_err *err)
{
	if (p->cfg.uffd < 0)
		return vm_uffd_open(&p->uffd, err);
	p->uffd = fcntl(p->cfg.uffd, F_DUPFD_CLOEXEC, 0);
	return p->uffd < 0 ? lb_err_errno(err, errno, "descriptor of user faults") : 0;
}

static int watch(struct vm_pager *p, struct lb_err *err)
{
	struct uffdio_register r = {
		.range = {(uintptr_t)p->cfg.mem->base, p->cfg.mem->volume_bytes},
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};

	if (ioctl(p->uffd, UFFDIO_REGISTER, &r) != 0)
		return lb_err_set(err, LB_EUNSUPPORTED, errno, "UFFDIO_REGISTER");
	return 0;
}

static int start_thread(struct vm_pager *p, struct lb_err *err)
{
	int rc = lb_thread_start(&p->thread, pager_main, p, "the pager", err);

	p->started = rc == 0;
	return rc;
}

static int alloc(struct vm_pager *p, struct lb_err *err)
{
	p->there = calloc(p->batches, 1);
	p->buf = malloc(VM_BATCH_BYTES);
	p->touched = malloc(p->batches * sizeof(*p->touched));
	p->order = malloc((p->order_count + 1) * sizeof(*p->order));
	if (p->there == NULL || p->buf == NULL || p->touched == NULL || p->order == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "pager");
	if (p->order_count > 0)
		memcpy(p->order, p->cfg.order, p->order_count * sizeof(*p->order));
	p->stop_fd = eventfd(0, EFD_CLOEXEC);
	return p->stop_fd < 0 ? lb_err_errno(err, errno, "eventfd") : 0;
}

int vm_pager_create(struct vm_pager **out, const struct vm_pager_cfg *cfg, struct lb_err *err)
{
	struct vm_pager *p = calloc(1, sizeof(*p));
	int rc;

	if (p == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "pager");
	p->cfg = *cfg;
	p->uffd = p->stop_fd = -1;
	p->batches = cfg->mem->volume_bytes / VM_BATCH_BYTES;
	p->order_count = cfg->order_count < p->batches ? cfg->order_count : p->batches;
	atomic_init(&p->left_batches, p->batches);
	(void)pthread_mutex_init(&p->lock, NULL);
	rc = alloc(p, err);
	if (rc == 0)
		rc = open_uffd(p, err);
	if (rc == 0)
		rc = watch(p, err);
	if (rc == 0)
		rc = start_thread(p, err);
	if (rc != 0) {
		vm_pager_destroy(p);
		return rc;
	}
	*out = p;
	return 0;
}

void vm_pager_destroy(struct vm_pager *p)
{
	const uint64_t one = 1;

	if (p == NULL)
		return;
	if (p->started) {
		/* banned-ok: an eventfd takes all or nothing */
		while (write(p->stop_fd, &one, sizeof(one)) < 0 && errno == EINTR)
			;
		(void)pthread_join(p->thread, NULL);
	}
	if (p->uffd >= 0)
		(void)close(p->uffd);
	if (p->stop_fd >= 0)
		(void)close(p->stop_fd);
	(void)pthread_mutex_destroy(&p->lock);
	free(p->there);
	free(p->buf);
	free(p->touched);
	free(p->order);
	free(p);
}

uint64_t vm_pager_left(const struct vm_pager *p)
{
	return p == NULL ? 0 : atomic_load(&p->left_batches) * BATCH_PAGES;
}

size_t vm_pager_order(struct vm_pager *p, uint32_t *out, size_t cap)
{
	size_t n = p->order_count < cap ? p->order_count : cap, add;

	/* What was fetched ahead in the given order counts as touched in it. */
	memcpy(out, p->order, n * sizeof(*out));
	(void)pthread_mutex_lock(&p->lock);
	add = p->touched_count < cap - n ? p->touched_count : cap - n;
	memcpy(out + n, p->touched, add * sizeof(*out));
	(void)pthread_mutex_unlock(&p->lock);
	return n + add;
}
