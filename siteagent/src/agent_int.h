/*
 * siteagent/src/agent_int.h - the site agent: where all components meet. One object per process.
 *
 *   config, ident ─► sources (src_*.c) ─► rep_source ══ peers ══ rep_target ─► store ─► catalog
 *                          groups ▲                                   │           │
 *                                 └── roles (epochs, fencing) ◄───────┘   views ◄─┘─► hv_*.c
 *                                        ▲                                  ▲
 *                    control API ─► agent_api.c ─► runs.c (rb_run) ─► verbs.c (fence boot probe
 * exec report)
 *
 * Thread: everything belongs to the main loop's thread; blocking work goes to the pool and comes
 * back as a message.
 */
#ifndef SITEAGENT_AGENT_INT_H
#define SITEAGENT_AGENT_INT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "api_int.h"
#include "base/err.h"
#include "base/id.h"
#include "catalog_int.h"
#include "config_int.h"
#include "ident_int.h"
#include "replicator/source.h"
#include "replicator/target.h"
#include "roles_int.h"
#include "siteagent/hv.h"
#include "siteagent/source.h"

struct json_t;
struct lb_env;
struct lb_fs;
struct lb_loop;
struct lb_pool;
struct lb_timer;
struct sa_history;
struct sa_vmwatch;
struct sa_idmap;
struct sa_join;
struct sa_jobs;
struct sa_runs;
struct sa_views;
struct sa_vmdesc;
struct sa_vms;

/* One protected group of this site (source role). */
struct sa_protected {
	struct sa_agent *agent;
	const struct sa_group_cfg *cfg;
	struct lb_id id;
	struct sa_source **member; /* cfg->machines of them */
	struct sa_vmdesc *vm;      /* as many; those of driver vmcore are filled */
	struct sa_source_group *cut_arg;
	struct rep_source
		*engine; /* of its peer; borrowed from agent->link; NULL: peer not enrolled */
	bool added;      /* is in the engine */
	bool preparing;
	bool fenced;
	bool fence_told;        /* that its record could not be written */
	uint64_t fence_epoch;   /* heard of in this process; 0: none */
	bool no_cut;            /* last_err is why none could be taken */
	uint64_t cut_began_ns;  /* of the cut that is being read or shipped; 0: none */
	struct lb_err last_err; /* newest reason why nothing moves; code 0: none */
	uint64_t last_err_ns;
};

/* One peer that we ship to. */
struct sa_link {
	struct sa_agent *agent;
	struct lb_id site;
	struct rep_source *engine;
	bool up;
	struct lb_err last_err;
};

/* What the target role knows of a group's newest point, in this boot. */
struct sa_freshness {
	struct lb_id group;
	uint64_t receive_boot_ns;
	uint64_t age_bound_ns;
	uint64_t received_bytes; /* stored bytes of all points taken since start */
	struct lb_hash manifest;
	bool resume_checked; /* that its memory points can be resumed here: resumable.c */
};

/* Whether a peer is connected to us, and since when. */
struct sa_heard {
	struct lb_id site;
	bool up;
	uint64_t since_ns;
};

struct sa_agent {
	struct lb_env *env;
	struct lb_loop *loop;
	struct lb_pool *pool; /* quick blocking work: orders to machines, looks at them, joins */
	struct lb_pool *slow; /* what may take minutes: prepare, boot, probe */
	struct sa_config *cfg;
	struct lb_fs *state; /* cfg->state_dir */
	struct lb_file *lock;
	struct lb_id boot_id;
	uint64_t started_ns;
	struct sa_ident *ident;
	struct sa_enrol *enrol;
	struct sa_join *join; /* under way on the pool; agent_api.c */
	struct sa_keyring *keyring;
	struct sa_idmap *ids;
	struct sa_roles *roles;
	struct sa_catalog *catalog;
	struct sa_api *api;
	struct sa_jobs *jobs;
	struct sa_runs *runs;
	struct sa_views *views;
	struct sa_history *history;
	struct sa_vmwatch *vmwatch;
	struct sa_hv *hv;
	struct sa_vms *vms;
	/* source role */
	struct rep_tls *tls_client;
	struct sa_link *link;
	size_t links;
	struct sa_protected *group;
	size_t groups;
	struct lb_timer *retry;
	/* target role */
	struct rep_tls *tls_server;
	struct lb_fs *store_fs;
	struct rep_store *store;
	struct rep_target *target;
	struct sa_freshness *fresh;
	size_t fresh_count;
	struct sa_heard *heard;
	size_t heard_count;
	char alarm[256]; /* newest alarm that still stands, "" none */
	char plugin_dir[SA_PATH_BYTES];
	char vm_program[SA_PATH_BYTES]; /* lifeboat-vm; "": there is none */
};

int sa_agent_create(struct sa_agent **out, struct lb_env *env, struct lb_loop *loop,
		    struct sa_config *cfg, struct lb_err *err); /* takes cfg on success */
void sa_agent_destroy(struct sa_agent *a);
/* The identity was made or completed (init, join): start what waited for it. */
int sa_agent_enrolled(struct sa_agent *a, struct lb_err *err);
/* Connections from now on show the certificate that the identity has now. */
int sa_agent_renewed(struct sa_agent *a, struct lb_err *err);

/* At most @out_bytes - 1 bytes of a small file (/proc, pid files), NUL-terminated; 0 when it cannot
 * be read. */
size_t sa_read_text(const char *path, char *out, size_t out_bytes);

/* agent_protect.c: the source role. Start what is configured and can start; called again after
 * enrolment. A group that cannot start has a problem and is tried again. */
int sa_protect_start(struct sa_agent *a, struct lb_err *err);
void sa_protect_stop(struct sa_agent *a);
struct sa_protected *sa_protect_find(struct sa_agent *a, const char *group_name);
struct sa_protected *sa_protect_by_id(struct sa_agent *a, const struct lb_id *group);

/* agent_backup.c: the target role. */
int sa_backup_start(struct sa_agent *a, struct lb_err *err);
void sa_backup_stop(struct sa_agent *a);
/* Upper bound of the age of the newest visible point of @group; false: unknown. */
bool sa_backup_rpo(struct sa_agent *a, const struct lb_id *group, uint64_t *age_ns);
/* Stored bytes of the points of @group that were taken since the agent's start. */
uint64_t sa_backup_received(struct sa_agent *a, const struct lb_id *group);
/* Failover of @group: BACKUP(e) -> ACQUIRING(e+1) -> PRIMARY(e+1), durable, peers told.
 * Idempotent per (run): asked again at PRIMARY with the same @why it succeeds. */
int sa_backup_take_over(struct sa_agent *a, const struct lb_id *group, const char *why,
			struct lb_err *err);

/* agent_status.c */
struct json_t *sa_status_json(struct sa_agent *a);
/* Has this site's certificate ended, or does it soon? @out: what to do. */
bool sa_cert_problem(const struct sa_agent *a, char *out, size_t out_bytes);
struct json_t *sa_groups_json(struct sa_agent *a);
struct json_t *sa_sites_json(struct sa_agent *a);
struct json_t *sa_machines_json(struct sa_agent *a);
struct json_t *sa_points_json(struct sa_agent *a, const struct lb_id *group, unsigned max);
struct json_t *sa_point_json(struct sa_agent *a, const struct lb_hash *point); /* NULL: none */
struct json_t *sa_doctor_json(struct sa_agent *a);
/* Find a visible point by "latest", or a unique prefix (>= 4) of its manifest hash; @group NULL:
 * any. */
int sa_point_resolve(struct sa_agent *a, const char *text, const struct lb_id *group,
		     struct rep_point *out, struct lb_err *err);

/* history.c: rates and ages of the last ten minutes. */
int sa_history_create(struct sa_history **out, struct sa_agent *a, struct lb_err *err);
void sa_history_destroy(struct sa_history *h);
struct json_t *sa_history_json(const struct sa_history *h);

/* books.c: the directory of runbooks. LB_ENOTFOUND, LB_EINPUT: too large, no file, not UTF-8. */
struct json_t *sa_books_json(const struct sa_agent *a);
int sa_book_read(const struct sa_agent *a, const char *name, struct json_t **out,
		 struct lb_err *err);

/* agent_api.c: the table of paths. */
void sa_agent_on_api(void *arg, struct sa_api_request *rq, const struct sa_api_call *api);
bool sa_agent_api_looks(const char *const *part);
/* verbs.c: group that @machine belongs to: the one whose newest point here names it. */
int sa_group_of_machine(struct sa_agent *a, const char *machine, struct lb_id *group,
			struct lb_err *err);
/* The agent ends while a join is under way; after sa_api_destroy() and the pool's end. */
void sa_join_drop(struct sa_agent *a);

/* idmap.c: names of this site's groups, machines, volumes -> random ids, durable in
 * <state_dir>/ids.json. */
int sa_idmap_open(struct sa_idmap **out, struct lb_env *env, struct lb_fs *fs, struct lb_err *err);
void sa_idmap_close(struct sa_idmap *m);
/* "group", "group/machine", "group/machine/volume"; made and stored when new. */
int sa_idmap_get(struct sa_idmap *m, const char *path, struct lb_id *out, struct lb_err *err);

/* jobs.c: long work (verify, export, catalog rebuild) with progress; the client polls /v1/jobs/ID.
 */
struct sa_job;
int sa_jobs_create(struct sa_jobs **out, struct sa_agent *a, struct lb_err *err);
void sa_jobs_destroy(struct sa_jobs *j);
/* @work runs on a thread of its own and calls sa_job_progress(); its result object (may be NULL)
 * goes to the client. */
typedef int (*sa_job_fn)(struct sa_job *job, void *arg, struct json_t **result, struct lb_err *err);
/* Takes @arg on success, freed by @free_arg. *id_out: static in the job, valid until 100 newer
 * ended. */
int sa_job_start(struct sa_jobs *j, const char *what, sa_job_fn work, void *arg,
		 void (*free_arg)(void *arg), const char **id_out, struct lb_err *err);
void sa_job_progress(struct sa_job *job, uint64_t done, uint64_t all); /* any thread */
bool sa_job_cancelled(const struct sa_job *job);
struct json_t *sa_job_json(struct sa_jobs *j, const char *id); /* NULL: no such job */
struct json_t *sa_jobs_json(struct sa_jobs *j);
bool sa_job_cancel(struct sa_jobs *j, const char *id);

/* views.c: nbdkit processes that serve views. They end with their boot (sa_view_stop_all); until
 * then they outlive the agent, as their machines do. */
struct sa_view {
	char socket[SA_PATH_BYTES];
	uint64_t size_bytes;
};
int sa_views_create(struct sa_views **out, struct sa_agent *a, struct lb_err *err);
void sa_views_destroy(struct sa_views *v);
/* Serve @volume as of @point from @dir (private, exists). Blocking: any worker thread. Idempotent
 * per @dir and volume name: a server that is alive there is adopted. */
int sa_view_serve(struct sa_views *v, const char *dir, const struct lb_hash *point,
		  const struct lb_id *volume, const char *volume_name, struct sa_view *out,
		  struct lb_err *err);
/* Stop every server of @dir. Blocking. */
void sa_view_stop_all(struct sa_views *v, const char *dir);

/* runs.c and verbs.c: runbook runs of this site. */
int sa_runs_create(struct sa_runs **out, struct sa_agent *a,
		   struct lb_err *err); /* resumes what was under way */
/* The agent stops: sa_runs_stop(), the end of the slow pool, sa_runs_destroy(), in this order. What
 * was under way goes on in the next process. */
void sa_runs_stop(struct sa_runs *r);
void sa_runs_destroy(struct sa_runs *r);
struct sa_run_request {
	const char *name, *text; /* of the runbook */
	size_t text_bytes;
	const char *mode; /* "drill", "failover", "planned" */
	const char *who;
	bool unattended;
};
/* A failover ends running drills first. *id_out: 33 bytes. Errors: LB_EBUSY: another failover of
 * the same groups runs; those of rb_run_start(). */
int sa_run_start(struct sa_runs *r, const struct sa_run_request *rq, char *id_out,
		 struct lb_err *err);
int sa_run_command(struct sa_runs *r, const char *id, const char *command, const char *step,
		   const char *reason, const char *who, struct lb_err *err);
/* Does a fence that failed wait for an answer there? */
bool sa_run_fence_waits(struct sa_runs *r, const char *id);
struct json_t *sa_runs_json(struct sa_runs *r);
struct json_t *sa_run_json(struct sa_runs *r, const char *id); /* prefix >= 4; NULL: none */
/* Console tail of a machine that the run booted; NULL: none. */
struct json_t *sa_runs_console_json(struct sa_runs *r, const char *id, const char *machine);
/* Mode banner: "NORMAL", "DRILL", "FAILOVER RUNNING", "FAILED OVER". */
const char *sa_runs_mode(struct sa_runs *r);
/* Where a run has booted @machine and it was not stopped since: "state" of @o becomes booted, "run"
 * and "domain" say which. */
void sa_runs_note_boot(struct sa_runs *r, const char *machine, struct json_t *o);

/* resumable.c: can machines of memory points go on here? @fn is called for each machine that has
 * memory in the point (or in the newest point of each group kept here); @err NULL: yes, else why it
 * would boot cold. A template's missing features are named. */
typedef void (*sa_resumes_fn)(void *arg, const char *group, const char *machine,
			      const struct lb_err *err);
void sa_point_resumes(struct sa_agent *a, const struct lb_hash *point, sa_resumes_fn fn, void *arg);
void sa_points_resume(struct sa_agent *a, sa_resumes_fn fn, void *arg);
/* The same of the bytes of a device state and a host that can give @have. Errors: LB_ECORRUPT,
 * LB_EVERSION, LB_EUNSUPPORTED. */
struct vm_cpu;
int sa_state_fits(const void *state, size_t bytes, const struct vm_cpu *have, struct lb_err *err);

#endif
