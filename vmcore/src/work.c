/*
 * One cut's life here:
 *
 *   NONE ──HOLD──► HELD ──TAKE──► TAKEN ──RESUME──► OPEN ──END──► NONE
 *    ├──────────────── ALONE ── nothing else between ──►┤
 *                   │               │                 │
 *                   └── time over, client gone, RESUME without TAKE, END: the guest goes on, the
 *                       cut is abandoned ─────────────┴──────────────────────────────────► NONE
 */
#include "work.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/log.h"
#include "base/thread.h"
#include "hub.h"
#include "machine.h"
#include "vmcore/cut.h"
#include "vmcore/net.h"
#include "vmcore/vm.h"

#define NS_PER_S     UINT64_C(1000000000)
#define HOLD_MAX_NS  (10 * NS_PER_S)
#define PAUSE_MAX_NS (60 * NS_PER_S)
#define TEXT_BYTES   (16u << 10)
#define ORDER_MAX    (1u << 20)

enum cut_state {
	CUT_NONE,
	CUT_HELD,
	CUT_TAKEN,
	CUT_OPEN
};

struct vm_work {
	struct vm_machine *m;
	struct vm_hub *hub;
	pthread_t thread;
	pthread_mutex_t lock; /* guards the queues and .quit */
	pthread_cond_t more;
	struct vm_job *first, **last;
	struct vm_job *done, **done_last;
	bool quit;
	atomic_bool stopped;
	/* the thread's own */
	enum cut_state cut_state;
	unsigned cut_client;
	uint64_t resume_by_ns; /* CLOCK_MONOTONIC; HELD and TAKEN */
	struct vm_cut cut;
	struct lb_hash kept_as; /* the last kept cut; zeros: nobody said */
};

void vm_job_close_fds(struct vm_job *j)
{
	for (int i = 0; i < 3; i++) {
		if (j->own[i] && j->fds[i] >= 0)
			(void)close(j->fds[i]);
		j->fds[i] = -1;
		j->own[i] = false;
	}
}

static void attach_fd(struct vm_job *j, int fd, bool own)
{
	j->fds[j->answer.fds] = fd;
	j->own[j->answer.fds] = own;
	j->answer.fds++;
}

static int bytes_fd(int *out, const char *what, const void *p, size_t len, struct lb_err *err)
{
	int fd = memfd_create(what, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	size_t done = 0;

	if (fd < 0)
		return lb_err_errno(err, errno, "memory for the %s", what);
	while (done < len) {
		/* banned-ok: a memfd */
		ssize_t n = write(fd, (const uint8_t *)p + done, len - done);

		if (n <= 0) {
			(void)close(fd);
			return lb_err_errno(err, errno, "memory for the %s", what);
		}
		done += (size_t)n;
	}
	*out = fd;
	return 0;
}

/* ---- cuts ---- */

/* @kept_as: what a kept cut became (zeros: not told); NULL: abandoned. */
static void end_cut(struct vm_work *w, const struct lb_hash *kept_as)
{
	if (w->cut_state == CUT_HELD)
		vm_cut_resume(w->m->vm, NULL);
	else if (w->cut_state == CUT_TAKEN)
		vm_cut_resume(w->m->vm, &w->cut);
	if (w->cut_state == CUT_TAKEN || w->cut_state == CUT_OPEN) {
		vm_machine_cut_end(w->m, kept_as != NULL, kept_as);
		vm_cut_end(w->m->vm, kept_as != NULL);
		if (kept_as != NULL)
			w->kept_as = *kept_as;
	}
	w->cut_state = CUT_NONE;
}

static void give_up_late(struct vm_work *w)
{
	if ((w->cut_state != CUT_HELD && w->cut_state != CUT_TAKEN) ||
	    lb_monotonic_ns() < w->resume_by_ns)
		return;
	lb_log(LB_LOG_WARN, "vm", "cut_late", "state=%s",
	       w->cut_state == CUT_HELD ? "held" : "taken", NULL);
	end_cut(w, NULL);
}

static int need_cut(const struct vm_work *w, const struct vm_job *j, enum cut_state a,
		    enum cut_state b, struct lb_err *err)
{
	if (w->cut_state != CUT_NONE && w->cut_client != j->client)
		return lb_err_set(err, LB_EBUSY, 0, "another client's cut is open");
	if (w->cut_state != a && w->cut_state != b)
		return lb_err_set(err, LB_ETIMEDOUT, 0,
				  w->cut_state == CUT_NONE
					  ? "no cut is open: it was never held or took too long"
					  : "the cut is not that far");
	return 0;
}

static int do_hold(struct vm_work *w, struct vm_job *j, struct lb_err *err)
{
	uint64_t limit = j->request.n < HOLD_MAX_NS ? j->request.n : HOLD_MAX_NS;
	int rc;

	if (w->cut_state != CUT_NONE)
		return lb_err_set(err, LB_EBUSY, 0, "a cut is open already");
	rc = vm_cut_hold(w->m->vm, limit, err);
	if (rc != 0)
		return rc;
	w->resume_by_ns =
		lb_monotonic_ns() + (j->request.off < HOLD_MAX_NS ? j->request.off : HOLD_MAX_NS);
	w->cut_state = CUT_HELD;
	w->cut_client = j->client;
	return 0;
}

static int cut_fds(struct vm_work *w, struct vm_job *j, struct lb_err *err)
{
	const struct vm_cut *c = &w->cut;
	int fd = -1;
	int rc = bytes_fd(&fd, "state", c->state->p, c->state->len, err);

	if (rc != 0)
		return rc;
	attach_fd(j, fd, true);
	attach_fd(j, c->ram_fd, false);
	if (c->all_changed)
		return 0;
	rc = bytes_fd(&fd, "changed", c->changed, (c->ram_bytes / 4096 + 63) / 64 * 8, err);
	if (rc == 0)
		attach_fd(j, fd, true);
	return rc;
}

static int take(struct vm_work *w, struct lb_err *err)
{
	int rc = vm_cut_take(w->m->vm, &w->cut, vm_machine_mark, w->m, err);

	if (rc == 0)
		w->cut_state = CUT_TAKEN;
	else /* it may have failed behind the mark: the disks' cut is open then */
		vm_machine_cut_end(w->m, false, NULL);
	return rc;
}

static void resume(struct vm_work *w)
{
	vm_cut_resume(w->m->vm, &w->cut);
	w->cut_state = CUT_OPEN;
}

static int answer_cut(struct vm_work *w, struct vm_job *j, struct lb_err *err)
{
	struct vm_ctl_cut *to = &j->answer.cut;

	j->answer.type = VM_CTL_CUT;
	*to = (struct vm_ctl_cut){.seq = w->cut.seq,
				  .boot_ns = w->cut.boot_ns,
				  .wall_ns = w->cut.wall_ns,
				  .state_bytes = w->cut.state->len,
				  .ram_bytes = w->cut.ram_bytes,
				  .changed_pages = w->cut.changed_pages,
				  .all_changed = w->cut.all_changed,
				  .disks = w->m->l.disks,
				  .base = w->kept_as};
	for (uint32_t i = 0; i < w->m->l.disks; i++)
		to->disk_bytes[i] = w->m->l.disk[i].size_bytes;
	return cut_fds(w, j, err);
}

static int do_take(struct vm_work *w, struct vm_job *j, struct lb_err *err)
{
	int rc = need_cut(w, j, CUT_HELD, CUT_HELD, err);

	if (rc == 0)
		rc = take(w, err);
	return rc == 0 ? answer_cut(w, j, err) : rc;
}

/* Nobody else's cut is to be of the same instant: the guest waits for no message, and for nothing
 * that can be done when it goes on. */
static int do_alone(struct vm_work *w, struct vm_job *j, struct lb_err *err)
{
	int rc = do_hold(w, j, err);

	if (rc != 0)
		return rc;
	rc = take(w, err);
	if (rc == 0) {
		resume(w);
		rc = answer_cut(w, j, err);
	}
	if (rc != 0)
		end_cut(w, NULL);
	return rc;
}

static int do_cut_resume(struct vm_work *w, struct vm_job *j, struct lb_err *err)
{
	int rc = need_cut(w, j, CUT_TAKEN, CUT_HELD, err);

	if (rc != 0)
		return rc;
	j->answer.type = VM_CTL_NUMBER;
	if (w->cut_state == CUT_HELD) {
		end_cut(w, NULL);
		return 0;
	}
	resume(w);
	j->answer.n = w->cut.pause_ns;
	return 0;
}

static int do_cut_end(struct vm_work *w, struct vm_job *j, struct lb_err *err)
{
	if (w->cut_state == CUT_NONE)
		return 0;
	if (w->cut_client != j->client)
		return lb_err_set(err, LB_EBUSY, 0, "another client's cut is open");
	end_cut(w, j->request.n == 1 && w->cut_state == CUT_OPEN ? &j->request.base : NULL);
	return 0;
}

static int do_cut_read(struct vm_work *w, struct vm_job *j, struct lb_err *err)
{
	const struct vm_ctl_msg *rq = &j->request;
	/* not while the guest stands still: nobody can say how long a disk takes */
	int rc = need_cut(w, j, CUT_OPEN, CUT_OPEN, err);

	if (rc == 0 && rq->disk >= w->m->l.disks)
		rc = lb_err_set(err, LB_EINPUT, 0, "machine has no disk %u", rq->disk);
	if (rc == 0 && (rq->off > w->m->l.disk[rq->disk].size_bytes ||
			rq->len > w->m->l.disk[rq->disk].size_bytes - rq->off))
		rc = lb_err_set(err, LB_EINPUT, 0, "read beyond the end of disk %u", rq->disk);
	if (rc == 0)
		rc = vm_machine_read(w->m, rq->disk, j->data, rq->len, rq->off, err);
	j->answer.type = VM_CTL_DATA;
	j->answer.bytes = j->data;
	j->answer.len = rq->len;
	return rc;
}

static int do_cut_changed(struct vm_work *w, struct vm_job *j, struct lb_err *err)
{
	uint8_t *map = NULL;
	int fd = -1;
	int rc = need_cut(w, j, CUT_OPEN, CUT_OPEN, err);

	if (rc == 0 && j->request.disk >= w->m->l.disks)
		rc = lb_err_set(err, LB_EINPUT, 0, "machine has no disk %u", j->request.disk);
	if (rc == 0)
		rc = vm_machine_changed(w->m, j->request.disk, &map, &j->answer.n, &j->answer.base,
					err);
	if (rc == 0 && map != NULL)
		rc = bytes_fd(&fd, "changed", map, j->answer.n, err);
	free(map);
	j->answer.type = VM_CTL_MAP;
	if (rc == 0 && fd >= 0)
		attach_fd(j, fd, true);
	return rc;
}

static int do_cut_check(struct vm_work *w, struct vm_job *j, struct lb_err *err)
{
	int rc = need_cut(w, j, CUT_OPEN, CUT_OPEN, err);

	return rc == 0 ? vm_machine_check(w->m, err) : rc;
}

/* ---- the rest ---- */

static int do_text(struct vm_work *w, struct vm_job *j, struct lb_err *err)
{
	int rc = vm_screen_text(w->m->vm, (char *)j->data, TEXT_BYTES, err);

	j->answer.type = VM_CTL_TEXT;
	j->answer.bytes = j->data;
	j->answer.len = rc == 0 ? (uint32_t)strnlen((char *)j->data, TEXT_BYTES) : 0;
	return rc;
}

static int do_pixels(struct vm_work *w, struct vm_job *j, struct lb_err *err)
{
	struct vm_ctl_msg *a = &j->answer;
	uint8_t *pixels = NULL;
	int fd = -1;
	int rc = vm_screen_pixels(w->m->vm, &pixels, &a->width, &a->height, a->palette, err);

	if (rc == 0)
		rc = bytes_fd(&fd, "screen", pixels, (size_t)a->width * a->height, err);
	free(pixels);
	a->type = VM_CTL_PIXELS;
	if (rc == 0)
		attach_fd(j, fd, true);
	return rc;
}

static int do_order(struct vm_work *w, struct vm_job *j, struct lb_err *err)
{
	uint32_t *order = malloc(ORDER_MAX * sizeof(*order));
	size_t n;
	int fd = -1, rc;

	if (order == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "order of first touch");
	n = vm_restore_order(w->m->vm, order, ORDER_MAX);
	rc = n > 0 ? bytes_fd(&fd, "order", order, n * sizeof(*order), err) : 0;
	free(order);
	j->answer.type = VM_CTL_MAP;
	j->answer.n = n * sizeof(*order);
	if (rc == 0 && fd >= 0)
		attach_fd(j, fd, true);
	return rc;
}

static void do_ack(struct vm_work *w, uint64_t seq)
{
	for (uint32_t i = 0; i < w->m->l.nics; i++)
		if (w->m->hold[i] != NULL)
			vm_net_hold_ack(w->m->hold[i], seq);
}

static void get_stats(struct vm_work *w, struct vm_job *j)
{
	vm_stats(w->m->vm, &j->answer.stats);
	j->answer.type = VM_CTL_STATS;
}

/* A machine that stands still for a cut is not paused, resumed or reset under it. */
static int not_held(const struct vm_work *w, struct lb_err *err)
{
	if (w->cut_state == CUT_HELD || w->cut_state == CUT_TAKEN)
		return lb_err_set(err, LB_EBUSY, 0, "a cut is being taken");
	return 0;
}

static int do_power(struct vm_work *w, const struct vm_ctl_msg *rq, struct lb_err *err)
{
	struct vm *vm = w->m->vm;
	int rc = rq->type == VM_CTL_STOP ? 0 : not_held(w, err);

	if (rc != 0)
		return rc;
	if (rq->type == VM_CTL_PAUSE && vm_state(vm) != VM_PAUSED)
		rc = vm_pause(vm, rq->n < PAUSE_MAX_NS ? rq->n : PAUSE_MAX_NS, err);
	else if (rq->type == VM_CTL_RESUME && vm_state(vm) == VM_CREATED)
		rc = vm_machine_start(w->m, err);
	else if (rq->type == VM_CTL_RESUME && vm_state(vm) != VM_RUNNING)
		rc = vm_resume(vm, err);
	else if (rq->type == VM_CTL_RESET)
		rc = vm_reset(vm, err);
	else if (rq->type == VM_CTL_POWER_BUTTON)
		vm_power_button(vm);
	else if (rq->type == VM_CTL_STOP) {
		end_cut(w, NULL);
		vm_stop(vm);
		atomic_store(&w->stopped, true);
	}
	return rc;
}

static int perform(struct vm_work *w, struct vm_job *j, struct lb_err *err)
{
	switch (j->request.type) {
	case VM_CTL_PAUSE:
	case VM_CTL_RESUME:
	case VM_CTL_STOP:
	case VM_CTL_RESET:
	case VM_CTL_POWER_BUTTON:
		return do_power(w, &j->request, err);
	case VM_CTL_GET_STATS:
		get_stats(w, j);
		return 0;
	case VM_CTL_SCREEN_TEXT:
		return do_text(w, j, err);
	case VM_CTL_SCREEN_PIXELS:
		return do_pixels(w, j, err);
	case VM_CTL_CUT_PREPARE:
		return vm_cut_prepare(w->m->vm, err);
	case VM_CTL_CUT_HOLD:
		return do_hold(w, j, err);
	case VM_CTL_CUT_TAKE:
		return do_take(w, j, err);
	case VM_CTL_CUT_ALONE:
		return do_alone(w, j, err);
	case VM_CTL_CUT_RESUME:
		return do_cut_resume(w, j, err);
	case VM_CTL_CUT_END:
		return do_cut_end(w, j, err);
	case VM_CTL_CUT_READ:
		return do_cut_read(w, j, err);
	case VM_CTL_CUT_CHANGED:
		return do_cut_changed(w, j, err);
	case VM_CTL_CUT_CHECK:
		return do_cut_check(w, j, err);
	case VM_CTL_GET_ORDER:
		return do_order(w, j, err);
	case VM_CTL_OUTPUT_ACK:
		do_ack(w, j->request.n);
		return 0;
	case VM_CTL_HELLO: /* what follows never gets here: the serving thread does it */
	case VM_CTL_STATE:
	case VM_CTL_LISTEN:
	case VM_CTL_SERIAL_ATTACH:
	case VM_CTL_SERIAL_IN:
	case VM_CTL_OK:
	case VM_CTL_ERROR:
	case VM_CTL_INFO:
	case VM_CTL_STATS:
	case VM_CTL_TEXT:
	case VM_CTL_PIXELS:
	case VM_CTL_CUT:
	case VM_CTL_NUMBER:
	case VM_CTL_DATA:
	case VM_CTL_MAP:
	case VM_CTL_SERIAL_OUT:
	case VM_CTL_EVENT:
		break;
	}
	return lb_err_set(err, LB_EUNSUPPORTED, 0, "request %s", vm_ctl_type_name(j->request.type));
}

static void run_job(struct vm_work *w, struct vm_job *j)
{
	struct lb_err err = {0};

	j->answer = (struct vm_ctl_msg){.type = VM_CTL_OK, .tag = j->request.tag};
	if (j->gone) {
		if (w->cut_state != CUT_NONE && w->cut_client == j->client)
			end_cut(w, NULL);
		return;
	}
	if (perform(w, j, &err) != 0) {
		vm_job_close_fds(j);
		j->answer = (struct vm_ctl_msg){
			.type = VM_CTL_ERROR, .tag = j->request.tag, .err = err};
	}
}

/* ---- the thread ---- */

static struct vm_job *next_job(struct vm_work *w)
{
	struct vm_job *j = NULL;

	(void)pthread_mutex_lock(&w->lock);
	while (!w->quit && w->first == NULL) {
		struct timespec until = lb_cond_until(w->resume_by_ns);

		if (w->cut_state != CUT_HELD && w->cut_state != CUT_TAKEN)
			(void)pthread_cond_wait(&w->more, &w->lock);
		else if (pthread_cond_timedwait(&w->more, &w->lock, &until) == ETIMEDOUT)
			break;
	}
	if (!w->quit && w->first != NULL) {
		j = w->first;
		w->first = j->next;
		if (w->first == NULL)
			w->last = &w->first;
	}
	(void)pthread_mutex_unlock(&w->lock);
	return j;
}

static bool quitting(struct vm_work *w)
{
	bool quit;

	(void)pthread_mutex_lock(&w->lock);
	quit = w->quit;
	(void)pthread_mutex_unlock(&w->lock);
	return quit;
}

static void *work_thread(void *arg)
{
	struct vm_work *w = arg;

	while (!quitting(w)) {
		struct vm_job *j = next_job(w);

		give_up_late(w);
		if (j == NULL)
			continue;
		run_job(w, j);
		(void)pthread_mutex_lock(&w->lock);
		j->next = NULL;
		*w->done_last = j;
		w->done_last = &j->next;
		(void)pthread_mutex_unlock(&w->lock);
		vm_hub_kick(w->hub);
	}
	end_cut(w, NULL);
	return NULL;
}

int vm_work_create(struct vm_work **out, struct vm_machine *m, struct vm_hub *hub,
		   struct lb_err *err)
{
	struct vm_work *w = calloc(1, sizeof(*w));
	int rc;

	if (w == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "a machine's worker");
	w->m = m;
	w->hub = hub;
	w->last = &w->first;
	w->done_last = &w->done;
	(void)pthread_mutex_init(&w->lock, NULL);
	lb_cond_init(&w->more);
	rc = lb_thread_start(&w->thread, work_thread, w, "a machine's worker", err);
	if (rc != 0) {
		(void)pthread_cond_destroy(&w->more);
		(void)pthread_mutex_destroy(&w->lock);
		free(w);
		return rc;
	}
	*out = w;
	return 0;
}

void vm_work_destroy(struct vm_work *w)
{
	if (w == NULL)
		return;
	(void)pthread_mutex_lock(&w->lock);
	w->quit = true;
	(void)pthread_cond_signal(&w->more);
	(void)pthread_mutex_unlock(&w->lock);
	(void)pthread_join(w->thread, NULL);
	for (struct vm_job *j = w->done; j != NULL; j = j->next)
		vm_job_close_fds(j);
	(void)pthread_cond_destroy(&w->more);
	(void)pthread_mutex_destroy(&w->lock);
	free(w);
}

void vm_work_submit(struct vm_work *w, struct vm_job *j)
{
	for (int i = 0; i < 3; i++)
		j->fds[i] = -1;
	j->next = NULL;
	(void)pthread_mutex_lock(&w->lock);
	*w->last = j;
	w->last = &j->next;
	(void)pthread_cond_signal(&w->more);
	(void)pthread_mutex_unlock(&w->lock);
}

struct vm_job *vm_work_finished(struct vm_work *w)
{
	struct vm_job *j;

	(void)pthread_mutex_lock(&w->lock);
	j = w->done;
	if (j != NULL)
		w->done = j->next;
	if (w->done == NULL)
		w->done_last = &w->done;
	(void)pthread_mutex_unlock(&w->lock);
	return j;
}

bool vm_work_stopped(const struct vm_work *w)
{
	return atomic_load(&w->stopped);
}
