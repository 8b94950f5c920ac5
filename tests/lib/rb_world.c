#include "rb_world.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/err.h"
#include "rnd.h"

#define MS_NS 1000000ull

uint64_t rb_world_random(struct rb_world *w)
{
	return rnd_u64(&w->rng);
}

/* The fate of an attempt does not depend on when it is asked for, nor on how often. */
static uint64_t fixed_random(const struct rb_world *w, uint32_t step, uint32_t attempt,
			     uint32_t what)
{
	struct rb_world tmp = {.rng = w->seed * 1000003u + step * 10007u + attempt * 101u + what};

	(void)rb_world_random(&tmp);
	return rb_world_random(&tmp);
}

static LB_PRINTF(2, 3) void broken(struct rb_world *w, const char *fmt, ...)
{
	va_list ap;

	if (w->broken[0] != '\0')
		return;
	va_start(ap, fmt);
	(void)vsnprintf(w->broken, sizeof(w->broken), fmt, ap);
	va_end(ap);
}

static void boundary(struct rb_world *w)
{
	if (!w->dead && ++w->boundary == w->kill_at)
		w->dead = true;
}

/* ---- disk ---- */

struct rw_open {
	struct lb_file f;
	struct rb_world *w;
	struct rw_file_data *d;
	bool locked;
};

static int dead_disk(const struct rb_world *w, struct lb_err *err)
{
	return w->dead ? lb_err_set(err, LB_EIO, 0, "the process is dead") : 0;
}

static int f_pread(struct lb_file *f, void *p, size_t len, uint64_t off, size_t *got,
		   struct lb_err *err)
{
	struct rw_open *o = (struct rw_open *)f;
	size_t have = off < o->d->cache_bytes ? o->d->cache_bytes - (size_t)off : 0;

	*got = have < len ? have : len;
	if (*got != 0)
		memcpy(p, o->d->cache + off, *got);
	return dead_disk(o->w, err);
}

static bool set_bytes(uint8_t **p, size_t *bytes, size_t to)
{
	uint8_t *n = realloc(*p, to + 1);

	if (n == NULL)
		return false;
	if (to > *bytes)
		memset(n + *bytes, 0, to - *bytes);
	*p = n;
	*bytes = to;
	return true;
}

static int f_pwritev(struct lb_file *f, const struct iovec *iov, int n, uint64_t off,
		     struct lb_err *err)
{
	struct rw_open *o = (struct rw_open *)f;

	if (o->w->dead)
		return dead_disk(o->w, err);
	for (int i = 0; i < n; i++) {
		if (off + iov[i].iov_len > o->d->cache_bytes &&
		    !set_bytes(&o->d->cache, &o->d->cache_bytes, off + iov[i].iov_len))
			return lb_err_set(err, LB_ENOMEM, 0, "write %s", o->d->name);
		if (iov[i].iov_len != 0)
			memcpy(o->d->cache + off, iov[i].iov_base, iov[i].iov_len);
		off += iov[i].iov_len;
	}
	return 0;
}

static int f_sync(struct lb_file *f, struct lb_err *err)
{
	struct rw_open *o = (struct rw_open *)f;

	boundary(o->w);
	if (o->w->dead)
		return dead_disk(o->w, err);
	if (++o->w->syncs == o->w->fail_sync_at)
		return lb_err_set(err, LB_ENOSPC, 0, "sync %s", o->d->name);
	if (!set_bytes(&o->d->durable, &o->d->durable_bytes, o->d->cache_bytes))
		return lb_err_set(err, LB_ENOMEM, 0, "sync %s", o->d->name);
	if (o->d->cache_bytes != 0)
		memcpy(o->d->durable, o->d->cache, o->d->cache_bytes);
	boundary(o->w);
	return dead_disk(o->w, err);
}

static int f_truncate(struct lb_file *f, uint64_t len, struct lb_err *err)
{
	struct rw_open *o = (struct rw_open *)f;

	if (!o->w->dead && !set_bytes(&o->d->cache, &o->d->cache_bytes, len))
		return lb_err_set(err, LB_ENOMEM, 0, "truncate %s", o->d->name);
	return dead_disk(o->w, err);
}

static int f_size(struct lb_file *f, uint64_t *out, struct lb_err *err)
{
	struct rw_open *o = (struct rw_open *)f;

	*out = o->d->cache_bytes;
	return dead_disk(o->w, err);
}

static int f_lock(struct lb_file *f, struct lb_err *err)
{
	struct rw_open *o = (struct rw_open *)f;

	if (o->d->locked)
		return lb_err_set(err, LB_EBUSY, 0, "%s is locked", o->d->name);
	o->d->locked = o->locked = true;
	return 0;
}

static void f_close(struct lb_file *f)
{
	struct rw_open *o = (struct rw_open *)f;

	if (o->locked)
		o->d->locked = false;
	free(o);
}

static const struct lb_file_ops file_ops = {
	.pread = f_pread,
	.pwritev = f_pwritev,
	.sync = f_sync,
	.truncate = f_truncate,
	.size = f_size,
	.lock = f_lock,
	.close = f_close,
};

static struct rb_world *world_of(struct lb_fs *fs)
{
	return (struct rb_world *)((char *)fs - offsetof(struct rb_world, fs));
}

struct rw_file_data *rb_world_file(struct rb_world *w, const char *name)
{
	for (int i = 0; i < RW_FILES; i++)
		if (w->files[i].used && strcmp(w->files[i].name, name) == 0)
			return &w->files[i];
	return NULL;
}

static int fs_open(struct lb_fs *fs, struct lb_file **out, const char *path, unsigned flags,
		   struct lb_err *err)
{
	struct rb_world *w = world_of(fs);
	struct rw_file_data *d = rb_world_file(w, path);
	struct rw_open *o;

	if (w->dead)
		return dead_disk(w, err);
	if (d != NULL && (flags & LB_FS_EXCL) != 0)
		return lb_err_set(err, LB_EEXIST, 0, "open %s", path);
	if (d == NULL && (flags & LB_FS_CREATE) == 0)
		return lb_err_set(err, LB_ENOTFOUND, 0, "open %s", path);
	for (int i = 0; i < RW_FILES && d == NULL; i++)
		if (!w->files[i].used)
			d = &w->files[i];
	LB_ASSERT(d != NULL);
	o = calloc(1, sizeof(*o));
	if (o == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "open %s", path);
	d->used = true;
	(void)snprintf(d->name, sizeof(d->name), "%s", path);
	o->f.ops = &file_ops;
	o->w = w;
	o->d = d;
	*out = &o->f;
	return 0;
}

static int fs_sync_dir(struct lb_fs *fs, const char *path, struct lb_err *err)
{
	struct rb_world *w = world_of(fs);

	(void)path;
	boundary(w);
	for (int i = 0; i < RW_FILES && !w->dead; i++)
		w->files[i].name_durable |= w->files[i].used;
	return dead_disk(w, err);
}

static void forget(struct rw_file_data *d)
{
	free(d->cache);
	free(d->durable);
	*d = (struct rw_file_data){0};
}

/* Whoever has it open goes on with nothing: the tests close it at once. */
static int fs_unlink(struct lb_fs *fs, const char *path, struct lb_err *err)
{
	struct rb_world *w = world_of(fs);
	struct rw_file_data *d = rb_world_file(w, path);

	if (w->dead)
		return dead_disk(w, err);
	if (d == NULL)
		return lb_err_set(err, LB_ENOTFOUND, 0, "unlink %s", path);
	forget(d);
	return 0;
}

static const struct lb_fs_ops fs_ops = {
	.open = fs_open,
	.unlink = fs_unlink,
	.sync_dir = fs_sync_dir,
};

/* A power cut keeps each 512-byte piece of the unsynced part or not, and any length in between. */
static void tear(struct rb_world *w, struct rw_file_data *d)
{
	size_t len = d->cache_bytes;

	if (!d->name_durable) {
		forget(d);
		return;
	}
	if (len > d->durable_bytes)
		len = d->durable_bytes + rb_world_random(w) % (len - d->durable_bytes + 1);
	for (size_t at = 0; at < len; at += 512) {
		size_t n = len - at < 512 ? len - at : 512;

		if (rb_world_random(w) % 2 == 0)
			continue; /* this piece had reached the disk */
		for (size_t i = at; i < at + n; i++)
			d->cache[i] = i < d->durable_bytes ? d->durable[i] : 0;
	}
	d->cache_bytes = len;
	LB_ASSERT(set_bytes(&d->durable, &d->durable_bytes, len));
	if (len != 0)
		memcpy(d->durable, d->cache, len);
}

void rb_world_reboot(struct rb_world *w, bool power_cut)
{
	LB_ASSERT(w->run == NULL);
	for (int i = 0; i < RW_FILES; i++)
		if (w->files[i].used && power_cut)
			tear(w, &w->files[i]);
	for (size_t s = 0; s < RW_STEPS; s++)
		for (size_t a = 0; a < RW_ATTEMPTS; a++)
			w->targets[s].attempts[a].in_flight = false;
	w->dead = false;
	w->now_ns += 1000 * MS_NS;
}

/* ---- clock ---- */

static struct rb_world *world_of_env(struct lb_env *env)
{
	return (struct rb_world *)((char *)env - offsetof(struct rb_world, env));
}

static uint64_t env_now(struct lb_env *env)
{
	return world_of_env(env)->now_ns;
}

static uint64_t env_wall(struct lb_env *env)
{
	return 1700000000000000000ull + world_of_env(env)->now_ns;
}

static void env_random(struct lb_env *env, void *p, size_t len)
{
	uint8_t *b = p;

	for (size_t i = 0; i < len; i++)
		b[i] = (uint8_t)rb_world_random(world_of_env(env));
}

/* ---- targets ---- */

static struct rb_world *world_of_verbs(struct rb_verbs *v)
{
	return (struct rb_world *)((char *)v - offsetof(struct rb_world, verbs));
}

static enum rw_fate fate_of(const struct rb_world *w, uint32_t step, uint32_t attempt)
{
	uint64_t pct = fixed_random(w, step, attempt, 1) % 100;

	if (pct < w->hang_pct)
		return pct % 4 == 0 ? RW_DEAF : RW_HANG;
	return pct < w->hang_pct + w->fail_pct ? RW_FAIL : RW_OK;
}

static bool succeeded(const struct rb_world *w, uint32_t step)
{
	for (uint32_t a = 1; a < RW_ATTEMPTS; a++)
		if (w->targets[step].attempts[a].acts != 0 && fate_of(w, step, a) == RW_OK)
			return true;
	return false;
}

/* Has the outside seen enough of @step that what depends on it may act? */
static bool over(const struct rb_world *w, const struct rb_runbook *rb, enum rb_mode mode,
		 uint32_t step)
{
	const struct rb_step *d = &rb->steps[step];
	const struct rw_target *t = &w->targets[step];
	bool goes_on = d->on_failure == RB_POLICY_CONTINUE || d->is_finally;
	uint32_t tried = 0;

	if ((d->modes & (1u << mode)) == 0 || d->action == RB_WAIT || t->released)
		return true;
	for (uint32_t a = 1; a < RW_ATTEMPTS; a++)
		tried += t->attempts[a].starts != 0 ? 1 : 0;
	return succeeded(w, step) || (goes_on && tried > d->retries) ||
	       ((d->on_timeout == RB_POLICY_CONTINUE || d->is_finally) && tried > 0);
}

static void check_order(struct rb_world *w, const struct rb_effect *e)
{
	for (uint32_t p = 0; p < e->runbook->step_count; p++) {
		if (e->step->is_finally && !e->runbook->steps[p].is_finally)
			continue; /* a cancelled run has steps that never acted */
		if (rb_runbook_edge(e->runbook, p, e->token.step) &&
		    !over(w, e->runbook, e->mode, p))
			broken(w, "R2: %s started before %s had ended", e->step->id,
			       e->runbook->steps[p].id);
	}
}

static void check_alone(struct rb_world *w, const struct rb_effect *e)
{
	for (uint32_t a = 1; a < RW_ATTEMPTS; a++) {
		const struct rw_attempt *o = &w->targets[e->token.step].attempts[a];

		if (a != e->token.attempt && o->in_flight &&
		    fate_of(w, e->token.step, a) != RW_DEAF)
			broken(w, "R3: %s attempt %u started while %u runs", e->step->id,
			       e->token.attempt, a);
	}
}

static void v_start(struct rb_verbs *v, struct rb_run *run, const struct rb_effect *e)
{
	struct rb_world *w = world_of_verbs(v);
	struct rw_attempt *a;
	enum rw_fate fate;

	(void)run;
	boundary(w);
	if (w->dead)
		return;
	LB_ASSERT(e->token.attempt >= 1 && e->token.attempt < RW_ATTEMPTS);
	a = &w->targets[e->token.step].attempts[e->token.attempt];
	check_order(w, e);
	check_alone(w, e);
	if (a->starts != 0 && (!e->reissued || e->token.generation <= a->top_generation))
		broken(w, "R5: %s attempt %u asked again as generation %u after %u", e->step->id,
		       e->token.attempt, e->token.generation, a->top_generation);
	a->top_generation = e->token.generation;
	a->starts++;
	a->in_flight = true;
	a->cancelled = false;
	a->token = e->token;
	fate = fate_of(w, e->token.step, e->token.attempt);
	a->ends_ns = w->now_ns +
		     (1 + fixed_random(w, e->token.step, e->token.attempt, 2) % 4000) * MS_NS;
	if (fate == RW_HANG || fate == RW_DEAF)
		a->ends_ns = UINT64_MAX;
}

static void v_cancel(struct rb_verbs *v, struct rb_run *run, const struct rb_token *t)
{
	struct rb_world *w = world_of_verbs(v);
	struct rw_attempt *a = &w->targets[t->step].attempts[t->attempt];

	(void)run;
	boundary(w);
	if (w->dead || !a->in_flight)
		return;
	a->cancelled = true;
	if (fate_of(w, t->step, t->attempt) != RW_DEAF && a->ends_ns > w->now_ns + 50 * MS_NS)
		a->ends_ns = w->now_ns + 50 * MS_NS;
}

static bool v_query(struct rb_verbs *v, const struct rb_effect *e, struct rb_result *out)
{
	struct rb_world *w = world_of_verbs(v);
	const struct rw_attempt *a = &w->targets[e->token.step].attempts[e->token.attempt];

	if (!w->with_query || a->acts == 0)
		return false;
	out->code = fate_of(w, e->token.step, e->token.attempt) == RW_OK ? 0 : LB_EIO;
	return true;
}

/* The verb's effect, then its answer. An effect that is there already is not done twice: by its
 * name. */
static void finish(struct rb_world *w, uint32_t step, uint32_t attempt)
{
	struct rw_attempt *a = &w->targets[step].attempts[attempt];
	enum rw_fate fate = fate_of(w, step, attempt);
	struct rb_token token = a->token;
	struct lb_err err = {0};

	boundary(w);
	if (w->dead)
		return;
	if (fate == RW_OK && a->acts == 0 && !a->cancelled) {
		for (uint32_t o = 1; o < RW_ATTEMPTS; o++)
			if (w->targets[step].attempts[o].acts != 0 && fate_of(w, step, o) == RW_OK)
				broken(w, "I18: step %u acted twice, attempts %u and %u", step, o,
				       attempt);
		a->acts++;
	}
	boundary(w);
	if (w->dead)
		return;
	a->in_flight = false;
	a->answers++;
	(void)rb_run_effect_done(w->run, &token,
				 a->acts != 0 ? 0 : (a->cancelled ? LB_ECANCELED : LB_EIO),
				 a->acts != 0 ? "acted" : "did not act", &err);
}

static bool next_end(const struct rb_world *w, uint32_t *step, uint32_t *attempt, uint64_t *at_ns)
{
	bool found = false;

	*at_ns = UINT64_MAX;
	for (uint32_t s = 0; s < RW_STEPS; s++) {
		for (uint32_t a = 1; a < RW_ATTEMPTS; a++) {
			const struct rw_attempt *t = &w->targets[s].attempts[a];

			if (!t->in_flight || t->ends_ns >= *at_ns)
				continue;
			*step = s;
			*attempt = a;
			*at_ns = t->ends_ns;
			found = true;
		}
	}
	return found;
}

/* A person answers for the first step that waits. */
static void operate(struct rb_world *w)
{
	const struct rb_runbook *rb = rb_run_runbook(w->run);
	struct lb_err err = {0};

	w->commands++;
	if (rb_world_random(w) % 100 < w->cancel_pct) {
		if (rb_run_command(w->run, RB_CMD_CANCEL, NULL, "test", NULL, &err) != 0 &&
		    !w->dead)
			broken(w, "R6: cancel was refused: %.120s", err.msg);
		return;
	}
	for (uint32_t i = 0; i < rb->step_count; i++) {
		struct rb_step_status s;
		uint64_t r = rb_world_random(w) % 10;
		bool again;

		rb_run_step_status(w->run, i, &s);
		if (s.view.state != RB_STEP_WAITING)
			continue;
		again = r < 6 && s.view.attempt < 8;
		if (!again)
			w->targets[i].released = true;
		if (rb_run_command(w->run, again ? RB_CMD_RETRY : RB_CMD_SKIP, s.step->id, "test",
				   "because", &err) != 0 &&
		    !w->dead)
			broken(w, "R6: the operator was refused: %.120s", err.msg);
		return;
	}
	if (rb_run_command(w->run, RB_CMD_CONTINUE, NULL, "test", NULL, &err) != 0 && !w->dead)
		broken(w, "R6: continue was refused: %.120s", err.msg);
}

/* A person halts or cancels a run that goes well. Refused while it is ending. */
static void whim(struct rb_world *w)
{
	uint64_t r = rb_world_random(w) % 100;

	if (w->cancel_pct != 0 && r < 4)
		(void)rb_run_command(w->run, r == 0 ? RB_CMD_CANCEL : RB_CMD_HALT, NULL, "test",
				     NULL, NULL);
}

int rb_world_serve(struct rb_world *w)
{
	struct lb_err err = {0};

	for (int i = 0; i < 20000; i++) {
		struct rb_run_status st;
		uint32_t step = 0, attempt = 0;
		uint64_t ends_ns, at;

		if (w->dead)
			return 1;
		rb_run_status(w->run, &st);
		if (rb_run_state_ended(st.state) || w->broken[0] != '\0')
			return 0;
		whim(w);
		rb_run_status(w->run, &st);
		at = rb_run_deadline_ns(w->run);
		if (next_end(w, &step, &attempt, &ends_ns) && ends_ns <= at) {
			w->now_ns = ends_ns > w->now_ns ? ends_ns : w->now_ns;
			finish(w, step, attempt);
		} else if (at != UINT64_MAX) {
			w->now_ns = at > w->now_ns ? at : w->now_ns;
			(void)rb_run_tick(w->run, &err);
		} else if (st.state == RB_RUN_HALTED) {
			operate(w);
		} else {
			broken(w, "R6: stuck in %s", rb_run_state_name(st.state));
			return 2;
		}
	}
	broken(w, "R6: no end after 20000 events");
	return 2;
}

void rb_world_init(struct rb_world *w, uint64_t seed)
{
	memset(w, 0, sizeof(*w));
	w->seed = w->rng = seed;
	w->now_ns = 5000 * MS_NS;
	w->env = (struct lb_env){.now_ns = env_now, .wall_ns = env_wall, .random = env_random};
	w->fs.ops = &fs_ops;
	w->verbs = (struct rb_verbs){.start = v_start, .cancel = v_cancel, .query = v_query};
}

void rb_world_fini(struct rb_world *w)
{
	rb_run_destroy(w->run);
	for (int i = 0; i < RW_FILES; i++)
		forget(&w->files[i]);
}

struct rb_run_cfg rb_world_cfg(struct rb_world *w, const char *text)
{
	return (struct rb_run_cfg){
		.env = &w->env,
		.fs = &w->fs,
		.path = "run.log",
		.verbs = &w->verbs,
		.source_name = "test.yaml",
		.source = text,
		.source_bytes = strlen(text),
		.mode = RB_FAILOVER,
		.unattended = w->unattended,
		.who = "test",
	};
}

/* When all is over: each effect that was asked for and could act has acted exactly once. */
static void check_end(struct rb_world *w)
{
	const struct rb_runbook *rb = rb_run_runbook(w->run);
	struct rb_step_status s;

	for (uint32_t i = 0; i < rb->step_count; i++) {
		uint32_t acts = 0;

		for (uint32_t a = 1; a < RW_ATTEMPTS; a++)
			acts += w->targets[i].attempts[a].acts;
		rb_run_step_status(w->run, i, &s);
		if (acts > 1)
			broken(w, "I18: %s acted %u times", s.step->id, acts);
		if (s.view.state == RB_STEP_DONE && s.step->action != RB_WAIT && acts != 1)
			broken(w, "I18: %s is done and acted %u times", s.step->id, acts);
		if (s.view.state != RB_STEP_DONE && acts != 0)
			broken(w, "I18: %s is %s but acted", s.step->id,
			       rb_step_state_name(s.view.state));
	}
}

enum rb_run_state rb_world_live(struct rb_world *w, const char *text, uint64_t k, bool power_cut,
				enum rb_test_bug bug)
{
	struct rb_run_cfg cfg = rb_world_cfg(w, text);
	struct rb_run_status st;
	struct lb_err err = {0};
	int rc = 0;

	w->kill_at = k;
	for (int life = 0; life < 1000 && w->broken[0] == '\0'; life++) {
		if (rb_world_file(w, cfg.path) != NULL)
			rc = rb_run_open_bug(&w->run, &cfg, bug, &err);
		else
			rc = rb_run_start(&w->run, &cfg, &err);
		if (rc == LB_ENOTFOUND) { /* died before it began: nothing was asked, begin anew */
			forget(rb_world_file(w, cfg.path));
			continue;
		}
		if (rc != 0 && !w->dead)
			broken(w, "R4: the log does not open: %.150s", err.msg);
		if (rc == 0) {
			rb_run_seed_bug(w->run, bug);
			(void)rb_run_pump(w->run, &err);
			rc = rb_world_serve(w);
		}
		if (w->broken[0] != '\0')
			break;
		if (!w->dead) {
			check_end(w);
			rb_run_status(w->run, &st);
			return w->broken[0] == '\0' ? st.state : RB_RUN_NEW;
		}
		rb_run_destroy(w->run);
		w->run = NULL;
		w->kills++;
		if (w->kill_again != 0 && w->kills < 20)
			w->kill_at = w->boundary + 1 + rb_world_random(w) % w->kill_again;
		rb_world_reboot(w, power_cut);
	}
	return RB_RUN_NEW;
}
