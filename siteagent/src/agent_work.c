/* Requests that become jobs: verify, export, catalog rebuild. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "agent_api_int.h"
#include "base/buf.h"
#include "base/env.h"
#include "export_int.h"
#include "imaging/dev.h"
#include "replicator/export.h"
#include "replicator/view.h"

struct work {
	struct sa_agent *agent;
	struct sa_job *job;
	struct lb_hash point;
	bool one_point, deep, qcow2;
	char group[SA_NAME_BYTES], machine[SA_NAME_BYTES], volume[SA_NAME_BYTES];
	char path[SA_PATH_BYTES];
	json_t *damage;
};

static void started(struct call *c, int rc, const char *id, struct lb_err *err)
{
	if (rc != 0)
		sa_api_fail(c->rq, err, NULL);
	else
		sa_api_answer(c->rq, json_pack("{s:s}", "job", id));
}

static void on_damage(void *arg, const struct rep_damage *d)
{
	struct work *w = arg;

	if (json_array_size(w->damage) < 1000)
		(void)json_array_append_new(w->damage, json_pack("{s:s, s:I, s:I}", "what", d->what,
								 "segment", (json_int_t)d->segment,
								 "offset", (json_int_t)d->offset));
}

static void on_progress(void *arg, uint64_t done, uint64_t all)
{
	struct work *w = arg;

	sa_job_progress(w->job, done, all);
}

static bool is_cancelled(void *arg)
{
	struct work *w = arg;

	return sa_job_cancelled(w->job);
}

static int work_key_of(void *arg, const struct lb_id *site, struct lb_pubkey *out)
{
	struct work *w = arg;

	return sa_ident_key_of(w->agent->ident, site, out);
}

static int work_dek_of(void *arg, const struct lb_id *key_id, struct lb_key *out)
{
	struct work *w = arg;

	return sa_keyring_by_id(w->agent->keyring, key_id, out);
}

static int verify(struct sa_job *job, void *arg, json_t **result, struct lb_err *err)
{
	struct work *w = arg;
	struct sa_agent *a = w->agent;
	struct rep_scrub_stats st = {0};
	struct rep_scrub_opts o = {
		.on_damage = on_damage,
		.progress = on_progress,
		.cancelled = is_cancelled,
		.key_of = work_key_of,
		.dek_of = w->deep ? work_dek_of : NULL,
		.arg = w,
		.only = w->one_point ? &w->point : NULL,
	};
	int rc;

	w->job = job;
	w->damage = json_array();
	rc = rep_store_scrub(a->store, &o, &st, err);
	/* a point is bad when its bytes are, not when the scrub could not be done */
	if (w->one_point && (rc == 0 || lb_err_class(rc) == LB_CLASS_DATA))
		(void)sa_catalog_mark(a->catalog, &w->point,
				      rc != 0   ? SA_MARK_BAD
				      : w->deep ? SA_MARK_DEEP_VERIFIED
						: SA_MARK_VERIFIED,
				      a->env->wall_ns(a->env), rc != 0 ? err->msg : "", NULL);
	*result =
		json_pack("{s:I, s:I, s:I, s:I, s:b, s:O}", "records", (json_int_t)st.records,
			  "bytes", (json_int_t)st.bytes, "points", (json_int_t)st.points, "damaged",
			  (json_int_t)st.damaged, "deep", w->deep, "damage", w->damage);
	return rc;
}

static void work_free(void *arg)
{
	struct work *w = arg;

	json_decref(w->damage);
	free(w);
}

static struct work *work_new(struct call *c)
{
	struct work *w = NULL;

	if (c->agent->store == NULL)
		sa_call_fail(c, LB_ENOTFOUND, "this site keeps no recovery points");
	else if ((w = calloc(1, sizeof(*w))) == NULL)
		sa_call_fail(c, LB_ENOMEM, "job");
	else
		w->agent = c->agent;
	return w;
}

static void start_verify(struct call *c, const struct rep_point *p)
{
	struct work *w = work_new(c);
	struct lb_err err = {0};
	const char *id = NULL;
	int rc;

	if (w == NULL)
		return;
	w->deep = json_is_true(json_object_get(c->api->body, "deep"));
	w->one_point = p != NULL;
	if (p != NULL)
		w->point = p->manifest;
	rc = sa_job_start(c->agent->jobs, p != NULL ? "verify point" : "verify store", verify, w,
			  work_free, &id, &err);
	if (rc != 0)
		work_free(w);
	started(c, rc, id, &err);
}

void sa_post_verify(struct call *c)
{
	start_verify(c, NULL);
}

void sa_post_point_verify(struct call *c)
{
	struct rep_point p;

	if (sa_call_point(c, c->api->part[1], &p))
		start_verify(c, &p);
}

/* Whom the request names. Memory is exported when it is named, never instead of the only disk. */
static bool volume_fits(const struct work *w, const struct rep_manifest_volume *v)
{
	if (w->machine[0] != '\0' && strcmp(w->machine, v->machine_name) != 0)
		return false;
	return w->volume[0] == '\0' ? v->kind == REP_VOLUME_DISK
				    : strcmp(w->volume, v->volume_name) == 0;
}

/* The volume to export: by machine and volume name, or the only disk. */
static int find_volume(const struct work *w, struct lb_id *out, struct lb_err *err)
{
	struct rep_manifest *m = malloc(sizeof(*m));
	struct lb_buf *bytes = NULL;
	unsigned hits = 0;
	int rc = m == NULL ? lb_err_set(err, LB_ENOMEM, 0, "manifest") : 0;

	if (rc == 0)
		rc = rep_store_read_manifest(w->agent->store, &w->point, &bytes, err);
	if (rc == 0)
		rc = rep_manifest_decode(m, bytes->p, bytes->len, err);
	for (uint32_t i = 0; rc == 0 && i < m->volumes; i++)
		if (volume_fits(w, &m->volume[i])) {
			*out = m->volume[i].volume;
			hits++;
		}
	if (rc == 0 && hits != 1)
		rc = lb_err_set(
			err, LB_EINPUT, 0,
			"%u volumes of the point fit machine \"%s\" volume \"%s\"; name one", hits,
			w->machine, w->volume);
	lb_buf_unref(bytes);
	free(m);
	return rc;
}

/* A view that ends when the job is cancelled. */
struct stoppable {
	struct img_dev dev;
	struct img_dev *under;
	struct sa_job *job;
};

static int stoppable_pread(struct img_dev *d, void *buf, uint64_t len, uint64_t off,
			   struct lb_err *err)
{
	struct stoppable *s = (struct stoppable *)d;

	if (sa_job_cancelled(s->job))
		return lb_err_set(err, LB_ECANCELED, 0, "export was cancelled");
	return img_pread(s->under, buf, len, off, err);
}

static int stoppable_extent(struct img_dev *d, struct img_extent *out, uint64_t off,
			    struct lb_err *err)
{
	return img_next_extent(((struct stoppable *)d)->under, out, off, err);
}

static const struct img_dev_ops stoppable_ops = {
	.name = "stoppable",
	.pread = stoppable_pread,
	.next_extent = stoppable_extent,
};

static int export_raw(struct work *w, const struct lb_id *volume, uint64_t *size_bytes,
		      struct lb_err *err)
{
	struct rep_view_cfg cfg = {.dek_of = work_dek_of, .arg = w};
	struct img_dev *view = NULL;
	int rc = rep_view_open(&view, w->agent->store, &w->point, volume, &cfg, err);

	if (rc != 0)
		return rc;
	*size_bytes = view->size_bytes;
	struct stoppable s = {.dev = {.ops = &stoppable_ops, .size_bytes = view->size_bytes},
			      .under = view,
			      .job = w->job};

	rc = rep_export_raw(&s.dev, w->path, on_progress, w, err);
	img_dev_destroy(view);
	return rc;
}

static int export(struct sa_job *job, void *arg, json_t **result, struct lb_err *err)
{
	struct work *w = arg;
	struct lb_id volume;
	uint64_t size_bytes = 0;
	int rc = find_volume(w, &volume, err);

	w->job = job;
	if (rc == 0)
		rc = w->qcow2 ? sa_export_qcow2(w->agent, job, &w->point, &volume, w->path,
						&size_bytes, err)
			      : export_raw(w, &volume, &size_bytes, err);
	if (rc == 0)
		*result =
			json_pack("{s:s, s:s, s:I}", "path", w->path, "format",
				  w->qcow2 ? "qcow2" : "raw", "size_bytes", (json_int_t)size_bytes);
	return rc;
}

static void copy_text(char *out, size_t cap, const char *s)
{
	(void)snprintf(out, cap, "%s", s != NULL ? s : "");
}

void sa_post_point_export(struct call *c)
{
	const char *path = sa_call_text(c, "path"), *format = sa_call_text(c, "format");
	struct lb_err err = {0};
	struct rep_point p;
	struct work *w;
	const char *id = NULL;
	int rc;

	if (path == NULL || path[0] != '/' || strlen(path) >= SA_PATH_BYTES) {
		sa_call_fail(c, LB_EINPUT,
			     "\"path\" must be an absolute path of less than 256 bytes");
		return;
	}
	if (format != NULL && strcmp(format, "raw") != 0 && strcmp(format, "qcow2") != 0) {
		sa_call_fail(c, LB_EINPUT, "\"format\" must be raw or qcow2");
		return;
	}
	if (!sa_call_point(c, c->api->part[1], &p) || (w = work_new(c)) == NULL)
		return;
	w->point = p.manifest;
	w->qcow2 = format != NULL && strcmp(format, "qcow2") == 0;
	copy_text(w->path, sizeof(w->path), path);
	copy_text(w->machine, sizeof(w->machine), sa_call_text(c, "machine"));
	copy_text(w->volume, sizeof(w->volume), sa_call_text(c, "volume"));
	rc = sa_job_start(c->agent->jobs, "export point", export, w, work_free, &id, &err);
	if (rc != 0)
		work_free(w);
	started(c, rc, id, &err);
}

static int rebuild(struct sa_job *job, void *arg, json_t **result, struct lb_err *err)
{
	struct work *w = arg;

	(void)job;
	(void)result;
	return sa_catalog_rebuild(w->agent->catalog, w->agent->store, err);
}

void sa_post_catalog_rebuild(struct call *c)
{
	struct work *w = work_new(c);
	struct lb_err err = {0};
	const char *id = NULL;
	int rc;

	if (w == NULL)
		return;
	rc = sa_job_start(c->agent->jobs, "catalog rebuild", rebuild, w, work_free, &id, &err);
	if (rc != 0)
		work_free(w);
	started(c, rc, id, &err);
}
