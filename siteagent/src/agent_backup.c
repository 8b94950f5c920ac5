/*
 * The target role: the store, its engine, and what a group's role lets a peer do.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "agent_int.h"
#include "base/buf.h"
#include "base/env.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/loop.h"
#include "proc_int.h"
#include "replicator/frame.h"
#include "replicator/link.h"

#define GROUPS_MAX    4096u
#define OPEN_TRIES    5
#define OPEN_PAUSE_NS UINT64_C(1000000000)

/* ---- what the engine asks ---- */

static int key_of(void *arg, const struct lb_id *site, struct lb_pubkey *out)
{
	struct sa_agent *a = arg;

	return sa_ident_key_of(a->ident, site, out);
}

static bool peer_allowed(void *arg, const struct lb_id *site)
{
	struct sa_agent *a = arg;

	return sa_ident_peer_by_site(a->ident, site) != NULL;
}

static void role_of(void *arg, const struct lb_id *group, struct rep_group_role *out)
{
	struct sa_agent *a = arg;
	struct sa_role_record rec;

	*out = (struct rep_group_role){0};
	if (!sa_role_get(a->roles, group, &rec))
		return;
	out->epoch = rec.epoch;
	out->writable = rec.role == SA_ROLE_BACKUP;
	out->writer = rec.writer;
}

static int adopt(void *arg, const struct lb_id *group, const char *name, uint64_t epoch,
		 const struct lb_id *site, struct lb_err *err)
{
	struct sa_agent *a = arg;
	struct sa_role_record rec = {.group = *group,
				     .role = SA_ROLE_BACKUP,
				     .epoch = epoch,
				     .lineage = epoch,
				     .writer = *site};
	const struct sa_peer *p = sa_ident_peer_by_site(a->ident, site);
	struct sa_role_record other;

	if (sa_roles_count(a->roles) >= GROUPS_MAX)
		return lb_err_set(err, LB_ENOSPC, 0, "this site holds %u groups already",
				  GROUPS_MAX);
	if (sa_role_by_name(a->roles, name, &other) && !lb_id_equal(&other.group, group))
		return lb_err_set(err, LB_EEXIST, 0, "another group is named %s here", name);
	(void)snprintf(rec.name, sizeof(rec.name), "%s", name);
	(void)snprintf(rec.why, sizeof(rec.why), "first offered by site %s",
		       p != NULL ? p->name : "?");
	return sa_role_set(a->roles, &rec, err);
}

static int raise_epoch(void *arg, const struct lb_id *group, uint64_t epoch,
		       const struct lb_id *site, struct lb_err *err)
{
	struct sa_agent *a = arg;
	struct sa_role_record rec;

	(void)site;
	if (!sa_role_get(a->roles, group, &rec))
		return lb_err_set(err, LB_ENOTFOUND, 0, "group is unknown here");
	if (rec.role != SA_ROLE_BACKUP) /* an active site gives way only through a fence */
		return lb_err_set(err, LB_EDENIED, 0, "group %s is %s here", rec.name,
				  sa_role_name(rec.role));
	rec.epoch = epoch;
	(void)snprintf(rec.why, sizeof(rec.why), "the primary offers epoch %" PRIu64, epoch);
	return sa_role_set(a->roles, &rec, err);
}

static int store_key(void *arg, const struct rep_key_frame *key, struct lb_err *err)
{
	struct sa_agent *a = arg;
	struct lb_id id;

	lb_key_id(&id, &key->key);
	if (!lb_id_equal(&id, &key->key_id))
		return lb_err_set(err, LB_ECORRUPT, 0, "a peer's data key does not fit its id");
	return sa_keyring_put(a->keyring, &key->machine, &key->key, err);
}

static struct sa_freshness *freshness_of(struct sa_agent *a, const struct lb_id *group)
{
	struct sa_freshness *grown;

	for (size_t i = 0; i < a->fresh_count; i++)
		if (lb_id_equal(&a->fresh[i].group, group))
			return &a->fresh[i];
	grown = realloc(a->fresh, (a->fresh_count + 1) * sizeof(*grown));
	if (grown == NULL)
		return NULL;
	a->fresh = grown;
	grown[a->fresh_count] = (struct sa_freshness){.group = *group};
	return &grown[a->fresh_count++];
}

static int index_point(struct sa_agent *a, const struct rep_point *p, struct lb_err *err)
{
	struct rep_manifest *m = malloc(sizeof(*m));
	struct lb_buf *bytes = NULL;
	int rc = m == NULL ? lb_err_set(err, LB_ENOMEM, 0, "manifest") : 0;

	if (rc == 0)
		rc = rep_store_read_manifest(a->store, &p->manifest, &bytes, err);
	if (rc == 0)
		rc = rep_manifest_decode(m, bytes->p, bytes->len, err);
	if (rc == 0)
		rc = sa_catalog_add_point(a->catalog, p, m, err);
	lb_buf_unref(bytes);
	free(m);
	return rc;
}

static void note_resumes(void *arg, const char *group, const char *machine,
			 const struct lb_err *err)
{
	struct sa_agent *a = arg;

	if (err == NULL)
		return;
	lb_log(LB_LOG_ERROR, "store", "memory_not_resumable", "group=%s", group, "machine=%s",
	       machine, "err=%s", err->msg, NULL);
	(void)snprintf(a->alarm, sizeof(a->alarm),
		       "memory_not_resumable: machine %.64s of group %.64s would boot cold: %.100s",
		       machine, group, err->msg);
}

static void on_point(void *arg, const struct rep_target_point *p)
{
	struct sa_agent *a = arg;
	struct sa_freshness *f = freshness_of(a, &p->point->group);
	struct lb_err err = {0};

	if (f != NULL) {
		f->receive_boot_ns = p->receive_boot_ns;
		f->age_bound_ns = p->age_bound_ns;
		f->received_bytes += p->point->stored_bytes;
		f->manifest = p->point->manifest;
		if (!f->resume_checked)
			sa_point_resumes(a, &f->manifest, note_resumes, a);
		f->resume_checked = true;
	}
	/* the catalog is only an index: a point is visible without it, and the next start repairs
	 * it */
	if (index_point(a, p->point, &err) != 0)
		lb_log(LB_LOG_ERROR, "catalog", "index_failed", "group=%s", p->point->group_name,
		       "err=%s", err.msg, NULL);
	lb_log(LB_LOG_DEBUG, "accept", "point_visible", "group=%s", p->point->group_name,
	       "seq=%" PRIu64, p->point->seq, NULL);
}

/* Only enrolled sites get here, so there are as many as there are peers. */
static void note_peer(struct sa_agent *a, const struct lb_id *site, bool up)
{
	struct sa_heard *h = NULL, *grown;

	for (size_t i = 0; i < a->heard_count && h == NULL; i++)
		if (lb_id_equal(&a->heard[i].site, site))
			h = &a->heard[i];
	if (h == NULL) {
		grown = realloc(a->heard, (a->heard_count + 1) * sizeof(*grown));
		if (grown == NULL)
			return; /* then it is not known, and said so */
		a->heard = grown;
		h = &grown[a->heard_count++];
		h->site = *site;
	}
	h->up = up;
	h->since_ns = a->env->now_ns(a->env);
}

static void on_peer(void *arg, const struct lb_id *site, bool up, const struct lb_err *err)
{
	struct sa_agent *a = arg;
	const struct sa_peer *p = sa_ident_peer_by_site(a->ident, site);

	note_peer(a, site, up);
	lb_log(up ? LB_LOG_INFO : LB_LOG_WARN, "accept", up ? "peer_up" : "peer_down", "site=%s",
	       p != NULL ? p->name : "unknown", "err=%s",
	       err != NULL && err->code != 0 ? err->msg : NULL, NULL);
}

static void on_alarm(void *arg, const char *ev, const struct lb_err *err)
{
	struct sa_agent *a = arg;

	/* whoever reaches the port can be rejected there: that is told, but is no state of ours */
	if (strcmp(ev, "peer_rejected") != 0)
		(void)snprintf(a->alarm, sizeof(a->alarm), "%s: %.200s", ev, err->msg);
	lb_log(LB_LOG_ERROR, "store", ev, "code=%s", lb_err_name(err->code), "err=%s", err->msg,
	       NULL);
}

/* ---- start and stop ---- */

static int open_store_once(struct sa_agent *a, struct rep_recovery *found, struct lb_err *err)
{
	struct rep_store_cfg cfg = {.segment_bytes = a->cfg->segment_bytes,
				    .reserve_bytes = a->cfg->reserve_bytes};
	char dir[SA_PATH_BYTES + 16];
	int rc;

	*found = (struct rep_recovery){.unread = 0};
	(void)snprintf(dir, sizeof(dir), "%s/store", a->cfg->state_dir);
	rc = lb_fs_dir_create(&a->store_fs, dir, err);
	if (rc == 0)
		rc = rep_store_open(&a->store, a->env, a->store_fs, &cfg, err);
	if (rc == 0)
		rep_store_recovery(a->store, found);
	return rc;
}

static void close_store(struct sa_agent *a)
{
	rep_store_close(a->store);
	a->store = NULL;
	lb_fs_destroy(a->store_fs);
	a->store_fs = NULL;
}

/* The catalog is only an index: on a full disk it may lack points, but this site must still be able
 * to fail over. */
static void sync_index(struct sa_agent *a)
{
	struct lb_err err = {0};

	if (sa_catalog_sync(a->catalog, a->store, &err) == 0)
		return;
	(void)snprintf(a->alarm, sizeof(a->alarm), "index_failed: %.200s", err.msg);
	lb_log(LB_LOG_ERROR, "catalog", "index_failed", "group=%s", NULL, "err=%s", err.msg, NULL);
}

/* A path to the disk that is away for a moment must not hide a point until somebody restarts us;
 * a sector that is gone must not keep the others away. */
static int open_store(struct sa_agent *a, struct lb_err *err)
{
	struct rep_recovery found;
	struct lb_err unread = {0};
	int rc = open_store_once(a, &found, err);

	for (int tries = 1; (rc == LB_EIO || found.unread > 0) && tries < OPEN_TRIES; tries++) {
		lb_log(LB_LOG_WARN, "store", "read_again", "unread=%" PRIu64, found.unread,
		       "err=%s", rc != 0 && err != NULL ? err->msg : NULL, NULL);
		close_store(a);
		sa_nap(OPEN_PAUSE_NS);
		rc = open_store_once(a, &found, err);
	}
	if (rc == 0 && found.unread > 0) {
		(void)lb_err_set(&unread, LB_EIO, 0,
				 "%" PRIu64 " records cannot be read; their points are hidden "
				 "until lifeboatd is started with a disk that reads",
				 found.unread);
		on_alarm(a, "store_unread", &unread);
	}
	if (rc == 0)
		sync_index(a);
	return rc;
}

static int open_target(struct sa_agent *a, struct lb_err *err)
{
	struct rep_target_cfg cfg = {
		.env = a->env,
		.loop = a->loop,
		.store = a->store,
		.tls = a->tls_server,
		.listen_host = a->cfg->listen.host,
		.listen_port = a->cfg->listen.port,
		.deployment = *sa_ident_deployment(a->ident),
		.site = *sa_ident_site(a->ident),
		.boot_id = a->boot_id,
		.signer = sa_ident_signer(a->ident),
		.key_of = key_of,
		.peer_allowed = peer_allowed,
		.role_of = role_of,
		.adopt = adopt,
		.raise_epoch = raise_epoch,
		.store_key = store_key,
		.on_point = on_point,
		.on_peer = on_peer,
		.on_alarm = on_alarm,
		.arg = a,
	};

	return rep_target_create(&a->target, &cfg, err);
}

int sa_backup_start(struct sa_agent *a, struct lb_err *err)
{
	int rc = 0;

	if (a->cfg->listen.port == 0 || !sa_ident_ready(a->ident) || a->target != NULL)
		return 0;
	if (a->store == NULL)
		rc = open_store(a, err);
	if (rc == 0 && a->tls_server == NULL)
		rc = rep_tls_create(&a->tls_server, true, sa_ident_deployment(a->ident),
				    sa_ident_ca_path(a->ident), sa_ident_cert_path(a->ident),
				    sa_ident_key_path(a->ident), err);
	/* nothing listens before somebody is enrolled */
	if (rc == 0 && sa_ident_peer_count(a->ident) > 0) {
		rc = open_target(a, err);
		if (rc == 0)
			lb_log(LB_LOG_INFO, "accept", "listening", "host=%s", a->cfg->listen.host,
			       "port=%u", (unsigned)a->cfg->listen.port, NULL);
	}
	return rc;
}

void sa_backup_stop(struct sa_agent *a)
{
	rep_target_destroy(a->target);
	a->target = NULL;
	close_store(a);
	rep_tls_destroy(a->tls_server);
	a->tls_server = NULL;
	free(a->fresh);
	free(a->heard);
	a->heard = NULL;
	a->heard_count = 0;
	a->fresh = NULL;
	a->fresh_count = 0;
}

uint64_t sa_backup_received(struct sa_agent *a, const struct lb_id *group)
{
	for (size_t i = 0; i < a->fresh_count; i++)
		if (lb_id_equal(&a->fresh[i].group, group))
			return a->fresh[i].received_bytes;
	return 0;
}

bool sa_backup_rpo(struct sa_agent *a, const struct lb_id *group, uint64_t *age_ns)
{
	uint64_t now = a->env->now_ns(a->env);

	for (size_t i = 0; i < a->fresh_count; i++)
		if (lb_id_equal(&a->fresh[i].group, group) &&
		    a->fresh[i].age_bound_ns != UINT64_MAX) {
			*age_ns = now - a->fresh[i].receive_boot_ns + a->fresh[i].age_bound_ns;
			return true;
		}
	return false;
}

int sa_backup_take_over(struct sa_agent *a, const struct lb_id *group, const char *why,
			struct lb_err *err)
{
	struct sa_role_record rec;
	struct rep_point head;
	int rc;

	if (!sa_role_get(a->roles, group, &rec))
		return lb_err_set(err, LB_ENOTFOUND, 0, "that group is unknown at this site");
	if (rec.role == SA_ROLE_PRIMARY && strcmp(rec.why, why) == 0)
		return 0; /* asked again after a crash: done already */
	if (rec.role != SA_ROLE_BACKUP && rec.role != SA_ROLE_ACQUIRING)
		return lb_err_set(err, LB_EDENIED, 0, "group %s is %s at this site, not BACKUP",
				  rec.name, sa_role_name(rec.role));
	if (!rep_store_head(a->store, &rec.group, &head))
		return lb_err_set(err, LB_ENOTFOUND, 0, "group %s has no recovery point here",
				  rec.name);
	(void)snprintf(rec.why, sizeof(rec.why), "%s", why);
	if (rec.role == SA_ROLE_BACKUP) {
		rec.role = SA_ROLE_ACQUIRING;
		rec.epoch++;
		rc = sa_role_set(a->roles, &rec, err);
		if (rc != 0)
			return rc;
	}
	rec.role = SA_ROLE_PRIMARY;
	rec.applied = head.manifest;
	rc = sa_role_set(a->roles, &rec, err);
	if (rc != 0)
		return rc;
	lb_log(LB_LOG_WARN, "roles", "took_over", "group=%s", rec.name, "epoch=%" PRIu64, rec.epoch,
	       "why=%s", why, NULL);
	if (a->target != NULL)
		rep_target_fence(a->target, &rec.group, rec.epoch);
	return 0;
}
