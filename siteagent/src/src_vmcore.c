/*
 * The vmcore driver: a machine that runs here under lifeboat-vm. Its disks, and its memory when
 * asked for, are of one instant, and what changed is known exactly.
 *
 *   prepare: connect ─► hold ─► mark: CUT_TAKE ─► resume ─► [dev, changed] ─► release: CUT_END
 *              └── alone: CUT_ALONE ──┘ state, staged memory, changed pages come as descriptors
 *
 * What the machine's process says is foreign: it runs a guest. Descriptors are only read with
 * bounded reads, never mapped (it could shorten them under us).
 *
 * The machine remembers as what point its last kept cut was kept, its disks' logs also when it is
 * started anew: so its map goes on to count when the agent is another one, and the engine compares
 * that point with the other site's. A map of nobody knows what is none.
 */
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/err.h"
#include "imaging/dev.h"
#include "imaging/extmap.h"
#include "replicator/manifest.h"
#include "src_int.h"
#include "vmdesc_int.h"
#include "vmrun_int.h"

#define BLOCK     ((uint64_t)SA_SOURCE_BLOCK_BYTES)
#define RESUME_NS UINT64_C(8000000000) /* the machine goes on by itself after this */
#define RUNS_MAX  (1u << 22)
#define MAP_CHUNK (64u << 10)
#define CHUNK     ((uint64_t)VM_CTL_DATA_MAX)

struct vmcore_source;

/* A disk as of the cut: read over the connection. */
struct cut_disk {
	struct img_dev dev;
	struct vmcore_source *source;
	uint32_t index;
};

struct vmcore_source {
	struct sa_source base;
	pthread_mutex_t lock; /* guards .ctl: readers of several volumes share it */
	struct vm_ctl *ctl;
	bool held;
	uint32_t begun; /* type of a request whose answer was not waited for; 0: none */
	int begun_rc;
	struct lb_err begun_err;
	struct vm_ctl_cut cut;
	int taken[3]; /* descriptors of the cut that were not looked at yet; -1 */
	uint8_t *state;
	struct cut_disk disk[VM_DISKS_MAX];
	struct img_dev *ram;
	int changed_fd; /* pages of memory; -1: all */
	struct img_extmap *changed[SA_SOURCE_VOLUMES_MAX];
};

static struct vmcore_source *of(struct sa_source *s)
{
	return (struct vmcore_source *)s;
}

static void begin(struct vmcore_source *v, const struct vm_ctl_msg *rq)
{
	v->begun = rq->type;
	v->begun_err = (struct lb_err){0};
	v->begun_rc = v->ctl != NULL ? vm_ctl_begin(v->ctl, rq, &v->begun_err)
				     : lb_err_set(&v->begun_err, LB_ECLOSED, 0,
						  "the machine does not run");
}

/* The request, or the answer to it when it was begun already. */
static int call(struct vmcore_source *v, const struct vm_ctl_msg *rq, enum vm_ctl_type want,
		struct vm_ctl_msg *answer, int fds[3], struct lb_err *err)
{
	int rc;

	LB_ASSERT(v->begun == 0 || v->begun == rq->type);
	if (v->begun == 0)
		begin(v, rq);
	v->begun = 0;
	rc = v->begun_rc;
	if (rc != 0 && err != NULL)
		*err = v->begun_err;
	if (rc == 0)
		rc = vm_ctl_finish(v->ctl, want, answer, fds, err);
	/* a machine that was late once is asked over a new connection, not never again */
	if (rc == LB_ECLOSED || rc == LB_EPROTO || rc == LB_EIO ||
	    (rc != 0 && v->ctl != NULL && !vm_ctl_usable(v->ctl)))
		sa_source_set_state(&v->base, SA_SRC_LOST);
	return rc;
}

static int simple(struct vmcore_source *v, enum vm_ctl_type type, uint64_t n, enum vm_ctl_type want,
		  struct lb_err *err)
{
	const struct vm_ctl_msg rq = {.type = type, .n = n, .off = RESUME_NS};
	struct vm_ctl_msg answer;
	int rc;

	(void)pthread_mutex_lock(&v->lock);
	rc = call(v, &rq, want, &answer, NULL, err);
	(void)pthread_mutex_unlock(&v->lock);
	return rc;
}

/* ---- prepare ---- */

static void disconnect(struct vmcore_source *v)
{
	(void)pthread_mutex_lock(&v->lock);
	vm_ctl_close(v->ctl);
	v->ctl = NULL;
	(void)pthread_mutex_unlock(&v->lock);
}

static size_t disks_of(const struct vmcore_source *v)
{
	return v->base.volumes - (v->base.cfg.vm_memory ? 1 : 0);
}

static int check_machine(struct vmcore_source *v, struct lb_err *err)
{
	const struct vm_ctl_info *i = vm_ctl_info(v->ctl);

	if (i->disks != disks_of(v))
		return lb_err_set(
			err, LB_EUNSUPPORTED, 0,
			"it runs with %u disks, %zu are configured: stop and run it again",
			i->disks, disks_of(v));
	if (i->state == VM_CRASHED || i->state == VM_OFF)
		return lb_err_set(err, LB_EAGAIN, 0, "it is off: %.100s", i->last);
	return 0;
}

static int vmcore_prepare(struct sa_source *s, struct lb_err *err)
{
	struct vmcore_source *v = of(s);
	int rc;

	if (sa_source_state(s) == SA_SRC_READY)
		return 0;
	disconnect(v);
	rc = sa_vmrun_open(&v->ctl, s->cfg.work_dir, err);
	if (rc == LB_ENOTFOUND || rc == LB_ECLOSED)
		return lb_err_set(err, LB_EAGAIN, 0, "it does not run: lifeboat vm run %s",
				  s->cfg.machine);
	if (rc != 0)
		return rc;
	sa_source_set_state(s, SA_SRC_SYNCING);
	rc = check_machine(v, err);
	/* the first copy of its memory, while it runs */
	if (rc == 0 && s->cfg.vm_memory)
		rc = simple(v, VM_CTL_CUT_PREPARE, 0, VM_CTL_OK, err);
	free(s->machine_xml);
	s->machine_xml = NULL;
	if (rc == 0)
		rc = sa_vmdesc_xml(&s->machine_xml, s->cfg.vm, err);
	if (rc != 0) {
		disconnect(v);
		sa_source_set_state(s, SA_SRC_LOST);
		return rc;
	}
	sa_source_set_state(s, SA_SRC_READY);
	return 0;
}

/* ---- the cut ---- */

static int vmcore_hold(struct sa_source *s, uint64_t limit_ns, struct lb_err *err)
{
	int rc = simple(of(s), VM_CTL_CUT_HOLD, limit_ns, VM_CTL_OK, err);

	of(s)->held = rc == 0;
	return rc;
}

static int take_state(struct vmcore_source *v, int fd, struct lb_err *err)
{
	uint64_t bytes = v->cut.state_bytes;

	if (bytes == 0 || bytes > REP_ATTACHMENT_MAX)
		return lb_err_set(err, LB_EUNSUPPORTED, 0,
				  "its device state has %" PRIu64 " bytes, at most %u", bytes,
				  REP_ATTACHMENT_MAX);
	free(v->state);
	v->state = malloc(bytes);
	if (v->state == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "device state");
	if (pread(fd, v->state, bytes, 0) != (ssize_t)bytes)
		return lb_err_set(err, LB_EPROTO, 0, "its device state is shorter than it says");
	return 0;
}

/* Takes @fd on success. */
static int take_ram(struct vmcore_source *v, int fd, struct lb_err *err)
{
	int rc = img_file_create_fd(&v->ram, fd, "memory", false, err);

	if (rc != 0)
		return rc;
	if (v->ram->size_bytes < v->cut.ram_bytes || v->cut.ram_bytes == 0)
		return lb_err_set(err, LB_EPROTO, 0, "its memory is shorter than it says");
	v->ram->size_bytes = v->cut.ram_bytes;
	return 0;
}

static int take_cut(struct vmcore_source *v, int fds[3], struct lb_err *err)
{
	int rc;

	if (v->cut.disks != disks_of(v))
		return lb_err_set(err, LB_EPROTO, 0, "its cut has %u disks", v->cut.disks);
	for (uint32_t i = 0; i < v->cut.disks; i++) {
		v->disk[i].dev.size_bytes = v->cut.disk_bytes[i];
		v->base.volume[i].size_bytes = v->cut.disk_bytes[i];
	}
	if (!v->base.cfg.vm_memory)
		return 0;
	rc = take_state(v, fds[0], err);
	if (rc == 0)
		rc = take_ram(v, fds[1], err);
	if (v->ram != NULL)
		fds[1] = -1;
	if (rc != 0)
		return rc;
	v->base.volume[v->base.volumes - 1].size_bytes = v->cut.ram_bytes;
	v->changed_fd = fds[2];
	fds[2] = -1;
	return 0;
}

static void close_fds(int fds[3])
{
	for (int i = 0; i < 3; i++)
		if (fds[i] >= 0)
			(void)close(fds[i]);
}

static void drop_cut(struct vmcore_source *v)
{
	close_fds(v->taken);
	for (int i = 0; i < 3; i++)
		v->taken[i] = -1;
	img_dev_destroy(v->ram);
	v->ram = NULL;
	if (v->changed_fd >= 0)
		(void)close(v->changed_fd);
	v->changed_fd = -1;
	for (size_t i = 0; i < SA_SOURCE_VOLUMES_MAX; i++) {
		img_extmap_destroy(v->changed[i]);
		v->changed[i] = NULL;
	}
}

static int ask_cut(struct vmcore_source *v, enum vm_ctl_type type, uint64_t n, struct lb_err *err)
{
	const struct vm_ctl_msg rq = {.type = type, .n = n};
	struct vm_ctl_msg answer;
	int rc;

	(void)pthread_mutex_lock(&v->lock);
	rc = call(v, &rq, VM_CTL_CUT, &answer, v->taken, err);
	(void)pthread_mutex_unlock(&v->lock);
	if (rc == 0)
		v->cut = answer.cut;
	return rc;
}

static int vmcore_settle(struct sa_source *s, struct lb_err *err)
{
	struct vmcore_source *v = of(s);

	return take_cut(v, v->taken, err);
}

static int vmcore_mark(struct sa_source *s, struct lb_err *err)
{
	return ask_cut(of(s), VM_CTL_CUT_TAKE, 0, err);
}

static void vmcore_resume(struct sa_source *s)
{
	struct vmcore_source *v = of(s);

	if (v->held)
		(void)simple(v, VM_CTL_CUT_RESUME, 0, VM_CTL_NUMBER, NULL);
	v->held = false;
}

static void vmcore_begin(struct sa_source *s, enum sa_source_step step, uint64_t limit_ns)
{
	static const enum vm_ctl_type types[] = {
		[SA_STEP_HOLD] = VM_CTL_CUT_HOLD,
		[SA_STEP_MARK] = VM_CTL_CUT_TAKE,
		[SA_STEP_RESUME] = VM_CTL_CUT_RESUME,
	};
	const struct vm_ctl_msg rq = {.type = types[step], .n = limit_ns, .off = RESUME_NS};
	struct vmcore_source *v = of(s);

	if (step == SA_STEP_RESUME && !v->held)
		return; /* vmcore_resume() asks for nothing either */
	(void)pthread_mutex_lock(&v->lock);
	begin(v, &rq);
	(void)pthread_mutex_unlock(&v->lock);
}

static int vmcore_alone(struct sa_source *s, uint64_t limit_ns, struct lb_err *err)
{
	int rc = ask_cut(of(s), VM_CTL_CUT_ALONE, limit_ns, err);

	if (rc != LB_EVERSION)
		return rc;
	/* a machine that was started before this agent was upgraded */
	rc = vmcore_hold(s, limit_ns, err);
	if (rc == 0)
		rc = vmcore_mark(s, err);
	vmcore_resume(s);
	return rc;
}

/* ---- reading it ---- */

static int disk_pread(struct img_dev *d, void *buf, uint64_t len, uint64_t off, struct lb_err *err)
{
	struct cut_disk *c = (struct cut_disk *)d;
	uint8_t *to = buf;
	int rc = 0;

	while (len > 0 && rc == 0) {
		uint32_t n = (uint32_t)(len < CHUNK ? len : CHUNK);
		const struct vm_ctl_msg rq = {
			.type = VM_CTL_CUT_READ, .disk = c->index, .off = off, .len = n};
		struct vm_ctl_msg answer;

		(void)pthread_mutex_lock(&c->source->lock);
		rc = call(c->source, &rq, VM_CTL_DATA, &answer, NULL, err);
		if (rc == 0 && answer.len != n)
			rc = lb_err_set(err, LB_EPROTO, 0, "%u bytes of a disk for %u", answer.len,
					n);
		if (rc == 0)
			memcpy(to, answer.bytes, n);
		(void)pthread_mutex_unlock(&c->source->lock);
		to += n;
		len -= n;
		off += n;
	}
	return rc;
}

static void disk_destroy(struct img_dev *d)
{
	(void)d; /* the source's */
}

static const struct img_dev_ops disk_ops = {
	.name = "machine",
	.pread = disk_pread,
	.destroy = disk_destroy,
};

static int vmcore_dev(struct sa_source *s, size_t vol, struct img_dev **out, struct lb_err *err)
{
	struct vmcore_source *v = of(s);

	(void)err;
	*out = vol < disks_of(v) ? &v->disk[vol].dev : v->ram;
	return 0;
}

/* A bit a block, LSB first, of @blocks. */
static int map_of(struct img_extmap **out, int fd, uint64_t blocks, struct lb_err *err)
{
	uint8_t chunk[MAP_CHUNK];
	uint64_t bytes = (blocks + 7) / 8, start = 0, count = 0;
	struct img_extmap *m = NULL;
	int rc = img_extmap_create(&m, false, RUNS_MAX, err);

	for (uint64_t at = 0; at < bytes && rc == 0; at += sizeof(chunk)) {
		uint64_t n = bytes - at < sizeof(chunk) ? bytes - at : sizeof(chunk);

		if (pread(fd, chunk, n, (off_t)at) != (ssize_t)n)
			rc = lb_err_set(err, LB_EPROTO, 0, "a map of changes is too short");
		for (uint64_t b = at * 8; rc == 0 && b < (at + n) * 8 && b < blocks; b++) {
			uint8_t byte = chunk[b / 8 - at];

			if (byte == 0 && b % 8 == 0) /* most are: a map has a bit a block */
				b += 7;
			if ((byte >> (b % 8) & 1) == 0)
				continue;
			if (count > 0 && start + count == b) {
				count++;
				continue;
			}
			if (count > 0)
				rc = img_extmap_insert(m, start, count, 0, err);
			start = b;
			count = 1;
		}
	}
	if (rc == 0 && count > 0)
		rc = img_extmap_insert(m, start, count, 0, err);
	if (rc != 0)
		img_extmap_destroy(m);
	else
		*out = m;
	return rc;
}

static int disk_changed(struct vmcore_source *v, size_t vol, struct lb_err *err)
{
	const struct vm_ctl_msg rq = {.type = VM_CTL_CUT_CHANGED, .disk = (uint32_t)vol};
	struct vm_ctl_msg answer;
	int fds[3] = {-1, -1, -1};
	int rc;

	(void)pthread_mutex_lock(&v->lock);
	rc = call(v, &rq, VM_CTL_MAP, &answer, fds, err);
	(void)pthread_mutex_unlock(&v->lock);
	if (rc == 0 && fds[0] >= 0 && !lb_hash_is_zero(&answer.base))
		rc = map_of(&v->changed[vol], fds[0], (v->cut.disk_bytes[vol] + BLOCK - 1) / BLOCK,
			    err);
	if (rc == 0)
		v->base.since[vol] = answer.base;
	close_fds(fds);
	return rc;
}

static int vmcore_changed(struct sa_source *s, size_t vol, const struct img_extmap **out,
			  struct lb_err *err)
{
	struct vmcore_source *v = of(s);
	int rc = 0;

	*out = NULL;
	s->since[vol] = v->cut.base;
	if (vol < disks_of(v))
		rc = disk_changed(v, vol, err);
	else if (v->changed_fd >= 0 && !lb_hash_is_zero(&v->cut.base))
		rc = map_of(&v->changed[vol], v->changed_fd, v->cut.ram_bytes / BLOCK, err);
	if (rc == 0)
		*out = v->changed[vol];
	return rc;
}

static int vmcore_check(struct sa_source *s, struct lb_err *err)
{
	return simple(of(s), VM_CTL_CUT_CHECK, 0, VM_CTL_OK, err);
}

static int vmcore_state(struct sa_source *s, const void **p, uint32_t *bytes)
{
	struct vmcore_source *v = of(s);

	if (!s->cfg.vm_memory)
		return 0;
	*p = v->state;
	*bytes = (uint32_t)v->cut.state_bytes;
	return 1;
}

static void vmcore_release(struct sa_source *s, bool kept, const struct lb_hash *point)
{
	struct vmcore_source *v = of(s);
	const struct vm_ctl_msg end = {.type = VM_CTL_CUT_END,
				       .n = kept ? 1 : 0,
				       .base = point != NULL ? *point : (struct lb_hash){{0}}};
	const struct vm_ctl_msg ack = {.type = VM_CTL_OUTPUT_ACK, .n = v->cut.seq};
	struct vm_ctl_msg answer;

	(void)pthread_mutex_lock(&v->lock);
	if (call(v, &end, VM_CTL_OK, &answer, NULL, NULL) == 0 && kept)
		(void)call(v, &ack, VM_CTL_OK, &answer, NULL, NULL);
	(void)pthread_mutex_unlock(&v->lock);
	drop_cut(v);
}

static void vmcore_destroy(struct sa_source *s)
{
	struct vmcore_source *v = of(s);

	disconnect(v);
	drop_cut(v);
	free(v->state);
	(void)pthread_mutex_destroy(&v->lock);
}

static const struct sa_source_ops vmcore_ops = {
	.driver = "vmcore",
	.prepare = vmcore_prepare,
	.hold = vmcore_hold,
	.mark = vmcore_mark,
	.resume = vmcore_resume,
	.begin = vmcore_begin,
	.settle = vmcore_settle,
	.alone = vmcore_alone,
	.dev = vmcore_dev,
	.changed = vmcore_changed,
	.check = vmcore_check,
	.state = vmcore_state,
	.release = vmcore_release,
	.destroy = vmcore_destroy,
};

struct sa_source *sa_src_vmcore_alloc(void)
{
	struct vmcore_source *v = calloc(1, sizeof(*v));

	if (v == NULL)
		return NULL;
	v->base.ops = &vmcore_ops;
	v->changed_fd = -1;
	for (int i = 0; i < 3; i++)
		v->taken[i] = -1;
	(void)pthread_mutex_init(&v->lock, NULL);
	for (uint32_t i = 0; i < VM_DISKS_MAX; i++) {
		v->disk[i].dev.ops = &disk_ops;
		v->disk[i].source = v;
		v->disk[i].index = i;
	}
	return &v->base;
}
