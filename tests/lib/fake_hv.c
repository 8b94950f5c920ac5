#include "fake_hv.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/err.h"
#include "base/fs.h"
#include "memfs.h"

struct sa_hv_machine {
	char name[SA_NAME_BYTES];
	char dir[SA_PATH_BYTES];
};

struct sa_views {
	int unused;
};

static struct fake_hv *the; /* the symbols below have no other way to it */

void fake_hv_init(struct fake_hv *f, struct lb_fs *fs)
{
	*f = (struct fake_hv){.fs = fs};
	(void)pthread_mutex_init(&f->lock, NULL);
	the = f;
}

void fake_hv_fini(struct fake_hv *f)
{
	(void)pthread_mutex_destroy(&f->lock);
	the = NULL;
}

struct sa_hv *fake_hv_handle(struct fake_hv *f)
{
	return (struct sa_hv *)(void *)f; /* opaque to everybody else */
}

const struct fh_machine *fake_hv_find(const struct fake_hv *f, const char *name)
{
	for (unsigned i = 0; i < FH_MACHINES; i++)
		if (strcmp(f->machine[i].name, name) == 0)
			return &f->machine[i];
	return NULL;
}

static void lock(void)
{
	(void)pthread_mutex_lock(&the->lock);
}

static void unlock(void)
{
	(void)pthread_mutex_unlock(&the->lock);
}

unsigned fake_hv_running(struct fake_hv *f)
{
	unsigned n = 0;

	lock();
	for (unsigned i = 0; i < FH_MACHINES; i++)
		n += f->machine[i].running || f->machine[i].defined ? 1 : 0;
	unlock();
	return n;
}

unsigned fake_hv_views(struct fake_hv *f)
{
	unsigned n = 0;

	lock();
	for (unsigned i = 0; i < FH_VIEWS; i++)
		n += f->view[i].alive ? 1 : 0;
	unlock();
	return n;
}

unsigned fake_hv_probes(struct fake_hv *f)
{
	unsigned n;

	lock();
	n = f->probes;
	unlock();
	return n;
}

/* One instant at which the agent may die. */
static int instant(struct lb_err *err)
{
	return lb_fs_sync_dir(the->fs, "", NULL) == 0
		       ? 0
		       : lb_err_set(err, LB_EIO, 0, "the agent is dead");
}

static void broken(const char *what, const char *which)
{
	if (the->broken[0] == '\0')
		(void)snprintf(the->broken, sizeof(the->broken), "%s: %s", what, which);
}

static struct fh_machine *slot(const char *name)
{
	struct fh_machine *free_one = NULL;

	for (unsigned i = 0; i < FH_MACHINES; i++) {
		if (strcmp(the->machine[i].name, name) == 0)
			return &the->machine[i];
		if (free_one == NULL && the->machine[i].name[0] == '\0')
			free_one = &the->machine[i];
	}
	LB_ASSERT(free_one != NULL);
	(void)snprintf(free_one->name, sizeof(free_one->name), "%s", name);
	return free_one;
}

/* ---- siteagent/hv.h ---- */

int sa_hv_create(struct sa_hv **out, const struct sa_hv_cfg *cfg, struct lb_err *err)
{
	(void)cfg;
	(void)err;
	*out = fake_hv_handle(the);
	return 0;
}

void sa_hv_destroy(struct sa_hv *hv)
{
	(void)hv;
}

int sa_hv_fits(struct sa_hv *hv, const struct sa_hv_boot_cfg *cfg, struct lb_err *err)
{
	(void)hv;
	(void)cfg;
	return instant(err);
}

static int handle(struct sa_hv_machine **out, const struct sa_hv_boot_cfg *cfg)
{
	struct sa_hv_machine *m = calloc(1, sizeof(*m));

	LB_ASSERT(m != NULL);
	(void)snprintf(m->name, sizeof(m->name), "%s", cfg->name);
	(void)snprintf(m->dir, sizeof(m->dir), "%s", cfg->dir);
	*out = m;
	return 0;
}

static const struct fh_view *view_of(const char *dir, const char *volume)
{
	for (unsigned i = 0; i < FH_VIEWS; i++)
		if (strcmp(the->view[i].dir, dir) == 0 && strcmp(the->view[i].volume, volume) == 0)
			return &the->view[i];
	return NULL;
}

static void define(const struct sa_hv_boot_cfg *cfg)
{
	struct fh_machine *m = slot(cfg->name);
	const struct fh_view *v = view_of(cfg->dir, cfg->disks[0].name);

	if (m->running)
		broken("prepared again while it runs", cfg->name);
	if (v == NULL || !v->alive)
		broken("prepared without a view", cfg->name);
	else
		m->point = v->point;
	if (strstr(cfg->machine_xml, "<domain") == NULL)
		broken("prepared without a description", cfg->name);
	(void)snprintf(m->dir, sizeof(m->dir), "%s", cfg->dir);
	m->defined = true;
	m->running = false;
	m->prepares++;
}

int sa_hv_prepare(struct sa_hv *hv, struct sa_hv_machine **out, const struct sa_hv_boot_cfg *cfg,
		  struct lb_err *err)
{
	int rc = instant(err);

	(void)hv;
	if (rc != 0)
		return rc;
	lock();
	define(cfg);
	unlock();
	rc = instant(err);
	return rc != 0 ? rc : handle(out, cfg);
}

int sa_hv_adopt(struct sa_hv *hv, struct sa_hv_machine **out, const struct sa_hv_boot_cfg *cfg,
		struct lb_err *err)
{
	int rc = instant(err);

	(void)hv;
	if (rc != 0)
		return rc;
	lock();
	struct fh_machine *m = slot(cfg->name);

	if (!m->defined || strcmp(m->dir, cfg->dir) != 0)
		rc = lb_err_set(err, LB_ENOTFOUND, 0, "no domain %s of ours", cfg->name);
	else
		m->adopts++;
	unlock();
	return rc != 0 ? rc : handle(out, cfg);
}

static bool is_drills(const struct fh_machine *m)
{
	return strncmp(m->name, "drill-", 6) == 0;
}

static bool a_drill_is_there(void)
{
	for (unsigned i = 0; i < FH_MACHINES; i++)
		if (the->machine[i].defined && is_drills(&the->machine[i]))
			return true;
	return false;
}

int sa_hv_start(struct sa_hv_machine *h, struct lb_err *err)
{
	int rc = instant(err);

	if (rc != 0)
		return rc;
	lock();
	struct fh_machine *m = slot(h->name);

	if (!m->defined)
		broken("started but not defined", h->name);
	if (!is_drills(m) && a_drill_is_there())
		broken("started beside a drill", h->name);
	m->starts += m->running ? 0 : 1;
	m->running = true;
	unlock();
	return instant(err);
}

const char *sa_hv_why(const struct sa_hv_machine *m)
{
	(void)m;
	return "fake: as tests want it";
}

const char *sa_hv_driver(const struct sa_hv_machine *m)
{
	(void)m;
	return "fake";
}

int sa_hv_pause(struct sa_hv_machine *m, struct lb_err *err)
{
	(void)m;
	return lb_err_set(err, LB_EUNSUPPORTED, 0, "pause");
}

int sa_hv_resume(struct sa_hv_machine *m, struct lb_err *err)
{
	(void)m;
	return lb_err_set(err, LB_EUNSUPPORTED, 0, "resume");
}

static bool stops_are_held(void)
{
	bool held;

	lock();
	held = the->hold_stops;
	unlock();
	return held;
}

int sa_hv_stop(struct sa_hv_machine *h, bool remove_overlays, struct lb_err *err)
{
	int rc = instant(err);

	(void)remove_overlays;
	if (rc != 0)
		return rc;
	while (stops_are_held())
		(void)poll(NULL, 0, 1);
	lock();
	struct fh_machine *m = slot(h->name);

	if (the->fail_stops > 0) {
		the->fail_stops--;
		if (the->stop_code == LB_ENOTFOUND)
			m->defined = m->running = false;
		rc = lb_err_set(err, the->stop_code != 0 ? (enum lb_code)the->stop_code : LB_EAGAIN,
				0, "libvirtd is away");
	} else {
		m->stops += m->defined ? 1 : 0;
		m->defined = m->running = false;
	}
	unlock();
	return rc != 0 ? rc : instant(err);
}

int sa_hv_state(struct sa_hv_machine *h, enum sa_hv_state *out, struct lb_err *err)
{
	(void)err;
	lock();
	struct fh_machine *m = slot(h->name);

	*out = !m->defined ? SA_HV_GONE : m->running ? SA_HV_RUNNING : SA_HV_OFF;
	unlock();
	return 0;
}

void sa_hv_machine_destroy(struct sa_hv_machine *m)
{
	free(m);
}

int sa_hv_console(struct sa_hv_machine *m, char *buf, size_t len, size_t *got, struct lb_err *err)
{
	return sa_hv_console_at(m->dir, buf, len, got, err);
}

int sa_hv_order(struct sa_hv_machine *m, uint8_t **out, size_t *bytes, struct lb_err *err)
{
	(void)out;
	(void)bytes;
	return lb_err_set(err, LB_ENOTFOUND, 0, "machine %s has no memory", m->name);
}

int sa_hv_console_at(const char *dir, char *buf, size_t len, size_t *got, struct lb_err *err)
{
	int n = snprintf(buf, len, "console of %s", strrchr(dir, '/'));

	(void)err;
	*got = n > 0 ? (size_t)n : 0;
	return 0;
}

static int hang(const bool *cancel, struct lb_err *err)
{
	while (!__atomic_load_n(cancel, __ATOMIC_SEQ_CST))
		(void)poll(NULL, 0, 1);
	return lb_err_set(err, LB_ECANCELED, 0, "probe cancelled");
}

int sa_hv_probe(struct sa_hv_machine *h, const struct sa_probe *p, char *seen, size_t seen_len,
		const bool *cancel, struct lb_err *err)
{
	bool fails, hangs;
	int rc = instant(err);

	(void)p;
	if (rc != 0)
		return rc;
	lock();
	the->probes++;
	hangs = the->hang_probes;
	fails = the->fail_probes > 0;
	the->fail_probes -= fails ? 1 : 0;
	if (!slot(h->name)->running)
		rc = lb_err_set(err, LB_ECLOSED, 0, "machine %s is off", h->name);
	unlock();
	if (rc != 0)
		return rc;
	if (hangs)
		return hang(cancel, err);
	if (fails)
		return lb_err_set(err, LB_ETIMEDOUT, 0, "not seen in time: %s",
				  the->said != NULL ? the->said : "nothing");
	(void)snprintf(seen, seen_len, "it lives");
	return instant(err);
}

/* ---- views.c ---- */

int sa_views_create(struct sa_views **out, struct sa_agent *a, struct lb_err *err)
{
	static struct sa_views views;

	(void)a;
	(void)err;
	*out = &views;
	return 0;
}

void sa_views_destroy(struct sa_views *v)
{
	(void)v;
}

static struct fh_view *view_slot(const char *dir, const char *volume)
{
	for (unsigned i = 0; i < FH_VIEWS; i++) {
		struct fh_view *v = &the->view[i];

		if (v->dir[0] != '\0' &&
		    (strcmp(v->dir, dir) != 0 || strcmp(v->volume, volume) != 0))
			continue;
		(void)snprintf(v->dir, sizeof(v->dir), "%s", dir);
		(void)snprintf(v->volume, sizeof(v->volume), "%s", volume);
		return v;
	}
	LB_ASSERT(false);
	return NULL;
}

int sa_view_serve(struct sa_views *views, const char *dir, const struct lb_hash *point,
		  const struct lb_id *volume, const char *volume_name, struct sa_view *out,
		  struct lb_err *err)
{
	int rc = instant(err);

	(void)views;
	(void)volume;
	if (rc != 0)
		return rc;
	lock();
	if (the->fail_serves > 0) {
		the->fail_serves--;
		unlock();
		return lb_err_set(err, LB_EIO, 0, "nbdkit ended");
	}
	struct fh_view *v = view_slot(dir, volume_name);

	if (v->alive && !lb_hash_equal(&v->point, point))
		broken("a view of another point is adopted", dir);
	v->serves += v->alive ? 0 : 1;
	v->alive = true;
	v->point = *point;
	unlock();
	(void)snprintf(out->socket, sizeof(out->socket), "/v/%s.sock", volume_name);
	out->size_bytes = 4096;
	return instant(err);
}

void sa_view_stop_all(struct sa_views *views, const char *dir)
{
	(void)views;
	if (instant(NULL) != 0)
		return;
	lock();
	for (unsigned i = 0; i < FH_MACHINES; i++)
		if (the->machine[i].running && strcmp(the->machine[i].dir, dir) == 0)
			broken("a running machine lost its disks", the->machine[i].name);
	for (unsigned i = 0; i < FH_VIEWS; i++)
		if (strcmp(the->view[i].dir, dir) == 0)
			the->view[i].alive = false;
	unlock();
	(void)instant(NULL);
}
