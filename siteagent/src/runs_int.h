/*
 * siteagent/src/runs_int.h - between runs.c (which runs there are), verbs.c (what a step does) and
 * boots.c (what was booted).
 *
 * A boot is one machine started by one step. It lives in <state_dir>/boots/<run8>/<step>: its
 * record boot.json, machine.xml, view maps, sockets, overlays, serial log. Drill boots are ended
 * when their run has ended (record and serial log stay as evidence); failover boots stay, and
 * outlive the agent.
 *
 * The record is durable before anything is made for the boot, so that a new process finds all of
 * it: what is there is adopted by name, never started a second time.
 *
 *   (none) --[sa_boot_begin]--> PREPARED --[sa_boot_start]--> BOOTED --[stop step]--> STOPPED
 *                 ^                |                             |                       |
 *                 '--[attempt+1]---+-----------------------------+--[drill over]--> CLEANED
 *
 * Threads: the lists belong to the loop's thread. Workers get copies of boots and make hypervisor
 * handles of their own.
 */
#ifndef SITEAGENT_RUNS_INT_H
#define SITEAGENT_RUNS_INT_H

#include <stdbool.h>

#include "agent_int.h"
#include "runbooks/run.h"

#define SA_DETAIL_BYTES     512u
#define SA_SOCKET_BYTES     108u
#define SA_RUN_GROUPS_MAX   16u /* groups of one run whose start is remembered for the report */
#define SA_EXEC_GRACE_NS    (5ull * 1000000000ull)
#define SA_PREEMPT_GRACE_NS (10ull * 1000000000ull)
#define SA_RUNS_KEPT        200u

enum sa_boot_state {      /* stored by name */
	SA_BOOT_PREPARED, /* something of it may exist */
	SA_BOOT_BOOTED,   /* it was started (and may have gone off by itself) */
	SA_BOOT_STOPPED,  /* by a stop step */
	SA_BOOT_CLEANED,  /* of a drill: nothing but the record and the serial log is left */
};

struct sa_boot_disk {
	char name[SA_NAME_BYTES];
	char socket[SA_SOCKET_BYTES];
	uint64_t size_bytes;
};

struct sa_boot {
	struct sa_boot *next;
	uint32_t step, attempt;
	enum rb_mode mode;
	enum sa_boot_state state;
	char machine[SA_NAME_BYTES];
	char domain[SA_NAME_BYTES];
	char address[SA_HOST_BYTES]; /* numeric, "" unknown */
	char dir[SA_PATH_BYTES];     /* absolute; not stored */
	char run[LB_ID_TEXT];
	struct lb_id group;
	struct lb_hash point;
	uint64_t point_seq;
	uint64_t point_wall_ns;
	uint64_t booted_wall_ns; /* 0: not yet */
	char isolation[160];     /* drill: what was found, "" not looked at */
	bool isolated;
	bool memory;                      /* goes on from the point's memory; false: cold */
	char cold[160];                   /* why not from memory, though the point has it; "" */
	char driver[16];                  /* what booted it; "" not yet */
	char ram_socket[SA_SOCKET_BYTES]; /* memory: its view */
	size_t disks;                     /* 0: nothing was made for it yet */
	struct sa_boot_disk disk[SA_HV_DISKS_MAX];
};

/* What held for one group when the run began, and after its fence. */
struct sa_run_group {
	struct lb_id group;
	char name[SA_NAME_BYTES];
	uint64_t epoch_before, epoch_after; /* after 0: not fenced by this run */
	bool rpo_known;
	uint64_t rpo_bound_ns; /* upper bound of the age of the newest point at the start */
};

struct sa_run {
	struct sa_runs *runs;
	struct sa_run *next; /* newest first */
	struct rb_run *run;
	struct lb_timer *wake;
	struct lb_timer *again; /* cleaning that did not succeed */
	char path[64];          /* of the log, below state_dir */
	char id[LB_ID_TEXT];
	enum rb_mode mode;
	bool live; /* opened, not only loaded */
	bool cleaning;
	struct clean *clean; /* what a worker has while cleaning; verbs.c */
	struct serve *serve; /* what a worker has while it serves disks again; serve_again.c */
	bool preempted;      /* a failover needs its room: boots nothing any more */
	struct sa_boot *boots;
	struct verb *verbs; /* under way; verbs.c */
	struct sa_run_group group[SA_RUN_GROUPS_MAX];
	size_t groups;
};

struct sa_runs {
	struct rb_verbs verbs; /* first: the vtable finds its owner by it */
	struct sa_agent *agent;
	struct sa_run *first;
	struct lb_timer *preempt; /* gives up waiting for drills */
	bool preempt_over;
	uint64_t exec_grace_ns;    /* SIGTERM to SIGKILL */
	uint64_t preempt_grace_ns; /* a failover's boots wait at most this long for drills */
	unsigned kept;             /* of ended runs that have no machines, so many stay in memory */
};

/* runs.c: false while a drill that was pre-empted still holds machines and its time is not up. */
bool sa_runs_may_boot(const struct sa_runs *r);
bool sa_run_ended(const struct sa_run *s);

/* verbs.c */
void sa_verbs_init(struct rb_verbs *v);
struct sa_run *sa_run_of(struct sa_runs *r, const struct rb_run *run);
/* Something ended: if this is a drill that is over (or pre-empted) and nothing works on its
 * machines any more, stop and remove what it booted. Asynchronous; tried again until it worked. */
void sa_verbs_settle(struct sa_run *s);
/* Drills are out of the way: start the boots that waited for it. */
void sa_verbs_unpark(struct sa_runs *r);
/* The agent stops: tell all verbs to end. Afterwards the pool is destroyed, then the runs. */
void sa_verbs_cancel_all(struct sa_run *s);
/* Drop what is under way; machines of runs that have not ended run on and are adopted by the next
 * process. No worker may be busy (the pool is gone). */
void sa_verbs_drop(struct sa_run *s);

/* serve_again.c: the disks of what @s, which has ended, failed over to here. Asynchronous. */
void sa_boots_serve_again(struct sa_run *s);

/* console.c */
const struct sa_boot *sa_boot_of_machine(const struct sa_run *s, const char *machine); /* NULL */
/* Console tail of a booted machine as JSON, NULL when there is none of that name. */
struct json_t *sa_run_console_json(struct sa_run *s, const char *machine);

/* furnish.c. Blocking: worker threads. */
struct sa_boot_memory { /* of a memory point */
	uint8_t *state; /* the caller's: free(); NULL: there is none, or this is a cold boot */
	size_t state_bytes;
	uint8_t *order; /* the caller's: free(); NULL: none is known */
	size_t order_bytes;
};
/* The boot's durable record, the machine's description (*xml is the caller's), its views; nothing
 * runs yet. b->memory and b->cold say whether it may go on from memory. */
int sa_furnish(struct sa_agent *a, struct sa_boot *b, char **xml, struct sa_boot_memory *memory,
	       struct lb_err *err);
/* Only views of the disks of a boot whose machine is off: those that are served stay as they are.
 */
int sa_furnish_disks(struct sa_agent *a, struct sa_boot *b, struct lb_err *err);
/* Its probes passed: keep in <state_dir>/orders in which order @vm touched its memory, for the next
 * boot of that machine from memory, drill or not. */
void sa_keep_order(struct sa_agent *a, const struct sa_boot *b, struct sa_hv_machine *vm);
struct lb_buf;
struct rep_manifest;
/* Both are the caller's: unref, free; also after an error. */
int sa_read_manifest(struct sa_agent *a, const struct lb_hash *point, struct lb_buf **bytes,
		     struct rep_manifest **m, struct lb_err *err);

/* The device state of @machine in a memory point; *out is the caller's (free), also after an error.
 * LB_ENOTFOUND: it has none, or this site does not hold its key. */
int sa_open_state(struct sa_agent *a, const struct rep_manifest *m, const struct lb_id *machine,
		  uint8_t **out, size_t *bytes, struct lb_err *err);

/* boots.c. Blocking: worker threads; sa_boots_load() at start. */
/* "boots/<run8>/<step>" below the state directory; at least 32 bytes. */
void sa_boot_path(char *out, size_t out_bytes, const char *run_id, uint32_t step);
/* Make @b the record of its step, durably. What a lower attempt left is ended first; if there is a
 * record of the same attempt already, *b becomes that one. Errors: also LB_EBUSY: a higher attempt
 * is there. */
int sa_boot_begin(struct sa_agent *a, struct sa_boot *b, struct lb_err *err);
int sa_boot_save(struct sa_agent *a, const struct sa_boot *b, struct lb_err *err);
int sa_boot_save_xml(struct sa_agent *a, const struct sa_boot *b, const char *xml,
		     struct lb_err *err);
/* Records of the steps below @steps into s->boots; what cannot be read is logged. */
void sa_boots_load(struct sa_run *s, uint32_t steps);
/* A handle of the caller's own for the machine of @b. LB_ENOTFOUND: there is none. */
int sa_boot_adopt(struct sa_agent *a, const struct sa_boot *b, struct sa_hv_machine **out,
		  struct lb_err *err);
/* Adopt, or define from @xml, and run it. A memory point that cannot be gone on from (another
 * processor, no vmcore) is booted cold in the same attempt: b->cold says why. */
int sa_boot_start(struct sa_agent *a, struct sa_boot *b, const char *xml,
		  const struct sa_boot_memory *memory, struct sa_hv_machine **out,
		  struct lb_err *err);
/* Start the machine of a failover's boot again after it was stopped, or ended: cold, from its own
 * overlays over the same point. Its record says so afterwards. */
int sa_boot_restart(struct sa_agent *a, struct sa_boot *b, struct lb_err *err);
/* Power off and undefine; @remove: overlays too; then its views. Idempotent. */
int sa_boot_end(struct sa_agent *a, const struct sa_boot *b, bool remove, struct lb_err *err);
/* sa_boot_end() and remove every file but the record and the serial log; then CLEANED. */
int sa_boot_clean(struct sa_agent *a, struct sa_boot *b, struct lb_err *err);
const char *sa_boot_state_name(enum sa_boot_state s);

/* runstart.c: what held when the run began. */
void sa_run_start_note(struct sa_run *s); /* fills s->group and stores it; failures are logged */
void sa_run_start_load(struct sa_run *s);
void sa_run_fenced(struct sa_run *s, const struct lb_id *group, uint64_t epoch);

/* isolation.c: can a frame leave the drill's network? */
struct json_t;
/* 0: no interface that is up but lo, @bridge and taps, and no route but through those; what was
 * seen in @out. LB_EDENIED: there is one (named). From the text of `ip -d -j link` and `ip -j
 * route` (both families). */
int sa_isolation_judge(const char *links, const char *routes, const char *routes6,
		       const char *bridge, char *out, size_t out_bytes, struct lb_err *err);
/* The same for @net as it is now; runs ip(8), its output goes to files in @dir. Blocking. A drill
 * network without a namespace is LB_EUNSUPPORTED unless it is cut off altogether. */
int sa_isolation_check(const struct sa_network_cfg *net, const char *dir, char *out,
		       size_t out_bytes, struct lb_err *err);

/* report.c: the run as JSON, also what the report step writes. */
struct json_t *sa_run_report_json(struct sa_run *r);

#endif
