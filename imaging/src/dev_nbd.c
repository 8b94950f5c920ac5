/*
 * A pool of libnbd handles, each one connection. A caller takes an idle one (or waits), does one
 * blocking request on it and puts it back. A dead connection is never replaced behind the caller's
 * back: writes that were not flushed may be lost with it, and only the caller knows what to do
 * again.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libnbd.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/err.h"
#include "dev_int.h"
#include "imaging/dev.h"

#define CONNECTIONS_MAX   16u
#define REQUEST_MAX_BYTES (UINT64_C(32) * 1024 * 1024)       /* what every server must take */
#define STATUS_MAX_BYTES  (UINT64_C(2) * 1024 * 1024 * 1024) /* 32-bit lengths in the protocol */
#define EXPORT_NAME_BYTES 4096u                              /* NBD's own limit */

struct nbd_dev {
	struct img_dev dev;
	char *label;          /* the URI, for messages */
	pthread_mutex_t lock; /* idle[], idle_count */
	pthread_cond_t returned;
	struct nbd_handle *handles[CONNECTIONS_MAX];
	struct nbd_handle *idle[CONNECTIONS_MAX];
	unsigned handle_count;
	unsigned idle_count;
	uint64_t request_max_bytes;
	bool has_flush;
	bool has_zero;
	bool has_extents;
};

static const struct img_dev_ops nbd_ops;
static const struct img_dev_ops nbd_ro_ops;

static struct nbd_dev *nbd_of(struct img_dev *d)
{
	return (struct nbd_dev *)d;
}

static struct nbd_handle *take_handle(struct nbd_dev *n)
{
	struct nbd_handle *h;

	(void)pthread_mutex_lock(&n->lock);
	while (n->idle_count == 0)
		(void)pthread_cond_wait(&n->returned, &n->lock);
	h = n->idle[--n->idle_count];
	(void)pthread_mutex_unlock(&n->lock);
	return h;
}

static void put_handle(struct nbd_dev *n, struct nbd_handle *h)
{
	(void)pthread_mutex_lock(&n->lock);
	n->idle[n->idle_count++] = h;
	(void)pthread_cond_signal(&n->returned);
	(void)pthread_mutex_unlock(&n->lock);
}

/* libnbd keeps the last error per thread: call this before anything else of libnbd. */
static int nbd_err(const struct nbd_dev *n, struct nbd_handle *h, const char *op, uint64_t off,
		   struct lb_err *err)
{
	int sys_errno = nbd_get_errno();
	const char *why = nbd_get_error();
	char text[128] = "no reason given";

	if (why != NULL)
		(void)snprintf(text, sizeof(text), "%s", why);
	if (nbd_aio_is_dead(h) == 1 || nbd_aio_is_closed(h) == 1)
		return lb_err_set(err, LB_ECLOSED, 0, "%s: %s at %" PRIu64 ": %s", n->label, op,
				  off, text);
	if (sys_errno == ENOSPC)
		return lb_err_set(err, LB_ENOSPC, 0, "%s: %s at %" PRIu64 ": %s", n->label, op, off,
				  text);
	return lb_err_set(err, LB_EIO, 0, "%s: %s at %" PRIu64 ": %s", n->label, op, off, text);
}

/* A request of one direction: into @to, or from @from, or neither. */
struct request {
	uint8_t *to;
	const uint8_t *from;
	uint64_t len;
	uint64_t off;
};

typedef int (*request_fn)(struct nbd_handle *h, const struct request *r);

static int do_pread(struct nbd_handle *h, const struct request *r)
{
	return nbd_pread(h, r->to, r->len, r->off, 0);
}

static int do_pwrite(struct nbd_handle *h, const struct request *r)
{
	return nbd_pwrite(h, r->from, r->len, r->off, 0);
}

static int do_zero(struct nbd_handle *h, const struct request *r)
{
	return nbd_zero(h, r->len, r->off, 0);
}

static int in_pieces(struct nbd_dev *n, request_fn fn, const char *op, struct request all,
		     struct lb_err *err)
{
	struct nbd_handle *h = take_handle(n);
	struct request r = all;
	uint64_t done = 0;
	int rc = 0;

	while (rc == 0 && done < all.len) {
		r.len = img_min(all.len - done, n->request_max_bytes);
		r.off = all.off + done;
		r.to = all.to != NULL ? all.to + done : NULL;
		r.from = all.from != NULL ? all.from + done : NULL;
		if (fn(h, &r) != 0)
			rc = nbd_err(n, h, op, r.off, err);
		done += r.len;
	}
	put_handle(n, h);
	return rc;
}

static int nbd_dev_pread(struct img_dev *d, void *buf, uint64_t len, uint64_t off,
			 struct lb_err *err)
{
	struct request r = {.to = buf, .len = len, .off = off};

	return in_pieces(nbd_of(d), do_pread, "read", r, err);
}

static int nbd_dev_pwrite(struct img_dev *d, const void *buf, uint64_t len, uint64_t off,
			  struct lb_err *err)
{
	struct request r = {.from = buf, .len = len, .off = off};

	return in_pieces(nbd_of(d), do_pwrite, "write", r, err);
}

static int nbd_dev_zero(struct img_dev *d, uint64_t len, uint64_t off, struct lb_err *err)
{
	struct request r = {.len = len, .off = off};

	if (!nbd_of(d)->has_zero)
		return img_write_zeros(d, len, off, err);
	return in_pieces(nbd_of(d), do_zero, "zero", r, err);
}

static int nbd_dev_flush(struct img_dev *d, struct lb_err *err)
{
	struct nbd_dev *n = nbd_of(d);
	struct nbd_handle *h;
	int rc = 0;

	if (!n->has_flush)
		return 0;
	/* One is enough: several connections are only opened when the server promises (multi-conn)
	 * that a flush on one covers the writes that were answered on all. */
	h = take_handle(n);
	if (nbd_flush(h, 0) != 0)
		rc = nbd_err(n, h, "flush", 0, err);
	put_handle(n, h);
	return rc;
}

/* What the server says about a range, as far as it is of one kind. */
struct status {
	uint64_t len;
	bool zero;
	bool ended; /* an entry of the other kind came */
	bool bad;   /* an entry of length 0 */
};

/* NOLINTBEGIN(readability-non-const-parameter): libnbd's signature */
static int on_extents(void *user, const char *metacontext, uint64_t off, uint32_t *entries,
		      size_t nr_entries, int *error)
/* NOLINTEND(readability-non-const-parameter) */
{
	struct status *s = user;

	(void)off;
	(void)error;
	if (strcmp(metacontext, LIBNBD_CONTEXT_BASE_ALLOCATION) != 0)
		return 0;
	for (size_t i = 0; i + 1 < nr_entries && !s->ended; i += 2) {
		bool zero = (entries[i + 1] & LIBNBD_STATE_ZERO) != 0;

		if (entries[i] == 0)
			s->bad = true;
		if (s->len == 0)
			s->zero = zero;
		s->ended = s->zero != zero;
		if (!s->ended)
			s->len += entries[i];
	}
	return 0;
}

static int nbd_dev_next_extent(struct img_dev *d, struct img_extent *out, uint64_t off,
			       struct lb_err *err)
{
	struct nbd_dev *n = nbd_of(d);
	uint64_t left = d->size_bytes - off;
	struct status s = {0};
	struct nbd_handle *h;
	int rc = 0;

	*out = (struct img_extent){.off = off, .len = left, .zero = false};
	if (!n->has_extents)
		return 0;
	h = take_handle(n);
	if (nbd_block_status(h, img_min(left, STATUS_MAX_BYTES), off,
			     (nbd_extent_callback){.callback = on_extents, .user_data = &s},
			     0) != 0)
		rc = nbd_err(n, h, "block status", off, err);
	put_handle(n, h);
	if (rc != 0)
		return rc;
	if (s.bad || s.len == 0)
		return lb_err_set(err, LB_EPROTO, 0,
				  "%s: block status at %" PRIu64 ": empty answer", n->label, off);
	out->len = img_min(s.len, left); /* it may speak of more than was asked */
	out->zero = s.zero;
	return 0;
}

static void nbd_dev_destroy(struct img_dev *d)
{
	struct nbd_dev *n = nbd_of(d);

	for (unsigned i = 0; i < n->handle_count; i++) {
		if (nbd_aio_is_ready(n->handles[i]) == 1)
			(void)nbd_shutdown(n->handles[i], 0);
		nbd_close(n->handles[i]);
	}
	(void)pthread_cond_destroy(&n->returned);
	(void)pthread_mutex_destroy(&n->lock);
	free(n->label);
	free(n);
}

static const struct img_dev_ops nbd_ops = {
	.name = "nbd",
	.pread = nbd_dev_pread,
	.pwrite = nbd_dev_pwrite,
	.zero = nbd_dev_zero,
	.flush = nbd_dev_flush,
	.next_extent = nbd_dev_next_extent,
	.destroy = nbd_dev_destroy,
};

static const struct img_dev_ops nbd_ro_ops = {
	.name = "nbd",
	.pread = nbd_dev_pread,
	.next_extent = nbd_dev_next_extent,
	.destroy = nbd_dev_destroy,
};

/* NULL when out of memory, which is in @err then. */
static struct nbd_dev *nbd_alloc(const char *label, struct lb_err *err)
{
	struct nbd_dev *n = calloc(1, sizeof(*n));

	if (n != NULL)
		n->label = strdup(label);
	if (n == NULL || n->label == NULL) {
		(void)lb_err_set(err, LB_ENOMEM, 0, "nbd: device for %s", label);
		free(n);
		return NULL;
	}
	n->dev.ops = &nbd_ro_ops;
	LB_ASSERT(pthread_mutex_init(&n->lock, NULL) == 0);
	LB_ASSERT(pthread_cond_init(&n->returned, NULL) == 0);
	return n;
}

static int connect_err(const struct nbd_dev *n, struct lb_err *err)
{
	int sys_errno = nbd_get_errno();
	const char *why = nbd_get_error();
	enum lb_code code = LB_ECLOSED;

	if (sys_errno == EACCES || sys_errno == EPERM)
		code = LB_EDENIED;
	else if (sys_errno == EINVAL)
		code = LB_EINPUT; /* what libnbd says to a URI it cannot parse */
	return lb_err_set(err, code, 0, "%s: connect: %.128s", n->label,
			  why != NULL ? why : "no reason given");
}

/* Make handle number handle_count, not connected yet. */
static int add_handle(struct nbd_dev *n, struct nbd_handle **out, struct lb_err *err)
{
	struct nbd_handle *h = nbd_create();

	if (h == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "%s: handle", n->label);
	n->handles[n->handle_count++] = h;
	if (nbd_add_meta_context(h, LIBNBD_CONTEXT_BASE_ALLOCATION) != 0)
		return lb_err_set(err, LB_ENOMEM, 0, "%s: meta context", n->label);
	*out = h;
	return 0;
}

/* What the first connection tells about the export. */
static int learn(struct nbd_dev *n, struct lb_err *err)
{
	struct nbd_handle *h = n->handles[0];
	int64_t size = nbd_get_size(h);
	int64_t max = nbd_get_block_size(h, LIBNBD_SIZE_MAXIMUM);

	if (size < 0)
		return nbd_err(n, h, "size of the export", 0, err);
	n->dev.size_bytes = (uint64_t)size;
	n->request_max_bytes = REQUEST_MAX_BYTES;
	if (max >= 4096)
		n->request_max_bytes = img_min(REQUEST_MAX_BYTES, (uint64_t)max);
	n->has_flush = nbd_can_flush(h) == 1;
	n->has_zero = nbd_can_zero(h) == 1;
	n->has_extents = nbd_can_meta_context(h, LIBNBD_CONTEXT_BASE_ALLOCATION) == 1;
	if (nbd_is_read_only(h) == 0)
		n->dev.ops = &nbd_ops;
	return 0;
}

static void start(struct nbd_dev *n)
{
	for (unsigned i = 0; i < n->handle_count; i++)
		n->idle[i] = n->handles[i];
	n->idle_count = n->handle_count;
}

static int connect_one(struct nbd_dev *n, const char *uri, struct lb_err *err)
{
	struct nbd_handle *h = NULL;
	int rc = add_handle(n, &h, err);

	if (rc == 0 && nbd_connect_uri(h, uri) != 0)
		rc = connect_err(n, err);
	return rc;
}

/* The others must show the same export: a server may have changed it between two connections. */
static int connect_more(struct nbd_dev *n, const char *uri, unsigned connections,
			struct lb_err *err)
{
	while (n->handle_count < connections) {
		int rc = connect_one(n, uri, err);

		if (rc != 0)
			return rc;
		if (nbd_get_size(n->handles[n->handle_count - 1]) != (int64_t)n->dev.size_bytes)
			return lb_err_set(err, LB_ECHANGED, 0,
					  "%s: size differs between connections", n->label);
	}
	return 0;
}

int img_nbd_create(struct img_dev **out, const char *uri, unsigned connections, struct lb_err *err)
{
	struct nbd_dev *n;
	int rc;

	LB_ASSERT(connections > 0 && connections <= CONNECTIONS_MAX);
	n = nbd_alloc(uri, err);
	if (n == NULL)
		return LB_ENOMEM;
	rc = connect_one(n, uri, err);
	if (rc == 0)
		rc = learn(n, err);
	/* Without multi-conn, writes through one connection need not be seen through another. */
	if (rc == 0 && (n->dev.ops == &nbd_ro_ops || nbd_can_multi_conn(n->handles[0]) == 1))
		rc = connect_more(n, uri, connections, err);
	if (rc != 0)
		goto out;
	start(n);
	*out = &n->dev;
	n = NULL; /* now the caller's */
out:
	if (n != NULL)
		nbd_dev_destroy(&n->dev);
	return rc;
}

int img_nbd_create_fd(struct img_dev **out, int fd, const char *export_name, const char *label,
		      struct lb_err *err)
{
	struct nbd_dev *n;
	struct nbd_handle *h = NULL;
	int own;
	int rc;

	if (strlen(export_name) >= EXPORT_NAME_BYTES)
		return lb_err_set(err, LB_EINPUT, 0, "%s: export name of %zu bytes", label,
				  strlen(export_name));
	n = nbd_alloc(label, err);
	if (n == NULL)
		return LB_ENOMEM;
	rc = add_handle(n, &h, err);
	if (rc != 0)
		goto out;
	if (nbd_set_export_name(h, export_name) != 0) {
		rc = connect_err(n, err);
		goto out;
	}
	own = fcntl(fd, F_DUPFD_CLOEXEC, 0); /* libnbd closes its socket even when it fails */
	if (own < 0) {
		rc = lb_err_errno(err, errno, "%s: descriptor %d", label, fd);
		goto out;
	}
	if (nbd_connect_socket(h, own) != 0)
		rc = connect_err(n, err);
	if (rc == 0)
		rc = learn(n, err);
	if (rc != 0)
		goto out;
	start(n);
	(void)close(fd);
	*out = &n->dev;
	n = NULL; /* now the caller's */
out:
	if (n != NULL)
		nbd_dev_destroy(&n->dev);
	return rc;
}
