/*
 * siteagent/src/src_int.h - what a source driver implements. source.c checks order and arguments,
 * so a driver is only called in the order of siteagent/source.h: prepare; hold, mark, resume; dev,
 * changed, check; release.
 */
#ifndef SITEAGENT_SRC_INT_H
#define SITEAGENT_SRC_INT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "siteagent/source.h"

enum sa_source_step {
	SA_STEP_HOLD,
	SA_STEP_MARK,
	SA_STEP_RESUME
};

struct sa_source_ops {
	const char *driver;
	int (*prepare)(struct sa_source *s, struct lb_err *err);
	int (*hold)(struct sa_source *s, uint64_t limit_ns, struct lb_err *err);
	int (*mark)(struct sa_source *s, struct lb_err *err); /* on success the cut is open */
	void (*resume)(struct sa_source *s);
	/* Ask for the step that is called next and do not wait for it, so that the members of a
	 * group do it at the same time. What was begun is called, whatever became of others. NULL:
	 * the call does all. */
	void (*begin)(struct sa_source *s, enum sa_source_step step, uint64_t limit_ns);
	/* After resume, the rest of mark: what nobody need stand still for; NULL: nothing. When it
	 * fails the cut is given up. */
	int (*settle)(struct sa_source *s, struct lb_err *err);
	/* hold, mark and resume of the only member, for whom nothing lies between them; NULL: one
	 * after the other. */
	int (*alone)(struct sa_source *s, uint64_t limit_ns, struct lb_err *err);
	int (*dev)(struct sa_source *s, size_t vol, struct img_dev **out, struct lb_err *err);
	int (*changed)(struct sa_source *s, size_t vol, const struct img_extmap **out,
		       struct lb_err *err);
	int (*check)(struct sa_source *s, struct lb_err *err);
	/* Memory points: the device state of the open cut; 0: this machine has none. NULL: never.
	 */
	int (*state)(struct sa_source *s, const void **p, uint32_t *bytes);
	void (*release)(struct sa_source *s, bool kept, const struct lb_hash *point);
	void (*destroy)(struct sa_source *s); /* of the driver's own; source.c frees the rest */
};

/* First member of every driver's object. */
struct sa_source {
	const struct sa_source_ops *ops;
	struct sa_source_cfg cfg; /* strings are ours */
	struct sa_source_volume volume[SA_SOURCE_VOLUMES_MAX];
	size_t volumes;
	struct lb_hash since[SA_SOURCE_VOLUMES_MAX]; /* set by changed(); see sa_source_since() */
	char *machine_xml;                           /* or NULL */
	_Atomic int state;                           /* enum sa_source_state */
	atomic_bool cancel;
	atomic_uint unlisted; /* see sa_source_unlisted() */
	bool cut_open;
};

void sa_source_set_state(struct sa_source *s, enum sa_source_state st);

/* Allocate the driver's object, zeroed; NULL: out of memory. */
struct sa_source *sa_src_block_alloc(void);
struct sa_source *sa_src_libvirt_alloc(void);
struct sa_source *sa_src_vmcore_alloc(void);

#endif
