/*
 * siteagent/src/vms_int.h - the machines that run here under lifeboat-vm: those the configuration
 * defines (driver vmcore), and those that a run booted.
 *
 *   <state_dir>/vms/<group>.<machine>   of a defined one (vmrun_int.h says what is in it)
 *   <state_dir>/boots/<run8>/<step>     of a booted one (runs_int.h)
 *
 * A defined machine runs only while this site is its group's primary: a fence stops it, and `run`
 * refuses at a fenced site. Agent restarts do not touch any of them.
 *
 * Thread: the loop's, but what is marked blocking.
 */
#ifndef SITEAGENT_VMS_INT_H
#define SITEAGENT_VMS_INT_H

#include <stdbool.h>
#include <stddef.h>

#include "agent_int.h"
#include "vmdesc_int.h"

enum {
	SA_VM_PLACES_MAX = 512
};
/* One machine and where it lives. */
struct sa_vm_place {
	char name[SA_NAME_BYTES];
	char dir[SA_PATH_BYTES];
	const struct sa_group_cfg *group; /* defined here; NULL: booted by a run */
	const struct sa_machine_cfg *machine;
	char run[LB_ID_TEXT];
	bool starves; /* as the watch saw it last: see sa_vm_starves() */
};

/* Those of that @name (NULL: all), at most @cap; returns how many. */
size_t sa_vms_places(struct sa_agent *a, const char *name, struct sa_vm_place *out, size_t cap);

/* How machine @m of group @g is built, from the configuration. */
int sa_vm_describe(struct sa_agent *a, const struct sa_group_cfg *g, const struct sa_machine_cfg *m,
		   struct sa_vmdesc *out, struct lb_err *err);
/* Its directory into @out (SA_PATH_BYTES). */
int sa_vm_dir(const struct sa_agent *a, const struct sa_group_cfg *g,
	      const struct sa_machine_cfg *m, char *out, struct lb_err *err);

int sa_vms_create(struct sa_vms **out, struct sa_agent *a, struct lb_err *err);
/* After the API's and the pool's end. Machines run on. */
void sa_vms_destroy(struct sa_vms *v);
/* Power off every machine of @group that is defined here and runs; asynchronous. One that does not
 * end is an alarm. To be called again as long as the group is not this site's: an agent may be
 * killed before it was done, and a machine may have been on its way up. */
void sa_vms_fence(struct sa_vms *v, const struct sa_group_cfg *group);

/* vmcpu.c: CPU templates as text, a line of hex digits each; empty lines and those that begin with
 * '#' are nothing. *@io becomes what it and every line of @text has in common. Errors: LB_EINPUT
 * (says which line), LB_EUNSUPPORTED (processors of different vendors). */
struct vm_cpu;
int sa_vmcpu_intersect(struct vm_cpu *io, const char *text, struct lb_err *err);
/* The same of the file @path and this host; encoded into @out (VM_CPU_MAX_BYTES). Blocking. */
int sa_vmcpu_of_hosts(uint8_t *out, size_t *bytes, const char *path, struct lb_err *err);

/* vmwatch.c: somebody looks after them. Needs the agent's loop and pool; destroy it after the pool.
 */
int sa_vmwatch_create(struct sa_vmwatch **out, struct sa_agent *a, struct lb_err *err);
void sa_vmwatch_destroy(struct sa_vmwatch *w);
/* A machine that cannot go on, for people; NULL: all is well. The text is good until the loop's
 * next turn. @w NULL is allowed. */
const char *sa_vmwatch_trouble(const struct sa_vmwatch *w);

/* Does a machine that goes on from memory wait for memory that does not come? Its pager fetches
 * what is left also when nobody asks, so a number that stands still means a source that hangs.
 * @io: zeros at first, kept from look to look. */
struct sa_vm_lazy {
	uint64_t left_pages, since_ns;
};
bool sa_vm_starves(struct sa_vm_lazy *io, uint64_t left_pages, uint64_t now_ns);
/* Did the machine in @dir starve when it was last looked at? @w NULL is allowed. */
bool sa_vmwatch_starves(const struct sa_vmwatch *w, const char *dir);

#endif
