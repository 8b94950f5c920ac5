#include "blk.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/err.h"
#include "base/thread.h"
#include "board.h"
#include "imaging/dev.h"

/*
 * A request:
 *
 *   [submit] ─► queued ─► running ─► done()
 *                 │          └─ [cancel], [destroy]: finishes, its done() is not called
 *                 └─ [cancel], [destroy]: forgotten
 *
 * Everything but the I/O itself happens under the board's lock, which is also the lock of the
 * conditions, so a device that holds it sees each of its requests in exactly one of these states.
 */

/* Scattered pieces go through a buffer, so that a disk over a network sees one request and not one
 * a page; larger requests go in parts of this size. */
#define BOUNCE_BYTES (UINT64_C(256) << 10)
#define THREADS_MAX  16u

struct worker {
	pthread_t thread;
	struct vm_blk *blk;
	uint8_t *bounce;
	bool running;  /* I/O of a request, whatever became of it */
	bool canceled; /* the request that runs is nobody's any more */
};

struct vm_blk {
	struct vm_board *board;
	struct img_dev *dev; /* borrowed */
	struct vm_blk_req *head, **tail;
	pthread_cond_t work; /* something is queued, or stop */
	pthread_cond_t idle; /* a worker ended a request */
	bool stop, failing;
	unsigned workers;
	struct worker worker[THREADS_MAX];
};

/* ---- one request's I/O: no lock ---- */

static int transfer(struct vm_blk *blk, const struct vm_blk_req *req, void *p, uint64_t len,
		    uint64_t off, struct lb_err *err)
{
	if (req->op == VM_BLK_READ)
		return img_pread(blk->dev, p, len, off, err);
	return img_pwrite(blk->dev, p, len, off, err);
}

static int transfer_piece(struct vm_blk *blk, const struct vm_blk_req *req, struct lb_err *err)
{
	struct vm_mem *mem = blk->board->mem;
	struct vm_gpa gpa = req->pieces[0].gpa;
	void *p = vm_mem_ptr(mem, gpa, req->len_bytes);
	int rc;

	if (p == NULL)
		return lb_err_set(err, LB_EINVAL, 0, "disk request into no memory");
	if (req->op == VM_BLK_WRITE && !vm_mem_settle(mem, gpa, req->len_bytes))
		return lb_err_set(err, LB_EIO, 0, "memory of a disk write is lost");
	rc = transfer(blk, req, p, req->len_bytes, req->off, err);
	if (req->op == VM_BLK_READ)
		vm_mem_dirty(mem, gpa, req->len_bytes);
	return rc;
}

/* Where a scattered request stands: bytes of pieces[piece] that are done. */
struct scatter {
	const struct vm_blk_req *req;
	uint32_t piece, piece_off;
};

/* The next @len bytes between the pieces and @buf. False: a piece is not memory. */
static bool scatter_copy(struct scatter *s, struct vm_mem *mem, uint8_t *buf, uint64_t len)
{
	while (len > 0) {
		const struct vm_blk_piece *piece = &s->req->pieces[s->piece];
		struct vm_gpa gpa = {piece->gpa.a + s->piece_off};
		uint64_t n = piece->len_bytes - s->piece_off;
		bool ok;

		n = n < len ? n : len;
		ok = s->req->op == VM_BLK_READ ? vm_mem_write(mem, gpa, buf, n)
					       : vm_mem_read(mem, buf, gpa, n);
		if (!ok)
			return false;
		buf += n;
		len -= n;
		s->piece_off += (uint32_t)n;
		if (s->piece_off == piece->len_bytes) {
			s->piece++;
			s->piece_off = 0;
		}
	}
	return true;
}

static int transfer_scattered(struct vm_blk *blk, const struct vm_blk_req *req, uint8_t *bounce,
			      struct lb_err *err)
{
	struct scatter s = {.req = req};
	struct vm_mem *mem = blk->board->mem;

	for (uint64_t done = 0; done < req->len_bytes;) {
		uint64_t n = req->len_bytes - done;
		bool ok = true;
		int rc;

		n = n < BOUNCE_BYTES ? n : BOUNCE_BYTES;
		if (req->op == VM_BLK_WRITE)
			ok = scatter_copy(&s, mem, bounce, n);
		rc = ok ? transfer(blk, req, bounce, n, req->off + done, err) : 0;
		if (rc != 0)
			return rc;
		if (req->op == VM_BLK_READ)
			ok = scatter_copy(&s, mem, bounce, n);
		if (!ok)
			return lb_err_set(err, LB_EINVAL, 0, "disk request into no memory");
		done += n;
	}
	return 0;
}

static int serve(struct worker *w, const struct vm_blk_req *req, struct lb_err *err)
{
	struct vm_blk *blk = w->blk;

	switch (req->op) {
	case VM_BLK_FLUSH:
		return img_flush(blk->dev, err);
	case VM_BLK_ZERO:
		return img_zero(blk->dev, req->len_bytes, req->off, err);
	case VM_BLK_READ:
	case VM_BLK_WRITE:
		break;
	}
	if (req->piece_count == 0)
		return transfer(blk, req, req->buffer, req->len_bytes, req->off, err);
	if (req->piece_count == 1)
		return transfer_piece(blk, req, err);
	return transfer_scattered(blk, req, w->bounce, err);
}

/* ---- workers ---- */

/* The owner hears of the first error only, until the disk works again: a guest that tries for ever
 * must not flood it. */
static void report(struct vm_blk *blk, int rc, const struct lb_err *err)
{
	struct vm_event e = {.type = VM_EVENT_DISK, .code = rc, .text = err->msg};

	if (rc != 0 && !blk->failing)
		blk->board->ops->event(blk->board->arg, &e);
	blk->failing = rc != 0;
}

static struct vm_blk_req *pop(struct vm_blk *blk)
{
	struct vm_blk_req *req = blk->head;

	blk->head = req->next;
	if (blk->head == NULL)
		blk->tail = &blk->head;
	return req;
}

static void run_one(struct worker *w)
{
	struct vm_blk *blk = w->blk;
	struct vm_blk_req *req = pop(blk);
	struct lb_err err = {0};
	int rc;

	w->running = true;
	w->canceled = false;
	vm_board_unlock(blk->board);
	rc = serve(w, req, &err);
	vm_board_lock(blk->board);
	w->running = false; /* before done(), which may cancel what else there is */
	if (!w->canceled) {
		report(blk, rc, &err);
		req->rc = rc;
		req->done(req);
	}
	(void)pthread_cond_broadcast(&blk->idle);
}

static void *worker_main(void *arg)
{
	struct worker *w = arg;
	struct vm_blk *blk = w->blk;

	vm_board_lock(blk->board);
	while (!blk->stop) {
		if (blk->head != NULL)
			run_one(w);
		else
			(void)pthread_cond_wait(&blk->work, &blk->board->lock);
	}
	vm_board_unlock(blk->board);
	return NULL;
}

static int start_worker(struct worker *w, struct lb_err *err)
{
	int rc;

	w->bounce = malloc(BOUNCE_BYTES);
	if (w->bounce == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "disk buffer of %" PRIu64 " bytes",
				  BOUNCE_BYTES);
	rc = lb_thread_start(&w->thread, worker_main, w, "a disk", err);
	if (rc != 0)
		free(w->bounce);
	return rc;
}

int vm_blk_create(struct vm_blk **out, struct vm_board *b, struct img_dev *dev, unsigned threads,
		  struct lb_err *err)
{
	struct vm_blk *blk;
	int rc = 0;

	LB_ASSERT(threads >= 1 && threads <= THREADS_MAX);
	blk = calloc(1, sizeof(*blk));
	if (blk == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "disk of %" PRIu64 " bytes", dev->size_bytes);
	blk->board = b;
	blk->dev = dev;
	blk->tail = &blk->head;
	(void)pthread_cond_init(&blk->work, NULL);
	lb_cond_init(&blk->idle);
	while (rc == 0 && blk->workers < threads) {
		struct worker *w = &blk->worker[blk->workers];

		w->blk = blk;
		rc = start_worker(w, err);
		blk->workers += rc == 0;
	}
	if (rc != 0)
		vm_blk_destroy(blk);
	else
		*out = blk;
	return rc;
}

void vm_blk_destroy(struct vm_blk *blk)
{
	if (blk == NULL)
		return;
	vm_board_lock(blk->board);
	vm_blk_cancel(blk);
	blk->stop = true;
	(void)pthread_cond_broadcast(&blk->work);
	vm_board_unlock(blk->board);
	for (unsigned i = 0; i < blk->workers; i++) {
		(void)pthread_join(blk->worker[i].thread, NULL);
		free(blk->worker[i].bounce);
	}
	(void)pthread_cond_destroy(&blk->work);
	(void)pthread_cond_destroy(&blk->idle);
	free(blk);
}

/* ---- the device's side ---- */

void vm_blk_submit(struct vm_blk *blk, struct vm_blk_req *req)
{
	req->next = NULL;
	*blk->tail = req;
	blk->tail = &req->next;
	(void)pthread_cond_signal(&blk->work);
}

static bool any_running(const struct vm_blk *blk, bool canceled)
{
	for (unsigned i = 0; i < blk->workers; i++)
		if (blk->worker[i].running && (!canceled || blk->worker[i].canceled))
			return true;
	return false;
}

/* Waits for what ran at the call only: what is submitted meanwhile may run on for ever. */
void vm_blk_cancel(struct vm_blk *blk)
{
	blk->head = NULL;
	blk->tail = &blk->head;
	for (unsigned i = 0; i < blk->workers; i++)
		blk->worker[i].canceled = blk->worker[i].running;
	while (any_running(blk, true))
		(void)pthread_cond_wait(&blk->idle, &blk->board->lock);
}

bool vm_blk_drain(struct vm_blk *blk, uint64_t limit_ns)
{
	struct timespec until = lb_cond_deadline(limit_ns);
	bool busy;
	int e = 0;

	vm_board_lock(blk->board);
	for (;;) {
		busy = blk->head != NULL || any_running(blk, false);
		if (!busy || e != 0)
			break;
		e = pthread_cond_timedwait(&blk->idle, &blk->board->lock, &until);
	}
	vm_board_unlock(blk->board);
	return !busy;
}

uint64_t vm_blk_bytes(const struct vm_blk *blk)
{
	return blk->dev->size_bytes;
}

bool vm_blk_writable(const struct vm_blk *blk)
{
	return img_writable(blk->dev);
}
